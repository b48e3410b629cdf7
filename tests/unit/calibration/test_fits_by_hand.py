"""Fits small enough to be done on paper."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import log_softmax
from calibration.curves import Platt, fit_beta, fit_platt
from calibration.logprobs import FloatArray
from calibration.one_vs_rest import log_odds
from calibration.steps import fit_histogram, fit_isotonic
from calibration.vector import fit_vector


def said(*shares: float) -> FloatArray:
    """Log-probabilities of two labels; the shares are those of the second."""
    second = np.array(shares)
    rows: FloatArray = np.log(np.stack([1 - second, second], axis=1))
    return rows


def test_platt_reaches_his_targets_where_two_groups_can_be_told_apart() -> None:
    # Two scores, each with one outcome: 3 hits become (3 + 1) / (3 + 2), 4 misses 1 / (4 + 2).
    rows = said(*[0.9] * 3, *[0.2] * 4)
    fitted = fit_platt(rows, [1] * 3 + [0] * 4)
    assert np.exp(fitted.apply(said(0.9, 0.2)))[:, 1] == pytest.approx([4 / 5, 1 / 6])


def test_platt_with_one_outcome_says_its_target_everywhere() -> None:
    assert np.exp(fit_platt(said(0.9, 0.2, 0.4), [0, 0, 0]).apply(said(0.5)))[0, 1] == pytest.approx(1 / 5)


def test_beta_of_three_shares_meets_all_three() -> None:
    # Three numbers and three scores: said 0.2, 0.5, 0.8 and right 1, 2, 3 times of 4 is met exactly.
    rows = said(*[0.2] * 4, *[0.5] * 4, *[0.8] * 4)
    fitted = fit_beta(rows, [1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0], prior=0.0)
    assert np.exp(fitted.apply(said(0.2, 0.5, 0.8)))[:, 1] == pytest.approx([1 / 4, 1 / 2, 3 / 4])
    assert fitted.a[0] == pytest.approx(fitted.b[0])


def test_beta_never_falls_even_if_the_truth_does() -> None:
    fitted = fit_beta(said(*[0.2] * 4, *[0.8] * 4), [1, 1, 1, 0, 1, 0, 0, 0], prior=0.0)
    assert (fitted.a, fitted.b) == ((0.0,), (0.0,))
    assert np.exp(fitted.apply(said(0.1, 0.9)))[:, 1] == pytest.approx([0.5, 0.5])


def test_isotonic_pools_neighbours_that_fall() -> None:
    # Right at 0.3 and wrong at 0.4 are pooled to one half; ends keep 1 / (4 + 2) from 0 and 1.
    fitted = fit_isotonic(said(0.1, 0.3, 0.4, 0.9), [0, 1, 0, 1])
    reached = np.exp(fitted.apply(said(0.05, 0.1, 0.2, 0.35, 0.65, 0.95)))[:, 1]
    assert reached == pytest.approx([1 / 6, 1 / 6, 1 / 3, 1 / 2, (1 / 2 + 5 / 6) / 2, 5 / 6])


def test_a_histogram_gives_each_bin_its_share() -> None:
    fitted = fit_histogram(said(0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9), [0, 0, 1, 0, 1, 0, 1, 1], bins=2)
    assert fitted.edges[0] == pytest.approx((0.5,))
    assert fitted.shares == ((0.25, 0.75),)
    certain = fit_histogram(said(0.1, 0.2, 0.8, 0.9), [0, 0, 1, 1], bins=2)
    assert certain.shares == ((0.25, 0.75),)  # 0 of 2 and 2 of 2, kept 1 / (2 + 2) from the ends


def test_a_histogram_of_equal_scores_has_one_bin() -> None:
    fitted = fit_histogram(said(*[0.7] * 10), [1] * 4 + [0] * 6)
    assert fitted.edges == ((),)
    assert fitted.shares == ((0.4,),)


def test_vector_scaling_of_constant_rows_meets_the_shares() -> None:
    rows = log_softmax(np.zeros((10, 3)))
    fitted = fit_vector(rows, [0] * 5 + [1] * 3 + [2] * 2, prior=0.0)
    assert np.exp(fitted.apply(rows[:1]))[0] == pytest.approx([0.5, 0.3, 0.2])


def test_vector_scaling_with_no_rows_is_its_prior() -> None:
    fitted = fit_vector(np.zeros((0, 3)), [], offsets=[1.0, 0.0, -2.0])
    assert fitted.weights == (1.0, 1.0, 1.0)
    assert fitted.offsets == (1.0, 0.0, -2.0)


def test_log_odds_keep_their_digits_near_certainty() -> None:
    scores = np.array([[0.0, -30.0, -31.0]])
    rest = np.exp(-30.0) + np.exp(-31.0)
    assert log_odds(scores)[0, 0] == pytest.approx(-np.log(rest), rel=1e-12)
    assert log_odds(scores)[0, 1] == pytest.approx(-30.0 - np.log1p(np.exp(-31.0)), rel=1e-12)


def test_several_labels_are_normalised_after_the_curves() -> None:
    fitted = Platt((1.0, 1.0, 1.0), (0.0, 0.0, np.log(3.0).item()))
    # Uniform over three: odds 1/2, 1/2 and 3/2, so shares 1/3, 1/3 and 3/5 before they are divided by their sum.
    assert np.exp(fitted.apply(np.zeros((1, 3))))[0] == pytest.approx(np.array([5, 5, 9]) / 19)


@pytest.mark.parametrize("prior", [-1.0, np.nan])
def test_priors_are_numbers_of_rows(prior: float) -> None:
    for fit in (fit_beta, fit_vector):
        with pytest.raises(ValueError, match="prior"):
            fit(said(0.1, 0.9), [0, 1], prior=prior)
