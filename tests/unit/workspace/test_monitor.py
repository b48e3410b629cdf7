"""What a run took: every number against the facts it comes from, and the files beside an export."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.seeding import SENTIMENT, add_rows, fact_of, ingest, spec_of, task_of
from workspace import monitor, runs
from workspace.errors import ExportError, RunError
from workspace.facts import Fact, RunSpec, Settings
from workspace.store import Store

SHARES = (0.2, 0.7, 0.1)


@pytest.fixture
def spec(store: Store) -> RunSpec:
    ids = add_rows(store, [f"text {i}" for i in range(6)])
    plain = spec_of(store, task_of(SENTIMENT))
    spec = msgspec.structs.replace(plain, run_id="priced", settings=Settings(price_in=2.0, price_out=10.0))
    runs.create(store, spec)
    runs.plan(store, spec.run_id, limit=None)

    def fact(seq: int, **changes: object) -> Fact:
        return fact_of(spec.run_id, ids[seq], "sentiment", SENTIMENT, SHARES, seq=seq, **changes)

    ingest(
        store,
        [
            fact(0, node="a", seconds=0.5, prompt_tokens=100, completion_tokens=10, warnings=("truncated",)),
            fact(1, node="a", seconds=1.5, prompt_tokens=100, completion_tokens=10),
            fact(2, node="b", seconds=0.0, prompt_tokens=0, completion_tokens=0, warnings=("cached",)),
            fact(3, node="b", seconds=0.0, prompt_tokens=0, warnings=("rule:short",)),
            fact(4, node="b", seconds=0.0, prompt_tokens=0, kind="drop", logprobs=(), warnings=("rule:advert",)),
            fact(5, node="b", seconds=2.0, prompt_tokens=50, kind="error", logprobs=(), error="unreadable"),
        ],
    )
    return spec


def test_stats_are_the_sums_of_the_facts(store: Store, spec: RunSpec) -> None:
    found = monitor.stats(store, spec.run_id)
    assert [found[key] for key in ("rows", "labeled", "failed", "dropped")] == [6, 4, 1, 1]
    assert [found[key] for key in ("answers", "cached", "by_rules", "errors_in_answers")] == [6, 1, 2, 1]
    assert (found["prompt_tokens"], found["completion_tokens"], found["seconds"]) == (250, 20, 4.0)
    assert found["cost"] == pytest.approx((250 * 2 + 20 * 10) / 1e6)
    assert found["latency"]["p50"] == pytest.approx(1.0)
    assert found["rows_per_s"] == pytest.approx(3 / 4)  # neither the cached one nor those of rules
    assert found["tokens_per_s"] == pytest.approx(270 / 4)
    assert found["warnings"] == {"cached": 1, "truncated": 1}
    assert found["errors"] == {"unreadable": 1}
    caught = {
        rule["rule"]: (rule["dropped"], rule["rows"], rule["examples"][0]["text"]) for rule in found["rules"]
    }
    assert caught == {"short": (False, 1, "text 3"), "advert": (True, 1, "text 4")}
    nodes = {node["node"]: node for node in found["nodes"]}
    assert sum(node["answers"] for node in nodes.values()) == found["answers"]
    assert nodes["a"]["rows_per_s"] == pytest.approx(1.0)


def test_a_run_without_facts_or_prices_has_nothing_to_tell(store: Store) -> None:
    plain = spec_of(store, task_of(SENTIMENT))
    found = monitor.stats(store, plain.run_id)
    assert (found["answers"], found["cost"], found["rows_per_s"], found["nodes"]) == (0, None, None, [])
    with pytest.raises(RunError):
        monitor.stats(store, "nope")


def test_the_files_lie_beside_the_export(store: Store, spec: RunSpec, tmp_path: Path) -> None:
    summary, lines = monitor.write(store, spec.run_id, tmp_path / "labels.csv")
    assert (summary.name, lines.name) == ("labels.stats.json", "labels.monitor.jsonl")
    assert json.loads(summary.read_text()) == monitor.stats(store, spec.run_id)
    calls = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [call["kind"] for call in calls] == ["label"] * 4 + ["drop", "error"]
    assert calls[0] == {
        "made_at": 1.7e9,
        "row": calls[0]["row"],
        "dimension": "sentiment",
        "node": "a",
        "model": spec.model.name,
        "kind": "label",
        "seconds": 0.5,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "warnings": ["truncated"],
        "error": "",
    }
    with pytest.raises(ExportError):
        monitor.write(store, spec.run_id, tmp_path / "missing" / "labels.csv")
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.name.startswith("labels")) == [
        ".json",
        ".jsonl",
    ]
