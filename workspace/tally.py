"""How many rows of each run are labeled, failed or left out: asked every second, so counted again only if changed.

Facts are only ever added, so a run without new ones has the counts it had. Counting a run with millions of facts
takes a while: a run that is still growing is not counted again before `PATIENCE` times as long has passed. Its
counts are then older than its facts by at most that; what takes less than `QUICK` is always counted.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple
from weakref import WeakKeyDictionary

from workspace.rows import scalar
from workspace.store import Connection, Store

PATIENCE = 10.0
QUICK = 0.1  # seconds
_BITS = 62  # dimensions that fit the bits of a whole number; a task has at most 50


class Counts(NamedTuple):
    """Rows answered in every dimension: with a label in each, with an error in one, left out by a rule."""

    labeled: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass
class _Counted:
    counts: Counts
    stale: bool  # facts were added since
    next_at: float  # not counted again before, on the monotonic clock


@dataclass
class _Known:
    seen: int = 0  # facts looked at, as a number of rows of their table
    runs: dict[str, _Counted] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)


_known: WeakKeyDictionary[Store, _Known] = WeakKeyDictionary()


def of(store: Store, con: Connection, dimensions: Mapping[str, Sequence[str]]) -> dict[str, Counts]:
    """The counts of these runs, given the dimensions each of them asks for."""
    known = _known.setdefault(store, _Known())
    with known.guard:
        end = scalar(con, "select max(rowid) + 1 from facts")
        if end > known.seen:
            changed = con.execute("select distinct run_id from facts where rowid >= ?", [known.seen]).fetchall()
            known.seen = end
            for (run_id,) in changed:
                if run_id in known.runs:
                    known.runs[run_id].stale = True
        now = monotonic()
        for run_id, names in dimensions.items():
            counted = known.runs.get(run_id)
            if counted is None or (counted.stale and now >= counted.next_at):
                started = monotonic()
                counts = _count(con, run_id, names)
                took = monotonic() - started
                wait = PATIENCE * took if took > QUICK else 0.0
                known.runs[run_id] = _Counted(counts, False, started + wait)
        return {run_id: known.runs[run_id].counts for run_id in dimensions}


def per_row_sql(run_id: str, dimensions: Sequence[str]) -> tuple[str, dict[str, object]]:
    """The CTE, without "with", that defines `per_row` (row_id, labels, fine, answers), and its parameters.

    Each is a whole number with one bit for each dimension, `$all` having all of them: where there is a label; a
    label or a rule that left the row out; any answer. Far less to keep for a row than a set of names.
    """
    sql = """per_row as (
    select row_id, bit_or(case when kind = 'label' then bit else 0 end) as labels,
        bit_or(case when kind = 'error' then 0 else bit end) as fine, bit_or(bit) as answers
    from (
        select row_id, kind, 1::bigint << (list_position($names, dimension) - 1) as bit from facts
        where run_id = $run and list_contains($names, dimension)
    ) group by row_id
)"""
    names = list(dimensions[:_BITS])
    return sql, {"run": run_id, "names": names, "all": (1 << len(names)) - 1}


def _count(con: Connection, run_id: str, dimensions: Sequence[str]) -> Counts:
    per_row, parameters = per_row_sql(run_id, dimensions)
    found = con.execute(
        f"""with {per_row} select count_if(labels = $all), count_if(answers = $all and fine <> $all),
               count_if(fine = $all and labels <> $all) from per_row""",
        parameters,
    ).fetchall()
    return Counts(*(number or 0 for number in found[0]))
