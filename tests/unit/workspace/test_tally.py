"""Counts of runs: right after every arrival, and counted again only where something changed."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from tests.seeding import add_rows, fact_of, ingest, spec_of
from workspace import runs, tally, unfinished
from workspace.facts import Fact
from workspace.runs import RunRecord
from workspace.store import Connection, Store
from workspace.task import Dimension, Task

TASK = Task(
    name="pair",
    dimensions=tuple(Dimension(name=name, question="Is it?", kind="boolean") for name in ("one", "two")),
)
ENDS = ("label", "drop", "error", None)  # what becomes of a row in a dimension


def fact(run_id: str, row_id: str, dimension: str, kind: str, seq: int, **changes: object) -> Fact:
    plain = fact_of(run_id, row_id, dimension, ("yes", "no"), (0.5, 0.5), seq=seq, **changes)
    return plain if kind == "label" else msgspec.structs.replace(plain, kind=kind, logprobs=())


def counts(run: RunRecord) -> tuple[int, int, int, int]:
    return run.labeled_rows, run.failed_rows, run.dropped_rows, run.rows_left


def test_every_end_of_a_row_is_counted_once(store: Store) -> None:
    ends = list(itertools.product(ENDS, ENDS))
    ids = add_rows(store, [f"text {i}" for i in range(len(ends))])
    spec = spec_of(store, TASK)
    runs.plan(store, spec.run_id, limit=None)
    facts: list[Fact] = []
    for id, kinds in zip(ids, ends, strict=True):
        for dimension, kind in zip(("one", "two"), kinds, strict=True):
            if kind is not None:
                facts.append(fact(spec.run_id, id, dimension, kind, len(facts)))
    ingest(store, facts)
    done = [pair for pair in ends if None not in pair]
    failed = sum("error" in pair for pair in done)
    dropped = sum("drop" in pair and "error" not in pair for pair in done)
    (run,) = runs.list_runs(store)
    assert counts(run) == (1, failed, dropped, len(ends) - len(done))
    assert unfinished.answered_rows(store, spec.run_id) == len(done)
    left = [id for page in unfinished.missing(store, spec.run_id) for id, _, _ in page]
    assert left == [id for id, pair in zip(ids, ends, strict=True) if None in pair]
    # Another machine has labels for all of it: a label comes before anything else.
    every = itertools.product(ids, ("one", "two"))
    ingest(store, [fact(spec.run_id, id, name, "label", seq, author="b") for seq, (id, name) in enumerate(every)])
    (run,) = runs.list_runs(store)
    assert counts(run) == (len(ends), 0, 0, 0)


def test_runs_without_new_facts_are_not_counted_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = add_rows(store, ["a", "b"])
    first = spec_of(store, TASK)
    second = msgspec.structs.replace(first, run_id="second")
    runs.create(store, second)
    counted: list[str] = []
    count = tally._count

    def noted(con: Connection, run_id: str, dimensions: list[str]) -> tally.Counts:
        counted.append(run_id)
        return count(con, run_id, dimensions)

    monkeypatch.setattr(tally, "_count", noted)
    runs.list_runs(store)
    assert sorted(counted) == sorted([first.run_id, "second"])
    counted.clear()
    ingest(store, [fact("second", ids[0], name, "label", seq) for seq, name in enumerate(("one", "two"))])
    found = {run.id: run.labeled_rows for run in runs.list_runs(store)}
    assert (found, counted) == ({first.run_id: 0, "second": 1}, ["second"])
    runs.list_runs(store)
    assert counted == ["second"]


def test_what_takes_long_is_counted_less_often(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(tally, "monotonic", lambda: clock[0])
    count = tally._count

    def slow(con: Connection, run_id: str, dimensions: list[str]) -> tally.Counts:
        clock[0] += 1.0
        return count(con, run_id, dimensions)

    monkeypatch.setattr(tally, "_count", slow)
    ids = add_rows(store, ["a"])
    spec = spec_of(store, TASK)
    assert [run.labeled_rows for run in runs.list_runs(store)] == [0]
    ingest(store, [fact(spec.run_id, ids[0], name, "label", seq) for seq, name in enumerate(("one", "two"))])
    assert [run.labeled_rows for run in runs.list_runs(store)] == [0]
    clock[0] += tally.PATIENCE
    assert [run.labeled_rows for run in runs.list_runs(store)] == [1]
