"""Writes the shards of a ledger and writes on in them: one file of lines for each author.

A shard is only ever appended to, so that it can be copied while it grows; what a crash leaves half written at its
end is written again.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import BinaryIO

import msgspec
from filelock import FileLock, Timeout

from engine.cluster.ledger_view import LedgerView
from engine.shards.lines import BEGINNING, MAX_LINE, NotReadable, decode_line, encode, lines
from workspace.errors import ExportError

ENDING = ".jsonl"
TAIL = 1 << 16  # bytes read at once in search of the last line
LOCK = ".winnow-shards.lock"


class Shard(msgspec.Struct, frozen=True):
    """A file that was brought up to date; `waiting` says why the log cannot be read further yet, if so."""

    path: Path
    added: int
    waiting: str


def export(ledger: Path, folder: Path, run_id: str = "") -> list[Shard]:
    """Bring the shards in a folder up to date, one file for each author that has facts; each is on the disk then.

    A chosen run has files of its own. Raises ExportError, EngineError.
    """
    if not re.fullmatch("[A-Za-z0-9_-]*", run_id):  # another machine may have named it, and it names a file
        raise ExportError("The shards of this run cannot be written alone.", "Leave out --run.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=0), LedgerView(ledger) as view:
            return [_append(view, folder, author, end, run_id) for author, end in view.ends().items()]
    except Timeout:
        raise ExportError(f"Shards are being written to {folder} already.", "Wait until that is done.") from None
    except OSError as error:
        raise ExportError(
            f"The shards in {folder} cannot be written.", "Check the space and permissions there.", str(error)
        ) from error


def _append(view: LedgerView, folder: Path, author: str, end: int, run_id: str) -> Shard:
    path = folder / (".".join(filter(None, (author, run_id))) + ENDING)
    added = 0
    with contextlib.ExitStack() as stack:
        file: BinaryIO | None = None
        try:
            for line in lines(view, author, _repair(path, author), end, run_id):
                if file is None:  # no file for those who labeled nothing
                    file = stack.enter_context(open(path, "ab"))
                file.write(encode(line))
                added += 1
            waiting = ""
        except NotReadable as error:
            waiting = str(error)
        if file is not None:
            file.flush()
            os.fsync(file.fileno())
    return Shard(path, added, waiting)


def _repair(path: Path, author: str) -> int:
    """Cut off what is half written at the end of a shard; returns the number of the fact that comes next."""
    if not path.exists():
        return 0
    with open(path, "r+b") as file:
        first = file.readline(MAX_LINE)
        mine = _belongs(first, author) if first.endswith(b"\n") else first.startswith(BEGINNING[: len(first)])
        if not mine:
            raise ExportError(f"{path} is no shard of {author}.", "Move it elsewhere; it was left alone.")
        size = file.seek(0, os.SEEK_END)
        whole = _after_last_newline(file, size)
        start = _after_last_newline(file, max(whole - 1, 0))
        file.seek(start)
        last = file.read(whole - start)
        if last and not _belongs(last, author):
            raise ExportError(
                f"The last line of {path} is damaged.", "Move the file elsewhere; it will be written anew."
            )
        if whole < size:
            file.truncate(whole)
    return decode_line(last).seq + 1 if last else 0


def _after_last_newline(file: BinaryIO, end: int) -> int:
    """Where the line begins that reaches up to `end`."""
    while end:
        start = max(0, end - TAIL)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _belongs(raw: bytes, author: str) -> bool:
    try:
        return decode_line(raw).author == author
    except ValueError:
        return False
