"""How many labels of a run are expected to be wrong, as far as its calibration can say."""

from __future__ import annotations

import msgspec

from workspace import calibrators, runs
from workspace.current import current_sql
from workspace.store import Store


class Expectation(msgspec.Struct, frozen=True):
    """`errors` is the expected share of wrong labels, 0 to 1, among the current labels of one dimension."""

    run_id: str
    dimension: str
    errors: float


def expected_errors(store: Store) -> Expectation | None:
    """The newest run's first calibrated dimension, or None while nothing of that run is calibrated.

    A calibrated confidence is the probability that the label is right, so the mean of what is missing to one is
    the expected share of errors. Labels people decided count as right.
    """
    for run in runs.list_runs(store)[:1]:
        for dimension in runs.spec(store, run.id).dimensions:
            if calibrators.active(store, run.id, dimension.name) is None:
                continue
            with store.read() as con:
                cte, parameters = current_sql(con, run.id, dimension.name)
                found = con.execute(
                    f"{cte} select avg(1 - confidence) from current_labels where label is not null", parameters
                ).fetchall()
            if found[0][0] is not None:
                return Expectation(run.id, dimension.name, float(found[0][0]))
    return None
