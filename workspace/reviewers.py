"""What several people said about the same rows without seeing the model's suggestion, and who has not said yet.

One person is who writes the name alike, in capitals or not. Of a person's standing decisions on a row the newest
counts, and only if it was blind: a suggestion in sight makes people agree who would not.
"""

from __future__ import annotations

from dataclasses import dataclass

from workspace.current import JUDGEMENTS, judged_sql
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.store import Store

# Rows that others have decided blind and `$reviewer` has not judged; needs `standing`.
UNSEEN = f"""
    select row_id from standing where action in {JUDGEMENTS} group by row_id
    having bool_or(blind and lower(reviewer) <> lower($reviewer))
        and not bool_or(lower(reviewer) = lower($reviewer))"""

_OPINIONS = f"""
opinions as (
    from (
        from standing where action in {JUDGEMENTS}
        qualify row_number() over
            (partition by row_id, lower(reviewer) order by clock desc, session desc, seq desc) = 1
    ) semi join (from run_rows where run_id = $run) planned using (row_id)
    where blind qualify count(*) over (partition by row_id) > 1
)"""


@dataclass(frozen=True)
class Opinions:
    """Rows that several people decided blind.

    `row_ids` ascending; `people`, whoever decided most of these rows first; `said`: of each row and each person
    the label, "" where the person found none right, None where the person did not decide. `newest`: of each row
    the place of the person who decided last.
    """

    row_ids: tuple[str, ...]
    people: tuple[str, ...]
    said: tuple[tuple[str | None, ...], ...]
    newest: tuple[int, ...]


def known_as(reviewer: str) -> str:
    """The name beside a person's decisions."""
    return reviewer.strip() or "reviewer"


def opinions(store: Store, run_id: str, dimension: str) -> Opinions:
    """What two or more people said about the same rows of a run, blind. Raises RunError for an unknown run."""
    with store.read() as con:
        cte, parameters = judged_sql(read_spec(con, run_id).task_name, dimension)
        found = con.execute(
            f"""{cte}, {_OPINIONS}
            select row_id, lower(reviewer), reviewer, case when action = 'reject' then '' else label end
            from opinions order by row_id, clock, session, seq""",
            {**parameters, "run": run_id},
        ).fetchall()
    names: dict[str, str] = {}
    decided: dict[str, int] = {}
    by_row: dict[str, dict[str, str]] = {}
    for row_id, key, name, label in found:
        names[key] = name
        decided[key] = decided.get(key, 0) + 1
        by_row.setdefault(row_id, {})[key] = label
    people = sorted(decided, key=lambda key: (-decided[key], key))
    return Opinions(
        tuple(by_row),
        tuple(names[key] for key in people),
        tuple(tuple(said.get(key) for key in people) for said in by_row.values()),
        tuple(people.index(list(said)[-1]) for said in by_row.values()),
    )


def unseen(store: Store, run_id: str, dimension: str, reviewer: str) -> int:
    """How many answered rows of a run others have decided blind and this person has not judged."""
    with store.read() as con:
        cte, parameters = judged_sql(read_spec(con, run_id).task_name, dimension)
        return scalar(
            con,
            f"""{cte}, unseen as ({UNSEEN})
            select count(*) from unseen semi join (
                from facts where run_id = $run and dimension = $dimension and kind = 'label'
            ) f on f.row_id = unseen.row_id""",
            {**parameters, "run": run_id, "reviewer": known_as(reviewer)},
        )
