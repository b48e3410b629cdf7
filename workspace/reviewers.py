"""What several people said about the same rows without seeing the model's suggestion, and who has not said yet.

One person is who writes the name alike, in capitals or not. What a person thinks is what the person decided first,
and only if that was blind: a suggestion in sight makes people agree who would not, and so does what others said.
"""

from __future__ import annotations

from collections import Counter
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
judgements as (
    select row_id, lower(reviewer) as person, reviewer, blind, clock, session, seq,
        case when action = 'reject' then '' else label end as said
    from standing semi join (from run_rows where run_id = $run) planned using (row_id)
    where action in {JUDGEMENTS}
),
opinions as (
    select row_id, person, last(reviewer order by clock, session, seq) as name, min(clock) as first_at,
        first(said order by clock, session, seq) as said, first(blind order by clock, session, seq) as blind
    from judgements group by row_id, person
),
counting as (
    select row_id, last(said order by clock, session, seq) as counts, max(clock) as last_at
    from judgements group by row_id
)"""


@dataclass(frozen=True)
class Opinions:
    """Rows that several people decided blind.

    `row_ids` ascending; `people`, whoever decided most of these rows first; `said`: of each row and each person
    the label, "" where the person found none right, None where the person did not decide. `counts`: the label of
    each row that counts, that of the newest decision; `settled`: whether that one was taken when all these people
    had said theirs.
    """

    row_ids: tuple[str, ...]
    people: tuple[str, ...]
    said: tuple[tuple[str | None, ...], ...]
    counts: tuple[str, ...]
    settled: tuple[bool, ...]


def known_as(reviewer: str) -> str:
    """The name beside a person's decisions."""
    return reviewer.strip() or "reviewer"


def opinions(store: Store, run_id: str, dimension: str) -> Opinions:
    """What two or more people said about the same rows of a run, blind. Raises RunError for an unknown run."""
    with store.read() as con:
        cte, parameters = judged_sql(read_spec(con, run_id).task_name, dimension)
        found = con.execute(
            f"""{cte}, {_OPINIONS}
            select row_id, person, name, said, counts, last_at > max(first_at) over (partition by row_id)
            from opinions join counting using (row_id)
            where blind qualify count(*) over (partition by row_id) > 1 order by row_id, person""",
            {**parameters, "run": run_id},
        ).fetchall()
    names: dict[str, str] = {}
    decided: Counter[str] = Counter()
    by_row: dict[str, dict[str, str]] = {}
    ends: dict[str, tuple[str, bool]] = {}
    for row_id, person, name, said, counts, settled in found:
        names[person] = name
        decided[person] += 1
        by_row.setdefault(row_id, {})[person] = said
        ends[row_id] = (counts, settled)
    people = sorted(decided, key=lambda person: (-decided[person], person))
    return Opinions(
        tuple(by_row),
        tuple(names[person] for person in people),
        tuple(tuple(said.get(person) for person in people) for said in by_row.values()),
        tuple(counts for counts, _ in ends.values()),
        tuple(settled for _, settled in ends.values()),
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
