"""Promises a person accepted: the labels at or above a threshold go out without another look.

Kept one after the other; the newest one of a run and dimension counts. It is about the labels as they were: with
another calibrator in force it is none any more, and rows planned into the run later are not part of it.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from workspace.answers import dimension_of
from workspace.calibrators import NONE, newest
from workspace.errors import RunError
from workspace.ids import content_id
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.store import Connection, Store, moment


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """With confidence 1 - `delta` at most the share `epsilon` of the `rows` at or above `threshold` is wrong.

    The threshold is on the confidence of a label; for a score, on the probability that the truth is at most
    `tolerance` away from the value, and further away is wrong.
    `checked` of them were drawn by chance and checked, `wrong` of those were wrong; `bound` is the error that was
    shown, at most epsilon. `planned`: the rows of the run it is about are those planned before. `sentence` says
    all of it in words.
    """

    id: str
    run_id: str
    dimension: str
    epsilon: float
    delta: float
    tolerance: float
    threshold: float
    rows: int
    checked: int
    wrong: int
    bound: float
    planned: int
    sentence: str
    kept_at: datetime


def keep(
    store: Store,
    run_id: str,
    dimension: str,
    *,
    calibrator: str,
    epsilon: float,
    delta: float,
    tolerance: float,
    threshold: float,
    rows: int,
    checked: int,
    wrong: int,
    bound: float,
    sentence: str,
) -> Kept:
    """Accept the rows at or above a threshold, under the calibrator of this id ("" for none).

    Raises RunError for an unknown run or dimension, and when another calibrator is in force by now.
    """

    def work(con: Connection) -> Kept:
        dimension_of(read_spec(con, run_id), dimension)
        if _calibrator(con, run_id, dimension) != calibrator:
            raise RunError("The labels have been calibrated again since.", "Look at the new promise first.")
        values = (epsilon, delta, tolerance, threshold, rows, checked, wrong, bound)
        _insert(con, run_id, dimension, calibrator, values, sentence)
        kept = read(con, run_id, dimension)
        assert kept is not None  # inserted above, in this transaction
        return kept

    return store.write(work)


def withdraw(store: Store, run_id: str, dimension: str) -> None:
    """Take a promise back; what was accepted is open again. Without one, nothing changes."""

    def work(con: Connection) -> None:
        if read(con, run_id, dimension) is not None:
            _insert(con, run_id, dimension, "", (None,) * 8, "")

    store.write(work)


def in_force(store: Store, run_id: str, dimension: str) -> Kept | None:
    """The promise that holds now, or None."""
    with store.read() as con:
        return read(con, run_id, dimension)


def read(con: Connection, run_id: str, dimension: str) -> Kept | None:
    """As `in_force`, for those who already hold a cursor."""
    found = con.execute(
        """select calibrator, id, run_id, dimension, epsilon, delta, tolerance, threshold, rows, checked, wrong,
               bound, planned, sentence, epoch_us(kept_at)
           from promises where run_id = ? and dimension = ? order by kept_at desc, rowid desc limit 1""",
        [run_id, dimension],
    ).fetchall()
    if not found:
        return None
    ((calibrator, *values, kept_at),) = found
    kept = msgspec.convert([*values, moment(kept_at)], Kept) if values[6] is not None else None
    return kept if calibrator == _calibrator(con, run_id, dimension) else None


def _calibrator(con: Connection, run_id: str, dimension: str) -> str:
    found = newest(con, run_id, dimension)
    return "" if found is None or found.method == NONE else found.id


def _insert(
    con: Connection,
    run_id: str,
    dimension: str,
    calibrator: str,
    values: tuple[float | None, ...],
    sentence: str,
) -> None:
    number = scalar(con, "select count(*) from promises")
    planned = scalar(con, "select count(*) from run_rows where run_id = ?", [run_id])
    con.execute(
        """insert into promises (id, run_id, dimension, calibrator, epsilon, delta, tolerance, threshold, rows,
               checked, wrong, bound, planned, sentence, kept_at)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())""",
        [
            content_id(["promise", run_id, dimension, str(number)]),
            run_id,
            dimension,
            calibrator,
            *values,
            planned,
            sentence,
        ],
    ).fetchall()
