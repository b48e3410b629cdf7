"""From a task to a prompt."""

from __future__ import annotations

import json

import pytest

from engine.prompt import MARKER, default_instructions, prompt_for
from workspace.errors import TaskError
from workspace.task import Dimension, Task


def task(**changes: object) -> Task:
    settings = {"name": "d", "question": "What is it?", "labels": {"good": "as wished", "bad": ""}, **changes}
    return Task.model_validate({"name": "t", "dimensions": [settings]})


def test_a_prompt_has_everything_the_model_reads() -> None:
    prompt = prompt_for(task())
    (spec,) = prompt.dimensions
    assert spec.labels == ("good", "bad")
    assert spec.user.count(MARKER) == 1
    assert spec.system == default_instructions(task().dimensions[0])
    for part in ("What is it?", spec.words[0], spec.words[1], "as wished"):
        assert part in spec.system
    assert json.loads(prompt.document)["dimensions"][0]["system"] == spec.system


def test_the_id_changes_with_what_the_model_reads_and_with_nothing_else() -> None:
    same = prompt_for(task().model_copy(update={"title": "Another title", "description": "x"}))
    assert same.id == prompt_for(task()).id
    assert prompt_for(task(question="What is that?")).id != same.id
    assert prompt_for(task(), instructions={"d": "Say good or bad."}).id != same.id
    assert prompt_for(task(), instructions={"d": "  "}).id == same.id


def test_instructions_replace_the_whole_text() -> None:
    (spec,) = prompt_for(task(), instructions={"d": "Say {text} or {braces}."}).dimensions
    assert spec.system == "Say {text} or {braces}."
    assert spec.user.count(MARKER) == 1


def test_boolean_dimensions_have_yes_and_no() -> None:
    (spec,) = prompt_for(task(kind="boolean", labels=())).dimensions
    assert spec.labels == ("yes", "no")
    assert [word.casefold() for word in spec.words] == ["yes", "no"]


def test_label_words_are_distinct_even_in_odd_alphabets() -> None:
    dimension = Dimension.model_validate({"name": "d", "question": "What?", "labels": ["ßa", "ǆ", "İx", "ok"]})
    (spec,) = prompt_for(Task(name="t", dimensions=(dimension,))).dimensions
    assert len(set(spec.words)) == 4


@pytest.mark.parametrize("kind", ["multi", "score"])
def test_kinds_that_cannot_be_labeled_yet_say_so(kind: str) -> None:
    labels = {"labels": ()} if kind == "score" else {}
    with pytest.raises(TaskError, match="cannot label yet"):
        prompt_for(task(kind=kind, **labels))


def test_instructions_for_an_unknown_dimension_are_refused() -> None:
    with pytest.raises(TaskError, match="not a dimension"):
        prompt_for(task(), instructions={"other": "x"})
