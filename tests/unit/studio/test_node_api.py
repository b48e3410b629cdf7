"""What is told of the engine over HTTP: right figures, text Prometheus can read, for this machine only."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from studio import metrics, node_api
from workspace.errors import EngineError
from workspace.facts import EngineStatus, RunProgress
from workspace.machines import Cluster, FoundMachine, Machine

HOME = "http://127.0.0.1:8501"
ME, OTHER = "a" * 32, "b" * 32
MINE, THEIRS = f"{ME}.{'1' * 16}", f"{OTHER}.{'2' * 16}"
PATHS = ("status", "progress", "peers", "ping", "shards")


def machine(member: str, name: str, **changes: Any) -> Machine:
    plain = Machine(
        id=member,
        name=name,
        key_words="aaaa-aaaa",
        me=member == ME,
        rank=0,
        alive=True,
        silent_for=0.0,
        paused=False,
        mode="auto",
        leader=member == ME,
        gpu="",
        cores=8,
        memory=16 << 30,
        memory_free=4 << 30,
        models=("SmolLM2",),
        problems=(),
        rows_per_s=12.5,
        doing="",
        claims=2,
        facts_behind=0,
        addresses=("10.0.0.1:7000",),
        software="0.1.0",
        agreement=0.99,
        compared=200,
        fitness=0.97,
    )
    return msgspec.structs.replace(plain, **changes)


def engine(name: str = "other") -> EngineStatus:
    unheard = machine(
        OTHER, name, alive=False, silent_for=None, cores=0, memory=0, memory_free=0, agreement=None, fitness=None
    )
    return EngineStatus(
        pid=4711,
        node="studio",
        author=MINE,
        vector={THEIRS: 30, MINE: 120},
        worker_pid=0,
        runs=(
            RunProgress("run-1", "running", 200, 150, 3, 25.5, 2.0, ""),
            RunProgress("run-2", "paused", 10, 0, 0, 0.0, None, ""),
        ),
        cluster=Cluster(
            id="c" * 32,
            epoch=7,
            leader=ME,
            copies=1,
            listening="10.0.0.1:7000",
            removed=False,
            machines=(machine(ME, "studio"), unheard),
            found=(FoundMachine("d" * 32, "stranger", "10.0.0.9:1", True, False),),
            pairing=None,
        ),
        copies={MINE: 1, THEIRS: 2},
    )


def client(provider: node_api.Provider, prefix: str = "") -> TestClient:
    return TestClient(Starlette(routes=node_api.routes(provider, prefix)), base_url=HOME)


def nobody() -> EngineStatus | None:
    return None


def broken() -> EngineStatus | None:
    raise EngineError("The engine process ended.", "Saved labels are safe.")


SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\[\\"n])*)"')
Parsed = dict[str, list[tuple[dict[str, str], float]]]


def parsed(text: str) -> Parsed:
    """Read the exposition format as strictly as its specification; fails on anything else."""
    assert text.endswith("\n")
    found: Parsed = {}
    described: dict[str, set[str]] = {}
    current = ""
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# "):
            _, what, current, rest = line.split(" ", 3)
            assert what in ("HELP", "TYPE")
            assert what not in described.setdefault(current, set())
            assert current not in found  # before its samples
            assert rest in ("gauge", "counter") if what == "TYPE" else rest
            described[current].add(what)
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        name, labels, value = match.groups()
        assert name == current  # samples of one metric stand together
        pairs = {key: unescaped(text) for key, text in LABEL.findall(labels or "")}
        series = found.setdefault(name, [])
        assert pairs not in [known for known, _ in series]
        series.append((pairs, float(value)))
    assert set(found) == set(described)
    assert all(kinds == {"HELP", "TYPE"} for kinds in described.values())
    return found


def unescaped(text: str) -> str:
    return re.sub(r'\\([\\"n])', lambda match: "\n" if match[1] == "n" else match[1], text)


def test_the_engine_and_its_cluster_are_told() -> None:
    asked = client(engine)
    got = {path: asked.get(f"/{path}") for path in PATHS}
    assert {answer.status_code for answer in got.values()} == {200}
    assert {answer.headers["cache-control"] for answer in got.values()} == {"no-store"}
    assert got["ping"].json() == {"app": "winnow", "node": "studio", "pid": 4711}
    status = got["status"].json()
    assert (status["facts"], status["author"]) == (150, MINE)
    assert status["runs"] == {"run-1": "running", "run-2": "paused"}
    assert (status["cluster"]["machines"], status["cluster"]["alive"], status["cluster"]["epoch"]) == (2, 1, 7)
    assert [run["done"] for run in got["progress"].json()["runs"]] == [150, 0]
    peers = got["peers"].json()
    assert [peer["name"] for peer in peers["machines"]] == ["studio", "other"]
    assert [seen["name"] for seen in peers["found"]] == ["stranger"]
    assert got["shards"].json()["shards"] == [
        {"author": MINE, "machine": "studio", "facts": 120, "copies": 1},
        {"author": THEIRS, "machine": "other", "facts": 30, "copies": 2},
    ]


def test_metrics_are_what_the_engine_says() -> None:
    answer = client(engine).get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = parsed(answer.text)
    assert found["winnow_engine_up"] == [({}, 1.0)]
    assert found["winnow_facts_total"] == [
        ({"author": THEIRS, "machine": "other"}, 30.0),
        ({"author": MINE, "machine": "studio"}, 120.0),
    ]
    assert found["winnow_facts_copies"][0][1] == 2.0
    assert found["winnow_run_done_rows"] == [({"run": "run-1"}, 150.0), ({"run": "run-2"}, 0.0)]
    assert found["winnow_run_remaining_seconds"] == [({"run": "run-1"}, 2.0)]
    assert found["winnow_run_state"][1] == ({"run": "run-2", "state": "paused"}, 1.0)
    assert [value for _, value in found["winnow_machine_up"]] == [1.0, 0.0]
    assert [value for _, value in found["winnow_machine_leader"]] == [1.0, 0.0]
    assert found["winnow_machine_memory_bytes"] == [({"machine": ME, "name": "studio"}, float(16 << 30))]
    assert [value for _, value in found["winnow_machine_fitness_ratio"]] == [0.97]  # None is left out
    assert found["winnow_cluster_epoch"] == [({}, 7.0)]


def test_without_an_engine_there_is_a_sentence() -> None:
    for provider in (nobody, broken):
        asked = client(provider)
        for path in PATHS:
            answer = asked.get(f"/{path}")
            assert answer.status_code == 503
            assert set(answer.json()["error"]) == {"title", "advice"}
        assert parsed(asked.get("/metrics").text) == {"winnow_engine_up": [({}, 0.0)]}


def test_an_unexpected_failure_is_a_sentence_and_no_detail() -> None:
    def fails() -> EngineStatus | None:
        raise ValueError("secret")

    answer = client(fails).get("/status")
    assert answer.status_code == 500
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", [*PATHS, "metrics"])
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "10.0.0.1:8501"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_only_this_machine_is_answered(path: str, headers: dict[str, str]) -> None:
    answer = client(engine).get(f"/{path}", headers=headers)
    assert answer.status_code == 403
    assert "winnow_" not in answer.text
    assert "studio" not in answer.json()


def test_nothing_can_be_changed_here() -> None:
    asked = client(engine)
    for path in [*PATHS, "metrics"]:
        assert asked.post(f"/{path}", json={}).status_code == 405


def test_everything_is_below_the_prefix() -> None:
    asked = client(engine, "/api/v1/node")
    assert asked.get("/api/v1/node/ping").status_code == 200
    assert asked.get("/api/v1/node/metrics").status_code == 200
    assert asked.get("/ping").status_code == 404


@given(st.text())
def test_any_name_survives_the_format(name: str) -> None:
    found = parsed(metrics.exposition(engine(name)))
    assert found["winnow_machine_up"][1][0] == {"machine": OTHER, "name": name}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (True, "1"), (0.1, "0.1"), (1e300, "1e+300"), (math.inf, "+Inf"), (-math.inf, "-Inf")],
)
def test_numbers_are_written_exactly(value: float, text: str) -> None:
    assert metrics._number(value) == text
    assert metrics._number(math.nan) == "NaN"
