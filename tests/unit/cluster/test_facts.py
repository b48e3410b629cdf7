"""Answers become an entry, the entry becomes facts, and nothing is lost, invented or believed blindly."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster import entries
from engine.cluster.effects import Claim
from engine.cluster.entries import Labeled
from engine.cluster.facts import NO_PROBABILITIES, WRONG_COUNT, error_answer, expand, labeled
from engine.cluster.messages import Epoch, Work
from engine.labeler import Answer
from tests.unit.cluster.examples import dimension, spec
from workspace.facts import RunSpec

AUTHOR = "a" * 32 + "." + "b" * 16
RUN = msgspec.structs.replace(
    spec("mood"), dimensions=(dimension("mood"), dimension("rain", ("yes", "no", "maybe")))
)


def entry(answers: list[Answer], dimension: int = 1, run: RunSpec = RUN) -> Labeled:
    at = tuple(range(0, 2 * len(answers), 2))
    claim = Claim(Epoch(7, AUTHOR), 12, Work(run.run_id, dimension, (AUTHOR, 3), at))
    return labeled(run, claim, [f"row {i}" for i in at], answers, "desk", 1.5, 1000.25)


def logs(*shares: float) -> tuple[float, ...]:
    return tuple(math.log(share) if share else -math.inf for share in shares)


def test_an_answer_is_found_again_in_its_fact_with_everything_around_it() -> None:
    answer = Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25, ("truncated",))
    body = entry([answer, answer])
    assert entries.decode(entries.encode(body)) == body
    assert entries.count_of(body) == 2
    assert (body.at, body.failed, body.block, body.seconds) == ((0, 2), (), (AUTHOR, 3), 1.5)
    first, second = expand(AUTHOR, 100, body)
    assert (first.author, first.seq, second.seq) == (AUTHOR, 100, 101)
    assert (first.run_id, first.row_id, second.row_id) == (RUN.run_id, "row 0", "row 2")
    assert (first.kind, first.label, first.dimension, first.slot) == ("label", "no", "rain", 0)
    assert first.logprobs == answer.logprobs  # raw, to the last bit
    assert first.confidence == pytest.approx(0.5)
    assert (first.labeler, first.model_digest) == (RUN.model.name, RUN.model.digest)
    assert (first.prompt_id, first.node) == (RUN.prompt_id, "desk")
    assert (first.claim, first.epoch, first.made_at) == (f"7.{'b' * 8}.12", 7, 1000.25)
    assert (first.seconds, first.prompt_tokens, first.completion_tokens) == (0.25, 40, 1)
    assert (first.warnings, first.error) == (("truncated",), "")


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
    facts = expand(AUTHOR, 0, body)
    assert len(facts) == len(given)
    assert [fact.seq for fact in facts] == list(range(len(given)))
    for place, answer, fact in zip(body.at, answers, facts, strict=True):
        assert (place in body.failed) == (fact.kind == "error") == bool(answer.error)
        assert fact.error == answer.error
        if fact.kind == "label":
            names = body.about.labels
            assert fact.label == names[answer.logprobs.index(max(answer.logprobs))]
            assert fact.confidence == pytest.approx(math.exp(max(answer.logprobs)))
        else:
            assert (fact.label, fact.logprobs, fact.confidence) == ("", (), 0.0)


def test_the_first_of_equally_likely_labels_is_taken() -> None:
    assert [f.label for f in expand(AUTHOR, 0, entry([Answer(logs(0.2, 0.4, 0.4), 1, 0, 0.0)]))] == ["no"]


def test_a_label_that_is_impossible_is_no_error() -> None:
    (fact,) = expand(AUTHOR, 0, entry([Answer(logs(0.0, 1.0, 0.0), 1, 0, 0.0)]))
    assert (fact.kind, fact.label, fact.confidence) == ("label", "no", 1.0)
    assert fact.logprobs == (-math.inf, 0.0, -math.inf)


@pytest.mark.parametrize(
    ("logprobs", "why"),
    [
        ((), WRONG_COUNT),
        (logs(0.5, 0.5), WRONG_COUNT),
        ((-1.0, math.nan, -1.0), NO_PROBABILITIES),
        ((-1.0, 1e300, -1.0), NO_PROBABILITIES),
    ],
)
def test_numbers_that_are_no_probabilities_are_an_error_whoever_sends_them(
    logprobs: tuple[float, ...], why: str
) -> None:
    good = Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25)
    bad = Answer(logprobs, 40, 1, 0.25)
    mine = entry([good, bad])
    assert mine.failed == (2,)
    theirs = msgspec.structs.replace(mine, failed=(), answers=(good, bad))
    for body in (mine, theirs):
        assert [(fact.kind, fact.error) for fact in expand(AUTHOR, 0, body)] == [("label", ""), ("error", why)]


def test_what_its_author_calls_an_error_is_one() -> None:
    body = msgspec.structs.replace(entry([Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25)]), failed=(0,))
    (fact,) = expand(AUTHOR, 0, body)
    assert (fact.kind, fact.label, fact.confidence) == ("error", "", 0.0)


def test_parts_that_do_not_fit_are_refused() -> None:
    answer = Answer(logs(0.2, 0.5, 0.3), 40, 1, 0.25)
    with pytest.raises(ValueError, match="zip"):
        expand(AUTHOR, 0, msgspec.structs.replace(entry([answer, answer]), rows=("one",)))
    claim = Claim(Epoch(7, AUTHOR), 12, Work(RUN.run_id, 1, (AUTHOR, 3), (0, 1)))
    with pytest.raises(ValueError, match="zip"):
        labeled(RUN, claim, ["a", "b"], [answer], "desk", 1.5, 1000.25)
