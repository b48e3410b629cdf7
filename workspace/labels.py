"""Current labels of a run: shares, pages, and the evidence calibration works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from workspace.current import current_sql
from workspace.store import Store

Source = Literal["gold", "blind", "visible"]


class CurrentLabel(msgspec.Struct, frozen=True):
    """What a row is labeled now.

    `label` and `confidence` are None when a person rejected the suggestion or the model failed (`error`).
    `decided_by` is 'model' or the reviewer's name; a person's label has confidence 1. `probabilities` are the
    model's, corrected and calibrated, in the order of the dimension's labels; empty when it gave none.
    """

    row_id: str
    row_no: int
    text: str
    domain: str
    label: str | None
    confidence: float | None
    probabilities: tuple[float, ...]
    decided_by: str
    gold: str | None
    warnings: tuple[str, ...]
    error: str


@dataclass(frozen=True)
class Evidence:
    """Rows whose true label is known, with what the model gave them.

    row_ids: n ids in ascending order. logprobs: float64 [n, k], natural logarithms, label bias taken off at half
    strength, not calibrated, each row summing to one after `exp`. truth: int64 [n], index into `labels`.
    source: where each truth comes from.
    """

    row_ids: list[str]
    logprobs: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    source: list[Source]
    labels: tuple[str, ...]


def shares(store: Store, run_id: str, dimension: str) -> list[tuple[str, int]]:
    """Rows by current label, every label of the dimension in task order, those without rows too."""
    with store.read() as con:
        cte, parameters = current_sql(con, run_id, dimension)
        found = con.execute(
            f"{cte} select label, count(*) from current_labels where label is not null group by label", parameters
        ).fetchall()
    numbers = dict(found)
    labels: list[str] = parameters["labels"]  # type: ignore[assignment]
    return [(label, numbers.get(label, 0)) for label in labels]


def page(
    store: Store,
    run_id: str,
    dimension: str,
    *,
    after: int = -1,
    limit: int = 50,
    label: str | None = None,
    decided_by: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> list[CurrentLabel]:
    """Up to `limit` rows with `row_no` above `after`, in loading order.

    `decided_by` is 'model', 'human' (anybody) or one reviewer. `low` and `high` bound the confidence, both
    included; no confidence counts as 0. Raises RunError for an unknown run or dimension.
    """
    with store.read() as con:
        cte, parameters = current_sql(con, run_id, dimension)
        found = con.execute(
            f"""{cte}, chosen as (
                select r.row_no, r.text, r.domain, c.* from current_labels c join rows r on r.id = c.row_id
                where r.row_no > $after
                  and ($label is null or c.label = $label)
                  and ($by is null or c.decided_by = $by or ($by = 'human' and c.human))
                  and coalesce(c.confidence, 0.0) between $low and $high
                order by r.row_no limit $limit
            )
            select c.row_id, c.row_no, c.text, coalesce(c.domain, ''), c.label, c.confidence,
                   coalesce(c.probabilities, []), c.decided_by, g.label, c.warnings, c.error
            from chosen c left join (
                select row_id, arg_max(label, rowid) as label from gold
                where dimension = $dimension group by row_id
            ) g on g.row_id = c.row_id
            order by c.row_no""",
            {
                **parameters,
                "after": after,
                "limit": limit,
                "label": label,
                "by": decided_by,
                "low": low,
                "high": high,
            },
        ).fetchall()
    return [
        CurrentLabel(
            row_id, row_no, body, domain, name, confidence, tuple(shown), by, gold, tuple(warnings), error
        )
        for row_id, row_no, body, domain, name, confidence, shown, by, gold, warnings, error in found
    ]


def evidence(store: Store, run_id: str, dimension: str, *, include_visible: bool = False) -> Evidence:
    """The answered rows of a run whose truth is known.

    The truth is the newest standing blind decision with a label (also one taken with the model's suggestion in
    sight if `include_visible`: such decisions lean towards the suggestion), else the imported gold label, matched
    in any case. Gold that is no label of the dimension is left out. Raises RunError as `page`.
    """
    with store.read() as con:
        cte, parameters = current_sql(con, run_id, dimension)
        found = con.execute(
            f"""{cte}, verdict as (
                select row_id, label, blind from standing
                where action in ('approve', 'modify') and (blind or $visible)
                qualify row_number() over
                    (partition by row_id order by clock desc, session desc, seq desc) = 1
            ), truth as (
                select a.row_id, a.corrected,
                    list_position(list_transform($labels::varchar[], lambda name: lower(name)),
                                  lower(trim(coalesce(v.label, g.label)))) as place,
                    case when v.row_id is null then 'gold' when v.blind then 'blind' else 'visible' end as source
                from answers a
                left join verdict v on v.row_id = a.row_id
                left join (
                    select row_id, arg_max(label, rowid) as label from gold
                    where dimension = $dimension group by row_id
                ) g on g.row_id = a.row_id
                where a.answered
            )
            select row_id, corrected, place - 1, source from truth where place is not null order by row_id""",
            {**parameters, "visible": include_visible},
        ).fetchall()
    labels: Sequence[str] = parameters["labels"]  # type: ignore[assignment]
    scores = np.array([row[1] for row in found], dtype=np.float64).reshape(len(found), len(labels))
    return Evidence(
        row_ids=[row[0] for row in found],
        logprobs=_log_softmax(scores),
        truth=np.array([row[2] for row in found], dtype=np.int64),
        source=[row[3] for row in found],
        labels=tuple(labels),
    )


def _log_softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if not len(scores):
        return scores
    shifted = scores - scores.max(axis=1, keepdims=True)
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
