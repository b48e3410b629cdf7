"""Labels from the likeliest tokens of a reply."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.chat import Step
from engine.models.label_tokens import DEEPEST, label_logprobs, tokens_needed

WORDS = ("Positive", "Negative", "Neutral")


def step(**chances: float) -> Step:
    return of(chances)


def of(chances: dict[str, float]) -> Step:
    top = tuple((token, math.log(chance)) for token, chance in chances.items())
    return Step(top[0][0], top[0][1], top)


def shares(*steps: Step, words: tuple[str, ...] = WORDS, cut: bool = True) -> list[float] | None:
    found = label_logprobs(steps, words, cut=cut)
    return None if found is None else [math.exp(value) for value in found]


def test_whole_words_count_by_their_probability() -> None:
    assert shares(step(Positive=0.5, Negative=0.3, Neutral=0.2)) == pytest.approx([0.5, 0.3, 0.2])


def test_case_leading_space_and_quotes_do_not_matter() -> None:
    found = shares(of({" positive": 0.3, '"Positive': 0.2, "\u0120NEGATIVE": 0.3, "Neutral": 0.2}))
    assert found == pytest.approx([0.5, 0.3, 0.2])


def test_the_beginning_of_one_label_counts_for_it() -> None:
    assert shares(of({"Pos": 0.6, "Neg": 0.3, "Neut": 0.1})) == pytest.approx([0.6, 0.3, 0.1])


def test_other_ways_to_begin_a_word_than_its_own_token_are_other_words() -> None:
    """ "N" stands before "No" when "Negative" is a token of its own."""
    assert shares(of({"Positive": 0.5, "N": 0.2, "Negative": 0.2, "Po": 0.1, "Neutral": 0.1})) == pytest.approx(
        [0.625, 0.25, 0.125]
    )


def test_words_that_open_a_sentence_are_no_beginning_of_a_label() -> None:
    found = shares(of({"The": 0.8, "Theft": 0.05, "Fraud": 0.15}), words=("Theft", "Fraud"))
    assert found == pytest.approx([0.25, 0.75])
    assert shares(of({"The": 0.9, "I": 0.1}), words=("Theft", "Insult")) is None


def test_a_label_may_be_such_a_word() -> None:
    assert shares(of({"No": 0.6, "Yes": 0.4}), words=("Yes", "No")) == pytest.approx([0.4, 0.6])


def test_where_labels_begin_alike_the_next_token_decides() -> None:
    words = ("Sport", "Sports news", "Science")
    found = shares(of({"Sport": 0.8, "Science": 0.2}), of({"s": 0.75, "<|im_end|>": 0.25}), words=words)
    assert found == pytest.approx([0.2, 0.6, 0.2])


@pytest.mark.parametrize("end", ["", "\n", ".", "<|im_end|>", "</s>"])
def test_one_and_ten_are_told_apart_by_the_token_after_the_first_figure(end: str) -> None:
    words = tuple(str(figure) for figure in range(11))
    found = shares(of({"1": 0.8, "7": 0.2}), of({"0": 0.9, end: 0.1}), words=words)
    assert found is not None
    assert (found[10], found[1], found[7]) == pytest.approx((0.72, 0.08, 0.2), rel=0.01)
    assert tokens_needed(words) == 2


def test_ten_as_one_token_is_ten() -> None:
    words = tuple(str(figure) for figure in range(11))
    found = shares(of({"10": 0.7, "1": 0.3}), words=words)
    assert found is not None
    assert (found[10], found[1]) == pytest.approx((0.7, 0.3), rel=0.01)


def test_a_reply_that_ended_with_the_shorter_label_meant_it() -> None:
    found = shares(of({"1": 0.9, "2": 0.1}), words=("1", "10", "2"), cut=False)
    assert found is not None
    assert found[0] == pytest.approx(0.9, rel=0.01)
    assert shares(of({"1": 0.9, "2": 0.1}), words=("1", "10", "2"), cut=True) is None


def test_unclear_beginnings_are_not_told() -> None:
    assert shares(of({"Ne": 0.6, "Positive": 0.4})) is None


@pytest.mark.parametrize("steps", [[], [of({"I": 0.9, "think": 0.1})], [Step("Positive", math.nan, ())]])
def test_a_reply_without_labels_tells_nothing(steps: list[Step]) -> None:
    assert label_logprobs(steps, WORDS) is None


def test_numbers_that_are_none_are_left_out() -> None:
    found = shares(Step("Positive", -0.1, (("Negative", -math.inf), ("Neutral", math.nan), ("Negative", 5.0))))
    assert found is not None
    assert found[1] > 0.5  # more than certain is certain
    assert math.fsum(found) == pytest.approx(1)


def test_a_label_that_was_not_seen_is_less_likely_than_all_that_were() -> None:
    found = shares(of({"Positive": 0.5, "Negative": 0.1, "Maybe": 0.01}))
    assert found is not None
    assert 0 < found[2] < found[1]


def test_labels_that_differ_at_once_take_one_token() -> None:
    assert tokens_needed(WORDS) == 1
    assert tokens_needed(("Sport", "Sports news")) == DEEPEST
    assert tokens_needed(("1", "2", "3")) == 1
    assert tokens_needed(("Yes", "No")) == 1


chances = st.dictionaries(st.text(max_size=6), st.floats(1e-9, 1), min_size=1, max_size=20)


@given(
    st.lists(chances, min_size=1, max_size=4), st.lists(st.text(min_size=1, max_size=5), min_size=2, unique=True)
)
def test_whatever_is_told_is_a_distribution(told: list[dict[str, float]], words: list[str]) -> None:
    found = label_logprobs([of(one) for one in told], words)
    if found is not None:
        assert len(found) == len(words)
        assert all(math.isfinite(value) and value <= 0 for value in found)
        assert math.fsum(math.exp(value) for value in found) == pytest.approx(1)


@given(st.permutations(range(3)), st.lists(st.floats(0.01, 0.3), min_size=3, max_size=3))
def test_the_order_of_the_labels_does_not_matter(order: list[int], told: list[float]) -> None:
    steps = [of(dict(zip(WORDS, told, strict=True)))]
    plain = label_logprobs(steps, WORDS)
    turned = label_logprobs(steps, [WORDS[place] for place in order])
    assert plain is not None
    assert turned == pytest.approx([plain[place] for place in order])
