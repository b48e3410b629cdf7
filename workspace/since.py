"""How sure the model itself was of the rows it labeled up to a moment, and of those it labeled since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.scores import Reading, arrays, read_now, scores_sql
from workspace.store import Store
from workspace.voices import dimension_of, shape_of

_MADE = """made as (
    select row_id, min(made_at) as labeled_at from facts
    where run_id = $run and dimension = $dimension and kind = 'label' group by row_id
)"""


@dataclass(frozen=True)
class Sureness:
    """Probability of the likeliest label, as read without any calibrator, of rows labeled `before` [n] and since:
    `now` [m], with the ids `row_ids` [m]. Of a multi dimension it is that of the least sure label."""

    before: npt.NDArray[np.float64]
    now: npt.NDArray[np.float64]
    row_ids: list[str]


def rows_since(store: Store, run_id: str, dimension: str, at: datetime) -> int:
    """How many rows of a run got their first label after a moment."""
    with store.read() as con:
        parameters = {"run": run_id, "dimension": dimension, "moment": at}
        return scalar(con, f"with {_MADE} select count(*) from made where labeled_at > $moment", parameters)


def sureness(
    store: Store,
    run_id: str,
    dimension: str,
    at: datetime,
    *,
    first: int,
    most: int,
    reading: Reading | None = None,
) -> Sureness:
    """Of at most `most` rows labeled up to `at`, and as many of the `first` ones labeled since, taken by chance.

    Who saw a row, and what was said about it, changes nothing. `reading` is how answers are read, None as today.
    Raises RunError for an unknown run or dimension.
    """
    with store.read() as con:
        con.execute("begin")
        several = shape_of(dimension_of(read_spec(con, run_id), dimension)) == "multi"
        reading = reading or read_now(con, run_id, dimension)
        sql, parameters = scores_sql(con, run_id, dimension, reading, "row_id in (select row_id from picked)")
        # In the order of ids, which are hashes: a sample that has nothing to do with what a text says.
        table: pa.Table = con.sql(
            f"""with {_MADE},
            since as (select * from made where labeled_at > $moment order by labeled_at, row_id limit $first),
            picked as (
                (select row_id, false as new from made where labeled_at <= $moment order by row_id limit $most)
                union all (select row_id, true from since order by row_id limit $most)
            ), {sql}
            select s.*, p.new from scores s join picked p using (row_id) order by row_id""",
            params={**parameters, "moment": at, "first": first, "most": most},
        ).to_arrow_table()
    found = arrays(table, reading, several=several)
    if several:
        sure = (1 / (1 + np.exp(-np.abs(found.base)))).min(axis=1, initial=1.0)
    else:
        sure = np.exp(found.base).max(axis=1, initial=0.0)
    new = np.asarray(table.column("new").to_numpy(zero_copy_only=False), dtype=np.bool_)
    sure = np.clip(sure, 0.0, 1.0)
    ids = [row_id for row_id, late in zip(found.row_ids, new.tolist(), strict=True) if late]
    return Sureness(sure[~new], sure[new], ids)
