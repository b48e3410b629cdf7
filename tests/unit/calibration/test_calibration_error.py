"""Errors over bins and without them: by hand, against published code, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.integrate import quad
from scipy.stats import norm

from calibration import brier_parts, log_softmax, smooth_calibration_error, smooth_curve
from calibration.calibration_error import (
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
)
from calibration.logprobs import BoolArray, FloatArray, IntArray
from calibration.smooth_error import SmoothCurve
from tests.unit.calibration.examples import overconfident, said_and_right, scores_and_truth

Pairs = tuple[FloatArray, BoolArray]
# Eight rows in three bins of equal width.
SAID = [0.1, 0.2, 0.25, 0.5, 0.6, 0.8, 0.9, 0.95]
RIGHT = [False, False, True, True, False, True, True, True]


def test_the_largest_gap_by_hand() -> None:
    # Bins: (0.55 said, 1 right of 3), (1.1, 1 of 2), (2.65, 3 of 3).
    gaps = [0.45 / 3, 0.1 / 2, 0.35 / 3]
    assert maximum_calibration_error(SAID, RIGHT, bins=3) == pytest.approx(max(gaps))
    assert expected_calibration_error(SAID, RIGHT, bins=3) == pytest.approx((0.45 + 0.1 + 0.35) / 8)


def test_the_debiased_squared_error_by_hand() -> None:
    # Each bin: squared gap less a (1 - a) / (count - 1), weighted by its rows.
    terms = [0.15**2 - (1 / 3) * (2 / 3) / 2, 0.05**2 - 0.25 / 1, (0.35 / 3) ** 2 - 0.0]
    square = (3 * terms[0] + 2 * terms[1] + 3 * terms[2]) / 8
    assert square < 0
    assert debiased_calibration_error(SAID, RIGHT, 3, "width", norm=2) == 0.0
    doubled = debiased_calibration_error([0.9] * 50, [True] * 20 + [False] * 30, 3, "width", norm=2)
    assert doubled == pytest.approx(np.sqrt(0.5**2 - 0.4 * 0.6 / 49))


def test_the_debiased_error_is_twice_the_error_less_the_folded_normal() -> None:
    said, right = [0.7] * 40, [True] * 22 + [False] * 18
    share, gap = 22 / 40, abs(22 / 40 - 0.7)
    spread = np.sqrt(share * (1 - share) / 40)
    folded, _ = quad(lambda x: abs(x) * norm.pdf(x, gap, spread), -1, 1, points=[0.0])
    assert debiased_calibration_error(said, right, 5, "width") == pytest.approx(2 * gap - folded, abs=1e-9)


def test_debiasing_takes_out_most_of_what_chance_adds() -> None:
    plain, debiased = [], []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        said = generator.uniform(0.3, 1.0, 300)
        right = generator.random(300) < said
        plain.append(expected_calibration_error(said, right, scheme="mass"))
        debiased.append(debiased_calibration_error(said, right))
    assert np.mean(debiased) < 0.7 * np.mean(plain)


@given(said_and_right(min_rows=1))
def test_errors_are_shares_in_their_order(example: Pairs) -> None:
    mean, largest = expected_calibration_error(*example), maximum_calibration_error(*example)
    assert 0 <= mean <= largest + 1e-12
    assert largest <= 1
    assert 0 <= debiased_calibration_error(*example, scheme="width") <= mean + 1e-12
    assert 0 <= debiased_calibration_error(*example, norm=2) <= 1


def test_the_classwise_error_of_two_labels_is_that_of_one() -> None:
    scores, truth = overconfident(500, labels=2)
    chances = np.exp(log_softmax(scores))
    one = expected_calibration_error(chances[:, 1], truth == 1)
    assert classwise_calibration_error(scores, truth) == pytest.approx(one)


@given(scores_and_truth())
def test_the_parts_of_the_brier_score_add_up(example: tuple[FloatArray, IntArray]) -> None:
    for scheme in ("width", "mass"):
        parts = brier_parts(*example, scheme=scheme)
        whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
        assert whole == pytest.approx(parts.brier, abs=1e-9)
        assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0


def test_nothing_is_left_within_bins_of_equal_probabilities() -> None:
    chances = np.array([[0.25, 0.75]] * 8 + [[0.6, 0.4]] * 10)
    truth = np.array([0, 1] * 4 + [0] * 7 + [1] * 3)
    parts = brier_parts(np.log(chances), truth)
    assert parts.within == pytest.approx(0, abs=1e-12)
    # Both labels alike: said 0.75 where 0.5 was, 0.4 where 0.3 was; overall 7 of 18.
    assert parts.reliability == pytest.approx(2 * (8 * 0.25**2 + 10 * 0.1**2) / 18)
    assert parts.resolution == pytest.approx(2 * (8 * (0.5 - 7 / 18) ** 2 + 10 * (0.3 - 7 / 18) ** 2) / 18)
    assert parts.uncertainty == pytest.approx(2 * 7 / 18 * 11 / 18)


def test_the_part_within_bins_is_variance_less_covariance() -> None:
    scores, truth = overconfident(400)
    chances, happened = np.exp(log_softmax(scores)), np.eye(3)[truth]
    within = 0.0
    for label in range(3):
        bins = np.minimum((np.ceil(chances[:, label] * 10) - 1).astype(int), 9)
        for place in np.unique(bins):
            said, real = chances[bins == place, label], happened[bins == place, label]
            within += len(said) / 400 * (said.var() - 2 * np.mean((said - said.mean()) * (real - real.mean())))
    assert brier_parts(scores, truth).within == pytest.approx(within)


def smooth_by_images(said: FloatArray, right: FloatArray, width: float) -> float:
    """smECE at one width by its definition: Gaussians mirrored at both ends, trapezoid rule."""
    at = np.linspace(0, 1, 4001)
    summed = np.zeros_like(at)
    for shift in (-2.0, 0.0, 2.0):
        for sign in (1.0, -1.0):
            summed += norm.pdf(at[:, None], sign * said + shift, width) @ (right - said)
    return float(np.trapezoid(np.abs(summed / said.size), at))


@pytest.mark.parametrize(("rows", "power"), [(5, 2.0), (60, 1.0), (200, 0.5)])
def test_the_smooth_error_is_where_error_and_width_meet(rows: int, power: float) -> None:
    generator = np.random.default_rng(rows)
    said = generator.random(rows)
    right = (generator.random(rows) < said**power).astype(float)
    found = smooth_calibration_error(said, right == 1)
    assert smooth_by_images(said, right, found) == pytest.approx(found, abs=1e-6)


@settings(max_examples=20)
@given(said_and_right(min_rows=1))
def test_the_smooth_error_is_a_share_and_sees_no_order(example: Pairs) -> None:
    said, right = example
    found = smooth_calibration_error(said, right)
    assert 0 <= found <= 1
    assert smooth_calibration_error(said[::-1], right[::-1]) == pytest.approx(found, abs=1e-9)
    # Saying the opposite of the opposite is as far off.
    assert smooth_calibration_error(1 - said, ~right) == pytest.approx(found, abs=1e-7)


def test_the_smooth_error_moves_little_when_confidences_do() -> None:
    scores, truth = overconfident(300)
    chances = np.exp(log_softmax(scores))
    said, right = chances.max(axis=1), chances.argmax(axis=1) == truth
    moved = np.clip(said + 1e-6 * np.random.default_rng(0).normal(size=300), 0, 1)
    still = smooth_calibration_error(said, right)
    assert smooth_calibration_error(moved, right) == pytest.approx(still, abs=1e-4)


def off_by(error: float, seed: int) -> tuple[SmoothCurve, FloatArray, BoolArray]:
    """The curve of a model that is surer than right by `error`; what it should show, and where it has rows."""
    generator = np.random.default_rng(seed)
    said = generator.uniform(0.3, 0.9, 2000)
    curve = smooth_curve(said, generator.random(2000) < said - error)
    inside = (curve.confidence > 0.4) & (curve.confidence < 0.8)
    return curve, curve.confidence - error, inside


def test_the_area_between_curve_and_diagonal_is_the_error() -> None:
    curve, _, _ = off_by(0.15, seed=6)
    between = np.abs(curve.right - curve.confidence) * curve.density
    assert np.trapezoid(between, curve.confidence) == pytest.approx(curve.error, abs=1e-3)
    assert np.trapezoid(curve.density, curve.confidence) == pytest.approx(1, abs=1e-3)
    assert (curve.low <= curve.right).all()
    assert (curve.right <= curve.high).all()


def test_the_band_holds_the_truth() -> None:
    held = []
    for seed in range(12):
        curve, truth, inside = off_by(0.15, seed)
        held.append(((curve.low <= truth) & (truth <= curve.high))[inside].mean())
    assert np.mean(held) > 0.9  # at each point by itself: neighbours of one draw err together


def test_no_rows_have_no_error() -> None:
    for error in (maximum_calibration_error, debiased_calibration_error, smooth_calibration_error, smooth_curve):
        with pytest.raises(ValueError, match="at least one"):
            error([], [])
    with pytest.raises(ValueError, match="at least one"):
        classwise_calibration_error(np.empty((0, 2)), [])
