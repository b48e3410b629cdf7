"""Orders and what they are worth: against scikit-learn and scipy, by hand, and laws."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from sklearn import metrics as reference

from calibration import aurc, auroc, risk_coverage
from calibration.confusion import kappa, macro_f1
from calibration.intervals import Redraws, Undefined
from calibration.logprobs import BoolArray, FloatArray, IntArray
from calibration.score_metrics import drawn_spearman, mean_absolute_error, root_mean_squared_error, spearman
from tests.unit.calibration.examples import said_and_right

Pairs = tuple[FloatArray, BoolArray]
LABELS = arrays(np.int64, (2, 30), elements=st.integers(0, 4))
SCORES = arrays(np.float64, (2, 25), elements=st.integers(0, 10).map(float))


@given(said_and_right(min_rows=1))
def test_auroc_is_what_scikit_learn_says(example: Pairs) -> None:
    said, right = example
    if right.all() or not right.any():
        with pytest.raises(Undefined, match="nothing to tell apart"):
            auroc(said, right)
    else:
        assert auroc(said, right) == pytest.approx(reference.roc_auc_score(right, said), abs=1e-12)


@given(said_and_right(min_rows=1, max_rows=6))
def test_aurc_is_the_mean_over_all_orders_of_equals(example: Pairs) -> None:
    said, right = example
    places = range(len(said))
    orders = [order for order in permutations(places) if all(np.diff(said[list(order)]) <= 0)]
    risks = [np.mean(np.cumsum(~right[list(order)]) / np.arange(1, len(said) + 1)) for order in orders]
    assert aurc(said, right) == pytest.approx(np.mean(risks), abs=1e-12)


def test_the_risk_coverage_curve_by_hand() -> None:
    curve = risk_coverage([0.9, 0.8, 0.8, 0.5], [True, True, False, False])
    assert curve.threshold.tolist() == [0.9, 0.8, 0.5]
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.risk == pytest.approx([0, 1 / 3, 1 / 2])
    # Steps: 0, then one of two equals (half an error of 2), then 1 of 3, then 2 of 4.
    assert aurc([0.9, 0.8, 0.8, 0.5], [True, True, False, False]) == pytest.approx((0 + 0.25 + 1 / 3 + 0.5) / 4)


@given(said_and_right(min_rows=2))
def test_only_the_order_counts(example: Pairs) -> None:
    said, right = example
    moved = np.searchsorted(np.unique(said), said) / len(said)
    assert aurc(moved, right) == pytest.approx(aurc(said, right), abs=1e-12)
    if right.any() and not right.all():
        assert auroc(moved, right) == pytest.approx(auroc(said, right), abs=1e-12)
        assert auroc(-moved + 1, right) == pytest.approx(1 - auroc(said, right), abs=1e-12)


@given(LABELS)
def test_f1_and_kappa_are_what_scikit_learn_says(pairs: IntArray) -> None:
    given_labels, truth = pairs
    theirs = reference.f1_score(truth, given_labels, average="macro", zero_division=0)
    assert macro_f1(given_labels, truth) == pytest.approx(theirs, abs=1e-12)
    if np.unique(pairs).size > 1:
        expected = reference.cohen_kappa_score(given_labels, truth)
        assert kappa(given_labels, truth) == pytest.approx(expected, abs=1e-12)


def test_kappa_of_one_label_is_not_defined() -> None:
    with pytest.raises(Undefined, match="chance explains"):
        kappa([2, 2], [2, 2])
    assert macro_f1([2, 2], [2, 2]) == 1.0


@given(SCORES)
def test_errors_of_scores_are_what_the_references_say(pairs: FloatArray) -> None:
    said, true = pairs
    assert mean_absolute_error(said, true) == pytest.approx(reference.mean_absolute_error(true, said))
    assert root_mean_squared_error(said, true) == pytest.approx(reference.root_mean_squared_error(true, said))
    if np.ptp(said) > 0 and np.ptp(true) > 0:
        assert spearman(said, true) == pytest.approx(spearmanr(said, true).statistic, abs=1e-12)


def test_drawn_spearman_is_spearman_of_the_drawn_rows() -> None:
    generator = np.random.default_rng(8)
    true = generator.integers(0, 11, 60).astype(float)
    said = np.clip(np.round(true + generator.normal(0, 3, 60)), 0, 10)
    drawn = Redraws(60, 40, seed=3)
    times = np.stack([drawn.sums(np.eye(60)[row])[:, 0] for row in range(60)], axis=1).astype(int)
    expected = [spearmanr(np.repeat(said, many), np.repeat(true, many)).statistic for many in times]
    assert drawn_spearman(said, true, drawn) == pytest.approx(expected, abs=1e-12)


def test_no_rows_have_no_rank() -> None:
    for number in (auroc, aurc, risk_coverage, macro_f1, kappa, mean_absolute_error, spearman):
        with pytest.raises(Undefined, match="at least one"):
            number([], [])
    with pytest.raises(ValueError, match="label indices"):
        kappa([0, 1], [0])
