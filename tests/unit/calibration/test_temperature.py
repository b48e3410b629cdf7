from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from calibration import (
    Temperature,
    cross_fit_temperature,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    log_softmax,
    top_label,
)
from calibration.logprobs import FloatArray, IntArray
from calibration.temperature import COLDEST, HOTTEST
from tests.unit.calibration.examples import overconfident, scores_and_truth

TEMPERATURES = st.floats(COLDEST, HOTTEST)


@given(scores_and_truth(), TEMPERATURES)
def test_a_temperature_keeps_the_most_probable_label(example: tuple[FloatArray, IntArray], value: float) -> None:
    scores = log_softmax(example[0])
    label, _ = top_label(scores)
    applied = Temperature(value).apply(scores)
    # Rounding may make two labels equal that differed in their last digit; it never reverses them.
    assert (np.take_along_axis(applied, label[:, None], axis=1)[:, 0] == applied.max(axis=1)).all()


@given(scores_and_truth())
def test_a_temperature_of_one_is_the_identity(example: tuple[FloatArray, IntArray]) -> None:
    scores = log_softmax(example[0])
    assert Temperature(1.0).apply(scores) == pytest.approx(scores, abs=1e-12)


@given(scores_and_truth(), TEMPERATURES)
def test_rows_stay_distributions(example: tuple[FloatArray, IntArray], value: float) -> None:
    applied = Temperature(value).apply(example[0])
    assert np.exp(applied).sum(axis=1) == pytest.approx(np.ones(len(applied)))


@given(scores_and_truth(), TEMPERATURES, TEMPERATURES)
def test_hotter_is_never_surer(example: tuple[FloatArray, IntArray], one: float, other: float) -> None:
    colder, hotter = sorted([one, other])
    sure, less = (top_label(Temperature(value).apply(example[0]))[1] for value in (colder, hotter))
    assert (less <= sure + 1e-12).all()


@given(scores_and_truth(min_rows=0), st.sampled_from([0.0, 1.0, 10.0]))
def test_any_rows_give_a_temperature_within_bounds(example: tuple[FloatArray, IntArray], prior: float) -> None:
    fitted = fit_temperature(*example, prior=prior)
    assert COLDEST <= fitted.value <= HOTTEST


@given(scores_and_truth(min_rows=2))
def test_no_other_temperature_has_a_smaller_loss(example: tuple[FloatArray, IntArray]) -> None:
    scores, truth = log_softmax(example[0]), example[1]
    scores = np.maximum(scores, -30.0)
    best = log_loss(fit_temperature(scores, truth, prior=0.0).apply(scores), truth)
    others = [log_loss(Temperature(value).apply(scores), truth) for value in np.geomspace(COLDEST, HOTTEST, 25)]
    assert best <= min(others) + 1e-6


@given(scores_and_truth(min_rows=2))
def test_the_order_of_rows_changes_nothing(example: tuple[FloatArray, IntArray]) -> None:
    scores, truth = example
    order = np.random.default_rng(len(truth)).permutation(len(truth))
    assert fit_temperature(scores[order], truth[order]).value == pytest.approx(
        fit_temperature(scores, truth).value, rel=1e-6
    )
    whole = cross_fit_temperature(scores, truth)
    assert np.exp(cross_fit_temperature(scores[order], truth[order])) == pytest.approx(
        np.exp(whole)[order], abs=1e-6
    )


@given(TEMPERATURES)
def test_json_gives_back_the_very_same_number(value: float) -> None:
    assert Temperature.from_json(Temperature(value).to_json()) == Temperature(value)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "[]",
        "{}",
        '{"temperature": "2"}',
        '{"temperature": true}',
        '{"temperature": 0}',
        '{"temperature": -1}',
        '{"temperature": Infinity}',
    ],
)
def test_other_json_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reader's own message differs by case
        Temperature.from_json(wrong)


def test_the_temperature_of_a_model_is_found() -> None:
    scores, truth = overconfident(20_000, temperature=2.5)
    assert fit_temperature(scores, truth).value == pytest.approx(2.5, rel=0.03)


def test_two_labels_by_hand() -> None:
    # The model always says 0.9 and is right in 3 of 4 rows: 0.9 must become 0.75, so T = ln 9 / ln 3 = 2.
    logprobs = np.log([[0.9, 0.1]] * 4)
    assert fit_temperature(logprobs, [0, 0, 0, 1], prior=0.0).value == pytest.approx(2.0, rel=1e-9)


def test_it_agrees_with_scikit_learn() -> None:
    scores, truth = overconfident(400, labels=4, temperature=1.8)

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """A classifier whose features are its scores."""

        def fit(self, x: FloatArray, y: IntArray) -> Given:
            self.classes_ = np.unique(y)
            return self

        def decision_function(self, x: FloatArray) -> FloatArray:
            return x

        def predict(self, x: FloatArray) -> IntArray:
            best: IntArray = x.argmax(axis=1)
            return best

    frozen = FrozenEstimator(Given().fit(scores, truth))
    theirs = CalibratedClassifierCV(frozen, method="temperature").fit(scores, truth).predict_proba(scores)
    ours = np.exp(fit_temperature(scores, truth, prior=0.0).apply(scores))
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_all_right_raises_confidence_but_not_to_the_limit() -> None:
    logprobs = np.log([[0.6, 0.4]] * 5)
    careful, plain = fit_temperature(logprobs, [0] * 5), fit_temperature(logprobs, [0] * 5, prior=0.0)
    assert COLDEST < careful.value < 1
    assert not careful.at_limit
    assert plain.value == pytest.approx(COLDEST)
    assert plain.at_limit


def test_all_wrong_lowers_confidence_as_far_as_it_goes() -> None:
    fitted = fit_temperature(np.log([[0.9, 0.1]] * 50), [1] * 50, prior=0.0)
    assert fitted.value == pytest.approx(HOTTEST)
    assert fitted.at_limit


def test_all_of_one_class_is_a_fit_like_any_other() -> None:
    scores, _ = overconfident(50)
    fitted = fit_temperature(scores, [0] * 50)
    assert 1 < fitted.value <= HOTTEST


@pytest.mark.parametrize(("rows", "labels"), [(0, 3), (1, 3), (5, 1)])
def test_what_tells_nothing_changes_nothing(rows: int, labels: int) -> None:
    scores = np.zeros((rows, labels))
    assert fit_temperature(scores, [0] * rows) == Temperature(1.0)
    assert cross_fit_temperature(scores, [0] * rows) == pytest.approx(log_softmax(scores))


def test_a_flat_model_keeps_its_temperature() -> None:
    assert fit_temperature(np.zeros((20, 3)), [0, 1] * 10, prior=0.0).value == 1.0


def test_a_true_label_held_for_impossible_is_finite_and_hot() -> None:
    scores = np.array([[0.0, -np.inf]] * 4)
    assert fit_temperature(scores, [0, 0, 0, 1], prior=0.0).value > 5
    assert np.isfinite(log_loss(fit_temperature(scores, [0, 0, 0, 1]).apply(scores), [0, 0, 0, 1]))


def test_out_of_fold_is_close_to_in_sample_with_many_rows_and_helps() -> None:
    scores, truth = overconfident(3000)
    raw, crossed = log_softmax(scores), cross_fit_temperature(scores, truth)
    fitted = fit_temperature(scores, truth).apply(scores)
    assert log_loss(fitted, truth) <= log_loss(crossed, truth) < log_loss(raw, truth)
    label, confidence = top_label(crossed)
    assert expected_calibration_error(confidence, label == truth) < 0.03


def test_a_row_is_never_judged_by_a_fit_that_saw_it() -> None:
    # One row is wrong and very sure; the rows its own fold is fitted on are all right.
    scores = np.array([[2.0, 0.0]] * 9 + [[6.0, 0.0]])
    truth = np.array([0] * 9 + [1])
    crossed = cross_fit_temperature(scores, truth, folds=10)
    without = fit_temperature(scores[:9], truth[:9]).apply(scores[9:])
    assert crossed[9] == pytest.approx(without[0])


@pytest.mark.parametrize("prior", [-1.0, np.nan, np.inf])
def test_a_prior_is_a_number_of_rows(prior: float) -> None:
    with pytest.raises(ValueError, match="prior"):
        fit_temperature([[0.0, 1.0]] * 2, [0, 1], prior=prior)


def test_one_fold_is_no_cross_validation() -> None:
    with pytest.raises(ValueError, match="folds"):
        cross_fit_temperature([[0.0, 1.0]] * 2, [0, 1], folds=1)
