"""Rows people decided differently, on one machine or on several. All of it is kept; the newest decision counts."""

from __future__ import annotations

from datetime import datetime

import msgspec

from workspace.current import judged_sql
from workspace.runs import read_spec
from workspace.store import Store, moment


class Opinion(msgspec.Struct, frozen=True):
    """What one reviewer last said about a row; `label` is empty for a rejected suggestion."""

    reviewer: str
    label: str


class Dispute(msgspec.Struct, frozen=True):
    """A row with at least two opinions, the one that counts first; `at` is when the last of them was given."""

    row_id: str
    row_no: int
    text: str
    opinions: tuple[Opinion, ...]
    at: datetime


def disputes(store: Store, run_id: str, dimension: str, limit: int = 100) -> list[Dispute]:
    """Rows of a run on which reviewers' last standing decisions differ, in loading order. Raises RunError."""
    with store.read() as con:
        cte, parameters = judged_sql(read_spec(con, run_id).task_name, dimension)
        found = con.execute(
            f"""{cte}, opinion as (
                select row_id, reviewer, label, clock, session, seq, decided_at from standing
                where action in ('approve', 'modify', 'reject')
                qualify row_number() over
                    (partition by row_id, lower(reviewer) order by clock desc, session desc, seq desc) = 1
            ), disputed as (
                select row_id, list([reviewer, label] order by clock desc, session desc, seq desc) as opinions,
                    epoch_us(max(decided_at)) as at
                from opinion semi join (from run_rows where run_id = $run) planned using (row_id)
                group by row_id having count(distinct label) > 1
            )
            select d.row_id, r.row_no, r.text, d.opinions, d.at from disputed d join rows r on r.id = d.row_id
            order by r.row_no limit $limit""",
            {**parameters, "run": run_id, "limit": limit},
        ).fetchall()
    return [
        Dispute(row_id, row_no, text, tuple(Opinion(*said) for said in opinions), moment(at))
        for row_id, row_no, text, opinions, at in found
    ]
