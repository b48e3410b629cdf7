"""The file of a ledger: its tables, who may read it, and how it reaches the disk."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from workspace.errors import EngineError

LAYOUT = 3

# Entries lie in the order they came, so that adding writes at the end and nothing is named before it is there.
# Derived from them in the same transaction: the places of planned rows, and for each block the places of its rows
# that were planned before (`elsewhere`, msgpack: place -> (number of the block, place there)).
TABLES = f"""
    create table if not exists setting (name text primary key, value text not null) without rowid;
    create table if not exists author (number integer primary key, name text not null unique);
    create table if not exists entry (
        number integer primary key, author integer not null, seq integer not null, count integer not null,
        kind text not null, body blob not null
    );
    create unique index if not exists entry_of_author on entry (author, seq, count);
    create table if not exists run (number integer primary key, id text not null unique);
    create table if not exists block (
        number integer primary key, run integer not null, rows integer not null, elsewhere blob
    );
    create table if not exists planned (
        run integer not null, row text not null, block integer not null, place integer not null,
        primary key (run, row)
    ) without rowid;
    create table if not exists model (digest text primary key, path text not null) without rowid;
    create table if not exists address (
        number integer primary key autoincrement, member text not null, address text not null,
        unique (member, address)
    );
    pragma user_version = {LAYOUT};
"""


def open_file(path: Path) -> sqlite3.Connection:
    """Open a ledger to write, made if there is none. Raises sqlite3.Error, and EngineError in words."""
    _private(path)
    con = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        # A disk that is slow to sync makes labels wait; one that loses synced labels breaks the promise.
        con.executescript(
            "pragma journal_mode = wal; pragma synchronous = full; pragma temp_store = memory;"
            " pragma journal_size_limit = 67108864; pragma cache_size = -16384;"
        )
        if sys.platform == "darwin":
            con.executescript("pragma fullfsync = 1; pragma checkpoint_fullfsync = 1;")
        check_layout(con, path)
        con.executescript(f"begin immediate; {TABLES} commit;")
    except BaseException:
        con.close()
        raise
    return con


def check_layout(con: sqlite3.Connection, path: Path) -> None:
    """Raise EngineError for a file with other tables."""
    layout = con.execute("pragma user_version").fetchone()[0]
    if layout not in (0, LAYOUT):
        raise EngineError(
            f"The engine's ledger {path.name} was written by another version of Winnow.",
            "Nothing was changed. Use that version, or the newest one.",
        )


def _private(path: Path) -> None:
    """Only the owner may read the file; SQLite gives its journal the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise EngineError(
            f"The engine's ledger {path} cannot be opened.", "Check the folder's owner and rights.", str(error)
        ) from error
