"""Expressions of a task: what is taken, what is refused and why, and that what is taken means what SQL says."""

from __future__ import annotations

import time

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workspace import tasks
from workspace.errors import TaskError
from workspace.expressions import check, columns_in, names_of, written
from workspace.store import Store
from workspace.task import Dimension, Gate, Label, Rule, Task


def labels(*names: str) -> tuple[Label, ...]:
    return tuple(Label(name=name) for name in names)


INTENT = Dimension(name="intent", question="What is wanted?", labels=labels("debug", "build", "it's"))
SAFE = Dimension(name="safe", question="Is it safe?", kind="boolean")
CONSTRAINT = Dimension(name="constraint", question="Under which?", kind="multi", labels=labels("a", "ab", "c"))
QUALITY = Dimension(name="quality", question="How good?", kind="score")
TASK = Task(name="sample", dimensions=(INTENT, SAFE, CONSTRAINT, QUALITY), weights={"quality": 1})
NAMES = names_of(TASK, overall=True)


def with_rule(expression: str) -> Task:
    return TASK.model_copy(update={"rules": (Rule(expression=expression, message="No."),)})


def value(expression: str, **row: object) -> object:
    """What an expression says of one row."""
    columns = {"intent": "debug", "safe": "yes", "constraint": "a|c", "quality": 7.5, "overall": 5.0} | row
    kinds = {"quality": "double", "overall": "double"}
    listed = ", ".join(f'${name}::{kinds.get(name, "varchar")} as "{name}"' for name in columns)
    with duckdb.connect(":memory:") as con:
        return con.execute(f"select {written(expression, NAMES)} from (select {listed})", columns).fetchall()[0][0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("intent = 'debug'", True),
        ("INTENT <> 'debug' or quality > 7", True),
        ("constraint = 'a|c' and not safe = 'no'", True),  # a reserved word of SQL
        ('"constraint" is null', False),
        ("list_contains(constraint, 'c') and not list_contains(constraint, 'ab')", True),
        ("contains(constraint, 'b')", False),
        ("intent in ('build', 'debug')", True),
        ("intent not in ('build', 'it''s')", True),
        ("quality between 7 and 8.5", True),
        ("case when quality >= 9 then false else intent like 'd%g' end", True),
        ("coalesce(safe, 'no') is distinct from 'no'", True),
        ("least(quality, 3) + -1 = 2 and abs(-quality) * 2 = 15", True),
        ("starts_with(lower(intent), 'de') is true", True),
        ("overall * 2 = 1e1", True),
        ("length(intent) % 2 = 1", True),
    ],
)
def test_what_is_taken_means_what_sql_says(expression: str, expected: bool) -> None:
    assert value(expression) is expected


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("intnt = 'debug'", "no dimension 'intnt'"),
        ("intent = 'debugg'", "no label 'debugg'"),
        ("intent in ('debug', 'x')", "no label 'x'"),
        ("intent =", "syntax error"),
        ("quality + 1", "neither true nor false"),
        ("quality > 'high'", "high"),
        ("(select count(*) from rows) > 0", "subquery cannot be used"),
        ("exists (from read_csv('/etc/passwd'))", "subquery cannot be used"),
        ("read_text('/etc/passwd') is null", "no function read_text"),
        ("getenv('HOME') = 'x'", "no function getenv"),
        ("current_setting('threads') = 1", "no function current_setting"),
        ("repeat(intent, 1000000000) = ''", "no function repeat"),
        ("regexp_matches(intent, '(a+)+$')", "no function regexp_matches"),
        ("intent similar to '(a+)+'", "no function regexp_full_match"),
        ("intent like '%a%a%a%a%'", "at most 3"),
        ("intent like intent", "at most 3"),
        ("true; drop table rows", "more than one expression"),
        ("true from rows", "more than one expression"),
        ("true, false", "more than one expression"),
        ("true limit 1", "more than one expression"),
        ("count(*) > 1", "no function count_star"),
        ("sum(quality) over () > 1", "window cannot be used"),
        ("rows.text = 'x'", "no dimension 'rows.text'"),
        ("columns('.*') is null", "cannot be used"),
        ("$1 = 1", "more than one expression"),
        ("list_transform([1], lambda x: x) is null", "here"),
        ("overall > 3", "no dimension 'overall'"),
        ("quality::date is null", "no turning into date"),
        ("not " * 300 + "true", "nested too deeply"),
        ("quality > 1 -- '", None),
        ("(" * 900 + "true" + ")" * 900, None),
    ],
)
def test_what_is_refused_says_why_and_which(expression: str, reason: str | None) -> None:
    started = time.perf_counter()
    if reason is None:
        check(with_rule(expression))
    else:
        with pytest.raises(TaskError, match="rule 1") as error:
            check(with_rule(expression))
        assert reason.lower() in f"{error.value.title} {error.value.details}".lower()
    assert time.perf_counter() - started < 5


def test_a_task_is_checked_when_it_is_saved(store: Store) -> None:
    with pytest.raises(TaskError, match="rule 1 cannot be used"):
        tasks.save(store, with_rule("nothing = 1"))
    assert tasks.newest(store) == []
    broken_tier = TASK.model_copy(update={"tiers": {"good": "overal > 7"}})
    with pytest.raises(TaskError, match="tier 'good'"):
        tasks.save(store, broken_tier)
    broken_gate = TASK.model_copy(update={"gates": (Gate(when="quality like 3", cap=1),)})
    with pytest.raises(TaskError, match="gate 1"):
        tasks.save(store, broken_gate)
    tasks.save(store, with_rule("quality > 1 or intent = 'build'"))


def test_overall_is_known_in_tiers_of_tasks_with_weights_only() -> None:
    check(TASK.model_copy(update={"tiers": {"good": "overall > 7"}}))
    with pytest.raises(TaskError, match="no dimension 'overall'"):
        check(TASK.model_copy(update={"tiers": {"good": "overall > 7"}, "weights": {}}))


def test_every_bundled_task_can_be_used() -> None:
    for task in tasks.bundled().values():
        check(task)


def test_the_names_an_expression_uses() -> None:
    assert columns_in("quality > 3 or Intent = 'debug'", NAMES) == {"quality", "intent"}


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=3, max_size=60) | st.text("aintes()'\"=<>|,.;-%*$[]{}:0 ", min_size=3, max_size=40))
def test_any_text_is_taken_or_refused_and_never_runs_as_it_stands(text: str) -> None:
    """What is taken can be evaluated beside tables it must not see, and yields one value for the row."""
    try:
        check(with_rule(text))
    except TaskError:
        return
    assert value(text) in (True, False, None)


comparisons = st.one_of(
    st.tuples(st.just("intent"), st.sampled_from(["=", "<>"]), st.sampled_from(["'debug'", "'build'"])),
    st.tuples(st.just("quality"), st.sampled_from(["<", "<=", ">", ">=", "="]), st.integers(0, 10).map(str)),
)
trees = st.recursive(
    comparisons.map(" ".join),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda one: f"not ({one})"),
        st.tuples(inner, inner).map(lambda two: f"case when {two[0]} then {two[1]} end"),
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(trees, st.sampled_from(["debug", "build", None]), st.none() | st.integers(0, 10).map(float))
def test_an_expression_written_anew_says_the_same(tree: str, intent: str | None, quality: float | None) -> None:
    with duckdb.connect(":memory:") as con:
        plain = con.execute(
            f"select {tree} from (select $intent::varchar as intent, $quality::double as quality)",
            {"intent": intent, "quality": quality},
        ).fetchall()[0][0]
    assert value(tree, intent=intent, quality=quality) == plain
