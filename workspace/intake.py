"""Files come in: looked at, staged beside the workspace, then added in one transaction.

What counts as a line: a physical line for JSONL and plain text (blank ones are refused, so they are counted);
a record for CSV and TSV, which may span physical lines (the header and blank lines between records are none);
an element of the list for JSON; a row for Parquet. Of these, added + repeated + rejected == lines, always.
Rejects carry the physical line where their record starts (JSON: where the element starts; Parquet: the row).

Texts are kept character by character. A text already in the workspace is not added again: it is counted in
`repeats`. Gold labels of one text may contradict each other: all are kept, and since the newest load is written
last and within a load the most frequent label last, the last one written is the one in force.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from workspace.columns import Mapping, text_of
from workspace.errors import IntakeError
from workspace.formats import FileKind, check_file, digest_of, identify, scan
from workspace.ids import content_id
from workspace.look import Preview, dialect_of, preview
from workspace.meter import Meter
from workspace.staging import Staged, Staging
from workspace.store import Connection, Store, moment

__all__ = [
    "ImportRecord",
    "LoadResult",
    "Mapping",
    "Preview",
    "Reject",
    "imports",
    "load",
    "preview",
    "rejects",
    "text_of",
]


class LoadResult(msgspec.Struct, frozen=True):
    """What a load did; added + repeated + rejected == lines. `already_loaded`: nothing was to be done."""

    import_id: str
    lines: int
    added: int
    repeated: int
    rejected: int
    already_loaded: bool


class Reject(msgspec.Struct, frozen=True):
    """A line that was not loaded: its number, the reason in words, the start of its content."""

    line: int
    reason: str
    content: str


class ImportRecord(msgspec.Struct, frozen=True):
    """A load that was made. `bytes` is the size of the file."""

    id: str
    source: str
    format: str
    encoding: str
    mapping: Mapping
    bytes: int
    lines: int
    added: int
    repeated: int
    rejected: int
    finished_at: datetime


def load(
    store: Store,
    path: Path,
    mapping: Mapping,
    *,
    format: str | None = None,
    encoding: str | None = None,
    source: str | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> LoadResult:
    """Add the texts of a file to the workspace; all of it or, after any error, crash or cancel, nothing.

    `source` is the name shown for it (an upload's own name), `progress` gets the share done from 0 to 1 and
    `cancelled` is asked whether to stop, both from a thread of the load's. Loading the same content with the
    same mapping again does nothing; a file that has grown adds what is new.
    Raises IntakeError when the file cannot be read as asked, and when cancelled.
    """
    meter = Meter(progress, cancelled)
    path = check_file(path).resolve()
    kind = identify(path, format, encoding)
    if not mapping.text:
        raise IntakeError("No text column was chosen.", "Choose the column that holds the text to label.")
    found = None
    if kind.format == "parquet":
        digest = digest_of(path, meter.span(0.0, 0.1))
    else:
        found = scan(path, kind, encoding, meter.span(0.0, 0.15))
        digest, kind = found.digest, FileKind(kind.format, found.encoding, kind.gzipped, kind.size)
    as_json = msgspec.json.encode(mapping, order="sorted").decode()
    import_id = content_id(["import", digest, as_json, kind.format, kind.encoding])
    with store.read() as con:
        earlier = _earlier(con, import_id)
    if earlier is not None:
        meter.report(1.0)
        return earlier
    with tempfile.TemporaryDirectory(prefix="winnow-") as folder, Staging(store, meter) as staging:
        if found is None:
            staged = staging.parquet(_named_plainly(path, Path(folder)), mapping)
        else:
            dialect = dialect_of(path, kind) if kind.format in ("csv", "tsv") else None
            staged = staging.text(_named_plainly(path, Path(folder)), path.name, kind, found, dialect, mapping)

        def write(con: Connection) -> LoadResult:
            again = _earlier(con, import_id)
            if again is not None:
                return again
            with meter.watch(con, 0.5, 0.99):
                added = staged.insert(con, import_id)
                con.execute(
                    "insert into imports values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())",
                    [
                        import_id,
                        source or path.name,
                        kind.format,
                        kind.encoding,
                        as_json,
                        kind.size,
                        staged.lines,
                        added,
                        staged.good - added,
                        staged.rejected,
                        meter.started_at,
                    ],
                )
            meter.check()
            return _result(import_id, staged, added)

        try:
            result = store.write(write)
        except duckdb.InterruptException as error:
            raise meter.stopped() from error
    meter.report(1.0)
    return result


def _result(import_id: str, staged: Staged, added: int) -> LoadResult:
    return LoadResult(import_id, staged.lines, added, staged.good - added, staged.rejected, False)


def _earlier(con: Connection, import_id: str) -> LoadResult | None:
    found = con.execute("select lines, rejected from imports where id = ?", [import_id]).fetchall()
    if not found:
        return None
    lines, rejected = found[0]
    return LoadResult(import_id, lines, 0, lines - rejected, rejected, True)


def _named_plainly(path: Path, folder: Path) -> Path:
    # DuckDB takes these characters in a path for a search pattern and knows no way to escape them.
    if not any(mark in str(path) for mark in "*?[]{}"):
        return path
    link = folder / "file"
    link.symlink_to(path)
    return link


def rejects(store: Store, import_id: str, limit: int = 1000) -> list[Reject]:
    """The lines a load refused, in the order of the file."""
    with store.read() as con:
        found = con.execute(
            "select line, reason, content from rejects where import_id = ? order by line limit ?",
            [import_id, limit],
        ).fetchall()
    return [Reject(*values) for values in found]


def imports(store: Store) -> list[ImportRecord]:
    """Every load, newest first."""
    with store.read() as con:
        found = con.execute(
            """select id, source, format, encoding, mapping, bytes, lines, added, repeated, rejected,
                      epoch_us(finished_at) from imports order by finished_at desc, rowid desc"""
        ).fetchall()
    return [_record(row) for row in found]


def _record(row: tuple[Any, ...]) -> ImportRecord:
    name, source, format, encoding, raw, size, lines, added, repeated, rejected, finished = row
    return ImportRecord(
        id=name,
        source=source,
        format=format,
        encoding=encoding,
        mapping=msgspec.json.decode(raw, type=Mapping),
        bytes=size,
        lines=lines,
        added=added,
        repeated=repeated,
        rejected=rejected,
        finished_at=moment(finished),
    )
