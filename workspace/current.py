"""The current label of every row of a run, as one SQL text: a pure function of the facts and decisions.

For a run R of task T and a dimension D:

1. *Answer.* Of the facts of a row in (R, D), labels come before errors, and among those the smallest
   (author, seq) wins. The order of arrival plays no part.
2. *Bias.* The mean raw log-probability of each label over the answers; half of it is taken off (`STRENGTH`).
   Impossible labels (minus infinity) do not count for the mean.
3. *Probability.* softmax((raw - half the bias) / temperature), the temperature being that of the calibrator in
   force for (R, D), 1 without. The model's label has the largest, the first in task order if several do.
4. *Judgement.* Decisions belong to (T, D, row) whatever the run and the machine. Approve, modify and reject that
   were not undone count; the largest (clock, session, seq) wins. Skipping decides nothing. The clock is the time
   in microseconds, and larger than that of every decision on the row that was known when it was taken.
5. *Label.* A judgement comes before the model: its label with confidence 1, or no label and no confidence after
   a reject. Rows of the run that have neither answer nor judgement have no current label.

The bias is rounded to 12 decimals: sums in parallel differ in their last digits from one query to the next.
"""

from __future__ import annotations

from workspace.calibrators import newest
from workspace.errors import RunError
from workspace.facts import DimensionSpec, RunSpec
from workspace.runs import read_spec
from workspace.store import Connection

STRENGTH = 0.5
JUDGEMENTS = ("approve", "modify", "reject")

Parameters = dict[str, object]

# Everything the model said. Columns: row_id, answered (there is a label, not only errors), raw, warnings, error,
# corrected (bias taken off, up to a constant), probabilities, model_label, model_confidence.
_ANSWERS = f"""
answer as materialized (
    select row_id, warnings, error, logprobs as raw,
        kind = 'label' and len(logprobs) = len($labels::varchar[]) and list_max(logprobs) < 'infinity'::double
            as answered
    from facts where run_id = $run and dimension = $dimension
    qualify row_number() over (partition by row_id order by kind <> 'label', author, seq) = 1
),
bias as (
    select list(mean order by place) as means from (
        select place, coalesce(round(avg(value) filter (isfinite(value)), 12), 0.0) as mean
        from (select generate_subscripts(raw, 1) as place, unnest(raw) as value from answer where answered)
        group by place
    )
),
corrected as (
    select answer.* exclude (raw), raw,
        case when list_max(raw) = '-infinity'::double then list_transform(raw, lambda v: 0.0::double)
             else list_transform(list_zip(raw, means), lambda pair: pair[1] - {STRENGTH} * pair[2])
        end as corrected
    from answer, bias where answered
),
topped as (select *, list_max(corrected) as top from corrected),
exponentials as (
    select *, list_transform(corrected, lambda v: exp((v - top) / $temperature::double)) as weights from topped
),
summed as (select *, list_sum(weights) as total from exponentials),
answers as (
    select row_id, answered, raw, warnings, error, corrected,
        list_transform(weights, lambda v: v / total) as probabilities,
        ($labels::varchar[])[list_position(corrected, top)] as model_label, 1.0 / total as model_confidence
    from summed
    union all by name
    select row_id, answered, warnings, error from answer where not answered
)"""

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
        case when j.row_id is null then 'model' else j.reviewer end as decided_by,
        j.row_id is not null as human, j.action, j.blind,
        coalesce(answered, false) as answered, model_label, model_confidence, probabilities, corrected,
        coalesce(warnings, []) as warnings, coalesce(error, '') as error
    from answers a full join judged_here j on a.row_id = j.row_id
)"""


def current_sql(con: Connection, run_id: str, dimension: str) -> tuple[str, Parameters]:
    """The CTEs ("with ... as (...)", no final select) that define `current_labels`, and their parameters.

    Columns: row_id, label, confidence (both null after a reject or an error), decided_by ('model' or the
    reviewer), human, action, blind, answered, model_label, model_confidence, probabilities (in task order),
    corrected (log-probabilities without bias, up to a constant), warnings, error. Also there to select from:
    `answers`, `standing`, `judged`. Add parameters of your own; those given must all stay.

    Raises RunError when there is no such run or the run does not have this dimension.
    """
    spec = read_spec(con, run_id)
    asked = dimension_of(spec, dimension)
    calibrator = newest(con, run_id, dimension)
    parameters: Parameters = {
        "run": run_id,
        "task": spec.task_name,
        "dimension": dimension,
        "labels": list(asked.labels),
        "temperature": calibrator.temperature if calibrator else 1.0,
    }
    return f"with {_ANSWERS}, {_JUDGED}, {_CURRENT}", parameters


def judged_sql(task_name: str, dimension: str) -> tuple[str, Parameters]:
    """Only what people decided: the CTEs `standing` and `judged` with their parameters."""
    return f"with {_JUDGED}", {"task": task_name, "dimension": dimension}


def dimension_of(spec: RunSpec, name: str) -> DimensionSpec:
    """The dimension of that name as the run asks it. Raises RunError when it has none."""
    for dimension in spec.dimensions:
        if dimension.name == name:
            return dimension
    raise RunError(
        f"This run does not label '{name}'.",
        f"It labels {', '.join(dimension.name for dimension in spec.dimensions)}.",
    )
