"""Scores a calibrator has computed for each row: what SQL cannot say is computed beforehand, batch by batch.

An entry of `adjusted` belongs to a calibrator and to the very answers it was computed from (`source`), so it
counts only while both are what they were. Rows without one have the temperature of their calibrator until `apply`
has come to them. Each batch is one transaction: whatever is killed in between, what is there is right and the rest
goes on. A run is read in parts by the ids of its rows, so a million rows take no more memory than a hundred
thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from workspace.calibrators import Calibrator, newest
from workspace.errors import WinnowError
from workspace.links import read_links
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.scores import FloatArray, Reading, Scores, arrays, scores_sql
from workspace.store import Connection, Store
from workspace.voices import Parameters, adjusts, dimension_of, own_sql, said_by, shape_of

BATCH = 20_000  # rows of one transaction, at most
PART = 60_000  # rows that are read at once, about


@dataclass(frozen=True)
class Rows:
    """Rows to be adjusted: their scores, their `domains`, and their `texts` if these were asked for, else none."""

    scores: Scores
    domains: list[str]
    texts: list[str]


Compute = Callable[[Rows], FloatArray]


def in_force(con: Connection, run_id: str, dimension: str) -> tuple[Calibrator, Reading] | None:
    """The calibrator that adjusts the scores of a run, and how it reads answers.

    None where there is none, and where other runs vote now than those it was fitted with. Raises RunError for an
    unknown run or dimension.
    """
    spec = read_spec(con, run_id)
    dimension_of(spec, dimension)
    found = newest(con, run_id, dimension)
    if found is None or not found.adjusts:
        return None
    _, _, voters = own_sql(con, spec, dimension, read_links(con, run_id))
    if not adjusts(found, said_by(voters)):
        return None
    return found, Reading.from_dict(found.parameters["reading"])


def waiting(store: Store, run_id: str, dimension: str) -> int:
    """How many rows their calibrator has not come to yet. Raises RunError for an unknown run or dimension."""
    with store.read() as con:
        found = in_force(con, run_id, dimension)
        if found is None:
            return 0
        calibrator, reading = found
        sql, parameters = scores_sql(con, run_id, dimension, reading)
        return scalar(
            con,
            f"with {sql} select count(*) from scores where not {_THERE}",
            {**parameters, "calibrator": calibrator.id},
        )


def apply(
    store: Store,
    run_id: str,
    dimension: str,
    compute: Compute,
    *,
    texts: bool = False,
    batch: int = BATCH,
    progress: Callable[[float], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> int:
    """Have `compute` adjust the rows it has not come to yet; returns how many these were.

    `compute` is given up to `batch` rows and returns their scores [n, k]: natural logarithms, or log-odds (multi).
    `texts` asks for the texts of the rows too. It stops early when `cancelled`, and when another calibrator has
    come into force meanwhile. Raises RunError for an unknown run or dimension.
    """
    with store.read() as con:
        found = in_force(con, run_id, dimension)
        if found is None:
            return 0
        calibrator, reading = found
        several = shape_of(dimension_of(read_spec(con, run_id), dimension)) == "multi"
        sql, parameters = _waiting_sql(con, calibrator, reading, texts=texts)
        parts = _parts(con, run_id, dimension)
        done = 0
        for place, (first, last) in enumerate(parts):
            ends = {"first": first, "last": last}
            waiting: pa.Table = con.sql(sql, params={**parameters, **ends}).to_arrow_table()
            for start in range(0, waiting.num_rows, batch):
                if cancelled():
                    return done
                table = waiting.slice(start, batch)
                scores = arrays(table, reading, several=several)
                said = table.column("text").to_pylist() if texts else []
                computed = compute(Rows(scores, table.column("domain").to_pylist(), said))
                if not _keep(store, calibrator, table, scores, computed):
                    return done
                done += table.num_rows
                progress((place + min(1.0, (start + batch) / waiting.num_rows)) / len(parts))
    return done


def _parts(con: Connection, run_id: str, dimension: str) -> list[tuple[str, str]]:
    """First ids and ends of parts of a run that have about `PART` rows each: ids are hashes, so evenly spread."""
    answers = scalar(
        con,
        "select count(*) from facts where run_id = $run and dimension = $dimension",
        {"run": run_id, "dimension": dimension},
    )
    count = min(1 + answers // PART, _STARTS)
    ends = [f"{place * _STARTS // count:0{_DIGITS}x}" for place in range(1, count)]
    return list(zip(["", *ends], [*ends, _LAST], strict=True))


_DIGITS = 4  # hexadecimal, of an id, by which parts are told apart
_STARTS = 16**_DIGITS
_LAST = "\U0010ffff"  # no id comes after it


def _waiting_sql(
    con: Connection, calibrator: Calibrator, reading: Reading, *, texts: bool
) -> tuple[str, Parameters]:
    """The rows from `$first` to before `$last` it has not come to: `scores` with `domain` and `text`."""
    part = "{} >= $first and {} < $last"
    within, of_rows = part.format("row_id", "row_id"), part.format("id", "id")
    sql, parameters = scores_sql(con, calibrator.run_id, calibrator.dimension, reading, within)
    return (
        f"""with {sql},
            there as (select row_id, source from adjusted where calibrator = $calibrator and {within}),
            about as (select id, domain, text from rows where {of_rows})
            select scores.*, coalesce(about.domain, '') as domain,
                {"coalesce(about.text, '')" if texts else "''"} as text
            from scores left join about on about.id = scores.row_id
            where not exists (from there where there.row_id = scores.row_id and there.source = scores.source)""",
        {**parameters, "calibrator": calibrator.id},
    )


# Whether a row of `scores` has been adjusted as its answers are now.
_THERE = """exists (
    from adjusted a where a.calibrator = $calibrator and a.row_id = scores.row_id and a.source = scores.source
)"""


def _keep(store: Store, calibrator: Calibrator, rows: pa.Table, scores: Scores, adjusted: FloatArray) -> bool:
    """Keep a batch, each row once; False when its calibrator is in force no longer."""
    if adjusted.shape != scores.base.shape or np.isnan(adjusted).any():
        raise WinnowError(
            f"The calibrator '{calibrator.method}' cannot be used on these rows.",
            "Fit it again; until then the temperature counts.",
            f"{adjusted.shape} for {scores.base.shape}, {int(np.isnan(adjusted).sum())} undefined",
        )
    n, k = adjusted.shape
    table = pa.table(
        {
            "row_id": rows.column("row_id"),
            "source": rows.column("source"),
            "scores": pa.ListArray.from_arrays(
                pa.array(np.arange(n + 1) * k, pa.int32()), pa.array(np.ascontiguousarray(adjusted).reshape(-1))
            ),
        }
    )

    def work(con: Connection) -> bool:
        now = newest(con, calibrator.run_id, calibrator.dimension)
        if now is None or now.id != calibrator.id:
            return False
        con.register("incoming", table)
        try:
            con.execute(
                """insert into adjusted select $calibrator, row_id, source, scores from incoming
                   where not exists (from adjusted a where a.calibrator = $calibrator
                                     and a.row_id >= $first and a.row_id <= $last
                                     and a.row_id = incoming.row_id and a.source = incoming.source)""",
                {"calibrator": calibrator.id, "first": min(scores.row_ids), "last": max(scores.row_ids)},
            ).fetchall()
        finally:
            con.unregister("incoming")
        return True

    return store.write(work)
