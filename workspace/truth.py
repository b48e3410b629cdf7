"""Rows whose true label is known, with what the model gave them: what calibration works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workspace.answers import RULE, Parameters, dimension_of, shape_of
from workspace.current import judged_sql
from workspace.errors import RunError
from workspace.facts import DimensionSpec, RunSpec
from workspace.gold import gold_sql
from workspace.links import Link, read_links
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.scores import Reading, arrays, read_now, scores_sql, yes_or_no
from workspace.store import Connection, Store
from workspace.task import split_labels

Source = Literal["gold", "blind", "visible"]
APPLIES = ("applies", "does not")  # the two answers to each label of a multi dimension


class LeftOut(msgspec.Struct, frozen=True):
    """Rows that would tell something but are not among the evidence, and why.

    visible: decided with the suggestion in sight only. rejected: no label was right. unreadable: gold that is no
    label of the dimension. unanswered: the truth is known, but no model has given a label. ruled: the label was
    given by a rule of the prefilter, not by a model.
    """

    visible: int = 0
    rejected: int = 0
    unreadable: int = 0
    unanswered: int = 0
    ruled: int = 0

    @property
    def words(self) -> str:
        """All of it for people, "" where nothing was left out."""
        said = {
            "decided with the suggestion in sight": self.visible,
            "rejected": self.rejected,
            "with gold that is none of the labels": self.unreadable,
            "without an answer": self.unanswered,
            "labeled by a rule": self.ruled,
        }
        return ", ".join(f"{number:,} {why}" for why, number in said.items() if number)


@dataclass(frozen=True)
class Evidence:
    """Answers whose truth is known.

    row_ids: n ids in ascending order, each text once. logprobs: float64 [n, k], natural logarithms, label bias
    taken off at half strength, not calibrated, each row summing to one after `exp`. voices: [n, v, k], the same of
    each phrasing of the run and of each run that votes with it. truth: int64 [n], index into `labels`. source:
    where each truth comes from. domains, nodes: of each answer. For a multi dimension every label of a row is an
    answer of its own: the ids repeat, `labels` are `APPLIES` and `names` says which label; "" for other kinds.
    `reading` is how the answers were read, `digest` and `prompt_id` whose they are.
    """

    row_ids: list[str]
    logprobs: npt.NDArray[np.float64]
    voices: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    source: list[Source]
    labels: tuple[str, ...]
    names: list[str]
    domains: list[str]
    nodes: list[str]
    digest: str
    prompt_id: str
    reading: Reading
    left_out: LeftOut

    @property
    def rows(self) -> int:
        """How many different rows these are."""
        return len(set(self.row_ids))

    def of_label(self, name: str) -> Evidence:
        """Of a multi dimension, only the answers to this label."""
        return self.pick([place for place, one in enumerate(self.names) if one == name])

    def pick(self, places: Sequence[int]) -> Evidence:
        """Only the answers at these places."""

        def each(values: list[Any]) -> list[Any]:
            return [values[place] for place in places]

        chosen = np.asarray(places, dtype=np.int64)
        return replace(
            self,
            row_ids=each(self.row_ids),
            logprobs=self.logprobs[chosen],
            voices=self.voices[chosen],
            truth=self.truth[chosen],
            source=each(self.source),
            names=each(self.names),
            domains=each(self.domains),
            nodes=each(self.nodes),
        )


def evidence(
    store: Store,
    run_id: str,
    dimension: str,
    *,
    include_visible: bool = False,
    label: str | None = None,
    reading: Reading | None = None,
) -> Evidence:
    """The answered rows of a run whose truth is known, as the run itself and those who vote with it answered them.

    The truth is the newest standing blind decision with a label (also one taken with the model's suggestion in
    sight if `include_visible`: such decisions lean towards the suggestion), else the imported gold label as
    `workspace.kinds.reader` reads it. What is left out is counted. `label`: of a multi dimension, only the answers
    to this label. Answers of runs that decide in this one's place are not among them: those runs have their own
    evidence and their own calibrator. `reading`: how to read the answers, where the same runs vote; None is how
    they are read today. Raises RunError for an unknown run, dimension or label, and for a label where a row has
    only one.
    """
    with store.read() as con:
        con.execute("begin")  # one state for all of this
        spec = read_spec(con, run_id)
        asked = dimension_of(spec, dimension)
        several = shape_of(asked) == "multi"
        if label is not None and not (several and label in asked.labels):
            raise RunError(f"'{label}' is not asked about alone.", "Choose a label of a multi dimension.")
        reading = reading or read_now(con, run_id, dimension)
        sql, parameters = scores_sql(con, run_id, dimension, reading)
        judged, _ = judged_sql(spec.task_name, dimension)
        true, more = truth_sql(con, asked, include_visible=include_visible)
        table: pa.Table = con.sql(
            f"""{judged}, {sql}, {true}
            select s.*, t.label, t.source as told, coalesce(r.domain, '') as domain
            from scores s join true_labels t using (row_id) left join rows r on r.id = s.row_id
            where $several or list_contains($labels::varchar[], t.label) order by s.row_id""",
            params={**parameters, **more, "task": spec.task_name, "several": several},
        ).to_arrow_table()
        left_out = _left_out(con, spec, asked, include_visible=include_visible)
    scores = arrays(table, reading, several=several)
    found = Evidence(
        row_ids=scores.row_ids,
        logprobs=scores.base,
        voices=scores.voices,
        truth=np.zeros(0, dtype=np.int64),
        source=table.column("told").to_pylist(),
        labels=asked.labels,
        names=[""] * len(scores.row_ids),
        domains=table.column("domain").to_pylist(),
        nodes=table.column("node").to_pylist(),
        digest=spec.model.digest,
        prompt_id=spec.prompt_id,
        reading=reading,
        left_out=left_out,
    )
    true_labels = table.column("label").to_pylist()
    if several:
        return _yes_or_no(found, true_labels, [label] if label is not None else list(asked.labels))
    places = {name: place for place, name in enumerate(asked.labels)}
    return replace(found, truth=np.array([places[name] for name in true_labels], dtype=np.int64))


class State(msgspec.Struct, frozen=True):
    """What `evidence` depends on, as numbers that change with it: what people said, and how many facts."""

    said: tuple[int, ...]
    links: tuple[Link, ...]
    facts: int


def state(store: Store, run_id: str) -> State:
    """Read in a millisecond, to tell whether evidence has to be gathered again."""
    with store.read() as con:
        ((*said, facts),) = con.execute(
            """select (select count(*) from decisions), (select count(*) from gold),
                   (select count(*) from draws), (select count(*) from run_rows), (select count(*) from facts)"""
        ).fetchall()
        return State(tuple(said), tuple(read_links(con, run_id)), facts)


def known_rows(store: Store, run_id: str, dimension: str) -> int:
    """How many different rows `evidence` has, at a fraction of the work. Raises RunError as it does."""
    with store.read() as con:
        spec = read_spec(con, run_id)
        judged, parameters = judged_sql(spec.task_name, dimension)
        true, more = truth_sql(con, dimension_of(spec, dimension))
        return scalar(
            con,
            f"""{judged}, {true} select count(*) from true_labels semi join (
                    from facts where run_id = $run and dimension = $dimension and kind = 'label'
                ) f on f.row_id = true_labels.row_id""",
            {**parameters, **more, "run": run_id},
        )


def truth_sql(con: Connection, asked: DimensionSpec, *, include_visible: bool = False) -> tuple[str, Parameters]:
    """CTEs, without "with", that define `true_labels` (row_id, label, source), and their parameters.

    What is true is said at `evidence`. They need `standing` and `$dimension` (see `workspace.current.judged_sql`).
    """
    known, parameters = gold_sql(con, asked)
    sql = f"""{known},
verdict as (
    select row_id, label, blind from standing where action in ('approve', 'modify') and (blind or $visible)
    qualify row_number() over (partition by row_id order by clock desc, session desc, seq desc) = 1
),
true_labels as (
    select row_id, coalesce(v.label, g.label) as label,
        case when v.row_id is null then 'gold' when v.blind then 'blind' else 'visible' end as source
    from verdict v full join known g using (row_id)
)"""
    return sql, {**parameters, "visible": include_visible}


def _left_out(con: Connection, spec: RunSpec, asked: DimensionSpec, *, include_visible: bool) -> LeftOut:
    judged, parameters = judged_sql(spec.task_name, asked.name)
    true, more = truth_sql(con, asked, include_visible=include_visible)
    found = con.execute(
        f"""{judged}, {true},
        here as (from run_rows where run_id = $run),
        told as (
            select row_id, bool_or(kind = 'label') as labeled,
                bool_or(kind = 'label' and len(list_filter(warnings, lambda w: starts_with(w, '{RULE}'))) > 0)
                    as ruled
            from facts where run_id = $run and dimension = $dimension
                and row_id in (select row_id from true_labels) group by row_id
        )
        select
            (select count(distinct s.row_id) from standing s semi join here on here.row_id = s.row_id
             anti join true_labels t on t.row_id = s.row_id
             where action in ('approve', 'modify') and not blind),
            (select count(distinct s.row_id) from standing s semi join here on here.row_id = s.row_id
             anti join true_labels t on t.row_id = s.row_id where action = 'reject'),
            (select count(distinct g.row_id) from gold g semi join here on here.row_id = g.row_id
             anti join true_labels t on t.row_id = g.row_id where dimension = $dimension),
            (select count(*) from true_labels t semi join here on here.row_id = t.row_id
             where t.row_id not in (select row_id from told where labeled)),
            (select count(*) from told where ruled)""",
        {**parameters, **more, "run": spec.run_id},
    ).fetchall()[0]
    return LeftOut(*found)


def _yes_or_no(found: Evidence, true_labels: list[str], names: list[str]) -> Evidence:
    """One answer for each of these labels of each row, from log-odds."""
    places, width = [found.labels.index(name) for name in names], len(names)
    true = [set(split_labels(label)) for label in true_labels]
    voices = found.voices[:, :, places].transpose(0, 2, 1).reshape(-1, found.voices.shape[1])

    def each(values: list[Any]) -> list[Any]:
        return [value for value in values for _ in range(width)]

    return replace(
        found,
        row_ids=each(found.row_ids),
        logprobs=yes_or_no(found.logprobs[:, places].reshape(-1)),
        voices=yes_or_no(voices),
        truth=np.array([name not in labels for labels in true for name in names], dtype=np.int64),
        source=each(found.source),
        labels=APPLIES,
        names=names * len(true),
        domains=each(found.domains),
        nodes=each(found.nodes),
    )
