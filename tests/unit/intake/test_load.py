"""What a load adds, counts and refuses, for sound files of every format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workspace import intake, rows
from workspace.errors import IntakeError
from workspace.ids import row_id
from workspace.intake import Mapping
from workspace.samples import BUNDLED, sample
from workspace.store import Store

TEXT = Mapping(("text",))
ODD = [
    "a",
    "Ω🙂",
    "e\u0301 \u200b\ufeff",
    "  kept  ",
    "ends with space ",
    "\u2028 line separator",
    "x" * 5000,
    "'; --",
]


def texts(store: Store) -> list[str]:
    with store.read() as con:
        return [text for (text,) in con.execute("select text from rows order by row_no").fetchall()]


def write(path: Path, records: list[dict[str, str]]) -> Path:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(records), path)
        return path
    if name.endswith("jsonl"):
        content = "".join(json.dumps(record) + "\n" for record in records)
    elif name.endswith("json"):
        content = json.dumps({"version": 1, "items": records}, indent=2)
    else:
        mark = "\t" if name.endswith("tsv") else ","
        lines = [list(records[0]), *(list(record.values()) for record in records)]
        content = "\n".join(mark.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)
    raw = content.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", ["f.csv", "f.tsv", "f.jsonl", "f.json", "f.parquet", "f.csv.gz", "f.jsonl.gz"])
def test_every_format_keeps_every_character(store: Store, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [{"id": str(i), "text": text} for i, text in enumerate(ODD)])
    result = intake.load(store, path, Mapping(("text",), id="id"))
    assert (result.lines, result.added, result.repeated, result.rejected) == (len(ODD), len(ODD), 0, 0)
    assert texts(store) == ODD
    with store.read() as con:
        found = con.execute("select row_no, id, external_id from rows order by row_no").fetchall()
    assert found == [(i, row_id(text), str(i)) for i, text in enumerate(ODD)]
    shown = intake.preview(path)
    assert (shown.lines, shown.columns) == (len(ODD), ["id", "text"])
    assert [row["text"] for row in shown.rows] == [text[:2000] for text in ODD]
    assert shown.suggestion == Mapping(("text",), id="id")


def test_plain_text_is_one_row_per_line(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    path.write_bytes(b"one\n two \n\nthree, with comma\n")
    result = intake.load(store, path, TEXT)
    assert (result.lines, result.added, result.rejected) == (4, 3, 1)
    assert texts(store) == ["one", " two ", "three, with comma"]
    assert intake.rejects(store, result.import_id) == [intake.Reject(3, "empty text", "")]


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet"])
def test_same_text_is_one_row_with_a_count(store: Store, tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, [{"text": text} for text in ["a", "b", "a", "c", "a"]])
    result = intake.load(store, path, TEXT)
    assert (result.lines, result.added, result.repeated) == (5, 3, 2)
    assert [(row.row_no, row.text, row.times) for row in rows.page(store)] == [
        (0, "a", 3),
        (1, "b", 1),
        (2, "c", 1),
    ]


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet"])
def test_the_same_file_again_does_nothing_and_a_grown_one_adds_what_is_new(
    store: Store, tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / name, [{"text": text} for text in ["a", "b"]])
    first = intake.load(store, path, TEXT)
    again = intake.load(store, path, TEXT)
    assert again.already_loaded
    assert (again.lines, again.added, again.repeated, again.import_id) == (2, 0, 2, first.import_id)
    assert [row.times for row in rows.page(store)] == [1, 1]
    grown = intake.load(store, write(path, [{"text": text} for text in ["a", "b", "c", "d"]]), TEXT)
    assert (grown.lines, grown.added, grown.repeated) == (4, 2, 2)
    assert [(row.row_no, row.text) for row in rows.page(store)] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert [record.added for record in intake.imports(store)] == [2, 2]


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet"])
def test_columns_join_by_a_template(store: Store, tmp_path: Path, name: str) -> None:
    records = [{"title": "T{body}", "body": "B"}, {"title": "", "body": "only"}, {"title": "", "body": " "}]
    path = write(tmp_path / name, records)
    mapping = Mapping(("title", "body"), "<{title}> {body} {other}")
    result = intake.load(store, path, mapping)
    assert (
        texts(store)
        == ["<T{body}> B {other}", "<> only {other}"]
        == [intake.text_of(record, mapping) for record in records[:2]]
    )
    assert [(reject.reason) for reject in intake.rejects(store, result.import_id)] == ["empty text"]
    intake.load(store, path, Mapping(("title", "body")))
    assert texts(store)[2:] == ["T{body}\n\nB", "\n\nonly"]


@pytest.mark.parametrize("name", ["f.csv", "f.jsonl", "f.parquet"])
def test_gold_that_disagrees_is_all_kept_and_the_newest_then_most_frequent_counts(
    store: Store, tmp_path: Path, name: str
) -> None:
    def current() -> list[tuple[str, str]]:
        with store.read() as con:
            return con.execute(
                """select text, arg_max(label, gold.rowid) from gold join rows on rows.id = row_id
                   where dimension = 'tone' group by text order by text"""
            ).fetchall()

    mapping = Mapping(("text",), gold={"tone": "y"})
    first = [{"text": "a", "y": y} for y in ["bad", "good", "good", "bad", "good"]] + [{"text": "b", "y": ""}]
    intake.load(store, write(tmp_path / name, first), mapping)
    assert current() == [("a", "good")]
    intake.load(store, write(tmp_path / name, [{"text": "a", "y": "bad"}, {"text": "b", "y": "so"}]), mapping)
    assert current() == [("a", "bad"), ("b", "so")]


def test_parquet_of_other_types_becomes_text(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(
        pa.table(
            {"number": [1, 2], "raw": pa.array([b"x", "ü".encode()]), "list": [[1], [2]], "text": ["t", None]}
        ),
        path,
    )
    assert intake.preview(path).rows[0] == {"number": "1", "raw": "x", "list": "[1]", "text": "t"}
    assert intake.load(store, path, Mapping(("raw",), id="number")).added == 2
    assert intake.load(store, path, Mapping(("list",))).added == 2
    result = intake.load(store, path, TEXT)
    assert (result.added, intake.rejects(store, result.import_id)[0].line) == (1, 2)
    assert texts(store) == ["x", "ü", "[1]", "[2]", "t"]


def test_a_path_that_looks_like_a_pattern(store: Store, tmp_path: Path) -> None:
    for name in ("what[1]*?.csv", "it's {here}.parquet"):
        assert intake.load(store, write(tmp_path / name, [{"text": name}]), TEXT).added == 1


def test_progress_goes_up_to_one_and_a_cancel_leaves_nothing(store: Store, tmp_path: Path) -> None:
    for name in ("f.csv", "f.jsonl", "f.parquet"):
        path = write(tmp_path / name, [{"text": f"{name} {i}"} for i in range(2000)])
        with pytest.raises(IntakeError, match="stopped"):
            intake.load(store, path, TEXT, cancelled=lambda: True)
        told: list[float] = []

        def late(told: list[float] = told) -> bool:
            return bool(told)  # the first report asks for the stop: whatever comes after it is undone

        with pytest.raises(IntakeError, match="stopped"):
            intake.load(store, path, TEXT, progress=told.append, cancelled=late)
        assert rows.count(store) == 0
        assert intake.imports(store) == []
    told = []
    assert intake.load(store, path, TEXT, progress=told.append).added == 2000
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_column_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    for name in ("f.csv", "f.parquet"):
        path = write(tmp_path / name, [{"body": "a"}])
        with pytest.raises(IntakeError, match="no column 'text'"):
            intake.load(store, path, TEXT)
    with pytest.raises(IntakeError, match="No text column"):
        intake.load(store, path, Mapping(()))


def test_samples_load_with_their_gold(store: Store) -> None:
    for bundled in BUNDLED:
        result = intake.load(store, bundled.path, bundled.mapping, source=bundled.title)
        assert result.added == result.lines
    assert intake.preview(sample("tweets").path).suggestion == sample("tweets").mapping
    with store.read() as con:
        told = dict(con.execute("select dimension, count(*) from gold group by 1").fetchall())
        kinds = con.execute("select distinct label from gold where dimension = 'sentiment' order by 1").fetchall()
    assert told == {"sentiment": 500, "search_needed": 62, "domain": 62}
    assert [kind for (kind,) in kinds] == ["negative", "neutral", "positive"]
    ratings = pq.read_table(sample("tweets").path)["ratings"].to_pylist()
    assert {len(each) for each in ratings} == {20}
