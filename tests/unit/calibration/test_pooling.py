"""The pool of several models, and what their voices are worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.logprobs import log_softmax
from calibration.pooling import LEAST, Record, log_opinion_pool, vote_weights

scores = arrays(np.float64, (3, 4), elements=st.floats(-20, 0))
weights = st.floats(0.01, 100)


@given(scores, weights)
def test_a_pool_of_equals_says_what_each_of_them_says(array: np.ndarray, weight: float) -> None:
    pooled = log_opinion_pool([array, array], [1.0, weight])
    np.testing.assert_allclose(pooled, log_softmax(array), atol=1e-9)


@given(scores, scores, weights)
def test_the_order_of_voices_and_the_scale_of_weights_make_no_difference(
    one: np.ndarray, two: np.ndarray, weight: float
) -> None:
    pooled = log_opinion_pool([one, two], [1.0, weight])
    np.testing.assert_allclose(pooled, log_opinion_pool([two, one], [3 * weight, 3.0]), atol=1e-9)
    np.testing.assert_allclose(np.exp(pooled).sum(axis=1), 1.0)


def test_the_pool_is_the_normalised_weighted_geometric_mean() -> None:
    one, two = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.6, 0.3])
    by_hand = one**0.75 * two**0.25
    pooled = log_opinion_pool([np.log([one]), np.log([two])], [3, 1])
    np.testing.assert_allclose(np.exp(pooled[0]), by_hand / by_hand.sum())


def test_what_one_holds_for_impossible_is_impossible() -> None:
    pooled = log_opinion_pool([[[-math.inf, math.log(0.5), math.log(0.5)]], [[-0.1, -3.0, -4.0]]], [1, 1])
    assert pooled[0, 0] == -math.inf
    assert np.exp(pooled[0]).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("voices", "given_weights"),
    [([], []), ([[[0.0]]], [1, 1]), ([[[0.0]]], [0]), ([[[0.0]], [[0.0, 0.0]]], [1, 1])],
)
def test_pools_that_make_no_sense_are_refused(voices: list[list[list[float]]], given_weights: list[float]) -> None:
    with pytest.raises(ValueError, match="pool"):
        log_opinion_pool(voices, given_weights)


records = st.lists(
    st.builds(
        lambda checked, share, chance, rate: Record(checked * share, checked, chance, rate),
        st.integers(0, 1000),
        st.floats(0, 1),
        st.sampled_from([0.1, 0.5]),
        st.sampled_from([0.0, 3.0, 200.0]),
    ),
    min_size=1,
    max_size=4,
)


@given(records)
def test_weights_are_shares_and_nobody_is_silenced(given_records: list[Record]) -> None:
    found = vote_weights(given_records)
    assert found.sum() == pytest.approx(1)
    assert (found > 0).all()


def test_without_checked_answers_only_speed_tells_voices_apart() -> None:
    equal = vote_weights([Record(0, 0, 0.5), Record(0, 0, 0.5)])
    assert list(equal) == [0.5, 0.5]
    slow, fast = vote_weights([Record(0, 0, 0.5, 1.0), Record(0, 0, 0.5, 100.0)])
    assert slow < fast < 1.05 * slow


def test_the_more_that_is_checked_the_more_it_counts() -> None:
    shares = [vote_weights([Record(0.9 * n, n, 0.25), Record(0.6 * n, n, 0.25)])[0] for n in (1, 10, 100, 1000)]
    assert shares == sorted(shares)
    assert 0.5 < shares[0] < 0.53
    # The weights of the best vote, once there is enough to go by.
    best, other = (math.log(p / (1 - p)) + math.log(3) for p in (0.9, 0.6))
    assert shares[-1] == pytest.approx(best / (best + other), abs=0.01)


def test_a_model_no_better_than_chance_is_hardly_heard() -> None:
    good, bad = vote_weights([Record(900, 1000, 0.5), Record(400, 1000, 0.5)])
    assert bad == pytest.approx(LEAST * good)
    assert list(vote_weights([Record(100, 1000, 0.5), Record(100, 1000, 0.5)])) == [0.5, 0.5]
    assert len(vote_weights([])) == 0


@pytest.mark.parametrize("record", [Record(2, 1, 0.5), Record(0, 0, 1.0), Record(-1, 1, 0.5)])
def test_records_that_make_no_sense_are_refused(record: Record) -> None:
    with pytest.raises(ValueError, match="right"):
        vote_weights([record])
