"""Reads shards and ledgers of any machines. Nobody vouches for them: what is no fact is counted and left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from engine.cluster.ledger_view import LedgerView
from engine.shards.export import ENDING
from engine.shards.lines import MAX_LINE, Line, NotReadable, decode_line, lines
from workspace.errors import IntakeError

LEDGER = "ledger.sqlite"  # in the state folder of an engine
SHOWN = 100  # bad lines of which the report says where they are
MARK = b"\xef\xbb\xbf"  # some editors put it at the beginning of a file


class BadLine(msgspec.Struct, frozen=True):
    """A line that is no fact, and why."""

    file: str
    line: int
    why: str


class SourceReport(msgspec.Struct, frozen=True):
    """What a file brought. `torn`: its last line is half written. `waiting`: logs that cannot be read further."""

    path: str
    facts: int
    bad: int
    torn: bool = False
    waiting: tuple[str, ...] = ()


def find(paths: Sequence[Path]) -> list[Path]:
    """The shards and ledgers in these folders, or that these files are. Raises IntakeError if there are none."""
    found: dict[Path, None] = {}
    for path in paths:
        path = path.expanduser()
        inside = [path] if path.is_file() else sorted(path.glob(f"*{ENDING}"))
        if (path / LEDGER).is_file():
            inside.append(path / LEDGER)
        if not inside:
            raise IntakeError(
                f"There are no shards in {path}.", "Write some with winnow shards export. Nothing was changed."
            )
        found.update((file.resolve(), None) for file in inside)
    return list(found)


def is_shard(path: Path) -> bool:
    """Whether a file is there and begins with a fact."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        try:
            decode_line(file.readline(MAX_LINE))
        except ValueError:
            return False
    return True


class Reader:
    """Reads one source after the other and keeps account."""

    def __init__(self) -> None:
        self.sources: list[SourceReport] = []
        self.bad: list[BadLine] = []

    def read(self, path: Path) -> Iterator[Line]:
        """The facts of a shard or a ledger. Raises IntakeError when it cannot be opened, EngineError likewise."""
        if path.suffix == ENDING:
            try:
                with open(path, "rb") as file:
                    yield from self._shard(path, file)
            except OSError as error:
                raise IntakeError(
                    f"{path} cannot be read.", "Nothing was changed. Check its permissions.", str(error)
                ) from error
        else:
            yield from self._ledger(path)

    def _shard(self, path: Path, file: BinaryIO) -> Iterator[Line]:
        facts = bad = number = 0
        torn = False
        while raw := file.readline(MAX_LINE):
            number += 1
            whole = raw.endswith(b"\n")
            if not whole and len(raw) == MAX_LINE:
                whole = _skip(file)
                why = f"it is longer than {MAX_LINE} bytes"
            else:
                try:
                    line = decode_line(raw.removeprefix(MARK) if number == 1 else raw)
                except ValueError as error:
                    why = str(error)
                else:
                    facts += 1
                    yield line
                    continue
            if not raw.strip():
                continue
            if not whole:
                torn = True
                continue
            bad += 1
            if len(self.bad) < SHOWN:
                self.bad.append(BadLine(str(path), number, why[:500]))
        self.sources.append(SourceReport(str(path), facts, bad, torn))

    def _ledger(self, path: Path) -> Iterator[Line]:
        facts = 0
        waiting = []
        with LedgerView(path) as view:
            for author, end in view.ends().items():
                try:
                    for line in lines(view, author, 0, end):
                        facts += 1
                        yield line
                except NotReadable as error:
                    waiting.append(f"{author}: {error}")
        self.sources.append(SourceReport(str(path), facts, 0, False, tuple(waiting)))


def _skip(file: BinaryIO) -> bool:
    """Go to the end of a line; whether there is one."""
    while raw := file.readline(MAX_LINE):
        if raw.endswith(b"\n"):
            return True
    return False
