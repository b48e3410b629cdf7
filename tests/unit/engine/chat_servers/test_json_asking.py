"""What is asked for as JSON, and what is read from replies of every kind."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.json_asking import (
    LONGEST_REPLY,
    explanation_key,
    frequencies,
    instructions_for,
    read_reply,
    repair_words,
    schema_for,
    tokens_for,
)
from tests.unit.engine.chat_servers.fakes import SYSTEM, feeling, quality, topics
from workspace.facts import DimensionSpec
from workspace.kinds import label_of, score_of

ALL = (feeling(explain=True), topics(), quality())
YES = DimensionSpec("urgent", "boolean", ("yes", "no"), ("Yes", "No"), SYSTEM, "{text}")
SPAM = DimensionSpec("spam", "boolean", ("spam", "ham"), ("Spam", "Ham"), SYSTEM, "{text}")


def test_the_schema_says_what_each_kind_may_be_in_the_order_of_the_dimensions() -> None:
    schema = schema_for(ALL)
    assert (
        list(schema["properties"]) == ["feeling", "feelingExplanation", "topics", "quality"] == schema["required"]
    )
    assert schema["properties"]["feeling"] == {"type": "string", "enum": ["Glad", "Angry", "Calm"]}
    assert schema["properties"]["topics"]["items"]["enum"] == ["Food", "Sport"]
    assert schema["properties"]["topics"]["maxItems"] == 2
    assert schema["properties"]["quality"] == {"type": "integer", "enum": list(range(11))}
    assert schema["additionalProperties"] is False


def test_instructions_name_every_property_and_repeat_long_lists_only_where_they_are_missing() -> None:
    words = tuple(f"label{number}" for number in range(100))
    long = DimensionSpec("many", "single", words, words, "", "{text}")
    assert '"many": one of ["label0"' in instructions_for([long], "no list here")
    assert instructions_for([long], "\n".join(words)).endswith('"many": one of the words above')
    for dimension in ALL:
        assert f'"{dimension.name}"' in instructions_for(ALL, SYSTEM)
    assert "from 0 to 10" in instructions_for(ALL, SYSTEM)


@pytest.mark.parametrize(
    "text",
    [
        '{"feeling": "Angry", "topics": ["Sport"], "quality": 7}',
        'Sure! Here it is:\n```json\n{"feeling": "Angry", "topics": ["Sport"], "quality": 7}\n```\nAnything else?',
        'Sure: {"feeling": "angry", "topics": "sport", "quality": "7/10"} as asked.',
        '{"feeling": "Angry.", "topics": ["Sport",], "quality": 7.2,}',
        "{'feeling': 'Angry', 'topics': ['Sport'], 'quality': 7, 'more': None}",
        '{"x": 1} and then {"feeling": ["Angry"], "topics": {"Food": false, "Sport": true}, "quality": 7}',
        '{"Feeling": "  ANGRY ", "TOPICS": "Sport; Sport", "Quality": " 7 "}',
        "\u201cfeeling\u201d {\u201cfeeling\u201d: \u201cAngry\u201d, \u201ctopics\u201d: [\u201cSport\u201d], "
        "\u201cquality\u201d: 7}",
        "feeling: Angry\ntopics: [Sport]\nquality: 7",
        '{"feeling": "Angry", "topics": ["Sport"], "quality": 7, "feelingExplanation": "cut o',
        '{"feeling": "The message is Angry", "topics": ["sport"], "quality": "about 7"}',
    ],
)
def test_answers_are_found_however_they_are_written(text: str) -> None:
    given_, problems = read_reply(text, ALL)
    assert problems == {}
    assert [given_[one.name].chosen for one in ALL] == [(1,), (1,), (7,)]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", {"feeling", "topics", "quality"}),
        ("I cannot say.", {"feeling", "topics", "quality"}),
        ("[1, 2]", {"feeling", "topics", "quality"}),
        ('{"feeling": "Sad", "topics": ["Food"], "quality": 7}', {"feeling"}),
        (
            '{"feeling": "Glad or Angry", "topics": ["Food", "Chess"], "quality": 11}',
            {"feeling", "topics", "quality"},
        ),
        ('{"feeling": null, "topics": 3, "quality": true}', {"feeling", "topics", "quality"}),
        ('{"feeling": "Glad", "topics": []}', {"quality"}),
        ('{"feeling": "Glad", "topics": [], "quality": NaN}', {"quality"}),
        ('{"feeling": "Glad", "topics": [], "quality": 1e999}', {"quality"}),
    ],
)
def test_what_is_no_answer_is_said_and_never_guessed(text: str, missing: set[str]) -> None:
    given_, problems = read_reply(text, ALL)
    assert set(problems) == missing
    assert set(given_) | missing == {"feeling", "topics", "quality"}
    assert all(name in repair_words(problems, ALL, SYSTEM) for name in missing)


def test_a_single_dimension_may_be_answered_by_its_bare_word() -> None:
    assert read_reply(" angry.\n", [feeling()])[0]["feeling"].chosen == (1,)
    assert read_reply("8", [quality()])[0]["quality"].chosen == (8,)
    assert read_reply("none", [topics()])[0]["topics"].chosen == ()


@pytest.mark.parametrize(("value", "place"), [("true", 0), ("false", 1), ('"NO"', 1), ('"yes"', 0), ("1", 0)])
def test_yes_and_no_are_read_in_the_ways_of_json(value: str, place: int) -> None:
    assert read_reply(f'{{"urgent": {value}}}', [YES])[0]["urgent"].chosen == (place,)


def test_true_is_not_guessed_to_be_one_of_two_labels() -> None:
    assert read_reply('{"spam": true}', [SPAM])[1]["spam"]


def test_labels_that_differ_only_in_case_are_told_apart() -> None:
    dimension = DimensionSpec("d", "single", ("US", "us"), ("US", "us"), SYSTEM, "{text}")
    assert read_reply('{"d": "us"}', [dimension])[0]["d"].chosen == (1,)
    assert read_reply('{"d": "Us"}', [dimension])[1]


def test_an_explanation_is_kept_and_may_be_missing() -> None:
    text = json.dumps({"feeling": "Glad", explanation_key(ALL[0]): " It says so. "})
    assert read_reply(text, [ALL[0]])[0]["feeling"].explanation == "It says so."
    assert read_reply('{"feeling": "Glad"}', [ALL[0]])[0]["feeling"].explanation == ""


@pytest.mark.parametrize("text", ["{" * 100_000, "[" * 100_000, '{"feeling": ' * 50_000, "\\" * 100_000])
def test_hostile_replies_take_no_time(text: str) -> None:
    assert set(read_reply(text, ALL)[1]) == {"feeling", "topics", "quality"}
    assert len(text) > LONGEST_REPLY


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=12)
labels = st.lists(names, min_size=2, max_size=8, unique_by=lambda word: word.casefold().strip(" .!\"'`*_"))


@given(labels, st.data())
def test_what_follows_the_schema_is_always_read(words: list[str], data: st.DataObject) -> None:
    words = [word for word in words if word.strip(" .!\"'`*_")]
    if len(words) < 2 or len({" ".join(word.replace("_", " ").split()).casefold() for word in words}) < len(words):
        return
    one = DimensionSpec("one", "single", tuple(words), tuple(words), "", "{text}")
    some = DimensionSpec("some", "multi", tuple(words), tuple(words), "", "{text}")
    place = data.draw(st.integers(0, len(words) - 1))
    chosen = data.draw(st.sets(st.integers(0, len(words) - 1)))
    text = json.dumps(
        {"one": words[place], "some": [words[number] for number in sorted(chosen)]}, ensure_ascii=False
    )
    found, problems = read_reply(text, [one, some])
    assert not problems
    assert found["one"].chosen == (place,)
    assert found["some"].chosen == tuple(sorted(chosen))
    assert len(text) < 2 * tokens_for([one, some])


@given(st.text(max_size=300))
def test_no_text_is_too_strange_to_be_read_or_refused(text: str) -> None:
    found, problems = read_reply(text, ALL)
    assert set(found) | set(problems) == {"feeling", "topics", "quality"}
    assert not set(found) & set(problems)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=20))
def test_shares_of_draws_are_probabilities_in_the_order_of_their_counts(drawn: list[int]) -> None:
    logprobs = frequencies(feeling(), [(place,) for place in drawn])
    assert math.fsum(math.exp(value) for value in logprobs) == pytest.approx(1)
    counts = [drawn.count(place) for place in range(3)]
    assert sorted(range(3), key=lambda i: (counts[i], logprobs[i])) == sorted(range(3), key=lambda i: logprobs[i])


@given(st.integers(-50, 50), st.integers(1, 100), st.integers(1, 9), st.data())
def test_equal_draws_of_a_score_are_that_score(low: int, width: int, count: int, data: st.DataObject) -> None:
    figures = tuple(str(value) for value in range(low, low + width + 1))
    dimension = DimensionSpec("d", "score", figures, figures, "", "{text}")
    place = data.draw(st.integers(0, width))
    logprobs = frequencies(dimension, [(place,)] * count)
    assert label_of("score", figures, logprobs)[0] == figures[place]
    assert abs(score_of(figures, logprobs)[0] - (low + place)) < 0.5


def test_shares_of_a_multi_dimension_are_each_labels_own() -> None:
    logprobs = frequencies(topics(), [(0,), (0, 1), (0,)])
    assert label_of("multi", topics().labels, logprobs)[0] == "food"
    assert math.exp(logprobs[0]) > 0.95
    assert 0.3 < math.exp(logprobs[1]) < 0.4
