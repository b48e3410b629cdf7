"""What the models say about each row of a run, as SQL: one answer of each, corrected, pooled, and read.

For a run R and a dimension D with the labels 1 to k:

1. *Answer.* Of the facts of a row in (R, D), labels come before rows left out by a rule and those before errors;
   among equals the smallest (author, seq) wins. The order of arrival plays no part.
2. *Scores.* The raw log-probability of each label; for `multi` its log-odds, ln(p / (1 - p)), within `FIRM`.
3. *Bias.* The mean score of each label over the answers of a model; half of it is taken off (`STRENGTH`). Of a
   label of `multi` all of it, but only where it is above 0: a small model says yes to nearly everything, and that
   a label is rare is no reason to give it more often. Impossible labels (minus infinity) do not count for the
   mean. Labels a rule gave neither count nor change. The bias moves with every answer, unless the calibrator in
   force says how the answers are read.
4. *Vote.* Where other runs vote with R, the weighted mean of the corrected scores of those that answered: a
   logarithmic opinion pool (`calibration.pooling`). Each model keeps its own bias. R itself has the weight 1.
   They are heard on rows that R itself has come to, and not on those a rule gave a label or left out.
5. *Arbitration.* Where a run that decides in R's place has an answer, that one counts, with that run's own bias
   and calibrator; of several the one linked last.
6. *Probability.* softmax(scores / temperature), for `multi` 1 / (1 + exp(-score / temperature)) for each label.
   The temperature is that of the calibrator in force for (R, D), 1 without. Where that calibrator is more than a
   temperature, the scores it has computed for these very answers take the place of the corrected ones, with the
   temperature 1 (see `workspace.adjusted`).
7. *Label.* single, boolean: the likeliest, the first of several in task order. multi: all at one half or more,
   with the probability of the least certain yes or no. score: the figure next to the expectation, with its
   probability.

Linked runs are heard as they are: their own links play no part. The bias is rounded to 12 decimals: sums in
parallel differ in their last digits from one query to the next. `workspace.kinds` says the same of one answer in
Python.
"""

from __future__ import annotations

from collections.abc import Callable

from workspace.facts import RunSpec
from workspace.links import Link
from workspace.store import Connection
from workspace.task import NO_LABELS, SEPARATOR
from workspace.voices import (
    FIRM,
    RULE,
    RULE_NAME,
    STRENGTH,
    Parameters,
    Voice,
    biases_of,
    dimension_of,
    heard_sql,
    said_by,
    shape_of,
    voice_of,
    voices_of,
)

__all__ = ["FIRM", "RULE", "STRENGTH", "Parameters", "answers_sql", "dimension_of", "shape_of"]


def answers_sql(
    con: Connection, spec: RunSpec, dimension: str, links: list[Link], *, held_out: bool = False
) -> tuple[str, Parameters]:
    """CTEs, without "with", that define `own` and `answers`, and their parameters.

    own: what the run and those who vote with it say (row_id, answered, node, ruled: a rule gave the label,
    corrected: the scores without bias, for all kinds but multi up to a constant). answers: what counts, after
    arbitration. Columns: row_id, answered (there is a label), warnings, error, corrected, probabilities (in task
    order), model_label, model_confidence, value, spread (of a score, else null), labeler (names of the models, or
    "rule:NAME"), dropped (the rule that left the row out, else ''), explanation.

    `held_out`: a row a calibrator was fitted on counts with what a fit without it made of it.
    Raises RunError when the run does not have this dimension.
    """
    asked = dimension_of(spec, dimension)
    voters = voices_of(con, asked, [link for link in links if link.kind == "vote"], 1)
    own = voice_of(con, 0, spec, dimension, None, 1.0, said_by(voters))
    judges = voices_of(con, asked, [link for link in links if link.kind == "arbitrate"], 1 + len(voters))
    explainers = [link.other_id for link in links if link.kind == "explain"]
    shape = shape_of(asked)
    biases = biases_of(own, judges)
    heard, parameters = heard_sql(own, voters, judges, dimension, list(asked.labels), shape, biases)
    parts = [heard]
    for voice in (own, *judges):
        parameters |= {f"temperature{voice.place}": voice.temperature}
        parameters |= {f"calibrator{voice.place}": voice.calibrator} if voice.adjusted or held_out else {}
    parts.append(_counting(own, judges, explained=bool(explainers), held_out=held_out))
    if explainers:
        parts.insert(-1, _EXPLAINED)
        parameters["explainers"] = explainers
    parts.append(_READ[shape])
    if shape == "score":
        parameters |= {"lowest": int(asked.labels[0]), "places": [float(i) for i in range(len(asked.labels))]}
    return ",\n".join(parts), parameters


_EXPLAINED = """explained as (
    select row_id, explanation from facts
    where run_id in (select unnest($explainers::varchar[])) and dimension = $dimension and explanation <> ''
    qualify row_number() over
        (partition by row_id order by list_position($explainers::varchar[], run_id), author, seq) = 1
)"""


def _counting(own: Voice, judges: list[Voice], *, explained: bool, held_out: bool) -> str:
    joins = [f"left join voice{voice.place} v{voice.place} using (row_id)" for voice in judges]
    for voice in (own, *judges):
        at, name = voice.place, f"v{voice.place}" if voice in judges else "o"
        if held_out:
            joins.append(
                f"""left join (from out_of_fold where calibrator = $calibrator{at}) h{at}
                    on h{at}.row_id = {name}.row_id"""
            )
        if voice.adjusted:
            joins.append(
                f"""left join (from adjusted where calibrator = $calibrator{at}) x{at}
                    on x{at}.row_id = {name}.row_id and x{at}.source = {name}.source"""
            )
    joins += ["left join explained e using (row_id)"] if explained else []

    def pick(own: str, theirs: str | Callable[[Voice], str]) -> str:
        cases = "".join(
            f" when v{voice.place}.answered then "
            + (theirs(voice) if callable(theirs) else theirs.format(f"v{voice.place}"))
            for voice in judges
        )
        return f"case{cases} else {own} end" if cases else own

    def prepared(voice: Voice) -> list[str]:
        return (["h"] if held_out else []) + (["x"] if voice.adjusted else [])

    def scores(voice: Voice, name: str) -> str:
        found = [f"{table}{voice.place}.scores" for table in prepared(voice)]
        if voice.order is not None:
            found = [f"list_select({one}, $order{voice.place}::bigint[])" for one in found]
        return f"coalesce({', '.join([*found, f'{name}.corrected'])})"

    def temperature(voice: Voice) -> str:
        there = "".join(f"when {table}{voice.place}.row_id is not null then 1.0 " for table in prepared(voice))
        plain = f"$temperature{voice.place}::double"
        return f"case {there}else {plain} end" if there else plain

    because = pick("o.explanation", "coalesce(nullif({}.explanation, ''), o.explanation)")
    because = f"coalesce(nullif(e.explanation, ''), {because})" if explained else because
    return f"""counting as (
    select o.row_id, {pick("o.answered", "true")} as answered, {pick("o.warnings", "{}.warnings")} as warnings,
        {pick("o.error", "''")} as error,
        {pick(scores(own, "o"), lambda voice: scores(voice, f"v{voice.place}"))} as corrected,
        {pick(temperature(own), temperature)} as temperature,
        {pick("o.labeler", lambda voice: f"$model{voice.place}")} as labeler, coalesce({
        because
    }, '') as explanation,
        {
        pick(
            "case when o.kind = 'drop' and not o.answered then coalesce("
            + RULE_NAME.replace("warnings", "o.warnings")
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
