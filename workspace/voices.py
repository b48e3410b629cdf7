"""What each model says about the rows of a run, as SQL: one answer of each, without bias, and pooled.

`workspace.answers` says what happens to it, and by which rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workspace.calibrators import Calibrator, newest
from workspace.errors import RunError
from workspace.facts import DimensionSpec, RunSpec
from workspace.links import Link
from workspace.runs import read_spec
from workspace.store import Connection

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
    calibrator: str = ""  # in force
    adjusted: bool = False  # its scores of each row count where there are any
    biases: tuple[tuple[float, ...], ...] = ()  # of it and its voters, where its calibrator fixes them


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


def own_sql(
    con: Connection,
    spec: RunSpec,
    dimension: str,
    links: list[Link],
    biases: Sequence[Sequence[float]] | None = None,
    within: str = "",
) -> tuple[str, Parameters, list[Voice]]:
    """Only `own`, with `source`, a number that stands for the answers it was made of; and who votes with the run.

    Also there: `said0` with `phrasings`, and `bias0`, `voice0`, `voice1` and so on of the run and of those who
    vote, in their order. `biases` are taken off instead of today's: one list for each; with them `within` may be
    a condition on `row_id`, and other rows are not read. Raises as `answers_sql`.
    """
    asked = dimension_of(spec, dimension)
    voters = voices_of(con, asked, [link for link in links if link.kind == "vote"], 1)
    own = Voice(0, spec, None, 1.0, 1.0, adjusted=True)
    known = None if biases is None else dict(enumerate(biases))
    shape = shape_of(asked)
    sql, parameters = heard_sql(own, voters, [], dimension, list(asked.labels), shape, known, within)
    return sql.replace("node, warnings", "node, phrasings, warnings", 1), parameters, voters


def said_by(voters: Sequence[Voice]) -> list[list[object]]:
    """Who votes, with what weight, as it is kept with a calibrator fitted on what they say together."""
    return [[voter.spec.run_id, voter.weight] for voter in voters]


def heard_sql(
    own: Voice,
    voters: list[Voice],
    judges: list[Voice],
    dimension: str,
    labels: list[str],
    shape: str,
    biases: Mapping[int, Sequence[float]] | None = None,
    within: str = "",
) -> tuple[str, Parameters]:
    """The CTEs up to `own`, and of the judges up to what they said, corrected. `biases` by place, else today's."""
    fixed = {} if biases is None else biases
    parameters: Parameters = {"run": own.spec.run_id, "dimension": dimension, "labels": labels}
    parts = []
    for voice in (own, *voters, *judges):
        at = voice.place
        sourced = voice.adjusted or (own.adjusted and voice in voters)
        bias = f"bias{at} as (select $biases{at}::double[] as biases)" if at in fixed else _bias(at, shape)
        parts += [_said(voice, shape, within, sourced=sourced), bias, _corrected(at)]
        parameters |= {f"biases{at}": list(fixed[at])} if at in fixed else {}
        parameters |= {f"run{at}": voice.spec.run_id} if at else {}
        parameters |= {f"order{at}": voice.order} if voice.order is not None else {}
        parameters |= {f"model{at}": voice.spec.model.name}
        parameters |= {f"weight{at}": voice.weight} if voice in voters else {}
    parts.append(_pooled(voters, sourced=own.adjusted) if voters else _alone())
    return ",\n".join(parts), parameters


def voice_of(
    con: Connection,
    place: int,
    spec: RunSpec,
    dimension: str,
    order: list[int] | None,
    weight: float,
    voters: list[list[object]],
) -> Voice:
    """A run with the calibrator in force for it; `voters` are those it is heard together with."""
    calibrator = newest(con, spec.run_id, dimension)
    if calibrator is None:
        return Voice(place, spec, order, weight, 1.0)
    return Voice(
        place,
        spec,
        order,
        weight,
        calibrator.temperature,
        calibrator.id,
        adjusts(calibrator, voters),
        tuple(map(tuple, calibrator.parameters["reading"]["biases"])) if fixes(calibrator, voters) else (),
    )


def adjusts(calibrator: Calibrator, voters: list[list[object]]) -> bool:
    """Whether a calibrator works on scores of every row, and was fitted on what these voices say together."""
    return calibrator.adjusts and _was_read(calibrator, voters)


def fixes(calibrator: Calibrator, voters: list[list[object]]) -> bool:
    """Whether a calibrator that is said by its temperature has these voices read as they were."""
    return not calibrator.adjusts and _was_read(calibrator, voters)


def _was_read(calibrator: Calibrator, voters: list[list[object]]) -> bool:
    reading = calibrator.parameters.get("reading")
    return isinstance(reading, dict) and reading.get("voters") == voters


def biases_of(own: Voice, judges: Sequence[Voice]) -> dict[int, Sequence[float]]:
    """The biases that are fixed, by place, in the order of the labels of the run they are heard for."""
    found: dict[int, Sequence[float]] = dict(enumerate(own.biases))
    for judge in judges:
        for bias in judge.biases[:1]:
            found[judge.place] = bias if judge.order is None else [bias[place - 1] for place in judge.order]
    return found


def voices_of(con: Connection, asked: DimensionSpec, links: list[Link], first: int) -> list[Voice]:
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
        found.append(voice_of(con, first + len(found), spec, asked.name, order, link.weight, []))
    return found


def scores_of(logprobs: str, shape: str) -> str:
    """SQL of the scores that log-probabilities, given as SQL too, stand for."""
    if shape != "multi":
        return logprobs
    # 1 - exp(-2e-9) is where a double has just the digits left that FIRM asks for.
    return f"""list_transform({logprobs}, lambda v: case when v > -2e-9 then {FIRM}
            when v < -{FIRM} then -{FIRM} else v - ln(1 - exp(v)) end)"""


def _said(voice: Voice, shape: str, within: str, *, sourced: bool) -> str:
    at = voice.place
    only = f" and {within}" if within else ""
    logprobs = "logprobs" if voice.order is None else f"list_select(logprobs, $order{at}::bigint[])"
    source = "hash(author, seq) as source, " if sourced else ""
    return f"""said{at} as materialized (
    select row_id, kind, node, warnings, error, explanation, {source}{scores_of(logprobs, shape)} as scores,
        kind = 'label' and len(logprobs) = len($labels::varchar[]) and list_max(logprobs) < 'infinity'::double
            as answered,
        len(warnings) > 0 and len(list_filter(warnings, lambda w: starts_with(w, '{RULE}'))) > 0 as ruled
    from facts where run_id = $run{at or ""} and dimension = $dimension{only}
    qualify row_number() over (partition by row_id order by
        case kind when 'label' then 0 when 'drop' then 1 else 2 end, author, seq) = 1
)"""


def too_much(shape: str) -> str:
    """SQL of what is taken off a score whose mean over all answers is `mean`."""
    return "greatest(mean, 0.0)" if shape == "multi" else f"{STRENGTH} * mean"


def _bias(at: int, shape: str) -> str:
    return f"""bias{at} as (
    select list({too_much(shape)} order by place) as biases from (
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
RULE_NAME = f"list_filter(warnings, lambda w: starts_with(w, '{RULE}'))[1]"


def _alone() -> str:
    return f"""own as (
    select *, case when ruled then {RULE_NAME} else $model0 end as labeler from voice0
)"""


def _pooled(voters: list[Voice], *, sourced: bool) -> str:
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
    sources = ", ".join(f"v{at}.source" for at in places)
    source = f"hash({sources}) as source" if sourced else "0 as source"
    without = "answered, source" if sourced else "answered"
    return f"""heard as (
    select v0.* exclude ({without}), {source}, {heard}, {mine}, {scores} from voice0 v0 {joins}
),
mixed as (
    select row_id, kind, node, source, warnings, explanation, ruled, kind <> 'drop' and ({anybody}) as answered,
        case when kind <> 'drop' and ({anybody}) then '' else error end as error,
        case when ruled then corrected when {anybody} then
            list_transform(list_zip({zipped}), lambda voices: ({mean}) / ({total})) end as mixture,
        case when ruled then {RULE_NAME} else concat_ws(' + ', {names}) end as labeler
    from heard
),
own as (
    select * exclude (mixture),
        case when answered then case when list_max(mixture) = {_NOTHING} then {_ZEROS} else mixture end end
            as corrected
    from mixed
)"""
