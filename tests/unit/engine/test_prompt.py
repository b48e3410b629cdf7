"""From a task to a prompt."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.prompt import LISTED, MARKER, default_instructions, letters, prompt_for
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


def several(**changes: object) -> Task:
    dimensions: list[dict[str, object]] = [
        {"name": "a", "question": "What is it?", "labels": {"good": "as wished", "bad": ""}},
        {"name": "b", "kind": "multi", "question": "Which topics?", "labels": ["art", "war"]},
        {"name": "c", "kind": "score", "question": "How much?", "minimum": 1, "maximum": 5, "after": ["a"]},
    ]
    return Task.model_validate({"name": "t", "dimensions": [{**item, **changes} for item in dimensions]})


def test_several_dimensions_share_one_text_that_asks_them_all() -> None:
    specs = prompt_for(several()).dimensions
    assert len({(spec.system, spec.user) for spec in specs}) == 1
    for part in ("What is it?", "good", "as wished", "Which topics?", "art", "war", "How much?", "1 to 5"):
        assert part in specs[0].system
    assert [spec.cue for spec in specs] == ["a:", "b:", "c:"]
    assert specs[2].labels == specs[2].words == ("1", "2", "3", "4", "5")
    assert specs[2].after == ("a",)


def test_a_dimension_with_instructions_of_its_own_is_asked_by_itself() -> None:
    first, own, last = prompt_for(several(), instructions={"b": "Say which."}).dimensions
    assert (own.system, own.cue) == ("Say which.", "")
    assert first.system == last.system != own.system
    assert "Which topics?" not in first.system


@pytest.mark.parametrize("kind", ["multi", "score"])
def test_every_kind_says_how_to_answer(kind: str) -> None:
    labels = {"labels": ()} if kind == "score" else {}
    (spec,) = prompt_for(task(kind=kind, **labels)).dimensions
    assert ("Yes or No" if kind == "multi" else "from 0 to 10") in spec.system
    assert spec.cue == ""


def test_the_other_order_lists_labels_the_other_way_round_and_means_the_same() -> None:
    for made in (task(), several()):
        one, other = prompt_for(made), prompt_for(made, order="reversed")
        assert one.id != other.id
        for before, after in zip(one.dimensions, other.dimensions, strict=True):
            assert (before.labels, before.words) == (after.labels, after.words)
            assert sorted(before.system) == sorted(after.system)
        text, reverse = one.dimensions[0].system.lower(), other.dimensions[0].system.lower()
        assert text.index("good") < text.index("bad")
        assert reverse.index("bad") < reverse.index("good")


def test_letters_are_listed_only_where_they_are_asked_for() -> None:
    assert "A. " not in prompt_for(task()).dimensions[0].system
    (spec,) = prompt_for(task(phrasings=("words", "letters"))).dimensions
    assert "A. Good" in spec.system
    assert "B. Bad" in spec.system
    assert "A. art" in prompt_for(several(phrasings=("letters",))).dimensions[0].system


def test_letters_are_not_asked_for_where_instructions_of_ones_own_do_not_list_them() -> None:
    asked = task(phrasings=("plain", "letters"))
    assert prompt_for(asked).dimensions[0].phrasings == ("plain", "letters")
    assert prompt_for(asked, instructions={"d": "Say good or bad."}).dimensions[0].phrasings == ("plain",)


def test_short_examples_are_shown() -> None:
    labels = [{"name": "good", "examples": ["well done", "x" * 500]}, {"name": "bad"}]
    text = prompt_for(task(labels=labels)).dimensions[0].system
    assert '"well done"' in text
    assert "xxx" not in text


def test_explanations_are_part_of_the_prompt() -> None:
    assert all(spec.explain for spec in prompt_for(several(), explain=True).dimensions)
    assert prompt_for(several(), explain=True).id != prompt_for(several()).id


def test_too_many_meanings_are_left_out_before_any_label() -> None:
    labels = {f"label{number}": "a long meaning of it " * 5 for number in range(100)}
    text = prompt_for(task(labels=labels)).dimensions[0].system
    assert "a long meaning" not in text
    assert all(f"abel{number}" in text for number in range(100))


def test_too_many_labels_are_listed_row_by_row() -> None:
    (spec,) = prompt_for(task(labels=[f"a label with number {number}" for number in range(1000)])).dimensions
    assert "number 7" not in spec.system
    assert LISTED in spec.user
    assert spec.user.count(MARKER) == 1


@given(st.integers(1, 2000))
def test_letters_are_all_different(count: int) -> None:
    found = letters(count)
    assert len(set(found)) == len(found) == count
    assert found[0] == "A"
    assert found[26:28] in ((), ("AA",), ("AA", "AB"))


def test_instructions_for_an_unknown_dimension_are_refused() -> None:
    with pytest.raises(TaskError, match="not a dimension"):
        prompt_for(task(), instructions={"other": "x"})
