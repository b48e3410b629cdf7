"""What people want of each run (go on, pause, stop) and which of its rows still lack an answer.

The engine keeps its own copy of both. The workspace is the one that lasts: from these two a run can be handed to
a new engine after the old one, or its whole folder, is gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from workspace.facts import RunState
from workspace.store import Connection, Store

KIND = "run_state"


def set_state(store: Store, run_id: str, state: RunState) -> None:
    """Note, durably and in order, what a run should be doing from now on."""

    def work(con: Connection) -> None:
        con.execute("insert into events values (?, ?, ?, now())", [KIND, run_id, state])

    store.write(work)


def states(store: Store) -> dict[str, RunState]:
    """The newest state asked of every run. Runs nobody ever started or stopped are not in it."""
    with store.read() as con:
        # Appended by one writer and never deleted from, so the row id is the order of writing.
        found = con.execute(
            "select subject, arg_max(data, rowid) from events where kind = ? group by subject", [KIND]
        ).fetchall()
    return {str(run_id): state for run_id, state in found}


def planned_rows(store: Store, run_id: str) -> int:
    """How many rows are planned into a run."""
    with store.read() as con:
        found = con.execute("select count(*) from run_rows where run_id = ?", [run_id]).fetchone()
    return int(found[0]) if found else 0


def missing(store: Store, run_id: str, dimensions: int, *, page: int = 10_000) -> Iterator[list[tuple[str, str]]]:
    """Planned rows of a run without an answer in each of its `dimensions`: pages of (row_id, text), in plan order.

    One consistent look at the workspace, streamed: facts that arrive meanwhile do not shift the pages.
    An error is an answer too. Close the iterator (or exhaust it) before closing the store.
    """
    with store.read() as con:
        con.execute(
            """
            with answered as (
                select row_id from facts where run_id = $run group by row_id
                having count(distinct dimension) >= $dimensions
            )
            select rows.id, rows.text
            from run_rows planned
            join rows on rows.id = planned.row_id
            anti join answered on answered.row_id = planned.row_id
            where planned.run_id = $run
            order by planned.number
            """,
            {"run": run_id, "dimensions": dimensions},
        )
        while found := con.fetchmany(page):
            yield [(str(row_id), str(text)) for row_id, text in found]
