"""Scores a calibrator has computed for each row: what SQL cannot say is computed beforehand, batch by batch.

An entry of `adjusted` belongs to a calibrator and to the very answers it was computed from (`source`), so it
counts only while both are what they were. Rows without one have the temperature of their calibrator until `apply`
has come to them. Each batch is one transaction: whatever is killed in between, what is there is right and the rest
goes on.
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
from workspace.voices import adjusts, dimension_of, own_sql, said_by, shape_of

BATCH = 20_000  # rows of one transaction


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
        sql, parameters = scores_sql(con, run_id, dimension, reading)
        # A copy that belongs to this cursor: no reader of the workspace is held up while it is worked through.
        con.execute(
            f"create temp table pending as with {sql} from scores where not {_THERE}",
            {**parameters, "calibrator": calibrator.id},
        ).fetchall()
        number = scalar(con, "select count(*) from pending")
        done = 0
        while done < number and not cancelled():
            part: pa.Table = con.sql(
                f"""select p.*, coalesce(r.domain, '') as domain,
                        {"coalesce(r.text, '')" if texts else "''"} as text
                    from pending p left join rows r on r.id = p.row_id
                    where p.rowid >= $first and p.rowid < $last order by p.rowid""",
                params={"first": done, "last": done + batch},
            ).to_arrow_table()
            scores = arrays(part, reading, several=several)
            rows = Rows(
                scores, part.column("domain").to_pylist(), part.column("text").to_pylist() if texts else []
            )
            if not _keep(store, calibrator, scores, compute(rows)):
                break
            done = min(done + batch, number)
            progress(done / number)
    return done


# Whether a row of `scores` has been adjusted as its answers are now.
_THERE = """exists (
    from adjusted a where a.calibrator = $calibrator and a.row_id = scores.row_id and a.source = scores.source
)"""


def _keep(store: Store, calibrator: Calibrator, scores: Scores, adjusted: FloatArray) -> bool:
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
            "row_id": pa.array(scores.row_ids, pa.string()),
            "source": pa.array(scores.source, pa.uint64()),
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
                """insert into adjusted select $1, row_id, source, scores from incoming
                   where not exists (from adjusted a where a.calibrator = $1
                                     and a.row_id = incoming.row_id and a.source = incoming.source)""",
                [calibrator.id],
            ).fetchall()
        finally:
            con.unregister("incoming")
        return True

    return store.write(work)
