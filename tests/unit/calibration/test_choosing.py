from __future__ import annotations

import numpy as np
import pytest

from calibration import METHODS, choose, cross_fit, fit, log_loss, log_softmax
from tests.unit.calibration.examples import overconfident


def test_too_sure_by_one_temperature_gets_a_temperature() -> None:
    scores, truth = overconfident(600)
    choice = choose(scores, truth)
    assert choice.method == "lower_temperature"
    assert choice.calibrator == fit("lower_temperature", scores, truth)
    assert choice.skipped == ("histogram", "isotonic")
    assert set(choice.losses) == set(METHODS) - set(choice.skipped)
    again = cross_fit(lambda rows, labels: fit("lower_temperature", rows, labels), scores, truth)
    assert np.array_equal(choice.out_of_fold, again)
    assert choice.losses["lower_temperature"].value == pytest.approx(log_loss(again, truth))


def test_a_model_that_is_right_as_it_is_stays_as_it_is() -> None:
    scores, truth = overconfident(600, temperature=1.0)
    choice = choose(scores, truth)
    assert choice.method == "none"
    assert "own probabilities" in choice.why
    assert np.array_equal(choice.calibrator.apply(scores), log_softmax(scores))


def test_a_liking_for_a_label_takes_more_than_a_temperature() -> None:
    scores, truth = overconfident(600, temperature=1.0)
    choice = choose(scores + np.array([3.0, 0.0, 0.0]), truth)
    assert choice.method in {"platt", "vector"}
    assert choice.losses[choice.method].high < choice.losses["temperature"].low


@pytest.mark.parametrize("rows", [0, 1, 5, 9])
def test_too_few_rows_change_nothing_and_say_so(rows: int) -> None:
    scores, truth = overconfident(rows)
    choice = choose(scores, truth)
    assert choice.method == "none"
    assert "too few" in choice.why
    assert choice.out_of_fold.shape == (rows, 3)
    assert set(choice.skipped) == set(METHODS) - {"none"}


@pytest.mark.parametrize(("rows", "tried"), [(999, False), (1000, True)])
def test_curves_without_a_formula_wait_for_many_rows(rows: int, tried: bool) -> None:
    choice = choose(*overconfident(rows, labels=2), methods=("temperature", "histogram", "isotonic"))
    assert ("isotonic" in choice.losses) == ("histogram" in choice.losses) == tried
    assert ("isotonic" in choice.skipped) != tried


def test_with_many_rows_a_step_needs_steps() -> None:
    generator = np.random.default_rng(5)
    said = generator.uniform(0.02, 0.98, 4000)
    right = generator.random(4000) < np.where(np.abs(said - 0.5) < 0.25, 0.9, 0.1)
    choice = choose(np.log(np.stack([1 - said, said], axis=1)), right.astype(np.int64))
    assert choice.method == "histogram"
    assert "histogram" in choice.why


def test_the_simplest_of_equals_is_taken_and_the_reason_says_so() -> None:
    scores, truth = overconfident(200, temperature=1.0)
    choice = choose(scores + np.array([0.5, 0.0, 0.0]), truth)
    best = min(choice.losses, key=lambda method: choice.losses[method].value)
    assert METHODS.index(choice.method) < METHODS.index(best)
    assert "chance" in choice.why
    assert choice.why.endswith(".")
    assert choice.why.count(". ") == 0


def test_the_order_of_rows_changes_nothing() -> None:
    scores, truth = overconfident(150)
    order = np.random.default_rng(1).permutation(150)
    one, other = choose(scores, truth), choose(scores[order], truth[order])
    assert one.method == other.method
    assert one.why == other.why
    assert other.out_of_fold == pytest.approx(one.out_of_fold[order], abs=1e-6)


def test_unknown_methods_and_single_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="magic"):
        choose(*overconfident(20), methods=("magic",))
    with pytest.raises(ValueError, match="two folds"):
        choose(*overconfident(20), folds=1)
