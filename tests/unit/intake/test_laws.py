"""Laws of loading, over made-up files with made-up damage."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workspace import intake
from workspace.columns import Mapping
from workspace.ids import row_id
from workspace.intake import LoadResult
from workspace.records import BLANK
from workspace.store import Store, open_store

LAWS = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Any text a file can hold, with what hurts readers made likely.
CHARACTERS = st.one_of(st.sampled_from(list(",\"'\n\r\t;| \\x0ä🙂\0=\u2028\ufeff")), st.characters(codec="utf-8"))
TEXTS = st.lists(st.text(CHARACTERS, max_size=20), min_size=1, max_size=12)


@contextmanager
def loaded(
    store: Store, content: bytes, name: str, mapping: Mapping
) -> Iterator[tuple[LoadResult, Counter[str], list[intake.Reject]]]:
    """The file loaded into an emptied workspace: result, how often each text was seen, refused lines."""

    def clear(con: object) -> None:
        for table in ("rows", "imports", "rejects", "repeats", "gold"):
            con.execute(f"delete from {table}")  # type: ignore[attr-defined]

    store.write(clear)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        result = intake.load(store, path, mapping, encoding="utf-8")
    with store.read() as con:
        found = con.execute(
            "select text, 1 + coalesce(sum(times), 0)::int from rows left join repeats on row_id = id group by all"
        ).fetchall()
        order = con.execute("select row_no, id, text from rows order by row_no").fetchall()
    assert [number for number, _, _ in order] == list(range(len(order)))
    assert all(name == row_id(text) for _, name, text in order)
    assert result.added + result.repeated + result.rejected == result.lines
    refused = intake.rejects(store, result.import_id)
    assert len(refused) == result.rejected
    yield result, Counter(dict(found)), refused


def as_csv(rows: list[list[str]], end: str, quoting: int) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


def test_sound_csv_keeps_every_text(tmp_path: Path) -> None:
    store = open_store(tmp_path / "w.duckdb")

    @LAWS
    @given(TEXTS, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    def law(texts: list[str], end: str, quoting: int) -> None:
        if quoting == csv.QUOTE_MINIMAL:  # its writer leaves a lone CR unquoted when lines end in LF
            texts = [text.replace("\r", "") for text in texts]
        rows = [["id", "text", "more"], *([f"n{i}", text, "x"] for i, text in enumerate(texts))]
        content = as_csv(rows, end, quoting).encode()
        with loaded(store, content, "f.csv", Mapping(("text",), id="id")) as (result, found, refused):
            assert found == Counter(text for text in texts if text.strip(BLANK))
            assert result.lines == len(texts)
            assert {each.reason for each in refused} <= {"empty text"}

    try:
        law()
    finally:
        store.close()


def test_damaged_csv_costs_only_the_damaged_lines(tmp_path: Path) -> None:
    store = open_store(tmp_path / "w.duckdb")
    line = st.one_of(
        st.text(
            st.characters(codec="utf-8", exclude_characters='\r\n",', exclude_categories=["Cs"]), max_size=12
        ).map(lambda text: (f"n,{text},x", text)),
        # Too few or too many columns, and quotes that break on their own line.
        st.sampled_from(['n,"broken"x,y', "n,short", "n,far,too,long", '"q"q,a,b']).map(lambda raw: (raw, None)),
    )

    @LAWS
    @given(st.lists(line, min_size=1, max_size=15))
    def law(lines: list[tuple[str, str | None]]) -> None:
        content = "\n".join(["id,text,more", *(raw for raw, _ in lines)]).encode()
        with loaded(store, content, "f.csv", Mapping(("text",), id="id")) as (result, found, refused):
            assert found == Counter(text for _, text in lines if text and text.strip(BLANK))
            assert result.lines == len(lines)
            wrong = [i for i, (_, text) in enumerate(lines, 2) if not (text or "").strip(BLANK)]
            assert [each.line for each in refused] == wrong

    try:
        law()
    finally:
        store.close()


def test_jsonl_counts_every_physical_line(tmp_path: Path) -> None:
    store = open_store(tmp_path / "w.duckdb")
    sound = st.tuples(st.text(CHARACTERS, max_size=20), st.booleans()).map(
        lambda pair: (json.dumps({"a": 1, "text": pair[0]}, ensure_ascii=pair[1]), pair[0])
    )
    broken = st.text(st.characters(codec="utf-8", exclude_characters='\r\n{"'), max_size=20).map(
        lambda raw: (raw, None)
    )
    half = sound.map(lambda pair: (pair[0][:-1], None))

    @LAWS
    @given(st.lists(st.one_of(sound, broken, half), min_size=1, max_size=15), st.sampled_from(["\n", "\r\n"]))
    def law(lines: list[tuple[str, str | None]], end: str) -> None:
        content = "".join(raw + end for raw, _ in lines).encode()
        with loaded(store, content, "f.jsonl", Mapping(("text",))) as (result, found, refused):
            assert found == Counter(text for _, text in lines if text and text.strip(BLANK))
            assert result.lines == len(lines)
            wrong = [i for i, (_, text) in enumerate(lines, 1) if not (text or "").strip(BLANK)]
            assert [each.line for each in refused] == wrong

    try:
        law()
    finally:
        store.close()


def test_any_bytes_are_counted(tmp_path: Path) -> None:
    store = open_store(tmp_path / "w.duckdb")

    @LAWS
    @given(st.binary(max_size=60), st.sampled_from(["f.csv", "f.tsv", "f.jsonl", "f.txt"]))
    def law(noise: bytes, name: str) -> None:
        head = b"" if name.endswith(("jsonl", "txt")) else b"text,n\n" if name == "f.csv" else b"text\tn\n"
        with loaded(store, head + b"x" + noise, name, Mapping(("text",))) as (result, _, _):
            if name in ("f.jsonl", "f.txt"):
                physical = (b"x" + noise).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                assert result.lines == physical.count(b"\n") + (not physical.endswith(b"\n"))

    try:
        law()
    finally:
        store.close()
