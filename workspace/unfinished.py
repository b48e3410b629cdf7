"""What should be done about each run (go on, pause, stop) and which of its rows still lack an answer.

The engines keep their own copy of both. The workspace is the one that lasts: from these two a run can be handed to
a new engine after the old one, or its whole folder, is gone.

A person's *wish* is noted at once and is pending until the engine has heard of it. From then on the engines say
how the run stands, and anybody may have changed it, on any machine: that is only noted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from workspace.facts import RunState
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.store import Connection, Store
from workspace.tally import per_row_sql

WISH = "run_wish"
STATE = "run_state"


class Known(msgspec.Struct, frozen=True):
    """Where a run stands as far as the workspace knows. `wish`: it is what a person wants and no engine has heard;
    `clock` is then the newest state set by anybody that was known when it was wished."""

    state: RunState
    wish: bool = False
    clock: int = 0


def wish(store: Store, run_id: str, state: RunState) -> None:
    """Note, durably and in order, what a person wants of a run."""

    def work(con: Connection) -> None:
        clock = scalar(con, "select max(clock) from run_states where run_id = ?", [run_id])
        known = msgspec.json.encode(Known(state, True, clock)).decode()
        con.execute("insert into events values (?, ?, ?, now())", [WISH, run_id, known])

    store.write(work)


def settle(store: Store, run_id: str, state: RunState, instead_of: Known | None = None) -> None:
    """Note that a run is in this state, unless a person wants another and no engine has heard of it yet.

    A wish that was overruled is named by `instead_of`; only that one is given up.
    """

    def work(con: Connection) -> None:
        newest = _newest(con).get(run_id)
        if newest is None or not newest.wish or newest.state == state or newest == instead_of:
            known = msgspec.json.encode(Known(state)).decode()
            con.execute("insert into events values (?, ?, ?, now())", [STATE, run_id, known])

    store.write(work)


def known(store: Store) -> dict[str, Known]:
    """Where every run stands. Runs nobody ever started or stopped are not in it."""
    with store.read() as con:
        return _newest(con)


def states(store: Store) -> dict[str, RunState]:
    """The state every run is in, or should be in if a person wants it so."""
    return {run_id: one.state for run_id, one in known(store).items()}


def overruled(store: Store, run_id: str, clock: int, author: str) -> bool:
    """Whether somebody else than `author` has set what a run should do since a wish with that `clock`."""
    with store.read() as con:
        sql = "select count(*) from run_states where run_id = ? and clock > ? and author <> ?"
        return scalar(con, sql, [run_id, clock, author]) > 0


def _newest(con: Connection) -> dict[str, Known]:
    # Appended by one writer and never deleted from, so the row id is the order of writing.
    found = con.execute(
        "select subject, arg_max(data, rowid) from events where kind in (?, ?) group by subject", [WISH, STATE]
    ).fetchall()
    return {str(run_id): msgspec.json.decode(data, type=Known) for run_id, data in found}


def planned_rows(store: Store, run_id: str) -> int:
    """How many rows are planned into a run."""
    with store.read() as con:
        return scalar(con, "select count(*) from run_rows where run_id = ?", [run_id])


def answered_rows(store: Store, run_id: str) -> int:
    """Rows with an answer in each dimension of a run. An error is an answer too."""
    with store.read() as con:
        per_row, parameters = per_row_sql(run_id, [asked.name for asked in read_spec(con, run_id).dimensions])
        return scalar(con, f"with {per_row} select count(*) from per_row where answers = $all", parameters)


def missing(store: Store, run_id: str, *, page: int = 10_000) -> Iterator[list[tuple[str, str, str]]]:
    """Planned rows of a run without an answer in each dimension: pages of (row id, text, domain), in plan order.

    Which rows these are is found out once, so facts that arrive meanwhile do not shift the pages. In between no
    look at the workspace stays open: it would keep DuckDB from tidying up behind the labels that come in.
    An error is an answer too.
    """
    with store.read() as con:
        per_row, parameters = per_row_sql(run_id, [asked.name for asked in read_spec(con, run_id).dimensions])
        numbers = con.execute(
            f"""
            with {per_row}, answered as (select row_id from per_row where answers = $all)
            select planned.number
            from run_rows planned
            anti join answered on answered.row_id = planned.row_id
            where planned.run_id = $run
            order by planned.number
            """,
            parameters,
        ).fetchnumpy()["number"]
    for start in range(0, len(numbers), page):
        part: Any = numbers[start : start + page].tolist()
        with store.read() as con:
            found = con.execute(
                """
                select rows.id, rows.text, coalesce(rows.domain, '')
                from run_rows planned join rows on rows.id = planned.row_id
                where planned.run_id = $run and planned.number between $first and $last
                      and planned.number in (select unnest($numbers))
                order by planned.number
                """,
                {"run": run_id, "first": part[0], "last": part[-1], "numbers": part},
            ).fetchall()
        yield [(str(row_id), str(text), str(domain)) for row_id, text, domain in found]
