from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from calibration import (
    Estimate,
    accuracy,
    assign_bins,
    bootstrap_interval,
    brier,
    expected_calibration_error,
    log_loss,
    log_softmax,
    reliability_bins,
    wilson_interval,
)
from calibration.logprobs import BoolArray, FloatArray, IntArray
from calibration.metrics import Scheme
from tests.unit.calibration.examples import overconfident, said_and_right, scores_and_truth

SCHEMES: st.SearchStrategy[Scheme] = st.sampled_from(["width", "mass"])
Pairs = tuple[FloatArray, BoolArray]


@given(said_and_right(), st.integers(1, 20), SCHEMES)
def test_bins_partition_the_rows(example: Pairs, bins: int, scheme: Scheme) -> None:
    confidence, correct = example
    points = reliability_bins(confidence, correct, bins, scheme)
    assert sum(point.count for point in points) == len(confidence)
    assert sum(point.count * point.accuracy for point in points) == pytest.approx(correct.sum())
    assert sum(point.count * point.mean_confidence for point in points) == pytest.approx(confidence.sum())
    assert all(one.high <= other.low for one, other in pairwise(points))
    assert all(point.low <= point.mean_confidence <= point.high for point in points)
    assert all(point.low_ci <= point.accuracy <= point.high_ci for point in points)


@given(said_and_right(min_rows=1), st.integers(1, 20), SCHEMES)
def test_every_row_lies_between_the_edges_of_its_bin(example: Pairs, bins: int, scheme: Scheme) -> None:
    confidence, _ = example
    index, edges = assign_bins(confidence, bins, scheme)
    assert (edges[index] <= confidence).all()
    assert (confidence <= edges[index + 1]).all()
    assert len(edges) <= bins + 1 or scheme == "mass"


@given(said_and_right(min_rows=1), st.integers(1, 20), SCHEMES)
def test_the_calibration_error_is_a_share(example: Pairs, bins: int, scheme: Scheme) -> None:
    assert 0 <= expected_calibration_error(*example, bins, scheme) <= 1


@given(said_and_right(min_rows=1), SCHEMES)
def test_the_order_of_rows_changes_nothing(example: Pairs, scheme: Scheme) -> None:
    confidence, correct = example
    order = np.random.default_rng(len(confidence)).permutation(len(confidence))
    moved = expected_calibration_error(confidence[order], correct[order], scheme=scheme)
    assert moved == pytest.approx(expected_calibration_error(confidence, correct, scheme=scheme), abs=1e-9)
    assert accuracy(correct[order]) == accuracy(correct)


@given(said_and_right(min_rows=1))
def test_one_bin_compares_the_means(example: Pairs) -> None:
    confidence, correct = example
    expected = abs(confidence.mean() - correct.mean())
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 2000), st.integers(0, 2000), st.floats(0.01, 0.999))
def test_wilson_contains_the_share_and_grows_with_the_level(one: int, other: int, level: float) -> None:
    successes, n = sorted([one, other])
    low, high = wilson_interval(successes, n, level)
    assert 0 <= low <= high <= 1
    if n:
        assert low <= successes / n <= high
    wider = wilson_interval(successes, n, (1 + level) / 2)
    assert wider[0] <= low + 1e-12
    assert high <= wider[1] + 1e-12


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_is_symmetric_in_right_and_wrong(one: int, other: int) -> None:
    successes, n = sorted([one, other])
    low, high = wilson_interval(successes, n)
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_by_hand() -> None:
    # The ends solve |p - share| = z sqrt(p (1 - p) / n), Wilson's defining equation.
    low, high = wilson_interval(81, 263)
    z = 1.959963984540054
    for end in (low, high):
        assert abs(end - 81 / 263) == pytest.approx(z * math.sqrt(end * (1 - end) / 263), rel=1e-12)
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263 and 0/20.
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert [round(end, 4) for end in wilson_interval(0, 20)] == [0.0, 0.1611]
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "n", "level"), [(2, 1, 0.95), (-1, 3, 0.95), (1, 2, 1.0), (1, 2, 0.0)])
def test_shares_that_cannot_be_are_refused(successes: int, n: int, level: float) -> None:
    with pytest.raises(ValueError, match=r"share|level"):
        wilson_interval(successes, n, level)


def test_bins_by_hand() -> None:
    confidence = [0.55, 0.65, 0.62, 0.95, 0.95, 1.0]
    points = reliability_bins(confidence, [True, False, True, True, True, False])
    assert [(round(point.low, 1), point.count) for point in points] == [(0.5, 1), (0.6, 2), (0.9, 3)]
    assert [point.accuracy for point in points] == pytest.approx([1, 1 / 2, 2 / 3])
    assert [point.mean_confidence for point in points] == pytest.approx([0.55, 0.635, 2.9 / 3])
    # (1 * 0.45 + 2 * 0.135 + 3 * 0.3) / 6
    error = expected_calibration_error(confidence, [True, False, True, True, True, False])
    assert error == pytest.approx(0.27)


def test_an_edge_belongs_to_the_bin_below_it_and_zero_to_the_first() -> None:
    index, _ = assign_bins([0.0, 0.5, 0.50001, 1.0], bins=2)
    assert index.tolist() == [0, 0, 1, 1]


def test_bins_of_equal_mass_hold_equally_many_and_never_part_equals() -> None:
    generator = np.random.default_rng(3)
    counts = [point.count for point in reliability_bins(generator.random(1000), [True] * 1000, 10, "mass")]
    assert counts == [100] * 10
    assert [point.count for point in reliability_bins([0.7] * 50, [True] * 50, 10, "mass")] == [50]


@pytest.mark.parametrize(("scheme", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_bins_agree_with_scikit_learn(scheme: Scheme, strategy: str) -> None:
    generator = np.random.default_rng(11)
    confidence = generator.random(777)
    correct = generator.random(777) < confidence**2
    share, said = calibration_curve(correct, confidence, n_bins=15, strategy=strategy)
    points = reliability_bins(confidence, correct, 15, scheme)
    assert [point.accuracy for point in points] == pytest.approx(share)
    assert [point.mean_confidence for point in points] == pytest.approx(said)


@given(scores_and_truth())
def test_losses_agree_with_scikit_learn(example: tuple[FloatArray, IntArray]) -> None:
    scores, truth = example
    k = scores.shape[1]
    if k == 1:
        assert log_loss(scores, truth) == brier(scores, truth) == 0
        return
    chances = np.exp(log_softmax(scores))
    assert log_loss(scores, truth) == pytest.approx(
        reference.log_loss(truth, chances, labels=list(range(k))), abs=1e-9
    )
    theirs = reference.brier_score_loss(
        truth, chances[:, 1] if k == 2 else chances, labels=list(range(k)), scale_by_half=False
    )
    assert brier(scores, truth) == pytest.approx(theirs, abs=1e-9)


def test_losses_of_a_uniform_guess() -> None:
    scores = np.zeros((6, 3))
    assert log_loss(scores, [0, 1, 2, 0, 1, 2]) == pytest.approx(math.log(3))
    assert brier(scores, [0, 1, 2, 0, 1, 2]) == pytest.approx(2 / 3)


def test_being_sure_and_wrong_costs_much_but_not_infinitely_much() -> None:
    assert log_loss([[0.0, -np.inf]], [1]) == pytest.approx(-math.log(np.finfo(np.float64).eps))
    assert brier([[0.0, -np.inf]], [1]) == pytest.approx(2.0)


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_has_not() -> None:
    scores, truth = overconfident(20_000, temperature=3.0)
    errors = []
    for logprobs in (scores / 3.0, scores):
        chances = np.exp(log_softmax(logprobs))
        errors.append(expected_calibration_error(chances.max(axis=1), chances.argmax(axis=1) == truth))
    assert errors[0] < 0.02
    assert errors[1] > 0.1


def test_the_bootstrap_is_repeatable_and_close_to_the_standard_error() -> None:
    values = np.random.default_rng(5).normal(size=400)
    estimate = bootstrap_interval(lambda x: float(x.mean()), values, resamples=2000)
    assert estimate == bootstrap_interval(lambda x: float(x.mean()), values, resamples=2000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.015)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.015)


@given(said_and_right(min_rows=1, max_rows=20))
def test_a_bootstrap_interval_contains_its_value(example: Pairs) -> None:
    estimate = bootstrap_interval(expected_calibration_error, *example, resamples=20)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_one_row_has_a_wide_interval_not_a_wrong_one() -> None:
    assert accuracy([True]) == Estimate(1.0, *wilson_interval(1, 1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: accuracy([]),
        lambda: expected_calibration_error([], []),
        lambda: log_loss(np.empty((0, 2)), []),
        lambda: brier(np.empty((0, 2)), []),
        lambda: bootstrap_interval(expected_calibration_error, [], []),
        lambda: bootstrap_interval(expected_calibration_error, [0.5], [True], resamples=0),
        lambda: bootstrap_interval(expected_calibration_error, [0.5, 0.6], [True]),
        lambda: reliability_bins([0.5], [True, False]),
        lambda: reliability_bins([1.5], [True]),
        lambda: reliability_bins([math.nan], [True]),
        lambda: assign_bins([0.5], bins=0),
    ],
)
def test_questions_without_an_answer_are_refused(call: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        call()  # type: ignore[operator]


def test_no_rows_have_no_bins() -> None:
    assert reliability_bins([], []) == []
