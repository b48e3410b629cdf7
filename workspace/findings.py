"""What comparing corrections has found for a run, kept so that what is left to do needs no comparing anew."""

from __future__ import annotations

import msgspec

from workspace.calibrators import NONE
from workspace.store import Connection, Store

_KIND = "compared"


class Finding(msgspec.Struct, frozen=True):
    """The method that suited best, and how many rows with a known label it was found by."""

    method: str
    rows: int

    def none_helps(self, rows: int) -> bool:
        """Whether no correction does better, as far as twice as many rows might not say otherwise."""
        return self.method == NONE and rows < 2 * self.rows


def note(store: Store, run_id: str, dimension: str, finding: Finding) -> None:
    """Keep what was found; the same again is kept once."""

    def work(con: Connection) -> None:
        if _read(con, run_id, dimension) != finding:
            data = msgspec.json.encode(finding).decode()
            con.execute(
                "insert into events values (?, ?, ?, now())", [_KIND, _subject(run_id, dimension), data]
            ).fetchall()

    store.write(work)


def newest(store: Store, run_id: str, dimension: str) -> Finding | None:
    """What was found last, None where nobody has compared."""
    with store.read() as con:
        return _read(con, run_id, dimension)


def _read(con: Connection, run_id: str, dimension: str) -> Finding | None:
    found = con.execute(
        "select arg_max(data, rowid) from events where kind = ? and subject = ?",
        [_KIND, _subject(run_id, dimension)],
    ).fetchall()
    return None if found[0][0] is None else msgspec.json.decode(found[0][0], type=Finding)


def _subject(run_id: str, dimension: str) -> str:
    return f"{run_id} {dimension}"
