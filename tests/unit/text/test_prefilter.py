from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.labeler import Answer, LoadedModel, Progress
from engine.models.opening import open_labeler
from engine.prompt import prompt_for
from engine.text.prefilter import Caught, Prefilter, check_rules, preview
from engine.text.prefiltered import Prefiltered, certain
from engine.text.prepared import Prepared
from workspace.errors import ModelError, TaskError
from workspace.facts import DimensionSpec, ModelSpec, Preparation, RowRule, RunSpec
from workspace.kinds import label_of
from workspace.task import parse_task

TASK = """
name: mail
dimensions:
  - {name: spam, kind: boolean, question: "Is it spam?"}
  - {name: topics, kind: multi, question: "What is it about?", labels: [money, love, work]}
  - {name: urgency, kind: score, question: "How urgent is it?"}
prefilter:
  - {name: empty, pattern: '^\\s*$', drop: true}
  - {name: prize, keywords: [free prize, c++], labels: {spam: yes, topics: money|work, urgency: "3"}}
text: {slang: true, max_tokens: 30}
"""
RULES = (
    RowRule("empty", pattern=r"^\s*$", drop=True),
    RowRule("prize", keywords=("free prize",), drop=True),
    RowRule("late", pattern="prize", drop=True),
)


def keywords(*words: str) -> Prefilter:
    return Prefilter([RowRule("words", keywords=words, drop=True)])


@pytest.mark.parametrize(
    ("keyword", "text", "caught"),
    [
        ("prize", "A PRIZE!", True),
        ("prize", "prizes", False),
        ("prize", "überprize", False),
        ("prize", "prizeé", False),
        ("über", "ÜBER alles", True),
        ("free prize", "free\n  prize", True),
        ("c++", "I like c++.", True),
        ("c++", "c+++", True),
        ("a.b", "axb", False),
        ("😂", "so 😂😂", True),
        ("שלום", "(שלום)", True),
        ("strasse", "straße", False),
    ],
)
def test_keywords_are_whole_words_in_any_case(keyword: str, text: str, caught: bool) -> None:
    assert (keywords(keyword).find(text) == 0) is caught


@given(st.lists(st.text("ab ", max_size=4), max_size=6).map("".join), st.sampled_from(["a", "ab", "aa b"]))
def test_keywords_find_what_a_search_word_by_word_finds(text: str, keyword: str) -> None:
    expected = re.search(r"(?<!\w)" + r"\s+".join(keyword.split()) + r"(?!\w)", text)
    assert (keywords(keyword).find(text) == 0) is (expected is not None)


def test_the_first_rule_that_matches_counts() -> None:
    texts = ["a prize", "Free Prize", "", " \n", "hello", "PRIZE"]
    assert preview(RULES, texts) == [Caught("empty", 2, (2, 3)), Caught("prize", 1, (1,)), Caught("late", 1, (0,))]
    assert [Prefilter(RULES).find(text) for text in texts] == [2, 1, 0, 0, None, None]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"a(?=b)", "lookaheads and lookbehinds are not supported"),
        (r"(?<!a)b", "lookaheads and lookbehinds are not supported"),
        (r"(a)\1", "back references are not supported"),
        (r"(?P<n>a)(?P=n)", "back references are not supported"),
        (r"(x{1000}){1000}", "it is too large"),
        (r"[\pL]{1000}", "it is too large"),
        ("[", "its pattern is not valid (missing ]: [)"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_a_sentence_that_names_the_rule(pattern: str, words: str) -> None:
    with pytest.raises(TaskError) as error:
        check_rules([RowRule("mine", pattern=pattern, drop=True)])
    assert error.value.title.startswith("The prefilter rule 'mine' cannot be used: ")
    assert words in error.value.title


def test_no_pattern_takes_forever() -> None:
    evil = Prefilter([RowRule("evil", pattern=r"^(a+)+$|(a|aa)+b|(.*)*c", drop=True)])
    started = time.process_time()
    assert evil.find("a" * 49_000 + "!") is None
    assert Prefilter([RowRule("far", keywords=("far",), drop=True)]).find("so " * 5_000_000 + "far") is None
    assert time.process_time() - started < 2


def test_a_conversation_is_searched_as_its_turns_and_signals() -> None:
    raw = json.dumps([{"role": "user", "content": "Dear\nfriend\n```rust\n```"}])
    rules = [RowRule("hello", keywords=("friend",), drop=True), RowRule("rust", pattern="Code:.*rust", drop=True)]
    assert Prefilter(rules).find(raw) is None
    assert Prefilter(rules, conversation=True).find(raw) == 0
    assert Prefilter(rules[1:], conversation=True).find(raw) == 0
    assert Prefilter(rules[1:], conversation=True).find("Code: rust") == 0


class Told:
    """A labeler that says what it was asked."""

    def __init__(self, dimensions: int) -> None:
        self.rows: list[str] = []
        self.closed = False
        self.dimensions = dimensions
        self.loaded = LoadedModel("told", "1", 1, 1, 1, (), 0.0)

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        self.rows += rows
        if progress:
            progress(len(rows))
        return [(Answer((0.0,), len(row), 0, 0.0, ("own",)),) * self.dimensions for row in rows]

    def close(self) -> None:
        self.closed = True


def dimensions(*phrasings: Any) -> tuple[DimensionSpec, ...]:
    specs = prompt_for(parse_task(TASK)).dimensions
    return tuple(
        DimensionSpec(s.name, s.kind, s.labels, s.words, s.system, s.user, phrasings=phrasings or ("words",))
        for s in specs
    )


def test_what_a_rule_catches_never_reaches_the_model() -> None:
    specs = dimensions()
    inner = Told(len(specs))
    labeler = Prefiltered(inner, prompt_for(parse_task(TASK)).rules, specs)
    heard: list[int] = []
    found = labeler.ask(["hi", " ", "FREE PRIZE", "ho"], heard.append)
    assert inner.rows == ["hi", "ho"]
    assert heard == [2, 4]
    assert [[answer.prompt_tokens for answer in found[place]] for place in (0, 3)] == [[2] * 3] * 2
    assert found[1] == (Answer((), 0, 0, 0.0, ("rule:empty",), dropped=True),) * 3
    assert all(answer.warnings == ("rule:prize",) and not answer.phrasings for answer in found[2])
    labels = [label_of(s.kind, s.labels, a.logprobs) for s, a in zip(specs, found[2], strict=True)]
    assert [label for label, _ in labels] == ["yes", "money|work", "3"]
    assert all(chance > 0.99999 for _, chance in labels)
    assert labeler.ask([" "]) == [found[1]]
    assert inner.rows == ["hi", "ho"]
    labeler.close()
    assert inner.closed
    assert labeler.loaded is inner.loaded


def test_certain_answers_are_probabilities() -> None:
    spam, topics, urgency = dimensions()
    for spec, label in ((spam, "no"), (urgency, "10")):
        logprobs = certain(spec, label)
        assert np.exp(logprobs).sum() == pytest.approx(1.0, abs=1e-12)
        assert min(logprobs) > -30
    assert certain(topics, "(none)") == (math.log(1e-6),) * 3
    rules = prompt_for(parse_task(TASK)).rules
    (answers,) = Prefiltered(Told(3), rules, dimensions("words", "plain")).ask(["free prize"])
    assert all(answer.phrasings == (answer.logprobs,) * 2 for answer in answers)


def test_prepared_texts_are_asked_and_warnings_added() -> None:
    inner = Told(2)
    labeler = Prepared(inner, Preparation(slang=True, max_tokens=20))
    found = labeler.ask(["imo", "One sentence more. " * 30])
    assert inner.rows[0] == "in my opinion"
    assert [[answer.warnings for answer in row] for row in found] == [[("own",)] * 2, [("compressed", "own")] * 2]
    labeler.close()
    assert inner.closed


def spec_of(task: str, backend: str = "embedding") -> RunSpec:
    prompt = prompt_for(parse_task(task))
    model = ModelSpec(backend, "words", "", "digest")
    return RunSpec("", "", "mail", "", model, prompt.dimensions, prompt.preparation, prompt.rules)


SINGLE = """
name: mail
dimensions: [{name: spam, question: "Is it spam?", labels: {spam: Advertising and prizes, ham: From a friend}}]
prefilter:
  - {name: prize, keywords: [prize], labels: {spam: spam}}
  - {name: empty, pattern: '^$', drop: true}
text: {slang: true, max_tokens: 30}
"""


def test_a_run_opens_with_its_rules_and_steps_around_the_model() -> None:
    labeler = open_labeler(spec_of(SINGLE))
    try:
        found = [answer for (answer,) in labeler.ask(["A prize", "", "thx", "thanks", "Much more. " * 40])]
    finally:
        labeler.close()
    assert [answer.warnings for answer in found] == [("rule:prize",), ("rule:empty",), (), (), ("compressed",)]
    assert found[1].dropped
    assert found[2].logprobs == found[3].logprobs
    with pytest.raises(ModelError, match="The prefilter rule 'empty' cannot be used"):
        open_labeler(spec_of(SINGLE.replace("^$", "(?=x)")))
