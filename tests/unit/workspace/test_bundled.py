"""The tasks that come with Winnow mean what they say."""

from __future__ import annotations

import re

import pytest

from engine.prompt import MARKER, prompt_for, rules_of
from engine.text.prefilter import check_rules
from workspace import rules, tasks
from workspace.task import LEVELS, NO_LABELS, Task, parse_task, to_yaml

BUNDLED = tasks.bundled()
EVERY = pytest.mark.parametrize("task", BUNDLED.values(), ids=BUNDLED.keys())


def test_they_are_these() -> None:
    assert sorted(BUNDLED) == [
        "conversations",
        "questions",
        "search_needed",
        "sentiment",
        "spam",
        "support_tickets",
        "sustainability",
    ]


@EVERY
def test_a_task_is_written_out_and_read_back_the_same(task: Task) -> None:
    assert parse_task(to_yaml(task)) == task
    assert task.title
    assert task.description


@EVERY
def test_a_model_can_be_asked(task: Task) -> None:
    prompt = prompt_for(task)
    assert [spec.name for spec in prompt.dimensions] == [dimension.name for dimension in task.dimensions]
    for spec in prompt.dimensions:
        assert spec.user.count(MARKER) == 1
        assert len({word.casefold() for word in spec.words}) == len(spec.words)


@EVERY
def test_every_label_says_what_it_means(task: Task) -> None:
    for dimension in task.dimensions:
        for label in dimension.labels:
            assert len(label.description) >= 3, f"{dimension.name}: {label.name}"
            assert label.name != NO_LABELS


@EVERY
def test_expressions_can_be_asked(task: Task) -> None:
    rules.check(task)


@EVERY
def test_patterns_of_the_prefilter_can_be_asked(task: Task) -> None:
    check_rules(rules_of(task))


@pytest.mark.parametrize(
    ("text", "rules_that_fit"),
    [
        ("Congratulations, you have won a cruise", ["prize_call"]),
        ("I won at chess", []),
        (" ... ", ["empty"]),
        ("是吗?", []),
    ],
)
def test_the_prefilter_of_spam_catches_what_it_should(text: str, rules_that_fit: list[str]) -> None:
    assert [rule.name for rule in BUNDLED["spam"].prefilter if re.search(rule.pattern, text)] == rules_that_fit


def test_conversations_are_nine_dimensions_with_short_names() -> None:
    task = BUNDLED["conversations"]
    names = [dimension.name for dimension in task.dimensions]
    assert names == [
        "intent",
        "language",
        "domain",
        "task",
        "difficulty",
        "concept",
        "agentic",
        "constraint",
        "context",
    ]
    assert [dimension.name for dimension in task.dimensions if dimension.kind == "multi"] == [
        "concept",
        "constraint",
    ]
    labels = [label for dimension in task.dimensions for label in dimension.label_names]
    assert 215 <= len(labels) <= 225
    assert max(len(label) for label in labels) <= 18
    families = {label.partition(LEVELS)[0] for label in task.dimension("domain").label_names if LEVELS in label}
    assert {"web", "data", "system"} <= families
    assert task.text.conversation


def test_sustainability_is_eight_scores_that_make_one() -> None:
    task = BUNDLED["sustainability"]
    assert [dimension.kind for dimension in task.dimensions] == ["score"] * 8
    assert set(task.weights) == {dimension.name for dimension in task.dimensions}
    assert all(dimension.label_names == tuple(map(str, range(11))) for dimension in task.dimensions)
    assert list(task.tiers) == ["leading", "promising", "early", "doubtful"]
    assert {gate.cap for gate in task.gates} == {2, 3, 5}
