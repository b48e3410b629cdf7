"""The whole table: every number equals its function, intervals hold what they should, gaps are words."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings

from calibration import evaluate, evaluate_scores, log_softmax, top_label
from calibration.calibration_error import (
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
)
from calibration.confusion import kappa, macro_f1
from calibration.intervals import Redraws
from calibration.logprobs import FloatArray, IntArray
from calibration.metric_table import LABEL_METRICS, SCORE_METRICS
from calibration.metrics import calibration_error_interval
from calibration.proper_scores import brier_parts, log_loss
from calibration.ranking import aurc, auroc
from calibration.score_metrics import mean_absolute_error, root_mean_squared_error, spearman
from calibration.smooth_error import smooth_calibration_error
from tests.unit.calibration.examples import overconfident, scores_and_truth


def test_the_table_holds_what_the_functions_say() -> None:
    scores, truth = overconfident(700)
    label, confidence = top_label(scores)
    right = label == truth
    parts = brier_parts(scores, truth)
    expected = {
        "accuracy": right.mean(),
        "macro_f1": macro_f1(label, truth),
        "kappa": kappa(label, truth),
        "log_loss": log_loss(scores, truth),
        "brier": parts.brier,
        "reliability": parts.reliability,
        "resolution": parts.resolution,
        "uncertainty": parts.uncertainty,
        "ece": expected_calibration_error(confidence, right),
        "ece_mass": expected_calibration_error(confidence, right, scheme="mass"),
        "ece_debiased": debiased_calibration_error(confidence, right),
        "ece_classwise": classwise_calibration_error(scores, truth),
        "ece_smooth": smooth_calibration_error(confidence, right),
        "mce": maximum_calibration_error(confidence, right),
        "auroc": auroc(confidence, right),
        "aurc": aurc(confidence, right),
    }
    table = evaluate(scores, truth)
    assert list(table) == list(expected) == list(LABEL_METRICS)
    for name, metric in table.items():
        assert metric.estimate is not None, name
        assert metric.estimate.value == pytest.approx(expected[name], abs=1e-12), name
        assert metric.estimate.low < metric.estimate.high, name
        assert metric.title
        assert metric.meaning.endswith(".")
    assert table["ece"].estimate == calibration_error_interval(confidence, right)


@settings(max_examples=25)
@given(scores_and_truth(min_rows=0, max_rows=12))
def test_every_number_is_a_number_or_a_sentence(example: tuple[FloatArray, IntArray]) -> None:
    scores, truth = example
    table = evaluate(scores, truth, resamples=20)
    assert list(table) == list(LABEL_METRICS)
    for name, metric in table.items():
        if metric.estimate is None:
            assert metric.why_not.endswith("."), name
        else:
            ends = (metric.estimate.low, metric.estimate.value, metric.estimate.high)
            assert all(math.isfinite(end) for end in ends), name
            assert list(ends) == sorted(ends), name
            assert metric.why_not == ""


@settings(max_examples=15)
@given(scores_and_truth(min_rows=2))
def test_the_order_of_rows_changes_nothing(example: tuple[FloatArray, IntArray]) -> None:
    scores, truth = example
    order = np.random.default_rng(len(truth)).permutation(len(truth))
    one, other = evaluate(scores, truth, resamples=30), evaluate(scores[order], truth[order], resamples=30)
    for name, metric in one.items():
        mine, theirs = metric.estimate, other[name].estimate
        assert metric.why_not == other[name].why_not
        if mine is not None and theirs is not None:
            assert theirs.value == pytest.approx(mine.value, abs=1e-9), name


def test_the_order_of_rows_does_not_change_intervals_either() -> None:
    scores, truth = overconfident(3000)
    order = np.random.default_rng(1).permutation(3000)
    one, other = evaluate(scores, truth), evaluate(scores[order], truth[order])
    for name, metric in one.items():
        mine, theirs = metric.estimate, other[name].estimate
        assert mine is not None
        assert theirs is not None
        assert (theirs.low, theirs.high) == pytest.approx((mine.low, mine.high), abs=1e-9), name


def test_what_is_not_defined_is_said_in_words() -> None:
    everything_right = evaluate(np.log([[0.9, 0.1], [0.2, 0.8]]), [0, 1])
    assert everything_right["auroc"].estimate is None
    assert "all checked rows are right" in everything_right["auroc"].why_not.lower()
    one_label = evaluate(np.log([[0.9, 0.1], [0.8, 0.2]]), [0, 0])
    assert "chance explains" in one_label["kappa"].why_not
    nothing = evaluate(np.empty((0, 3)), [])
    assert {metric.why_not for metric in nothing.values()} == {
        "There is no checked row, and a number needs at least one."
    }


def test_intervals_of_means_are_those_of_the_standard_error() -> None:
    scores, truth = overconfident(20_000)
    losses = -np.take_along_axis(log_softmax(scores), truth[:, None], axis=1)[:, 0]
    found = evaluate(scores, truth)["log_loss"].estimate
    assert found is not None
    half = 1.96 * losses.std() / math.sqrt(20_000)
    assert found.high - found.value == pytest.approx(half, rel=0.2)
    assert found.value - found.low == pytest.approx(half, rel=0.2)


def test_a_calibrated_model_is_not_accused() -> None:
    """Calibration errors of honest confidences are above 0 by chance; their intervals say that they may be 0."""
    accused = dict.fromkeys(("ece", "ece_mass", "ece_debiased", "ece_classwise", "ece_smooth", "mce"), 0)
    for seed in range(30):
        generator = np.random.default_rng(seed)
        scores = 1.5 * generator.normal(size=(250, 3))
        truth = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
        table = evaluate(scores, truth, resamples=100)
        for name in accused:
            estimate = table[name].estimate
            assert estimate is not None
            accused[name] += estimate.low > 0
    assert max(accused.values()) <= 4  # 2.5 % each are expected


def test_an_overconfident_model_is_accused_and_chance_is_told_apart() -> None:
    scores, truth = overconfident(2000)
    table = evaluate(scores, truth)
    for name in ("ece", "ece_mass", "ece_debiased", "ece_classwise", "ece_smooth"):
        metric = table[name]
        assert metric.estimate is not None
        assert metric.chance is not None
        assert 0 < metric.chance < metric.estimate.low, name


def test_a_hundred_thousand_rows_are_quick() -> None:
    scores, truth = overconfident(100_000, labels=5)
    started = time.process_time()
    evaluate(scores, truth)
    assert time.process_time() - started < 1.0


def test_scores_have_a_table_of_their_own() -> None:
    generator = np.random.default_rng(4)
    truth = generator.integers(0, 11, 800).astype(float)
    predicted = np.clip(truth + generator.normal(0.4, 1.5, 800), 0, 10)
    tiers = (["high", "low", None, "low"], ["high", "high", None, "low"])
    table = evaluate_scores(predicted, truth, tiers=tiers)
    expected = {
        "mae": mean_absolute_error(predicted, truth),
        "rmse": root_mean_squared_error(predicted, truth),
        "spearman": spearman(predicted, truth),
        "tier_accuracy": 0.75,
    }
    assert list(table) == list(SCORE_METRICS) == list(expected)
    for name, value in expected.items():
        estimate = table[name].estimate
        assert estimate is not None
        assert estimate.value == pytest.approx(value)
        assert estimate.low < estimate.value < estimate.high
    assert list(evaluate_scores(predicted, truth)) == ["mae", "rmse", "spearman"]


def test_scores_without_an_order_say_so() -> None:
    assert "no order" in evaluate_scores([5.0], [4.0])["spearman"].why_not
    assert "same true score" in evaluate_scores([5.0, 6.0], [4.0, 4.0])["spearman"].why_not
    empty = evaluate_scores([], [], tiers=([], []))
    assert all(metric.estimate is None for metric in empty.values())
    assert list(empty) == list(SCORE_METRICS)
    with pytest.raises(ValueError, match="go with"):
        evaluate_scores([1.0], [1.0], tiers=(["a"], []))
    with pytest.raises(ValueError, match="numbers"):
        evaluate_scores([math.nan], [1.0])


def test_groups_scatter_as_rows_do() -> None:
    values = np.random.default_rng(3).exponential(size=50_000)
    drawn = Redraws(50_000, 2000)
    means = drawn.sums(values)[:, 0] / drawn.sums()[:, 0]
    assert means.std() == pytest.approx(values.std() / math.sqrt(50_000), rel=0.1)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * means.std() / math.sqrt(2000))


def test_drawn_sums_add_up_over_cells() -> None:
    generator = np.random.default_rng(2)
    cell, weights = generator.integers(0, 7, 1500), generator.random(1500)
    drawn = Redraws(1500, 50, seed=9)
    assert drawn.sums(weights, cell, 7).sum(axis=1) == pytest.approx(drawn.sums(weights)[:, 0])
    assert Redraws(20, 50).sums()[:, 0].tolist() == [20.0] * 50
    for wrong in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="at least one"):
            Redraws(*wrong)
