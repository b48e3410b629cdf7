"""Promises a person accepted: the rows counted then go out without another look.

There may be one about the whole label of a row and, of a multi dimension, one about each of its labels at the same
time; the newest of each counts. A promise may hold for all rows together or in every domain by itself. It is about
the labels as they were: with another calibrator in force, or other runs heard, it is none any more. Which rows it
accepted is kept (`accepted`), so no row that is answered later is part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import pyarrow as pa

from workspace.answers import dimension_of, shape_of
from workspace.calibrators import NONE, newest
from workspace.errors import RunError
from workspace.ids import content_id
from workspace.links import read_links
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.store import Connection, Store, moment

WHOLE = ""  # the label of a promise about all labels of a row


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What is promised of the rows of one domain, or of all rows where `domain` is None.

    The `rows` at or above `threshold` are accepted, none where that is None. `checked` of them were drawn by
    chance and checked, `wrong` of those were wrong; `bound` is the error that was shown, at most that of the
    promise. The threshold is on how sure the label is; for a score, on the probability that the truth is within
    the tolerance.
    """

    domain: str | None
    threshold: float | None
    rows: int
    checked: int
    wrong: int
    bound: float


class Kept(msgspec.Struct, frozen=True):
    """With confidence 1 - `delta` at most the share `epsilon` of the accepted rows is wrong, in each part at once.

    `label`: of a multi dimension, only whether this label is rightly given or not; `WHOLE` for all of a row's.
    A score is wrong when it is more than `tolerance` away from the truth. `sentence` says all of it in words.
    """

    id: str
    run_id: str
    dimension: str
    label: str
    epsilon: float
    delta: float
    tolerance: float
    parts: tuple[Part, ...]
    sentence: str
    kept_at: datetime

    @property
    def by_domain(self) -> bool:
        """Whether every domain has a promise of its own."""
        return self.parts[0].domain is not None

    @property
    def rows(self) -> int:
        """How many rows are accepted."""
        return sum(part.rows for part in self.parts)

    @property
    def checked(self) -> int:
        """How many of these were checked."""
        return sum(part.checked for part in self.parts)

    @property
    def wrong(self) -> int:
        """How many of those were wrong."""
        return sum(part.wrong for part in self.parts)

    @property
    def bound(self) -> float:
        """The error that was shown: that of the worst part, so it holds for all rows together too."""
        return max(part.bound for part in self.parts if part.threshold is not None)


def keep(
    store: Store,
    run_id: str,
    dimension: str,
    *,
    heard: str,
    epsilon: float,
    delta: float,
    tolerance: float,
    parts: Sequence[Part],
    row_ids: Sequence[str],
    sentence: str,
    label: str = WHOLE,
) -> Kept:
    """Accept these rows, as the labels were read when `heard_with` was `heard`.

    Raises RunError for an unknown run, dimension or label, and when labels are read with something else by now.
    """

    def work(con: Connection) -> Kept:
        asked = dimension_of(read_spec(con, run_id), dimension)
        if label != WHOLE and not (shape_of(asked) == "multi" and label in asked.labels):
            raise RunError(f"'{label}' is not asked about alone.", "Choose a label of a multi dimension.")
        if read_heard(con, run_id, dimension) != heard:
            raise RunError("The labels have been calibrated again since.", "Look at the new promise first.")
        id = _insert(con, run_id, dimension, label, heard, (epsilon, delta, tolerance), parts, sentence)
        con.register("incoming", pa.table({"row_id": pa.array(row_ids, pa.string())}))
        try:
            con.execute("insert into accepted select $1, row_id from incoming", [id]).fetchall()
        finally:
            con.unregister("incoming")
        kept = read(con, run_id, dimension, label)
        assert kept is not None  # inserted above, in this transaction
        return kept

    return store.write(work)


def withdraw(store: Store, run_id: str, dimension: str, label: str = WHOLE) -> None:
    """Take a promise back; what was accepted is open again. Without one, nothing changes."""

    def work(con: Connection) -> None:
        if read(con, run_id, dimension, label) is not None:
            nothing = [Part(None, None, 0, 0, 0, 1.0)]
            _insert(con, run_id, dimension, label, "", (None,) * 3, nothing, "")

    store.write(work)


def in_force(store: Store, run_id: str, dimension: str, label: str = WHOLE) -> Kept | None:
    """The promise that holds now, or None."""
    with store.read() as con:
        return read(con, run_id, dimension, label)


def all_in_force(store: Store, run_id: str, dimension: str) -> list[Kept]:
    """Every promise of a dimension that holds now: of whole rows first, then of labels in task order."""
    with store.read() as con:
        return read_all(con, run_id, dimension)


def read_all(con: Connection, run_id: str, dimension: str) -> list[Kept]:
    """As `all_in_force`, for those who already hold a cursor. Raises RunError for an unknown run or dimension."""
    labels = dimension_of(read_spec(con, run_id), dimension).labels
    told = con.execute(
        "select distinct label from promises where run_id = ? and dimension = ?", [run_id, dimension]
    ).fetchall()
    known = {label for (label,) in told}
    found = [read(con, run_id, dimension, label) for label in (WHOLE, *labels) if label in known]
    return [kept for kept in found if kept is not None]


def read(con: Connection, run_id: str, dimension: str, label: str = WHOLE) -> Kept | None:
    """As `in_force`, for those who already hold a cursor."""
    found = con.execute(
        """with these as (
                   select rowid as place, * from promises where run_id = ? and dimension = ? and label = ?
               ),
               newest as (select id from these order by kept_at desc, place desc limit 1)
           select id, calibrator, epsilon, delta, tolerance, sentence, epoch_us(kept_at),
               domain, threshold, rows, checked, wrong, bound, exists (from accepted a where a.promise = these.id)
           from these where id = (from newest) order by domain""",
        [run_id, dimension, label],
    ).fetchall()
    if not found:
        return None
    id, heard, epsilon, delta, tolerance, sentence, kept_at = found[0][:7]
    # One that was withdrawn has no terms, one of an earlier layout does not say which rows it accepted.
    if epsilon is None or not found[0][-1] or heard != read_heard(con, run_id, dimension):
        return None
    parts = tuple(msgspec.convert(list(row[7:13]), Part) for row in found)
    terms = (epsilon, delta, tolerance, parts, sentence, moment(kept_at))
    return Kept(id, run_id, dimension, label, *terms)


def heard_with(store: Store, run_id: str, dimension: str) -> str:
    """What labels are read with, in a word that changes with it; "" where nothing but the run's answers counts.

    That is the calibrator in force, the runs that vote, and those that decide in its place with their calibrators.
    """
    with store.read() as con:
        return read_heard(con, run_id, dimension)


def read_heard(con: Connection, run_id: str, dimension: str) -> str:
    """As `heard_with`, for those who already hold a cursor."""
    own = _calibrator(con, run_id, dimension)
    others = [
        [link.kind, link.other_id, str(link.weight)]
        + ([_calibrator(con, link.other_id, dimension)] if link.kind == "arbitrate" else [])
        for link in read_links(con, run_id)
        if link.kind != "explain"
    ]
    return content_id([own, *(word for other in others for word in other)]) if others else own


def _calibrator(con: Connection, run_id: str, dimension: str) -> str:
    found = newest(con, run_id, dimension)
    return "" if found is None or found.method == NONE else found.id


def _insert(
    con: Connection,
    run_id: str,
    dimension: str,
    label: str,
    heard: str,
    terms: tuple[float | None, ...],
    parts: Sequence[Part],
    sentence: str,
) -> str:
    """A promise, one line for each part, in place of the one before; returns its id."""
    con.execute(
        """delete from accepted where promise in
               (select id from promises where run_id = ? and dimension = ? and label = ?)""",
        [run_id, dimension, label],
    ).fetchall()
    number = scalar(con, "select count(*) from promises")
    planned = scalar(con, "select count(*) from run_rows where run_id = ?", [run_id])
    id = content_id(["promise", run_id, dimension, str(number)])
    con.executemany(
        """insert into promises (id, run_id, dimension, label, calibrator, epsilon, delta, tolerance, domain,
               threshold, rows, checked, wrong, bound, planned, sentence, kept_at)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())""",
        [
            [id, run_id, dimension, label, heard, *terms, *msgspec.structs.astuple(part), planned, sentence]
            for part in parts
        ],
    )
    return id
