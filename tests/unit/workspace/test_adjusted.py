"""Scores a calibrator computes for each row: read as Python does, and no stop or change leaves a wrong one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.logprobs import FloatArray, log_softmax
from tests.seeded_kinds import chances, kinds_run
from tests.seeding import add_rows, fact_of, ingest, spec_of, task_of
from workspace import adjusted, calibrators, decisions, kinds, labels, links, runs, truth
from workspace.adjusted import Rows
from workspace.decisions import DecisionEvent
from workspace.errors import WinnowError
from workspace.facts import Fact, RunSpec
from workspace.rows import scalar
from workspace.scores import Reading, read_now, scores_sql
from workspace.store import Connection, Store, open_store
from workspace.task import Dimension, Label, Task

ABC = ("a", "b", "c")
TASK = Task(
    name="kinds",
    dimensions=(
        Dimension(name="topic", question="What about?", labels=tuple(Label(name=name) for name in ABC)),
        Dimension(name="joke", question="A joke?", kind="boolean"),
        Dimension(name="tags", question="Which?", kind="multi", labels=tuple(Label(name=n) for n in "uvwxy")),
        Dimension(name="mark", question="How good?", kind="score", minimum=0, maximum=10),
    ),
)


def force(store: Store, run_id: str, dimension: str, temperature: float = 1.0) -> str:
    """A calibrator that adjusts, with nothing adjusted yet; returns its id."""
    with store.read() as con:
        reading = read_now(con, run_id, dimension)
    parameters = {"temperature": temperature, "reading": reading.to_dict()}
    return calibrators.save(store, run_id, dimension, "isotonic", parameters, {}).id


def halved(rows: Rows) -> FloatArray:
    return rows.scores.base / 2


def shown(store: Store, run_id: str, dimension: str) -> dict[str, tuple[float, ...]]:
    return {row.row_id: row.probabilities for row in labels.page(store, run_id, dimension, limit=1000)}


def entries(store: Store) -> int:
    with store.read() as con:
        return scalar(con, "select count(*) from adjusted")


@pytest.fixture
def spec(store: Store) -> RunSpec:
    """A run of one dimension over 60 rows."""
    ids = add_rows(store, [f"text {number}" for number in range(60)])
    return answered(store, ids)


def answered(store: Store, ids: list[str], number: int | None = None) -> RunSpec:
    spec = spec_of(store, task_of(ABC, "mood"))
    runs.plan(store, spec.run_id, limit=None)
    ingest(store, [said(spec, id, place) for place, id in enumerate(ids[:number])])
    return spec


def said(spec: RunSpec, id: str, place: int, **changes: object) -> Fact:
    return fact_of(spec.run_id, id, "mood", ABC, chances(spec.dimensions[0], place), **{"seq": place, **changes})


@settings(max_examples=4, deadline=None)
@given(
    slope=st.floats(0.05, 3),
    offsets=st.lists(st.floats(-3, 3), min_size=11, max_size=11),
    rows=st.integers(1, 12),
    batch=st.integers(1, 13),
)
def test_sql_reads_adjusted_scores_of_every_kind_as_python_does(
    slope: float, offsets: list[float], rows: int, batch: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "w.duckdb")
        try:
            ids = add_rows(store, [f"text {number}" for number in range(rows)])
            spec = kinds_run(store, TASK, ids)
            for asked in spec.dimensions:
                k = len(asked.labels)
                several = asked.kind == "multi"
                expected: dict[str, FloatArray] = {}

                def compute(
                    part: Rows, k: int = k, several: bool = several, expected: dict[str, FloatArray] = expected
                ) -> FloatArray:
                    bent = part.scores.base * slope + np.array(offsets[:k])
                    scores = bent if several else log_softmax(bent)
                    logs = -np.logaddexp(0, -scores) if several else scores
                    expected.update(zip(part.scores.row_ids, logs, strict=True))
                    return scores

                force(store, spec.run_id, asked.name, temperature=3.0)
                assert adjusted.apply(store, spec.run_id, asked.name, compute, batch=batch) == rows
                assert adjusted.waiting(store, spec.run_id, asked.name) == 0
                found = {row.row_id: row for row in labels.page(store, spec.run_id, asked.name)}
                assert set(found) == set(expected)
                for id, row in found.items():
                    np.testing.assert_allclose(row.probabilities, np.exp(expected[id]), atol=1e-9)
                    label, confidence = kinds.label_of(asked.kind, asked.labels, expected[id].tolist())
                    if row.label != label:  # two labels or values exactly as probable but for rounding
                        assert row.confidence == pytest.approx(confidence, abs=1e-6)
                    else:
                        assert row.confidence == pytest.approx(confidence, abs=1e-9)
                    if asked.kind == "score":
                        mean = kinds.score_of(asked.labels, expected[id].tolist())
                        assert (row.value, row.spread) == pytest.approx(mean, abs=1e-6)
        finally:
            store.close()


def test_rows_that_came_since_have_the_temperature_until_they_are_adjusted(store: Store) -> None:
    ids = add_rows(store, [f"text {number}" for number in range(9)])
    spec = answered(store, ids, 6)
    force(store, spec.run_id, "mood", temperature=2.0)
    assert adjusted.apply(store, spec.run_id, "mood", halved) == 6
    calibrators_only = dict(shown(store, spec.run_id, "mood"))
    ingest(store, [said(spec, id, place) for place, id in enumerate(ids)][6:])
    assert adjusted.waiting(store, spec.run_id, "mood") == 3
    mixed = shown(store, spec.run_id, "mood")
    assert {id: mixed[id] for id in ids[:6]} == calibrators_only  # the bias moved on, these did not
    with store.read() as con:
        now = np.array(read_now(con, spec.run_id, "mood").biases[0])
    for place, id in enumerate(ids[6:], start=6):
        plain = np.log(chances(spec.dimensions[0], place)) - now
        np.testing.assert_allclose(mixed[id], _softmax(plain / 2), atol=1e-9)
    assert adjusted.apply(store, spec.run_id, "mood", halved) == 3
    assert adjusted.waiting(store, spec.run_id, "mood") == 0


def _softmax(scores: FloatArray) -> FloatArray:
    result: FloatArray = np.exp(log_softmax(scores[None, :]))[0]
    return result


def test_an_answer_that_counts_instead_of_another_one_is_adjusted_again(store: Store, spec: RunSpec) -> None:
    force(store, spec.run_id, "mood")
    adjusted.apply(store, spec.run_id, "mood", halved)
    before = shown(store, spec.run_id, "mood")
    (id, *_) = before
    # The smallest author counts: the answer of this machine takes the place of the one that was adjusted.
    ingest(store, [said(spec, id, 1, author="another", seq=0)])
    assert adjusted.waiting(store, spec.run_id, "mood") == 1
    assert adjusted.apply(store, spec.run_id, "mood", halved) == 1
    after = shown(store, spec.run_id, "mood")
    assert after[id] != before[id]
    assert {one: after[one] for one in after if one != id} == {one: before[one] for one in before if one != id}


def test_a_calibrator_that_is_replaced_or_removed_leaves_nothing_behind(store: Store, spec: RunSpec) -> None:
    plain = shown(store, spec.run_id, "mood")
    force(store, spec.run_id, "mood")
    adjusted.apply(store, spec.run_id, "mood", halved)
    assert (entries(store), shown(store, spec.run_id, "mood") != plain) == (60, True)
    calibrators.clear(store, spec.run_id, "mood")
    assert (entries(store), shown(store, spec.run_id, "mood")) == (0, plain)
    force(store, spec.run_id, "mood")
    adjusted.apply(store, spec.run_id, "mood", halved)
    second = force(store, spec.run_id, "mood")
    assert (entries(store), shown(store, spec.run_id, "mood")) == (0, plain)  # its temperature is 1
    adjusted.apply(store, spec.run_id, "mood", lambda rows: rows.scores.base * 3)
    with store.read() as con:
        assert con.execute("select distinct calibrator from adjusted").fetchall() == [(second,)]


def test_a_calibrator_that_comes_into_force_meanwhile_ends_the_work(store: Store, spec: RunSpec) -> None:
    force(store, spec.run_id, "mood")

    def replace(rows: Rows) -> FloatArray:
        force(store, spec.run_id, "mood")
        return rows.scores.base

    assert adjusted.apply(store, spec.run_id, "mood", replace, batch=10) == 0
    assert entries(store) == 0


def test_work_that_fails_or_is_stopped_goes_on_where_it_was(store: Store, spec: RunSpec) -> None:
    force(store, spec.run_id, "mood")
    parts: list[int] = []

    def fail(rows: Rows) -> FloatArray:
        parts.append(len(rows.scores.row_ids))
        if len(parts) == 3:
            raise WinnowError("No more.")
        return halved(rows)

    with pytest.raises(WinnowError, match="No more"):
        adjusted.apply(store, spec.run_id, "mood", fail, batch=10)
    assert (parts, entries(store)) == ([10, 10, 10], 20)
    shares: list[float] = []
    assert (
        adjusted.apply(
            store,
            spec.run_id,
            "mood",
            halved,
            batch=10,
            progress=shares.append,
            cancelled=lambda: len(shares) == 2,
        )
        == 20
    )
    assert shares == [0.25, 0.5]
    assert adjusted.apply(store, spec.run_id, "mood", halved) == 20
    assert (entries(store), adjusted.waiting(store, spec.run_id, "mood")) == (60, 0)


def test_a_large_run_is_worked_through_in_parts(
    store: Store, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adjusted, "PART", 9)
    force(store, spec.run_id, "mood")
    seen: list[Rows] = []
    shares: list[float] = []

    def compute(rows: Rows) -> FloatArray:
        seen.append(rows)
        return halved(rows)

    assert adjusted.apply(store, spec.run_id, "mood", compute, texts=True, batch=4, progress=shares.append) == 60
    ids = [id for rows in seen for id in rows.scores.row_ids]
    assert sorted(ids) == sorted(runs.row_ids(store, spec.run_id))
    assert max(len(rows.texts) for rows in seen) <= 4
    with store.read() as con:
        texts = dict(con.execute("select id, text from rows").fetchall())
    assert [text for rows in seen for text in rows.texts] == [texts[id] for id in ids]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert (entries(store), adjusted.waiting(store, spec.run_id, "mood")) == (60, 0)


def test_what_is_not_a_number_is_not_kept(store: Store, spec: RunSpec) -> None:
    force(store, spec.run_id, "mood")
    with pytest.raises(WinnowError, match="isotonic"):
        adjusted.apply(store, spec.run_id, "mood", lambda rows: rows.scores.base * np.nan)
    assert entries(store) == 0


def test_two_at_a_time_keep_each_row_once(store: Store, spec: RunSpec) -> None:
    force(store, spec.run_id, "mood")
    together = threading.Barrier(2)

    def slowly(rows: Rows) -> FloatArray:
        together.wait(20)  # both have read what waits before one of them keeps anything
        return halved(rows)

    threads = [
        threading.Thread(target=adjusted.apply, args=(store, spec.run_id, "mood", slowly)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entries(store) == 60
    assert len(shown(store, spec.run_id, "mood")) == 60


KILLED = """
import os, signal, sys
from pathlib import Path
from workspace import adjusted
from workspace.store import open_store

path, run_id = sys.argv[1:]
store = open_store(Path(path))
parts = []

def compute(rows):
    parts.append(rows)
    if len(parts) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return rows.scores.base / 2

adjusted.apply(store, run_id, "mood", compute, batch=7)
"""


def test_a_kill_in_between_leaves_whole_batches_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = open_store(path)
    spec = answered(store, add_rows(store, [f"text {number}" for number in range(60)]))
    force(store, spec.run_id, "mood")
    store.close()
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path), spec.run_id], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    store = open_store(path)
    try:
        assert entries(store) == 21
        assert adjusted.apply(store, spec.run_id, "mood", halved) == 39
        found = shown(store, spec.run_id, "mood")
        with store.read() as con:
            bias = np.array(read_now(con, spec.run_id, "mood").biases[0])
        for place, id in enumerate(runs.row_ids(store, spec.run_id)):
            corrected = np.log(chances(spec.dimensions[0], place)) - bias
            np.testing.assert_allclose(found[id], _softmax(log_softmax(corrected[None, :])[0] / 2), atol=1e-12)
    finally:
        store.close()


@pytest.fixture
def second(store: Store, spec: RunSpec) -> Callable[[links.Kind], RunSpec]:
    """Another model over the same rows, linked as asked."""

    def link(kind: links.Kind) -> RunSpec:
        model = msgspec.structs.replace(spec.model, name="second", digest="second")
        other = msgspec.structs.replace(spec, run_id="second", model=model)
        runs.create(store, other)
        ids = runs.row_ids(store, spec.run_id)
        runs.plan_rows(store, "second", ids)
        ingest(store, [said(other, id, place + 1, author="b", seq=place) for place, id in enumerate(ids[:40])])
        links.add(store, spec.run_id, "second", kind)
        return other

    return link


def test_a_calibrator_of_other_voters_counts_only_with_its_temperature(
    store: Store, spec: RunSpec, second: Callable[[links.Kind], RunSpec]
) -> None:
    force(store, spec.run_id, "mood")
    adjusted.apply(store, spec.run_id, "mood", halved)
    second("vote")
    pooled = shown(store, spec.run_id, "mood")
    assert adjusted.apply(store, spec.run_id, "mood", halved) == 0
    calibrators.clear(store, spec.run_id, "mood")
    assert shown(store, spec.run_id, "mood") == pooled
    force(store, spec.run_id, "mood")
    assert adjusted.apply(store, spec.run_id, "mood", halved) == 60
    found = shown(store, spec.run_id, "mood")
    for id, before in pooled.items():
        np.testing.assert_allclose(found[id], _softmax(np.log(before) / 2), atol=1e-9)


def test_who_decides_in_its_place_has_the_scores_of_their_own_calibrator(
    store: Store, spec: RunSpec, second: Callable[[links.Kind], RunSpec]
) -> None:
    own = shown(store, spec.run_id, "mood")
    other = second("arbitrate")
    plain = shown(store, other.run_id, "mood")
    force(store, other.run_id, "mood")
    adjusted.apply(store, other.run_id, "mood", halved)
    found = shown(store, spec.run_id, "mood")
    assert {id: row for id, row in found.items() if id not in plain} == {
        id: row for id, row in own.items() if id not in plain
    }
    for id, before in plain.items():
        np.testing.assert_allclose(found[id], _softmax(np.log(before) / 2), atol=1e-9)


def test_voices_are_each_phrasing_and_each_run_without_its_own_bias(
    store: Store, second: Callable[[links.Kind], RunSpec], spec: RunSpec
) -> None:
    ids = runs.row_ids(store, spec.run_id)
    rng = np.random.default_rng(1)
    told = log_softmax(rng.normal(size=(60 * 2, 3))).reshape(60, 2, 3)
    facts = [
        msgspec.structs.replace(
            said(spec, id, place, author="a", seq=place),
            phrasings=tuple(tuple(row) for row in told[place].tolist()),
            logprobs=tuple(told[place].mean(axis=0).tolist()),
        )
        for place, id in enumerate(ids)
    ]
    ingest(store, facts)
    other = second("vote")
    for place, id in enumerate(ids[::2]):
        event = DecisionEvent(place, id, "modify", ABC[place % 3], blind=True)
        decisions.record(store, session="s", run_id=spec.run_id, dimension="mood", reviewer="ann", events=[event])
    found = truth.evidence(store, spec.run_id, "mood")
    assert found.voices.shape == (30, 3, 3)
    order = {id: number for number, id in enumerate(ids)}
    fair = told - 0.5 * told.mean(axis=0)
    heard = shown(store, other.run_id, "mood")
    for number, id in enumerate(found.row_ids):
        np.testing.assert_allclose(found.voices[number, :2], log_softmax(fair[order[id]]), atol=1e-9)
        theirs = np.log(heard[id]) if heard.get(id) else found.logprobs[number]
        np.testing.assert_allclose(found.voices[number, 2], theirs, atol=1e-9)


def test_an_old_workspace_keeps_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workspace import migrations

    path = tmp_path / "old.duckdb"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:3])
        store = open_store(path)
        spec = answered(store, add_rows(store, [f"text {number}" for number in range(12)]))

        def calibrate(con: Connection) -> None:
            con.execute(
                """insert into calibrators values ('c', ?, 'mood', 'temperature', '{"temperature": 2.0}', '{}',
                   now())""",
                [spec.run_id],
            ).fetchall()

        store.write(calibrate)
        before = shown(store, spec.run_id, "mood")
        store.close()
    store = open_store(path)
    try:
        assert shown(store, spec.run_id, "mood") == before
        force(store, spec.run_id, "mood")
        assert adjusted.apply(store, spec.run_id, "mood", halved) == 12
    finally:
        store.close()


def test_evidence_says_what_it_leaves_out(store: Store, spec: RunSpec) -> None:
    ids = runs.row_ids(store, spec.run_id)
    ruled = said(spec, ids[5], 3, author="a", seq=0, warnings=("rule:spam",))
    (extra,) = add_rows(store, ["not answered"], first=60)
    runs.plan_rows(store, spec.run_id, [extra])
    ingest(store, [ruled])
    events = [
        DecisionEvent(0, ids[0], "modify", "a", blind=True),
        DecisionEvent(1, ids[1], "approve", "b"),
        DecisionEvent(2, ids[2], "reject", blind=True),
        DecisionEvent(3, ids[5], "modify", "a", blind=True),
        DecisionEvent(4, extra, "modify", "a", blind=True),
    ]
    decisions.record(store, session="s", run_id=spec.run_id, dimension="mood", reviewer="ann", events=events)
    store.write(lambda con: con.execute("insert into gold values (?, 'mood', 'zebra', 'x')", [ids[3]]).fetchall())
    found = truth.evidence(store, spec.run_id, "mood")
    assert found.row_ids == [ids[0]]
    assert found.left_out == truth.LeftOut(visible=1, rejected=1, unreadable=1, unanswered=1, ruled=1)
    assert "1 rejected" in found.left_out.words
    seen = truth.evidence(store, spec.run_id, "mood", include_visible=True)
    assert sorted(seen.row_ids) == sorted(ids[:2])
    assert seen.left_out.visible == 0


def test_scores_are_read_with_the_bias_they_are_asked_for(store: Store, spec: RunSpec) -> None:
    with store.read() as con:
        reading = read_now(con, spec.run_id, "mood")
        assert Reading.from_dict(json.loads(json.dumps(reading.to_dict()))) == reading
        sql, parameters = scores_sql(con, spec.run_id, "mood", reading)
        found = dict(con.execute(f"with {sql} select row_id, base from scores", parameters).fetchall())
    for place, id in enumerate(runs.row_ids(store, spec.run_id)):
        expected = np.log(chances(spec.dimensions[0], place)) - np.array(reading.biases[0])
        np.testing.assert_allclose(found[id], expected, atol=1e-12)
