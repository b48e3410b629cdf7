"""A ledger file to look into, beside the engine that writes it or without one. Nothing in it is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.cluster.entries import Entry, RunOpened, decode
from engine.cluster.ledger_file import check_layout
from engine.cluster.planned import PlannedRows, Row
from workspace.errors import EngineError
from workspace.facts import RunSpec

PAGE_ENTRIES = 64  # read at once; between pages the engine may tidy up its file


class LedgerView:
    """An open file; close it, or use it as a context manager. Raises EngineError for what cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise EngineError(f"There is no engine's ledger at {path}.", "Name the folder of an engine.")
        self._con = self._open()
        self._planned = PlannedRows(self._con)
        self._starts: dict[tuple[str, int], int] = {}
        self._runs: dict[str, RunSpec] = {}

    def __enter__(self) -> LedgerView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()

    def ends(self) -> dict[str, int]:
        """Of each author how many facts are there, in the order of their names."""
        found = self._all(
            "select name, (select seq + count from entry e where e.author = a.number order by seq desc limit 1)"
            " from author a order by name"
        )
        return dict(found)

    def entries(self, author: str, first: int, end: int) -> Iterator[Entry]:
        """Entries of a log from the one with fact `first` on to the one that ends at `end`."""
        while first < end:
            page = self._all(
                "select seq, count, body from author a join entry e on e.author = a.number"
                " where a.name = ?1 and seq >="
                " (select max(seq) from entry f where f.author = a.number and f.seq <= ?2) order by seq limit ?3",
                [author, first, PAGE_ENTRIES],
            )
            for seq, count, body in page:
                if seq >= end:
                    return
                yield Entry(author, seq, count, body)
                first = seq + count
            if not page:
                return

    def runs(self) -> dict[str, RunSpec]:
        """The runs that were opened, by id."""
        for (body,) in self._all("select body from entry where kind = 'run'"):
            opened = decode(body)
            assert isinstance(opened, RunOpened)
            self._runs.setdefault(opened.spec.run_id, opened.spec)
        return dict(self._runs)

    def run(self, run_id: str) -> RunSpec | None:
        """The run of that id, None if it was not opened yet."""
        return self._runs.get(run_id) or self.runs().get(run_id)

    def rows(self, block: tuple[str, int], at: Sequence[int]) -> list[Row]:
        """(row id, text, domain) at these places. Raises LookupError for rows that are not there yet."""
        try:
            return self._planned.rows(block, at)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def start(self, block: tuple[str, int]) -> int:
        """How many rows its author had planned into the run before this block."""
        if block not in self._starts:
            rows: dict[tuple[str, int], int] = {}
            for name, seq, run, count in self._all(
                "select a.name, e.seq, b.run, b.rows from block b join entry e on e.number = b.number"
                " join author a on a.number = e.author order by e.author, e.seq"
            ):
                self._starts[name, seq] = rows.get((name, run), 0)
                rows[name, run] = self._starts[name, seq] + count
        return self._starts[block]

    def place(self, row_id: str) -> tuple[tuple[str, int], int] | None:
        """A block that holds this row, and where; None if no run has it."""
        found = self._all(
            "select a.name, e.seq, p.place from run r join planned p on p.run = r.number and p.row = ?"
            " join entry e on e.number = p.block join author a on a.number = e.author order by r.id limit 1",
            [row_id],
        )
        return ((found[0][0], found[0][1]), found[0][2]) if found else None

    def _open(self) -> sqlite3.Connection:
        try:
            try:
                return self._connect("mode=ro")
            except sqlite3.OperationalError:
                journal = self._path.with_name(self._path.name + "-wal")
                if journal.exists() and journal.stat().st_size:
                    raise
                # A folder that cannot be written to: then nobody else writes either.
                return self._connect("mode=ro&immutable=1")
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _connect(self, how: str) -> sqlite3.Connection:
        con = sqlite3.connect(f"{self._path.absolute().as_uri()}?{how}", uri=True, timeout=30)
        try:
            check_layout(con, self._path)
        except BaseException:
            con.close()
            raise
        return con

    def _all(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self._con.execute(sql, list(values)).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: sqlite3.Error) -> EngineError:
        return EngineError(f"{self._path} cannot be read: {error}.", "Is it the ledger of an engine?")
