"""What is exported is what the workspace says, whatever is in the texts."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.seeding import MODEL, SENTIMENT, add_rows, facts_for, ingest, seed, task_of
from workspace import decisions, exports, labels, runs, tasks
from workspace.errors import ExportError, RunError
from workspace.facts import DimensionSpec, RunSpec
from workspace.facts import run_id as id_of_run
from workspace.ids import content_id, row_id
from workspace.store import Store, open_store
from workspace.task import Task

TEXTS = [
    "plain",
    "with \"quotes\", commas and 'single' ones",
    "two\nlines",
    "carriage\r\nreturn and lone \r one",
    "emoji 🙂 and Ωμέγα",
    "NUL \0 inside",
    "=1+1",
    "  spaces kept  ",
    "null",
    '"',
    "a\tb",
    "back\\slash",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "w.duckdb")
    yield opened
    opened.close()


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_text_comes_back_unchanged(store: Store, tmp_path: Path, kind: exports.Format) -> None:
    spec = seed(store, TEXTS)[0]
    result = exports.export(store, spec.run_id, tmp_path / f"out.{kind}", kind)
    assert result.rows == len(TEXTS)
    rows = read_csv(result.path) if kind == "csv" else read(result.path)
    current = labels.page(store, spec.run_id, "sentiment", limit=100)
    assert [row["text"] for row in rows] == TEXTS == [label.text for label in current]
    assert [row["id"] for row in rows] == [label.row_id for label in current]
    assert [row["sentiment"] for row in rows] == [label.label for label in current]
    told = [float(str(row["sentiment_confidence"])) for row in rows]
    assert told == pytest.approx([label.confidence for label in current])
    assert {row["sentiment_decided_by"] for row in rows} == {"model"}
    assert list(tmp_path.glob(".*.part")) == []


def test_pandas_reads_the_csv(store: Store, tmp_path: Path) -> None:
    texts = [text for text in TEXTS if "\0" not in text and "\r" not in text]
    spec = seed(store, texts)[0]
    rows = pd.read_csv(exports.export(store, spec.run_id, tmp_path / "out.csv", "csv").path, keep_default_na=False)
    assert list(rows["text"]) == texts


def test_people_come_before_the_model_and_filters_choose(store: Store, tmp_path: Path) -> None:
    spec = seed(store, ["a", "b", "c", "d"])[0]
    first = labels.page(store, spec.run_id, "sentiment")[0]
    event = decisions.DecisionEvent(
        seq=0, row_id=first.row_id, action="modify", label="neutral", seconds=1.0, comment="", blind=False,
        shown={}, undoes=None, decided_at=1.0,
    )  # fmt: skip
    decisions.record(store, session="s", run_id=spec.run_id, dimension="sentiment", reviewer="ada", events=[event])
    people = exports.preview(store, spec.run_id, decided_by="human")
    assert [(row["text"], row["sentiment"], row["sentiment_decided_by"]) for row in people] == [
        ("a", "neutral", "ada")
    ]
    model = exports.preview(store, spec.run_id, decided_by="model")
    assert [row["text"] for row in model] == ["b", "c", "d"]
    sure = exports.preview(store, spec.run_id, min_confidence=1.0)
    assert [row["text"] for row in sure] == ["a"]
    assert exports.export(store, spec.run_id, tmp_path / "n.parquet", "parquet", min_confidence=1.0).rows == 1


def test_all_dimensions_are_columns_even_one_called_domain(store: Store, tmp_path: Path) -> None:
    dims = (task_of(["yes", "no"], "search_needed").dimensions[0], task_of(SENTIMENT, "domain").dimensions[0])
    task = Task(name="two", title="Two", dimensions=dims)
    task_id = tasks.save(store, task)
    prompt_id = content_id(["prompt", task_id])
    runs.save_prompt(store, prompt_id, task_id, "{}")
    asked = tuple(DimensionSpec(d.name, d.kind, d.label_names, d.label_names, "", "{text}") for d in dims)
    spec = RunSpec(id_of_run(task_id, prompt_id, MODEL.digest), task_id, "two", prompt_id, MODEL, asked)
    runs.create(store, spec)
    ids = add_rows(store, ["x", "y"], ["here", "there"])
    runs.plan(store, spec.run_id, limit=None)
    ingest(store, facts_for(spec, ids))
    rows = read(exports.export(store, spec.run_id, tmp_path / "o.jsonl", "jsonl").path)
    assert [row["row_domain"] for row in rows] == ["here", "there"]
    assert {"search_needed", "domain", "domain_confidence", "search_needed_decided_by"} <= set(rows[0])
    one = exports.preview(store, spec.run_id, dimension="search_needed")
    assert "domain_confidence" not in one[0]


def test_only_the_rows_of_one_load(store: Store, tmp_path: Path) -> None:
    spec = seed(store, ["a", "b"])[0]
    store.write(lambda con: con.execute("insert into repeats select id, 'later', 1 from rows where text = 'b'"))
    assert [row["text"] for row in exports.preview(store, spec.run_id, import_id="later")] == ["b"]
    assert len(exports.preview(store, spec.run_id, import_id="seed")) == 2


def test_gold_is_a_column_when_there_is_some(store: Store) -> None:
    spec = seed(store, ["a", "b"])[0]
    assert "sentiment_gold" not in exports.preview(store, spec.run_id)[0]
    store.write(
        lambda con: con.execute(
            "insert into gold select id, 'sentiment', 'neutral', 'i' from rows where text = 'a'"
        )
    )
    assert [row["sentiment_gold"] for row in exports.preview(store, spec.run_id)] == ["neutral", None]


def test_spreadsheet_safety_is_asked_for(store: Store, tmp_path: Path) -> None:
    spec = seed(store, ["=1+1", "+1", "-1", "@x", "fine"])[0]
    plain = read_csv(exports.export(store, spec.run_id, tmp_path / "p.csv", "csv").path)
    assert [row["text"] for row in plain] == ["=1+1", "+1", "-1", "@x", "fine"]
    safe = read_csv(exports.export(store, spec.run_id, tmp_path / "s.csv", "csv", spreadsheet_safe=True).path)
    assert [row["text"] for row in safe] == ["'=1+1", "'+1", "'-1", "'@x", "fine"]


def test_what_cannot_be_written_says_so_and_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    spec = seed(store, ["a"])[0]
    with pytest.raises(ExportError, match="does not exist"):
        exports.export(store, spec.run_id, tmp_path / "missing" / "o.csv", "csv")
    with pytest.raises(ExportError, match="is a folder"):
        exports.export(store, spec.run_id, tmp_path, "csv")
    old = tmp_path / "o.csv"
    old.write_text("old")
    with pytest.raises(RunError):
        exports.export(store, "no such run", old, "csv")
    assert old.read_text() == "old"
    exports.export(store, spec.run_id, old, "csv")
    assert old.read_text() != "old"


def test_fifty_thousand_rows(store: Store, tmp_path: Path) -> None:
    texts = [f"text number {i}" for i in range(50_000)]
    spec = seed(store, texts)[0]
    result = exports.export(store, spec.run_id, tmp_path / "o.jsonl", "jsonl")
    assert result.rows == 50_000
    with result.path.open(encoding="utf-8") as file:
        assert [json.loads(line)["text"] for line in file] == texts


def test_a_row_without_a_label_says_why_and_the_sum_says_how_many(store: Store, tmp_path: Path) -> None:
    (spec,) = seed(store, TEXTS, labeled=3)
    ids = [row_id(text) for text in TEXTS]
    good = facts_for(spec, ids[:4])[-1]
    failed = msgspec.structs.replace(
        good,
        author="other",
        seq=0,
        kind="error",
        label="",
        logprobs=(),
        error="The model gave no usable number for this row.",
    )
    ingest(store, [failed])
    result = exports.export(store, spec.run_id, tmp_path / "out.csv", "csv")
    rows = read_csv(result.path)
    assert [row["warnings"] for row in rows] == ["", "", "", "The model gave no usable number for this row."]
    (said,) = result.dimensions
    assert dict(said.shares) == {"positive": 1, "negative": 1, "neutral": 1, None: 1}
    assert (said.checked, said.right) == (0, 0)
    store.write(
        lambda con: con.executemany(
            "insert into gold values (?, 'sentiment', ?, 'seed')",
            [[ids[0], "POSITIVE"], [ids[1], "neutral"], [ids[3], "neutral"]],
        )
    )
    (said,) = exports.export(store, spec.run_id, tmp_path / "out.csv", "csv").dimensions
    assert (said.checked, said.right) == (2, 1)
