"""What the labels of a row say together: rules it breaks, its overall score, its tier. Nothing of it is stored.

The newest version of a run's task counts, so that rules and thresholds change without labeling anything again.
Expressions that name a dimension the run does not have say nothing about it.

Null logic: a dimension has no value where its row was not answered, failed, was rejected or left out. A rule is
broken only where its expression is false, a gate closes only where it is true, and a tier is the first whose
expression is true. The overall score is the weighted mean of the scores, and null where one of them is missing;
each gate that closes caps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from workspace.answers import dimension_of, shape_of
from workspace.current import current_sql
from workspace.errors import TaskError
from workspace.expressions import OVERALL, check, columns_in, names_of, quoted, written
from workspace.facts import RunSpec
from workspace.runs import read_spec
from workspace.store import Connection, Store, sql_string
from workspace.task import Task
from workspace.tasks import read_newest
from workspace.truth import truth_sql

__all__ = ["Broken", "Outcome", "broken", "check", "flagged", "prepare", "tiers", "tiers_of_known"]

EXAMPLES = 20


class Broken(msgspec.Struct, frozen=True):
    """A rule, how many rows of a run break it and some of their ids; `problem` says why it cannot be asked."""

    message: str
    expression: str
    rows: int
    examples: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the temporary table `outcome` says of each row: row_id, overall (null without weights), tier (null
    without), broken (positions of the rules, from 0). `problems` by position: rules that could not be asked."""

    task: Task
    overall: bool
    tiers: bool
    problems: dict[int, str]

    @property
    def rules(self) -> bool:
        """Whether the task has any rules."""
        return bool(self.task.rules)


def broken(store: Store, run_id: str) -> list[Broken]:
    """Every rule of a run's task with the rows that break it. Raises RunError for an unknown run."""
    with store.read() as con:
        con.execute("begin")
        outcome = prepare(con, run_id)
        if outcome is None:
            return []
        found = con.execute(
            f"""select rule, count(*), list(row_id order by row_id)[:{EXAMPLES}]
                from (select row_id, unnest(broken) as rule from outcome) group by rule"""
        ).fetchall()
    counted = {rule: (rows, tuple(examples)) for rule, rows, examples in found}
    return [
        Broken(rule.message, rule.expression, *counted.get(i, (0, ())), outcome.problems.get(i, ""))
        for i, rule in enumerate(outcome.task.rules)
    ]


def flagged(store: Store, run_id: str) -> list[str]:
    """Ids of the rows that break a rule, in ascending order. Raises RunError for an unknown run."""
    with store.read() as con:
        con.execute("begin")
        if prepare(con, run_id) is None:
            return []
        found = con.execute("select row_id from outcome where len(broken) > 0 order by row_id").fetchall()
    return [row_id for (row_id,) in found]


def tiers(store: Store, run_id: str) -> list[tuple[str | None, int]]:
    """Rows by tier, in the order of the task, at last those in none; empty for a task without tiers."""
    with store.read() as con:
        con.execute("begin")
        outcome = prepare(con, run_id)
        if outcome is None or not outcome.tiers:
            return []
        numbers = dict(con.execute("select tier, count(*) from outcome group by tier").fetchall())
    return [(name, numbers.get(name, 0)) for name in (*outcome.task.tiers, None)]


def tiers_of_known(store: Store, run_id: str) -> list[tuple[str | None, str | None]]:
    """The tier by what the models say and the true one, of each row whose truth is known in every dimension.

    Calibrators count as without having seen the row. Rows that a model has not answered in every dimension are
    left out; empty for a task without tiers. Truth as `workspace.truth.truth_sql` has it. Raises RunError for an
    unknown run.
    """
    with store.read() as con:
        con.execute("begin")
        spec = read_spec(con, run_id)
        task = read_newest(con, spec.task_name)
        if task is None or not task.tiers:
            return []
        said, true = {}, {}
        for place, asked in enumerate(spec.dimensions):
            said[asked.name], true[asked.name] = f"said_of_{place}", f"true_of_{place}"
            cte, parameters = current_sql(con, run_id, asked.name, held_out=True)
            con.execute(
                f"create temp table said_of_{place} as {cte} "
                "select row_id, model_label as label, value from answers where answered",
                parameters,
            ).fetchall()
            known, more = truth_sql(con, asked)
            con.execute(
                f"""create temp table true_of_{place} as {cte}, {known}
                    select row_id, label, case when $scored then try_cast(label as double) end as value
                    from true_labels""",
                {**parameters, **more},
            ).fetchall()
        prepare(con, run_id, said)
        con.execute("alter table outcome rename to said_outcome").fetchall()
        prepare(con, run_id, true)
        both = " ".join(f"semi join {table} using (row_id)" for table in (*said.values(), *true.values()))
        return con.execute(
            f"""select s.tier, t.tier from said_outcome s join outcome t using (row_id) {both}
                order by row_id"""
        ).fetchall()


def prepare(con: Connection, run_id: str, labels: Mapping[str, str] | None = None) -> Outcome | None:
    """Make the temporary table `outcome` on a cursor; None, and no table, where the task asks for nothing.

    `labels` names tables that are there already, by dimension, with row_id, label and value. Begin a transaction
    before to see one state of all dimensions. Raises RunError for an unknown run.
    """
    spec = read_spec(con, run_id)
    task = read_newest(con, spec.task_name)
    if task is None or not (task.rules or task.weights or task.tiers):
        return None
    names = {name: d for name, d in names_of(task).items() if _same_kind(task, spec, name)}
    weights = {name: weight for name, weight in task.weights.items() if weight > 0}
    scored = bool(weights) and all(name in names for name in weights)
    with_overall = names | ({OVERALL: None} if scored else {})
    used = set(weights) if scored else set()
    problems: dict[int, str] = {}
    checks, gates, tiers = [], [], []
    for place, rule in enumerate(task.rules):
        try:
            checks.append(f"case when try({written(rule.expression, names)}) = false then {place} end")
            used |= columns_in(rule.expression, names)
        except TaskError as error:
            problems[place] = error.title
    for gate in task.gates if scored else ():
        try:
            gates.append(f"case when try({written(gate.when, names)}) then {float(gate.cap)!r} end")
            used |= columns_in(gate.when, names)
        except TaskError:
            continue
    for name, expression in task.tiers.items():
        try:
            tiers.append(f"when try({written(expression, with_overall)}) then {sql_string(name)}")
            used |= columns_in(expression, with_overall) - {OVERALL}
        except TaskError:
            continue
    tables = _tables(con, run_id, sorted(used), labels or {})
    mean = " + ".join(f"{weight!r} * {quoted(name)}" for name, weight in weights.items())
    capped = f"least({', '.join(['mean', *gates])})" if gates else "mean"
    con.execute(
        f"""create temp table outcome as
            with wide as (select r.row_id{
            "".join(
                f", {'t' + str(i)}.{'value' if _scored(task, name) else 'label'} as {quoted(name)}"
                for i, name in enumerate(tables)
            )
        } from ({
            " union ".join(f"select row_id from {table}" for table in tables.values())
            or "select ''::varchar as row_id where false"
        }) r
            {
            " ".join(
                f"left join {table} t{i} on t{i}.row_id = r.row_id" for i, table in enumerate(tables.values())
            )
        }),
            weighed as (
                select *, {f"({mean}) / {sum(weights.values())!r}" if scored else "null::double"} as mean from wide
            ),
            scored as (
                select *, case when mean is not null then {capped} end as {
            quoted(OVERALL if scored else "no score")
        }
                from weighed
            )
            select row_id, {quoted(OVERALL) if scored else "null::double"} as overall,
                {f"case {' '.join(tiers)} end" if tiers else "null::varchar"} as tier,
                list_filter([{", ".join(checks)}]::integer[], lambda rule: rule is not null) as broken
            from scored"""
    ).fetchall()
    return Outcome(task, scored, bool(task.tiers), problems)


def _scored(task: Task, name: str) -> bool:
    return task.dimension(name).kind == "score"


def _same_kind(task: Task, spec: RunSpec, name: str) -> bool:
    """A dimension may have become another one since the run."""
    asked = {dimension.name: dimension for dimension in spec.dimensions}.get(name)
    return asked is not None and (shape_of(asked) == "score") == _scored(task, name)


def _tables(con: Connection, run_id: str, names: list[str], there: Mapping[str, str]) -> dict[str, str]:
    """A table of labels for each of these dimensions; those missing are made."""
    tables = {}
    for place, name in enumerate(names):
        tables[name] = there.get(name, f"outcome_of_{place}")
        if name in there:
            continue
        dimension_of(read_spec(con, run_id), name)
        cte, parameters = current_sql(con, run_id, name)
        con.execute(
            f"create temp table {tables[name]} as {cte} select row_id, label, value from current_labels",
            parameters,
        ).fetchall()
    return tables
