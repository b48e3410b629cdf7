"""Rows whose true label is known, with what the model gave them: what calibration works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from workspace.answers import Parameters, dimension_of, shape_of
from workspace.current import current_sql, judged_sql
from workspace.errors import RunError
from workspace.facts import DimensionSpec
from workspace.gold import gold_sql
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.store import Connection, Store
from workspace.task import split_labels

Source = Literal["gold", "blind", "visible"]
APPLIES = ("applies", "does not")  # the two answers to each label of a multi dimension


@dataclass(frozen=True)
class Evidence:
    """Answers whose truth is known.

    row_ids: n ids in ascending order. logprobs: float64 [n, k], natural logarithms, label bias taken off at half
    strength, not calibrated, each row summing to one after `exp`. truth: int64 [n], index into `labels`.
    source: where each truth comes from. For a multi dimension every label of a row is an answer of its own: the
    ids repeat, and `labels` are `APPLIES`.
    """

    row_ids: list[str]
    logprobs: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    source: list[Source]
    labels: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many different rows these are."""
        return len(set(self.row_ids))


def evidence(
    store: Store, run_id: str, dimension: str, *, include_visible: bool = False, label: str | None = None
) -> Evidence:
    """The answered rows of a run whose truth is known, as the run itself and those who vote with it answered them.

    The truth is the newest standing blind decision with a label (also one taken with the model's suggestion in
    sight if `include_visible`: such decisions lean towards the suggestion), else the imported gold label as
    `workspace.kinds.reader` reads it. Gold that is no label of the dimension is left out. `label`: of a multi
    dimension, only the answers to this label. Answers of runs that decide in this one's place are not among them:
    those runs have their own evidence and their own calibrator. Raises RunError for an unknown run, dimension or
    label, and for a label where a row has only one.
    """
    with store.read() as con:
        asked = dimension_of(read_spec(con, run_id), dimension)
        several = shape_of(asked) == "multi"
        if label is not None and not (several and label in asked.labels):
            raise RunError(f"'{label}' is not asked about alone.", "Choose a label of a multi dimension.")
        cte, parameters = current_sql(con, run_id, dimension)
        true, more = truth_sql(con, asked, include_visible=include_visible)
        found = con.execute(
            f"""{cte}, {true}
            select a.row_id, a.corrected, t.label, t.source
            from own a join true_labels t on t.row_id = a.row_id where a.answered order by a.row_id""",
            {**parameters, **more},
        ).fetchall()
    places = {name: place for place, name in enumerate(asked.labels)}
    if several:
        chosen = [label] if label is not None else list(asked.labels)
        return _yes_or_no(found, [places[name] for name in chosen], chosen)
    found = [row for row in found if row[2] in places]
    scores = np.array([row[1] for row in found], dtype=np.float64).reshape(len(found), len(places))
    return Evidence(
        row_ids=[row[0] for row in found],
        logprobs=_log_softmax(scores),
        truth=np.array([places[row[2]] for row in found], dtype=np.int64),
        source=[row[3] for row in found],
        labels=asked.labels,
    )


def known_rows(store: Store, run_id: str, dimension: str) -> int:
    """How many different rows `evidence` has, at a fraction of the work. Raises RunError as it does."""
    with store.read() as con:
        spec = read_spec(con, run_id)
        judged, parameters = judged_sql(spec.task_name, dimension)
        true, more = truth_sql(con, dimension_of(spec, dimension))
        return scalar(
            con,
            f"""{judged}, {true} select count(*) from true_labels semi join (
                    from facts where run_id = $run and dimension = $dimension and kind = 'label'
                ) f on f.row_id = true_labels.row_id""",
            {**parameters, **more, "run": run_id},
        )


def truth_sql(con: Connection, asked: DimensionSpec, *, include_visible: bool = False) -> tuple[str, Parameters]:
    """CTEs, without "with", that define `true_labels` (row_id, label, source), and their parameters.

    What is true is said at `evidence`. They need `standing` and `$dimension` (see `workspace.current.judged_sql`).
    """
    known, parameters = gold_sql(con, asked)
    sql = f"""{known},
verdict as (
    select row_id, label, blind from standing where action in ('approve', 'modify') and (blind or $visible)
    qualify row_number() over (partition by row_id order by clock desc, session desc, seq desc) = 1
),
true_labels as (
    select row_id, coalesce(v.label, g.label) as label,
        case when v.row_id is null then 'gold' when v.blind then 'blind' else 'visible' end as source
    from verdict v full join known g using (row_id)
)"""
    return sql, {**parameters, "visible": include_visible}


def _yes_or_no(found: list[tuple[str, list[float], str, Source]], places: list[int], names: list[str]) -> Evidence:
    """One answer for each of these labels of each row, from log-odds."""
    width = len(places)
    odds = np.array([[row[1][place] for place in places] for row in found], dtype=np.float64).reshape(-1)
    true = [set(split_labels(row[2])) for row in found]
    return Evidence(
        row_ids=[row[0] for row in found for _ in range(width)],
        logprobs=np.stack([-np.logaddexp(0.0, -odds), -np.logaddexp(0.0, odds)], axis=1),
        truth=np.array([name not in labels for labels in true for name in names], dtype=np.int64),
        source=[row[3] for row in found for _ in range(width)],
        labels=APPLIES,
    )


def _log_softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if not len(scores):
        return scores
    shifted = scores - scores.max(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
