"""What the models say about each row of a run, as SQL: one answer of each, corrected, pooled, and read.

For a run R and a dimension D with the labels 1 to k:

1. *Answer.* Of the facts of a row in (R, D), labels come before rows left out by a rule and those before errors;
   among equals the smallest (author, seq) wins. The order of arrival plays no part.
2. *Scores.* The raw log-probability of each label; for `multi` its log-odds, ln(p / (1 - p)), within `FIRM`.
3. *Bias.* The mean score of each label over the answers of a model; half of it is taken off (`STRENGTH`). Of a
   label of `multi` all of it, but only where it is above 0: a small model says yes to nearly everything, and that
   a label is rare is no reason to give it more often. Impossible labels (minus infinity) do not count for the
   mean. Labels a rule gave neither count nor change.
4. *Vote.* Where other runs vote with R, the weighted mean of the corrected scores of those that answered: a
   logarithmic opinion pool (`calibration.pooling`). Each model keeps its own bias. R itself has the weight 1.
   They are heard on rows that R itself has come to, and not on those a rule gave a label or left out.
5. *Arbitration.* Where a run that decides in R's place has an answer, that one counts, with that run's own bias
   and calibrator; of several the one linked last.
6. *Probability.* softmax(scores / temperature), for `multi` 1 / (1 + exp(-score / temperature)) for each label.
   The temperature is that of the calibrator in force for (R, D), 1 without.
7. *Label.* single, boolean: the likeliest, the first of several in task order. multi: all at one half or more,
   with the probability of the least certain yes or no. score: the figure next to the expectation, with its
   probability.

Linked runs are heard as they are: their own links play no part. The bias is rounded to 12 decimals: sums in
parallel differ in their last digits from one query to the next. `workspace.kinds` says the same of one answer in
Python.
"""

from __future__ import annotations

from dataclasses import dataclass

from workspace.calibrators import newest
from workspace.errors import RunError
from workspace.facts import DimensionSpec, RunSpec
from workspace.links import Link
from workspace.runs import read_spec
from workspace.store import Connection
from workspace.task import NO_LABELS, SEPARATOR

STRENGTH = 0.5
FIRM = 20.0  # log-odds beyond this are as good as certain
RULE = "rule:"  # starts the warning that names the rule of the prefilter which decided

Parameters = dict[str, object]


@dataclass(frozen=True)
class Voice:
    """A run that is heard, and its place among the names in the SQL. `order`: its labels in those of the run it
    speaks about, None when they are the same."""

    place: int
    spec: RunSpec
    order: list[int] | None
    weight: float
    temperature: float


def dimension_of(spec: RunSpec, name: str) -> DimensionSpec:
    """The dimension of that name as the run asks it. Raises RunError when it has none."""
    for dimension in spec.dimensions:
        if dimension.name == name:
            return dimension
    raise RunError(
        f"This run does not label '{name}'.",
        f"It labels {', '.join(dimension.name for dimension in spec.dimensions)}.",
    )


def shape_of(asked: DimensionSpec) -> str:
    """How the answers are read: 'multi', 'score' where the labels are whole numbers in a row, else 'single'."""
    if asked.kind == "score":
        try:
            first = int(asked.labels[0])
        except (ValueError, IndexError):
            return "single"
        in_a_row = asked.labels == tuple(str(first + place) for place in range(len(asked.labels)))
        return "score" if in_a_row else "single"
    return "multi" if asked.kind == "multi" else "single"


def answers_sql(con: Connection, spec: RunSpec, dimension: str, links: list[Link]) -> tuple[str, Parameters]:
    """CTEs, without "with", that define `own` and `answers`, and their parameters.

    own: what the run and those who vote with it say (row_id, answered, node, ruled: a rule gave the label,
    corrected: the scores without bias, for all kinds but multi up to a constant). answers: what counts, after
    arbitration. Columns: row_id, answered (there is a label), warnings, error, corrected, probabilities (in task
    order), model_label, model_confidence, value, spread (of a score, else null), labeler (names of the models, or
    "rule:NAME"), dropped (the rule that left the row out, else ''), explanation.

    Raises RunError when the run does not have this dimension.
    """
    asked = dimension_of(spec, dimension)
    own = Voice(0, spec, None, 1.0, _temperature(con, spec.run_id, dimension))
    voters = _voices(con, asked, [link for link in links if link.kind == "vote"], 1)
    judges = _voices(con, asked, [link for link in links if link.kind == "arbitrate"], 1 + len(voters))
    explainers = [link.other_id for link in links if link.kind == "explain"]
    shape = shape_of(asked)
    parameters: Parameters = {"run": spec.run_id, "dimension": dimension, "labels": list(asked.labels)}
    parts = []
    for voice in (own, *voters, *judges):
        parts += [_said(voice, shape), _bias(voice.place, shape), _corrected(voice.place)]
        at = voice.place
        parameters |= {f"run{at}": voice.spec.run_id} if at else {}
        parameters |= {f"order{at}": voice.order} if voice.order is not None else {}
        parameters |= {f"model{at}": voice.spec.model.name}
        parameters |= {f"weight{at}": voice.weight} if voice in voters else {}
        parameters |= {f"temperature{at}": voice.temperature} if voice not in voters else {}
    parts.append(_pooled(voters) if voters else _alone())
    parts.append(_counting(judges, explained=bool(explainers)))
    if explainers:
        parts.insert(-1, _EXPLAINED)
        parameters["explainers"] = explainers
    parts.append(_READ[shape])
    if shape == "score":
        parameters |= {"lowest": int(asked.labels[0]), "places": [float(i) for i in range(len(asked.labels))]}
    return ",\n".join(parts), parameters


def _temperature(con: Connection, run_id: str, dimension: str) -> float:
    calibrator = newest(con, run_id, dimension)
    return calibrator.temperature if calibrator else 1.0


def _voices(con: Connection, asked: DimensionSpec, links: list[Link], first: int) -> list[Voice]:
    """The linked runs that ask the same; another version of the task may have other labels."""
    found: list[Voice] = []
    for link in links:
        try:
            spec = read_spec(con, link.other_id)
            theirs = dimension_of(spec, asked.name)
        except RunError:
            continue
        if theirs.kind != asked.kind or sorted(theirs.labels) != sorted(asked.labels):
            continue
        same = theirs.labels == asked.labels
        order = None if same else [theirs.labels.index(label) + 1 for label in asked.labels]
        temperature = _temperature(con, link.other_id, asked.name)
        found.append(Voice(first + len(found), spec, order, link.weight, temperature))
    return found


def _said(voice: Voice, shape: str) -> str:
    at = voice.place
    scores = "logprobs" if voice.order is None else f"list_select(logprobs, $order{at}::bigint[])"
    if shape == "multi":
        # 1 - exp(-2e-9) is where a double has just the digits left that FIRM asks for.
        scores = f"""list_transform({scores}, lambda v: case when v > -2e-9 then {FIRM}
            when v < -{FIRM} then -{FIRM} else v - ln(1 - exp(v)) end)"""
    return f"""said{at} as materialized (
    select row_id, kind, node, warnings, error, explanation, {scores} as scores,
        kind = 'label' and len(logprobs) = len($labels::varchar[]) and list_max(logprobs) < 'infinity'::double
            as answered,
        len(warnings) > 0 and len(list_filter(warnings, lambda w: starts_with(w, '{RULE}'))) > 0 as ruled
    from facts where run_id = $run{at or ""} and dimension = $dimension
    qualify row_number() over (partition by row_id order by
        case kind when 'label' then 0 when 'drop' then 1 else 2 end, author, seq) = 1
)"""


def _bias(at: int, shape: str) -> str:
    too_much = "greatest(mean, 0.0)" if shape == "multi" else f"{STRENGTH} * mean"
    return f"""bias{at} as (
    select list({too_much} order by place) as biases from (
        select place, coalesce(round(avg(value) filter (isfinite(value)), 12), 0.0) as mean
        from (
            select generate_subscripts(scores, 1) as place, unnest(scores) as value
            from said{at} where answered and not ruled
        ) group by place
    )
)"""


_ZEROS = "list_transform($labels::varchar[], lambda name: 0.0::double)"
_NOTHING = "'-infinity'::double"


def _corrected(at: int) -> str:
    return f"""voice{at} as (
    select * exclude (scores), case when not answered then null when ruled then scores
        when list_max(scores) = {_NOTHING} then {_ZEROS}
        else list_transform(list_zip(scores, biases), lambda pair: pair[1] - pair[2]) end as corrected
    from said{at}, bias{at}
)"""


# A rule is named instead of the models where it decided.
_RULE_NAME = f"list_filter(warnings, lambda w: starts_with(w, '{RULE}'))[1]"


def _alone() -> str:
    return f"""own as (
    select *, case when ruled then {_RULE_NAME} else $model0 end as labeler from voice0
)"""


def _pooled(voters: list[Voice]) -> str:
    places = [0, *(voice.place for voice in voters)]
    weights = {0: "1.0", **{voice.place: f"$weight{voice.place}::double" for voice in voters}}
    joins = " ".join(f"left join voice{at} v{at} on v{at}.row_id = v0.row_id" for at in places[1:])
    heard = ", ".join(f"coalesce(v{at}.answered, false) as heard{at}" for at in places)
    mine = ", ".join(f"case when v{at}.answered then {weights[at]} else 0.0 end as weight{at}" for at in places)
    scores = ", ".join(f"coalesce(v{at}.corrected, {_ZEROS}) as scores{at}" for at in places)
    zipped = ", ".join(f"scores{at}" for at in places)
    mean = " + ".join(f"weight{at} * voices[{place}]" for place, at in enumerate(places, start=1))
    total = " + ".join(f"weight{at}" for at in places)
    anybody = " or ".join(f"heard{at}" for at in places)
    names = ", ".join(f"case when heard{at} then $model{at} end" for at in places)
    return f"""heard as (
    select v0.* exclude (answered), {heard}, {mine}, {scores} from voice0 v0 {joins}
),
mixed as (
    select row_id, kind, node, warnings, explanation, ruled, kind <> 'drop' and ({anybody}) as answered,
        case when kind <> 'drop' and ({anybody}) then '' else error end as error,
        case when ruled then corrected when {anybody} then
            list_transform(list_zip({zipped}), lambda voices: ({mean}) / ({total})) end as mixture,
        case when ruled then {_RULE_NAME} else concat_ws(' + ', {names}) end as labeler
    from heard
),
own as (
    select * exclude (mixture),
        case when answered then case when list_max(mixture) = {_NOTHING} then {_ZEROS} else mixture end end
            as corrected
    from mixed
)"""


_EXPLAINED = """explained as (
    select row_id, explanation from facts
    where run_id in (select unnest($explainers::varchar[])) and dimension = $dimension and explanation <> ''
    qualify row_number() over
        (partition by row_id order by list_position($explainers::varchar[], run_id), author, seq) = 1
)"""


def _counting(judges: list[Voice], *, explained: bool) -> str:
    joins = [f"left join voice{voice.place} v{voice.place} using (row_id)" for voice in judges]
    joins += ["left join explained e using (row_id)"] if explained else []

    def pick(own: str, theirs: str = "{}") -> str:
        cases = "".join(
            f" when v{voice.place}.answered then "
            + theirs.replace("{}", f"v{voice.place}").replace("#", str(voice.place))
            for voice in judges
        )
        return f"case{cases} else {own} end" if cases else own

    because = pick("o.explanation", "coalesce(nullif({}.explanation, ''), o.explanation)")
    because = f"coalesce(nullif(e.explanation, ''), {because})" if explained else because
    return f"""counting as (
    select row_id, {pick("o.answered", "true")} as answered, {pick("o.warnings", "{}.warnings")} as warnings,
        {pick("o.error", "''")} as error, {pick("o.corrected", "{}.corrected")} as corrected,
        {pick("$temperature0::double", "$temperature#::double")} as temperature,
        {pick("o.labeler", "$model#")} as labeler, coalesce({because}, '') as explanation,
        {
        pick(
            "case when o.kind = 'drop' and not o.answered then coalesce("
            + _RULE_NAME.replace("warnings", "o.warnings")
            + f"[{len(RULE) + 1}:], '?') else '' end",
            "''",
        )
    } as dropped
    from own o {" ".join(joins)}
)"""


# From scores to probabilities, the label and how sure it is.
_SOFTMAX = """topped as (select *, list_max(corrected) as top from counting),
exponentials as (
    select *, list_transform(corrected, lambda v: exp((v - top) / temperature)) as weights from topped
),
summed as (select *, list_sum(weights) as total from exponentials)"""

_REST = "row_id, answered, warnings, error, corrected, labeler, explanation, dropped"

_READ = {
    "single": f"""{_SOFTMAX},
answers as (
    select {_REST}, list_transform(weights, lambda v: v / total) as probabilities,
        ($labels::varchar[])[list_position(corrected, top)] as model_label, 1.0 / total as model_confidence,
        null::double as value, null::double as spread
    from summed
)""",
    "score": f"""{_SOFTMAX},
shared as (select *, list_transform(weights, lambda v: v / total) as probabilities from summed),
expected as (
    select *, list_dot_product(probabilities, $places::double[]) as mean,
        list_dot_product(probabilities, list_transform($places::double[], lambda v: v * v)) as square
    from shared
),
placed as (
    select *, 1 + greatest(0, least(len(corrected) - 1, ceil(mean - 0.5)::bigint)) as place from expected
),
answers as (
    select {_REST}, probabilities, ($labels::varchar[])[place] as model_label,
        probabilities[place] as model_confidence, $lowest + mean as value,
        sqrt(greatest(square - mean * mean, 0.0)) as spread
    from placed
)""",
    "multi": f"""answers as (
    select {_REST}, list_transform(corrected, lambda v: 1 / (1 + exp(-v / temperature))) as probabilities,
        case when answered then coalesce(nullif(array_to_string(
            list_filter($labels::varchar[], lambda name, place: corrected[place] >= 0), '{SEPARATOR}'
        ), ''), '{NO_LABELS}') end as model_label,
        1 / (1 + exp(-list_min(list_transform(corrected, lambda v: abs(v))) / temperature)) as model_confidence,
        null::double as value, null::double as spread
    from counting
)""",
}
