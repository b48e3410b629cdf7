"""`winnow merge`: shards of any machines in, one table and an account of it out."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from engine.shards import table
from engine.shards.sources import BadLine, Reader, SourceReport, find, is_shard
from engine.shards.table import Format
from engine.shards.union import Outcome, Union
from workspace.errors import ExportError

TOLD = 10_000  # facts between two reports of progress


class Report(msgspec.Struct, frozen=True):
    """What was merged. `bad` tells of the first bad lines; each source counts its own."""

    written: int
    outcome: Outcome
    sources: tuple[SourceReport, ...]
    bad_lines: int
    bad: tuple[BadLine, ...]


def merge(
    paths: Sequence[Path], out: Path, format: Format, progress: Callable[[int], None] | None = None
) -> Report:
    """Unite all shards and ledgers in folders, or files, into `out`, which is replaced when all is written.

    `progress` hears how many facts were read. Raises IntakeError for sources that are not there or cannot be read,
    EngineError for a ledger that cannot, ExportError when the table cannot be written.
    """
    out = out.expanduser()
    sources = [source for source in find(paths) if source != out.resolve()]
    if out.is_dir() or not out.parent.is_dir():
        raise ExportError(f"{out} cannot be written.", "Name a file in a folder that is there.")
    if is_shard(out):
        raise ExportError(f"{out} is a shard.", "Choose another name; nothing was written.")
    # Beside the result: there is room for it there, and renaming it is one step.
    aside = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        aside.mkdir(mode=0o700)
        return _merge(sources, out, format, aside, progress)
    except (OSError, sqlite3.Error, pa.ArrowException) as error:
        raise ExportError(
            f"{out.name} could not be written.",
            "Check the space and permissions there. A file that was there before is unchanged.",
            str(error),
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _merge(
    sources: Sequence[Path], out: Path, format: Format, aside: Path, progress: Callable[[int], None] | None
) -> Report:
    reader = Reader()
    union = Union(aside / "facts.sqlite")
    try:
        read = 0
        for source in sources:
            for line in reader.read(source):
                union.add(line)
                read += 1
                if progress and read % TOLD == 0:
                    progress(read)
        union.settle()
        written = table.write(aside / out.name, format, union.questions())
        outcome = union.outcome()
    finally:
        union.close()
    os.replace(aside / out.name, out)
    bad = sum(source.bad for source in reader.sources)
    return Report(written, outcome, tuple(reader.sources), bad, tuple(reader.bad))
