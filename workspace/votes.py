"""What the voices of several runs are worth: their agreement with people and their speed, by model and by node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from workspace.answers import RULE, answers_sql
from workspace.current import judged_sql
from workspace.facts import DimensionSpec, RunSpec
from workspace.runs import read_spec
from workspace.store import Connection, Store
from workspace.task import split_labels
from workspace.truth import truth_sql

if TYPE_CHECKING:
    from calibration.pooling import Record


class Fitness(msgspec.Struct, frozen=True):
    """What a run has shown so far.

    `agreement` is the share of its `checked` answers, on rows all the compared runs have answered, that agree with
    blind decisions and gold labels, None without any; of a multi dimension the labels both name over those either
    names. `rows_per_s` is 0 while unknown. The `weight` of all of them together is one.
    """

    run_id: str
    model: str
    agreement: float | None
    checked: int
    rows_per_s: float
    weight: float


class NodeFitness(msgspec.Struct, frozen=True):
    """As `Fitness`, of the rows one node answered with one model."""

    node: str
    model: str
    rows: int
    rows_per_s: float
    agreement: float | None
    checked: int


class _Checked(NamedTuple):
    node: str
    right: float
    chance: float


_Answers = dict[tuple[str, str], _Checked]  # by dimension and row


def weights(store: Store, run_ids: Sequence[str]) -> list[Fitness]:
    """What the voice of each of these runs is worth, in their order; see `calibration.pooling.vote_weights`.

    Raises RunError for an unknown run.
    """
    from calibration.pooling import vote_weights  # takes long to load, and few who import this need it

    with store.read() as con:
        specs = [read_spec(con, run_id) for run_id in run_ids]
        checked = [_checked(con, spec) for spec in specs]
        rates = [sum(rate for _, rate in _pace(con, run_id).values()) for run_id in run_ids]
    shared = set[tuple[str, str]].intersection(*(set(answers) for answers in checked)) if checked else set()
    compared = [[answers[key] for key in sorted(shared)] for answers in checked]
    records = [_record(answers, rate) for answers, rate in zip(compared, rates, strict=True)]
    return [
        Fitness(spec.run_id, spec.model.name, _agreement(answers), len(answers), rate, float(weight))
        for spec, answers, rate, weight in zip(specs, compared, rates, vote_weights(records), strict=True)
    ]


def per_node(store: Store, run_id: str) -> list[NodeFitness]:
    """What each node has shown in a run, by name. Raises RunError for an unknown run."""
    with store.read() as con:
        spec = read_spec(con, run_id)
        pace = _pace(con, run_id)
        answers: dict[str, list[_Checked]] = defaultdict(list)
        for one in _checked(con, spec).values():
            answers[one.node].append(one)
    return [
        NodeFitness(node, spec.model.name, rows, rate, _agreement(answers[node]), len(answers[node]))
        for node, (rows, rate) in sorted(pace.items())
    ]


def _agreement(answers: Sequence[_Checked]) -> float | None:
    return sum(one.right for one in answers) / len(answers) if answers else None


def _record(answers: Sequence[_Checked], rate: float) -> Record:
    from calibration.pooling import Record

    chance = sum(one.chance for one in answers) / len(answers) if answers else 0.5
    return Record(sum(one.right for one in answers), len(answers), chance, rate)


def _pace(con: Connection, run_id: str) -> dict[str, tuple[int, float]]:
    """By node: rows, and rows per second of computing. What came from a cache or from a rule took no model."""
    found = con.execute(
        f"""select node, count(distinct row_id), count(distinct row_id) filter (computed),
                coalesce(sum(seconds) filter (computed), 0.0)
            from (
                select *, not (list_contains(warnings, 'cached')
                    or len(list_filter(warnings, lambda w: starts_with(w, '{RULE}'))) > 0) as computed
                from facts where run_id = ? and kind <> 'error'
            ) group by node""",
        [run_id],
    ).fetchall()
    return {node: (rows, computed / seconds if seconds else 0.0) for node, rows, computed, seconds in found}


def _checked(con: Connection, spec: RunSpec) -> _Answers:
    """The answers of a run alone whose truth is known."""
    checked: _Answers = {}
    for asked in spec.dimensions:
        judged, more = judged_sql(spec.task_name, asked.name)
        true, known = truth_sql(con, asked)
        if not con.execute(f"{judged}, {true} select 1 from true_labels limit 1", {**more, **known}).fetchall():
            continue  # reading every answer takes far longer than seeing that there is nothing to hold it against
        answers, parameters = answers_sql(con, spec, asked.name, [])
        found = con.execute(
            f"""{judged}, {answers}, {true}
            select a.row_id, o.node, a.model_label, t.label
            from answers a join own o on o.row_id = a.row_id join true_labels t on t.row_id = a.row_id
            where a.answered and not o.ruled""",
            {**parameters, **more, **known},
        ).fetchall()
        for row_id, node, said, true_label in found:
            checked[asked.name, row_id] = _Checked(node, _right(asked, said, true_label), _chance(asked))
    return checked


def _right(asked: DimensionSpec, said: str, true: str) -> float:
    if asked.kind != "multi":
        return float(said == true)
    mine, theirs = set(split_labels(said)), set(split_labels(true))
    return len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0


def _chance(asked: DimensionSpec) -> float:
    return 0.5 if asked.kind == "multi" else 1 / max(2, len(asked.labels))
