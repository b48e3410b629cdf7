"""The current label of every row of a run, as one SQL text: a pure function of the facts, links and decisions.

For a run R of task T and a dimension D:

1. *Answer.* What the models say about a row: see `workspace.answers`.
2. *Judgement.* Decisions belong to (T, D, row) whatever the run and the machine. Approve, modify and reject that
   were not undone count; the largest (clock, session, seq) wins. Skipping decides nothing. The clock is the time
   in microseconds, and larger than that of every decision on the row that was known when it was taken.
3. *Label.* A judgement comes before the model: its label with confidence 1 (and, for a score, its figure), or no
   label and no confidence after a reject. Rows a rule left out and rows of the run that have neither answer nor
   judgement have no current label.
"""

from __future__ import annotations

from workspace.answers import Parameters, answers_sql, dimension_of, shape_of
from workspace.links import read_links
from workspace.runs import read_spec
from workspace.store import Connection

__all__ = ["JUDGEMENTS", "Parameters", "current_sql", "dimension_of", "judged_sql", "shape_of"]

JUDGEMENTS = ("approve", "modify", "reject")

# What people said. standing: decisions not undone; judged: the one that counts for each row.
_JUDGED = f"""
undone as (
    select coalesce(undoes_session, session) as session, undoes as seq from decisions where action = 'undo'
),
standing as (
    select * from decisions d
    where task_name = $task and dimension = $dimension and action <> 'undo'
      and not exists (from undone u where u.session = d.session and u.seq = d.seq)
),
judged as materialized (
    select row_id, action, label as judged_label, reviewer, blind from standing where action in {JUDGEMENTS}
    qualify row_number() over (partition by row_id order by clock desc, session desc, seq desc) = 1
)"""

_CURRENT = """
judged_here as (
    from judged semi join (from run_rows where run_id = $run) planned on planned.row_id = judged.row_id
),
current_labels as (
    select coalesce(a.row_id, j.row_id) as row_id,
        case when j.row_id is null then model_label
             when j.action <> 'reject' then judged_label end as label,
        case when j.row_id is null then model_confidence
             when j.action <> 'reject' then 1.0 end as confidence,
        case when j.row_id is null then value
             when j.action <> 'reject' and $scored then try_cast(judged_label as double) end as value,
        case when j.row_id is null then spread when j.action <> 'reject' and $scored then 0.0 end as spread,
        case when j.row_id is null then 'model' else j.reviewer end as decided_by,
        j.row_id is not null as human, j.action, j.blind,
        coalesce(answered, false) as answered, model_label, model_confidence, probabilities,
        coalesce(warnings, []) as warnings, coalesce(error, '') as error,
        coalesce(labeler, '') as labeler, coalesce(explanation, '') as explanation,
        case when j.row_id is null then dropped else '' end as dropped
    from answers a full join judged_here j on a.row_id = j.row_id
)"""


def current_sql(con: Connection, run_id: str, dimension: str, *, held_out: bool = False) -> tuple[str, Parameters]:
    """The CTEs ("with ... as (...)", no final select) that define `current_labels`, and their parameters.

    Columns: row_id, label, confidence (both null after a reject, an error or a rule that left the row out), value
    and spread (of a score, else null), decided_by ('model' or the reviewer), human, action, blind, answered,
    model_label, model_confidence, probabilities (in task order), warnings, error, labeler, explanation, dropped.
    Also there to select from: `own` and `answers` (see `workspace.answers`), `standing`, `judged`. Add parameters
    of your own; those given must all stay. `held_out` as for `workspace.answers.answers_sql`.

    Raises RunError when there is no such run or the run does not have this dimension.
    """
    spec = read_spec(con, run_id)
    answers, parameters = answers_sql(con, spec, dimension, read_links(con, run_id), held_out=held_out)
    scored = shape_of(dimension_of(spec, dimension)) == "score"
    return f"with {answers}, {_JUDGED}, {_CURRENT}", {**parameters, "task": spec.task_name, "scored": scored}


def judged_sql(task_name: str, dimension: str) -> tuple[str, Parameters]:
    """Only what people decided: the CTEs `standing` and `judged` with their parameters."""
    return f"with {_JUDGED}", {"task": task_name, "dimension": dimension}
