"""The engine's memory that survives everything: one SQLite file with runs, their rows and the facts made of them.

Facts live in per-author logs, numbered from 0 without gaps and never changed. Nothing counts, is sent or is
called saved before the transaction holding it has been synced to the disk.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from workspace.errors import EngineError
from workspace.facts import Fact, RunSpec, RunState

T = TypeVar("T")
AUTHOR_BYTES = 8  # random part of an author's name: a ledger made anew is a new author
LAYOUT = 1

# `answer` is derived from `fact`, written in the same transaction: which planned rows need no work any more.
# It keeps positions in order per dimension, so that a run of 100,000 rows is taken up again in milliseconds.
TABLES = f"""
    create table if not exists meta (key text primary key, value text not null) without rowid;
    create table if not exists fact (
        author text not null, seq integer not null, kind text not null, row_key blob not null, body blob not null,
        primary key (author, seq)
    ) without rowid;
    create table if not exists run (
        number integer primary key, id text not null unique, spec blob not null, state text not null,
        note text not null default '', opened_at real not null
    );
    create table if not exists row_text (
        number integer primary key, row_id text not null unique, text text not null
    );
    create table if not exists run_row (
        run integer not null, position integer not null, row integer not null, primary key (run, position)
    ) without rowid;
    create unique index if not exists run_row_once on run_row (run, row);
    create table if not exists answer (
        run integer not null, dimension integer not null, position integer not null, failed integer not null,
        primary key (run, dimension, position)
    ) without rowid;
    create index if not exists answer_failed on answer (run, position) where failed = 1;
    pragma user_version = {LAYOUT};
"""


class LedgerFailed(EngineError):
    """The ledger could not be written or synced. It takes no further write in this process, for good:
    after a failed sync nobody knows what the disk holds until the file is opened again."""


class StoredRun(msgspec.Struct, frozen=True):
    """A run as the ledger keeps it. `rows` counts the rows planned so far."""

    number: int
    spec: RunSpec
    state: RunState
    note: str
    rows: int


class Ledger:
    """An open ledger file. One thread at a time; raises LedgerFailed for every use after a failed write."""

    def __init__(self, path: Path, node: str = "node") -> None:
        self.path = path
        self._failed: LedgerFailed | None = None
        _private(path)
        try:
            self._con = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._set_up()
        except sqlite3.Error as error:
            raise self._stop(error) from error
        self.author = self._author(node)
        row = self._con.execute("select max(seq) from fact where author = ?", [self.author]).fetchone()
        self.next_seq: int = 0 if row[0] is None else row[0] + 1

    def close(self) -> None:
        """Close the file; everything committed is in it."""
        self._con.close()

    # runs and rows

    def runs(self) -> list[StoredRun]:
        """All runs in the order they were opened."""
        rows = self._read("select number, spec, state, note from run order by number", [])
        return [
            StoredRun(number, msgspec.msgpack.decode(spec, type=RunSpec), state, note, self._planned(number))
            for number, spec, state, note in rows
        ]

    def open_run(self, spec: RunSpec) -> StoredRun:
        """Keep a run, paused until told otherwise; of a known run only the specification is renewed."""

        def write() -> None:
            self._con.execute(
                "insert into run (id, spec, state, opened_at) values (?, ?, 'paused', ?)"
                " on conflict (id) do update set spec = excluded.spec",
                [spec.run_id, msgspec.msgpack.encode(spec), time.time()],
            )

        self._transaction(write)
        row = self._read("select number, state, note from run where id = ?", [spec.run_id])[0]
        return StoredRun(row[0], spec, row[1], row[2], self._planned(row[0]))

    def set_state(self, run: int, state: RunState, note: str = "") -> None:
        """Durably set where a run stands and why."""
        self._transaction(
            lambda: self._con.execute("update run set state = ?, note = ? where number = ?", [state, note, run])
        )

    def add_rows(self, run: int, rows: Sequence[tuple[str, str]], note: str = "") -> tuple[int, RunState, str]:
        """Plan (row id, text) pairs into a run; those planned already are left alone.

        A run that was done and has grown is paused with `note`. Returns all rows planned now, state and note.
        """

        def write() -> tuple[int, RunState, str]:
            con = self._con
            con.execute("delete from incoming")
            con.executemany("insert or ignore into incoming (row_id, text) values (?, ?)", rows)
            con.execute(
                "insert or ignore into row_text (row_id, text) select row_id, text from incoming order by number"
            )
            before = self._planned(run)
            con.execute(
                "insert into run_row (run, position, row)"
                " select ?1, ?2 + row_number() over (order by i.number) - 1, t.number"
                " from incoming i join row_text t on t.row_id = i.row_id"
                " where not exists (select 1 from run_row p where p.run = ?1 and p.row = t.number)",
                [run, before],
            )
            planned = self._planned(run)
            if planned > before:
                # In one transaction: a run that is done has no unanswered row, whenever the power fails.
                con.execute(
                    "update run set state = 'paused', note = ? where number = ? and state = 'done'", [note, run]
                )
            state, why = con.execute("select state, note from run where number = ?", [run]).fetchone()
            return planned, state, why

        return self._transaction(write)

    def texts(self, run: int, positions: Sequence[int]) -> list[tuple[str, str]]:
        """(row id, text) at these positions of a run, in their order."""
        rows = self._read(
            # A cross join is never reordered: each position is looked up, instead of all rows being searched.
            "select p.position, t.row_id, t.text from json_each(?2) j"
            " cross join run_row p on p.run = ?1 and p.position = j.value"
            " cross join row_text t on t.number = p.row",
            [run, msgspec.json.encode(list(positions)).decode()],
        )
        found = {position: (row_id, text) for position, row_id, text in rows}
        return [found[position] for position in positions]

    def answered(self, run: int, dimension: int) -> list[tuple[int, int]]:
        """(position, 1 if it ended as an error) of every row answered for a dimension, in order."""
        return self._read(
            "select position, failed from answer where run = ? and dimension = ? order by position",
            [run, dimension],
        )

    def failed_rows(self, run: int) -> list[int]:
        """Positions of the rows with at least one error, in order."""
        rows = self._read(
            "select distinct position from answer where run = ? and failed = 1 order by position", [run]
        )
        return [position for (position,) in rows]

    # facts

    def append(self, run: int, dimension: int, facts: Sequence[tuple[int, Fact]]) -> int:
        """Write (position, fact) pairs and sync them in one transaction; returns how many were new.

        Author and seq are given here. A row already answered for this dimension keeps the fact it has.
        """

        def write() -> int:
            seq = self.next_seq
            bodies = []
            for position, draft in facts:
                new = self._con.execute(
                    "insert or ignore into answer values (?, ?, ?, ?)",
                    [run, dimension, position, draft.kind == "error"],
                )
                if new.rowcount:
                    fact = msgspec.structs.replace(draft, author=self.author, seq=seq)
                    bodies.append((self.author, seq, fact.kind, row_key(fact), _encoder.encode(fact)))
                    seq += 1
            self._con.executemany("insert into fact values (?, ?, ?, ?, ?)", bodies)
            return len(bodies)

        written = self._transaction(write)
        self.next_seq += written
        return written

    def facts(self, after: int, limit: int, max_bytes: int) -> list[bytes]:
        """Encoded facts of this ledger's author with seq >= `after`, in order, whole facts up to `max_bytes`."""
        bodies: list[bytes] = []
        size = 0
        self._check()
        cursor = self._con.execute(
            "select body from fact where author = ? and seq >= ? order by seq limit ?", [self.author, after, limit]
        )
        for (body,) in cursor:
            size += len(body)
            if bodies and size > max_bytes:
                break
            bodies.append(body)
        cursor.close()
        return bodies

    # inside

    def _set_up(self) -> None:
        con = self._con
        # A disk that is slow to sync makes labels wait; one that loses synced labels breaks the promise.
        con.executescript(
            "pragma journal_mode = wal; pragma synchronous = full; pragma temp_store = memory;"
            " pragma journal_size_limit = 67108864; pragma cache_size = -16384;"
        )
        if sys.platform == "darwin":
            con.executescript("pragma fullfsync = 1; pragma checkpoint_fullfsync = 1;")
        layout = con.execute("pragma user_version").fetchone()[0]
        if layout > LAYOUT:
            raise EngineError(
                f"The engine's ledger {self.path.name} was written by a newer Winnow.",
                "Nothing was changed. Update.",
            )
        con.executescript(f"begin immediate; {TABLES} commit;")
        con.executescript(
            "create temp table incoming (number integer primary key, row_id text unique, text text);"
        )

    def _author(self, node: str) -> str:
        fresh = f"{node}.{secrets.token_hex(AUTHOR_BYTES)}"
        self._transaction(lambda: self._con.execute("insert or ignore into meta values ('author', ?)", [fresh]))
        return str(self._read("select value from meta where key = 'author'", [])[0][0])

    def _planned(self, run: int) -> int:
        # Positions have no gaps, so the last one says how many there are, without counting them.
        row = self._con.execute("select max(position) from run_row where run = ?", [run]).fetchone()
        return 0 if row[0] is None else int(row[0]) + 1

    def _read(self, sql: str, values: Sequence[object]) -> list[Any]:
        self._check()
        return self._con.execute(sql, list(values)).fetchall()

    def _transaction(self, work: Callable[[], T]) -> T:
        self._check()
        try:
            self._con.execute("begin immediate")
            result = work()
            self._con.execute("commit")
        except sqlite3.Error as error:
            raise self._stop(error) from error
        except BaseException:
            self._con.execute("rollback")
            raise
        return result

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _stop(self, error: sqlite3.Error) -> LedgerFailed:
        self._failed = LedgerFailed(
            f"The engine's ledger could not be written: {error}.",
            "Every label saved before is safe. Make room on the disk or repair it, then start the run again.",
            str(self.path),
        )
        return self._failed


def row_key(fact: Fact) -> bytes:
    """BLAKE2b-128 of what a fact answers: run, row, dimension and slot. Facts with equal keys are alternatives."""
    parts = msgspec.msgpack.encode((fact.run_id, fact.row_id, fact.dimension, fact.slot))
    return hashlib.blake2b(parts, digest_size=16).digest()


_encoder = msgspec.msgpack.Encoder()


def _private(path: Path) -> None:
    """Only the owner may read the file; SQLite gives its journal the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise EngineError(
            f"The engine's ledger {path} cannot be opened.", "Check the folder's owner and rights.", str(error)
        ) from error
