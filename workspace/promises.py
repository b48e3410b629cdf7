"""Promises a person accepted: the rows counted then go out without another look.

There may be one about the whole label of a row and, of a multi dimension, one about each of its labels at the same
time; the newest of each counts. A promise may hold for all rows together or in every domain by itself. It is about
the labels as they were: with another calibrator in force, or other runs heard, it is none any more. Which rows it
accepted is kept (`accepted`), so no row that is answered later is part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

import msgspec
import pyarrow as pa

from workspace import fixing
from workspace.answers import dimension_of, shape_of
from workspace.calibrators import NONE, newest
from workspace.errors import RunError
from workspace.ids import content_id
from workspace.links import read_links
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.scores import Reading
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
    reading: Reading,
    label: str = WHOLE,
) -> Kept:
    """Accept these rows, as the labels were read in this way when `heard_with` was `heard`; they stay read so.

    Raises RunError for an unknown run, dimension or label, and when labels are read with something else by now.
    """

    def work(con: Connection) -> Kept:
        asked = dimension_of(read_spec(con, run_id), dimension)
        if label != WHOLE and not (shape_of(asked) == "multi" and label in asked.labels):
            raise RunError(f"'{label}' is not asked about alone.", "Choose a label of a multi dimension.")
        if read_heard(con, run_id, dimension) != heard:
            raise RunError("The labels have been calibrated again since.", "Look at the new promise first.")
        fixing.fix(con, run_id, dimension, reading)
        now = read_heard(con, run_id, dimension)
        id = _insert(con, run_id, dimension, label, now, (epsilon, delta, tolerance), parts, sentence)
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
    """Take a promise back; what was accepted is open again. Without one, nothing changes.

    With the last one of a dimension, labels are read with every new answer again.
    """

    def work(con: Connection) -> None:
        if read(con, run_id, dimension, label) is not None:
            nothing = [Part(None, None, 0, 0, 0, 1.0)]
            _insert(con, run_id, dimension, label, "", (None,) * 3, nothing, "")
            _let_go(con, run_id, dimension)

    store.write(work)


def let_go(store: Store, run_id: str, dimension: str) -> None:
    """Have labels read with every new answer again, unless something that was accepted needs them as they are."""
    store.write(lambda con: _let_go(con, run_id, dimension))


def fixed_for_nothing(store: Store, run_id: str, dimension: str) -> bool:
    """Whether labels are still read as they were when a promise was accepted that ended since."""
    with store.read() as con:
        return fixing.is_fixed(con, run_id, dimension) and not _needed(con, run_id, dimension)


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
    order = {WHOLE: -1} | {
        label: place for place, label in enumerate(dimension_of(read_spec(con, run_id), dimension).labels)
    }
    return sorted(_read(con, run_id, dimension, None), key=lambda kept: order[kept.label])


def read(con: Connection, run_id: str, dimension: str, label: str = WHOLE) -> Kept | None:
    """As `in_force`, for those who already hold a cursor."""
    return next(iter(_read(con, run_id, dimension, label)), None)


def _read(con: Connection, run_id: str, dimension: str, label: str | None) -> list[Kept]:
    # One that was withdrawn has no terms, one of an earlier layout does not say which rows it accepted.
    found = con.execute(
        """with these as (
                   select rowid as place, * from promises
                   where run_id = $run and dimension = $dimension and ($label is null or label = $label)
               ),
               newest as (select arg_max(id, (kept_at, place)) as id from these group by label)
           select id, calibrator, label, epsilon, delta, tolerance, sentence, epoch_us(kept_at),
               domain, threshold, rows, checked, wrong, bound
           from these where id in (from newest) and epsilon is not null
               and exists (from accepted a where a.promise = these.id)
           order by id, domain""",
        {"run": run_id, "dimension": dimension, "label": label},
    ).fetchall()
    heard = read_heard(con, run_id, dimension) if found else ""
    kept = []
    for (id, made_with, *terms, at), lines in groupby(found, key=lambda line: line[:8]):
        if made_with == heard:
            label, epsilon, delta, tolerance, sentence = terms
            parts = tuple(msgspec.convert(list(line[8:]), Part) for line in lines)
            kept.append(Kept(id, run_id, dimension, label, epsilon, delta, tolerance, parts, sentence, moment(at)))
    return kept


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


def _let_go(con: Connection, run_id: str, dimension: str) -> None:
    for run in (run_id, *fixing.judges(con, run_id, dimension)):
        if not _needed(con, run, dimension):
            fixing.loosen(con, run, dimension)


def _needed(con: Connection, run_id: str, dimension: str) -> bool:
    """Whether a promise of this run holds, or one of a run in whose place it decides."""
    decides_for = con.execute(
        "select run_id from links where other_id = ? and kind = 'arbitrate'", [run_id]
    ).fetchall()
    return any(_read_any(con, run, dimension) for run in (run_id, *(one for (one,) in decides_for)))


def _read_any(con: Connection, run_id: str, dimension: str) -> list[Kept]:
    try:
        return read_all(con, run_id, dimension)
    except RunError:
        return []  # another version of the task, without this dimension


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
