"""Laws every calibrator keeps, whatever its method."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import METHODS, calibrators, cross_fit, deal_folds, log_loss, log_softmax, top_label
from calibration.logprobs import FloatArray, IntArray
from tests.unit.calibration.examples import overconfident, scores_and_truth

FITTED = tuple(method for method in METHODS if method != "none")
MONOTONE = ("none", "temperature", "lower_temperature", "beta", "isotonic")


@settings(max_examples=25)
@given(scores_and_truth(min_rows=0), st.sampled_from(METHODS))
def test_rows_stay_distributions_for_any_rows(example: tuple[FloatArray, IntArray], method: str) -> None:
    applied = calibrators.fit(method, *example).apply(example[0])
    assert np.exp(applied).sum(axis=1) == pytest.approx(np.ones(len(applied)))
    assert not np.isnan(applied).any()


@settings(max_examples=25)
@given(scores_and_truth(min_rows=0), st.sampled_from(METHODS))
def test_json_gives_back_the_very_same_calibrator(example: tuple[FloatArray, IntArray], method: str) -> None:
    fitted = calibrators.fit(method, *example)
    again = calibrators.from_json(fitted.to_json())
    assert again == fitted
    assert type(again) is type(fitted)
    assert np.array_equal(again.apply(example[0]), fitted.apply(example[0]))
    assert again.to_json() == fitted.to_json()


@settings(max_examples=25)
@given(scores_and_truth(min_rows=2), st.sampled_from(METHODS))
def test_the_order_of_rows_changes_nothing(example: tuple[FloatArray, IntArray], method: str) -> None:
    scores, truth = example
    order = np.random.default_rng(len(truth)).permutation(len(truth))
    fitted, other = (calibrators.fit(method, scores[o], truth[o]) for o in (np.arange(len(truth)), order))
    assert np.exp(other.apply(scores)) == pytest.approx(np.exp(fitted.apply(scores)), abs=1e-6)


@settings(max_examples=25)
@given(scores_and_truth(min_rows=2), st.sampled_from(MONOTONE))
def test_what_is_promised_to_be_monotone_never_falls(example: tuple[FloatArray, IntArray], method: str) -> None:
    scores, truth = log_softmax(example[0][:, :2]), np.minimum(example[1], min(1, example[0].shape[1] - 1))
    fitted = calibrators.fit(method, scores, truth)
    order = np.argsort(scores[:, -1] - scores[:, 0], kind="stable")
    assert (np.diff(np.exp(fitted.apply(scores)[order, -1])) >= -1e-9).all()


@settings(max_examples=25)
@given(scores_and_truth(min_rows=2))
def test_the_lowering_temperature_never_raises_confidence(example: tuple[FloatArray, IntArray]) -> None:
    fitted = calibrators.fit("lower_temperature", *example)
    assert (top_label(fitted.apply(example[0]))[1] <= top_label(example[0])[1] + 1e-12).all()


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("method", FITTED)
def test_on_many_rows_every_method_comes_close_to_the_true_probabilities(method: str, labels: int) -> None:
    scores, truth = overconfident(20_000, labels)
    fitted = calibrators.fit(method, scores[:10_000], truth[:10_000])
    best = log_loss(scores[10_000:] / 2.5, truth[10_000:])
    reached = log_loss(fitted.apply(scores[10_000:]), truth[10_000:])
    assert reached <= best + 0.02 < log_loss(scores[10_000:], truth[10_000:])


@pytest.mark.parametrize("method", FITTED)
def test_two_labels_are_treated_alike(method: str) -> None:
    scores, truth = overconfident(300, labels=2)
    one = calibrators.fit(method, scores, truth).apply(scores)
    other = calibrators.fit(method, scores[:, ::-1], 1 - truth).apply(scores[:, ::-1])
    assert np.exp(other[:, ::-1]) == pytest.approx(np.exp(one), abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_impossible_labels_and_silent_rows_are_no_trouble(method: str) -> None:
    scores = np.array([[0.0, -np.inf, -1.0], [-np.inf] * 3, [-2.0, 0.0, -np.inf], [0.0, 0.0, 0.0]] * 5)
    truth = np.array([1, 2, 0, 1] * 5)
    applied = calibrators.fit(method, scores, truth).apply(scores)
    assert np.exp(applied).sum(axis=1) == pytest.approx(np.ones(20))
    assert not np.isnan(applied).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rows", "labels"), [(0, 3), (1, 3), (5, 1)])
def test_what_tells_nothing_changes_nothing(method: str, rows: int, labels: int) -> None:
    fitted = calibrators.fit(method, np.zeros((rows, labels)), [0] * rows)
    scores = log_softmax(np.arange(6.0).reshape(-1, labels))
    assert fitted.method == "none"
    assert np.array_equal(fitted.apply(scores), log_softmax(scores))


@pytest.mark.parametrize(
    "method", [method for method in METHODS if "temperature" not in method and method != "none"]
)
def test_a_fit_for_other_labels_is_refused(method: str) -> None:
    fitted = calibrators.fit(method, *overconfident(40, labels=3))
    with pytest.raises(ValueError, match="another number of labels"):
        fitted.apply(np.zeros((2, 4)))


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="magic"):
        calibrators.fit("magic", np.zeros((3, 2)), [0, 1, 0])
    with pytest.raises(ValueError, match="magic"):
        calibrators.from_json('{"method": "magic"}')


@pytest.mark.parametrize("method", FITTED)
def test_broken_documents_are_refused(method: str) -> None:
    whole = json.loads(calibrators.fit(method, *overconfident(40, labels=3)).to_json())
    name = next(key for key in whole if key != "method")
    wrong: list[object] = [None, "2", True, [], [[]], [[1.0], 2.0], float("nan")]
    for broken in wrong:
        with pytest.raises(ValueError):  # noqa: PT011 - messages differ by what is broken
            calibrators.from_json(json.dumps({**whole, name: broken}))
    del whole[name]
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        calibrators.from_json(json.dumps(whole))
    with pytest.raises(ValueError, match="JSON object"):
        calibrators.from_json("[]")


def test_folds_hold_every_label_and_do_not_depend_on_the_order() -> None:
    scores, truth = overconfident(103)
    fold = deal_folds(scores, truth)
    assert set(np.bincount(fold)) <= {20, 21}
    for label in range(3):
        counts = np.bincount(fold[truth == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    order = np.random.default_rng(3).permutation(103)
    assert np.array_equal(deal_folds(scores[order], truth[order]), fold[order])


def test_a_row_is_never_judged_by_a_fit_that_saw_it() -> None:
    scores, truth = overconfident(50)
    seen: list[set[float]] = []

    class Remembers:
        """Changes nothing; knows the rows it was made from."""

        def __init__(self, rows: FloatArray, labels: IntArray) -> None:
            self.rows = set(rows[:, 0])

        def apply(self, logprobs: npt.ArrayLike) -> FloatArray:
            rows = np.asarray(logprobs)
            assert not self.rows & set(rows[:, 0])
            seen.append(set(rows[:, 0]))
            return rows

    assert np.array_equal(cross_fit(Remembers, scores, truth, folds=7), scores)
    assert set.union(*seen) == set(scores[:, 0])
    assert sum(map(len, seen)) == 50
