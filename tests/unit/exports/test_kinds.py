"""Every kind of label goes out, with what rules say of the row, and comes back as gold."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.seeding import add_rows, fact_of, ingest, spec_of
from workspace import exports, intake, labels, runs
from workspace.columns import Mapping
from workspace.exports import Format
from workspace.facts import Fact, RunSpec
from workspace.store import Store, open_store
from workspace.task import Dimension, Label, Rule, Task

TAGS = Dimension(
    name="tags",
    question="Which apply?",
    kind="multi",
    labels=(Label(name="a, b"), Label(name="c"), Label(name="d")),
)
MARK = Dimension(name="mark", question="How good?", kind="score", maximum=2)
TASK = Task(
    name="kinds",
    dimensions=(TAGS, MARK),
    rules=(Rule(expression="not list_contains(tags, 'd') or mark > 1", message="What is d is good."),),
    weights={"mark": 1},
    tiers={"good": "overall > 1"},
)
TEXTS = ("one", "two", "three", "advert")
TAGGED = (("a, b", "c"), (), ("d",))
MARKS = ("2", "0", "0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "w.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def spec(store: Store) -> RunSpec:
    """Three rows labeled, the last with an explanation, and one a rule left out."""
    ids = add_rows(store, TEXTS)
    spec = spec_of(store, TASK)
    runs.plan(store, spec.run_id, limit=None)
    facts: list[Fact] = []
    for id, tags, mark in zip(ids, TAGGED, MARKS, strict=False):
        for dimension, chosen in ((TAGS, tags), (MARK, (mark,))):
            sure = [0.999999 if label in chosen else 1e-6 for label in dimension.label_names]
            why = "it says so" if chosen == ("d",) else ""
            # Told by a rule, so that the few rows around have no bias to take off.
            facts.append(
                fact_of(
                    spec.run_id,
                    id,
                    dimension.name,
                    dimension.label_names,
                    sure,
                    seq=len(facts),
                    warnings=("rule:sure",),
                    explanation=why,
                )
            )
    for dimension in (TAGS, MARK):
        changes = {"kind": "drop", "logprobs": (), "warnings": ("rule:advert",), "seq": len(facts)}
        facts.append(fact_of(spec.run_id, ids[3], dimension.name, dimension.label_names, (1.0,), **changes))
    ingest(store, facts)
    return spec


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_kind_goes_out_and_comes_back_as_gold(
    store: Store, spec: RunSpec, tmp_path: Path, kind: Format
) -> None:
    path = tmp_path / f"out.{kind}"
    result = exports.export(store, spec.run_id, path, kind)
    assert (result.rows, result.dropped) == (3, 1)
    rows = read(path)
    assert [row["text"] for row in rows] == list(TEXTS[:3])
    joined = ["a, b|c", "(none)", "d"]
    assert [row["tags"] for row in rows] == (joined if kind == "csv" else [list(tags) for tags in TAGGED])
    assert [row["mark"] for row in rows] == list(MARKS)
    assert [round(float(row["mark_value"])) for row in rows] == [2, 0, 0]
    assert [float(row["mark_spread"]) < 0.01 for row in rows] == [True] * 3
    assert [round(float(row["overall"])) for row in rows] == [2, 0, 0]
    assert [row["tier"] or None for row in rows] == ["good", None, None]
    broken = ["", "", "What is d is good."] if kind == "csv" else [[], [], ["What is d is good."]]
    assert [row["broken_rules"] for row in rows] == broken
    assert [row["tags_explanation"] for row in rows] == ["", "", "it says so"]
    assert "mark_explanation" not in rows[0]
    assert result.dimensions[0].shares == [("(none)", 1), ("a, b", 1), ("c", 1), ("d", 1)]
    other = open_store(tmp_path / "other.duckdb")
    try:
        intake.load(other, path, Mapping(("text",), gold={"tags": "tags", "mark": "mark"}))
        again = spec_of(other, TASK)
        runs.plan(other, again.run_id, limit=None)
        told = [
            fact_of(again.run_id, row["id"], dimension.name, dimension.label_names, sure, seq=seq)
            for seq, (row, (dimension, sure)) in enumerate(
                (row, asked) for row in rows for asked in ((TAGS, (0.5, 0.4, 0.3)), (MARK, (0.2, 0.5, 0.3)))
            )
        ]
        ingest(other, told)
        known = labels.evidence(other, again.run_id, "tags")
        wanted = {row["id"]: tags for row, tags in zip(rows, TAGGED, strict=True)}
        assert known.rows == 3
        assert list(known.truth) == [
            int(label not in wanted[id]) for id in sorted(wanted) for label in TAGS.label_names
        ]
        marks = labels.evidence(other, again.run_id, "mark")
        assert dict(zip(marks.row_ids, marks.truth, strict=True)) == {
            row["id"]: int(mark) for row, mark in zip(rows, MARKS, strict=True)
        }
        found = exports.export(other, again.run_id, tmp_path / f"again.{kind}", kind)
        assert [said.checked for said in found.dimensions] == [3, 3]
    finally:
        other.close()


def test_one_dimension_goes_out_with_what_rules_say_of_all(store: Store, spec: RunSpec, tmp_path: Path) -> None:
    exports.export(store, spec.run_id, tmp_path / "tags.jsonl", "jsonl", dimension="tags")
    rows = read(tmp_path / "tags.jsonl")
    assert [row["broken_rules"] for row in rows] == [[], [], ["What is d is good."]]
    assert "mark" not in rows[0]
    shown = exports.preview(store, spec.run_id, dimension="tags", limit=1)
    assert (shown[0]["tags"], shown[0]["tier"]) == ("a, b|c", "good")
