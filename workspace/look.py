"""A first look at a file: what it is, its columns, its first rows, and a guess which column means what."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import duckdb
import msgspec

from workspace.columns import Mapping, suggest
from workspace.decoding import JSON_BYTES, clean, decoded_head
from workspace.formats import HEAD_BYTES, FileKind, check_file, identify
from workspace.parquet import not_parquet, parquet_columns, read_parquet_sql
from workspace.records import (
    Dialect,
    Record,
    csv_records,
    json_records,
    jsonl_records,
    sniff_dialect,
    text_records,
)

PREVIEW_ROWS = 20
COUNTED_BYTES = 1 << 23  # files up to this size are read whole for the preview
_CUT = 2000  # characters of a cell shown


class Preview(msgspec.Struct, frozen=True):
    """The start of a file. `rows` holds up to 20 records as strings, long ones cut; `lines` is None if unknown.

    `lines` counts as a load does: without the header. `notes` are sentences for the person.
    """

    format: str
    encoding: str
    columns: list[str]
    rows: list[dict[str, str]]
    lines: int | None
    suggestion: Mapping
    notes: list[str]


def preview(path: Path, *, format: str | None = None, encoding: str | None = None) -> Preview:
    """Look at a file without loading it. Raises IntakeError for what cannot be read at all."""
    path = check_file(path).resolve()
    kind = identify(path, format, encoding)
    if kind.format == "parquet":
        return _parquet(path)
    notes: list[str] = []
    if kind.encoding not in ("utf-8", "utf-8-sig") and encoding is None:
        notes.append(f"Read as {kind.encoding}. If letters look wrong, choose another encoding.")
    text, complete = decoded_head(path, kind, COUNTED_BYTES if kind.format != "json" else JSON_BYTES)
    columns: list[str] = []
    if kind.format in ("csv", "tsv"):
        dialect = dialect_of(path, kind)
        columns = list(dialect.columns)
        if not dialect.header:
            notes.append("The first line looks like data, so the columns were given names.")
        records = csv_records(io.StringIO(text, newline=""), dialect)
    else:
        records = text_reader(kind.format, text, path.name)
    seen: list[Record] = []
    rows: list[Record] = []
    refused = 0
    for record in records if complete else islice(records, 2000):
        refused += record.values is None
        if len(seen) < 1000:
            seen.append(record)
        if record.values is not None and len(rows) < PREVIEW_ROWS:
            rows.append(record)
    if refused:
        first = next((r for r in seen if r.values is None), None)
        where = f"; the first is line {first.line}: {first.reason}" if first else ""
        counted = "1 line" if refused == 1 else f"{refused:,} lines"
        notes.append(f"{counted} cannot be loaded{where}." if complete else f"Some lines cannot be loaded{where}.")
    columns = columns or list(dict.fromkeys(name for r in seen if r.values for name in r.values))
    shown = [{name: clean((record.values or {}).get(name) or "")[:_CUT] for name in columns} for record in rows]
    if not shown:
        notes.append("There are no rows in it." if not refused else "None of its rows can be read.")
    lines = _count(kind, text, path) if complete else None
    return Preview(kind.format, kind.encoding, columns, shown, lines, suggest(columns, shown), notes)


def _count(kind: FileKind, text: str, path: Path) -> int:
    if kind.format in ("csv", "tsv"):
        return sum(1 for _ in csv_records(io.StringIO(text, newline=""), dialect_of(path, kind)))
    return sum(1 for _ in text_reader(kind.format, text, path.name))


def text_reader(format: str, text: str, name: str) -> Iterator[Record]:
    """The records of JSON, JSONL or plain text held in memory."""
    if format == "json":
        return json_records(text, name)
    lines = io.StringIO(text, newline="")
    return jsonl_records(lines) if format == "jsonl" else text_records(lines)


def dialect_of(path: Path, kind: FileKind) -> Dialect:
    """How a CSV or TSV file is written, from its first megabyte."""
    text, complete = decoded_head(path, kind, HEAD_BYTES)
    return sniff_dialect(text, complete, "\t" if kind.format == "tsv" else None)


def _parquet(path: Path) -> Preview:
    con = duckdb.connect(":memory:")
    try:
        expressions = parquet_columns(con, path)
        names = list(expressions)
        select = ", ".join(f"{expression} as c{i}" for i, expression in enumerate(expressions.values()))
        found = con.execute(f"select {select} from {read_parquet_sql(path)} limit {PREVIEW_ROWS}").fetchall()
        counted = con.execute(f"select count(*) from {read_parquet_sql(path)}").fetchall()
    except duckdb.Error as error:
        raise not_parquet(path.name, error) from error
    finally:
        con.close()
    rows = [{name: (value or "")[:_CUT] for name, value in zip(names, row, strict=True)} for row in found]
    notes = [] if rows else ["There are no rows in it."]
    return Preview("parquet", "", names, rows, int(counted[0][0]), suggest(names, rows), notes)
