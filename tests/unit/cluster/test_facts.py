"""Answers become an entry, the entry becomes facts, and nothing is lost, invented or believed blindly."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster import entries, messages
from engine.cluster.effects import Claim
from engine.cluster.entries import Labeled
from engine.cluster.facts import (
    NO_PROBABILITIES,
    TEXT_CHARACTERS,
    TOO_MANY,
    WRONG_COUNT,
    error_answer,
    expand,
    labeled,
)
from engine.cluster.messages import Epoch, Work
from engine.labeler import LONGEST_TEXT, MOST_WARNINGS, Answer
from tests.unit.cluster.examples import dimension, spec
from workspace.facts import Fact, RunSpec

AUTHOR = "a" * 32 + "." + "b" * 16
MOOD = (math.log(0.25), math.log(0.75))
RUN = msgspec.structs.replace(
    spec("mood"), dimensions=(dimension("mood"), dimension("rain", ("yes", "no", "maybe")))
)


def entry(answers: list[Answer], run: RunSpec = RUN) -> Labeled:
    """Rows with these answers to their second dimension."""
    at = tuple(range(0, 2 * len(answers), 2))
    claim = Claim(Epoch(7, AUTHOR), 12, Work(run.run_id, (AUTHOR, 3), at))
    rows = [(Answer(MOOD, 30, 0, 0.125), answer) for answer in answers]
    return labeled(run, claim, [f"row {i}" for i in at], rows, "desk", 1.5, 1000.25)


def second(body: Labeled) -> list[Fact]:
    """The facts of the second dimension."""
    return expand(AUTHOR, 0, body)[1::2]


def asked(kind: str, *labels: str, **more: Any) -> RunSpec:
    """The run with another second dimension."""
    other = msgspec.structs.replace(dimension("rain", labels), kind=kind, **more)
    return msgspec.structs.replace(RUN, dimensions=(RUN.dimensions[0], other))


def logs(*shares: float) -> tuple[float, ...]:
    return tuple(math.log(share) if share else -math.inf for share in shares)


def test_an_answer_is_found_again_in_its_fact_with_everything_around_it() -> None:
    answer = Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25, ("truncated",), explanation="It says so.")
    body = entry([answer, answer])
    assert entries.decode(entries.encode(body)) == body
    assert entries.count_of(body) == 4
    assert entries.well_formed(4, body)
    assert (body.at, body.failed, body.block, body.seconds) == ((0, 2), (), (AUTHOR, 3), 1.5)
    facts = expand(AUTHOR, 100, body)
    assert [(fact.author, fact.seq) for fact in facts] == [(AUTHOR, seq) for seq in range(100, 104)]
    told = [(fact.run_id, fact.row_id, fact.dimension) for fact in facts]
    assert told == [(RUN.run_id, row, name) for row in ("row 0", "row 2") for name in ("mood", "rain")]
    mood, first, *_ = facts
    assert (mood.kind, mood.label, mood.logprobs, mood.prompt_tokens) == ("label", "bad", MOOD, 30)
    assert (first.kind, first.label, first.slot) == ("label", "no", 0)
    assert first.logprobs == answer.logprobs  # raw, to the last bit
    assert first.confidence == pytest.approx(0.5)
    assert (first.labeler, first.model_digest) == (RUN.model.name, RUN.model.digest)
    assert (first.prompt_id, first.node) == (RUN.prompt_id, "desk")
    assert (first.claim, first.epoch, first.made_at) == (f"7.{'b' * 8}.12", 7, 1000.25)
    assert (first.seconds, first.prompt_tokens, first.completion_tokens) == (0.25, 40, 1)
    assert (first.warnings, first.error) == (("truncated",), "")
    assert (first.phrasings, first.reply, first.explanation) == ((), "", "It says so.")


@given(
    st.lists(
        st.one_of(
            st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
            st.text(min_size=1, max_size=20),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_the_likeliest_label_wins_and_errors_stay_errors(given: list[list[float] | str]) -> None:
    answers = [
        error_answer(part) if isinstance(part, str) else Answer(logs(*(p / sum(part) for p in part)), 1, 0, 0.0)
        for part in given
    ]
    body = entry(answers)
    facts = second(body)
    assert len(facts) == len(given)
    assert [fact.seq for fact in facts] == list(range(1, 2 * len(given), 2))
    for place, answer, fact in zip(body.at, answers, facts, strict=True):
        assert (place in body.failed) == (fact.kind == "error") == bool(answer.error)
        assert fact.error == answer.error
        if fact.kind == "label":
            names = RUN.dimensions[1].labels
            assert fact.label == names[answer.logprobs.index(max(answer.logprobs))]
            assert fact.confidence == pytest.approx(math.exp(max(answer.logprobs)))
        else:
            assert (fact.label, fact.logprobs, fact.confidence) == ("", (), 0.0)


def test_the_first_of_equally_likely_labels_is_taken() -> None:
    assert [fact.label for fact in second(entry([Answer(logs(0.2, 0.4, 0.4), 1, 0, 0.0)]))] == ["no"]


def test_a_label_that_is_impossible_is_no_error() -> None:
    (fact,) = second(entry([Answer(logs(0.0, 1.0, 0.0), 1, 0, 0.0)]))
    assert (fact.kind, fact.label, fact.confidence) == ("label", "no", 1.0)
    assert fact.logprobs == (-math.inf, 0.0, -math.inf)


def test_what_a_label_is_follows_from_the_kind_of_its_dimension() -> None:
    chances = Answer(logs(0.9, 0.2, 0.6), 1, 0, 0.0)
    (fact,) = second(entry([chances], asked("multi", "rain", "snow", "fog")))
    assert (fact.kind, fact.label) == ("label", "rain|fog")
    assert fact.confidence == pytest.approx(0.6)
    (fact,) = second(entry([Answer(logs(0.1, 0.2, 0.3), 1, 0, 0.0)], asked("multi", "rain", "snow", "fog")))
    assert fact.label == "(none)"
    assert fact.confidence == pytest.approx(0.7)
    (fact,) = second(entry([Answer(logs(0.5, 0.0, 0.5), 1, 0, 0.0)], asked("score", "0", "1", "2")))
    assert (fact.label, fact.confidence) == ("1", 0.0)  # next to the expectation
    (fact,) = second(entry([Answer(logs(0.1, 0.2, 0.7), 1, 0, 0.0)], asked("of tomorrow", "a", "b", "c")))
    assert fact.label == "c"


@pytest.mark.parametrize("figures", [("low", "high", "1"), ("nan", "1", "2"), ("inf", "-inf", "0")])
def test_a_score_of_what_are_no_figures_is_read_as_words(figures: tuple[str, ...]) -> None:
    (fact,) = second(entry([Answer(logs(0.1, 0.2, 0.7), 1, 0, 0.0)], asked("score", *figures)))
    assert (fact.kind, fact.label) == ("label", figures[2])


def test_a_row_left_out_by_a_rule_is_neither_label_nor_error() -> None:
    body = entry([Answer((), 0, 0, 0.0, ("rule:advertisement",), dropped=True)])
    assert body.failed == ()
    (fact,) = second(body)
    assert (fact.kind, fact.label, fact.logprobs, fact.confidence) == ("drop", "", (), 0.0)
    assert (fact.warnings, fact.error) == (("rule:advertisement",), "")


def test_every_phrasing_is_kept() -> None:
    phrasings = (logs(0.2, 0.5, 0.3), logs(0.3, 0.4, 0.3))
    (fact,) = second(entry([Answer(logs(0.25, 0.45, 0.3), 1, 0, 0.0, phrasings=phrasings)]))
    assert (fact.kind, fact.phrasings) == ("label", phrasings)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Answer((), 40, 1, 0.25), WRONG_COUNT),
        (Answer(logs(0.5, 0.5), 40, 1, 0.25), WRONG_COUNT),
        (Answer((-1.0, math.nan, -1.0), 40, 1, 0.25), NO_PROBABILITIES),
        (Answer((-1.0, 1e300, -1.0), 40, 1, 0.25), NO_PROBABILITIES),
        (Answer((-math.inf,) * 3, 40, 1, 0.25), NO_PROBABILITIES),
        (Answer((-1e300, -1.0, -1.0), 40, 1, 0.25), NO_PROBABILITIES),
        (Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25, phrasings=(logs(0.5, 0.5),)), WRONG_COUNT),
        (Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25, phrasings=((0.5, math.nan, 0.0),)), NO_PROBABILITIES),
        (Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25, phrasings=(logs(0.2, 0.5, 0.3),) * 9), WRONG_COUNT),
    ],
)
def test_numbers_that_are_no_probabilities_are_an_error_whoever_sends_them(given: Answer, why: str) -> None:
    good, mood = Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25), Answer(MOOD, 30, 0, 0.125)
    mine = entry([good, given])
    assert mine.failed == (2,)
    theirs = msgspec.structs.replace(mine, failed=(), answers=((mood, good), (mood, given)))
    for body in (mine, theirs):
        assert [(fact.kind, fact.error) for fact in second(body)] == [("label", ""), ("error", why)]
        assert all(fact.kind == "label" for fact in expand(AUTHOR, 0, body)[::2])


def test_of_labels_that_apply_together_each_has_a_chance_of_its_own() -> None:
    run = asked("multi", "rain", "snow", "fog")
    for chances in ((0.0, 0.0, 0.0), (-math.inf,) * 3, logs(0.9, 0.9, 0.1)):
        assert [fact.kind for fact in second(entry([Answer(chances, 1, 0, 0.0)], run))] == ["label"]
    (fact,) = second(entry([Answer((0.0, 0.1, 0.0), 1, 0, 0.0)], run))
    assert (fact.kind, fact.error) == ("error", NO_PROBABILITIES)


def test_texts_and_labels_of_a_hostile_machine_are_bounded() -> None:
    long = "x" * 100_000
    given = Answer(logs(0.2, 0.5, 0.3), 1, 0, 0.0, (long,) * 1000, "", (), long, long)
    mine = entry([given])
    theirs = msgspec.structs.replace(mine, answers=((mine.answers[0][0], given),))
    for body in (mine, theirs):
        (fact,) = second(body)
        assert len(fact.warnings) == MOST_WARNINGS
        assert max(map(len, (fact.reply, fact.explanation, *fact.warnings))) == LONGEST_TEXT
    names = tuple(f"{number:03d}" + "y" * 1000 for number in range(3))
    (fact,) = second(entry([Answer((0.0, 0.0, 0.0), 1, 0, 0.0)], asked("multi", *names)))
    assert (fact.kind, fact.label, fact.error) == ("error", "", TOO_MANY)


def test_many_long_replies_share_the_room_of_an_entry() -> None:
    speaking = Answer((), 1, 1000, 0.1, (), "It cannot be read.", (), "ü" * 4000)
    body = entry([speaking] * 256)
    assert len(entries.encode(body)) < 2 * messages.FACTS_BYTES
    assert {len(answers[1].reply) for answers in body.answers} == {TEXT_CHARACTERS // 512}
    assert entry([speaking]).answers[0][1].reply == speaking.reply


def test_an_entry_says_itself_which_of_its_rows_failed() -> None:
    body = entry([Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25), error_answer("wrong")])
    assert body.failed == (2,)
    assert entries.well_formed(4, body)
    for failed in ((), (0,), (0, 2)):
        assert not entries.well_formed(4, msgspec.structs.replace(body, failed=failed))
    lacking = msgspec.structs.replace(body, answers=(body.answers[0], body.answers[1][:1]))
    assert not entries.well_formed(4, lacking)
    assert not entries.well_formed(2, body)


def test_parts_that_do_not_fit_are_refused() -> None:
    answer = Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25)
    for change in ({"rows": ("one",)}, {"answers": ((answer,), (answer,))}):
        with pytest.raises(ValueError, match="zip"):
            expand(AUTHOR, 0, msgspec.structs.replace(entry([answer, answer]), **change))
    claim = Claim(Epoch(7, AUTHOR), 12, Work(RUN.run_id, (AUTHOR, 3), (0, 1)))
    row = (Answer(MOOD, 30, 0, 0.125), answer)
    for answers in ([row], [row, row[:1]]):
        with pytest.raises(ValueError, match="zip"):
            labeled(RUN, claim, ["a", "b"], answers, "desk", 1.5, 1000.25)
