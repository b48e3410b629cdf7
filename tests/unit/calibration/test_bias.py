from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import content_free_bias, correct_label_bias, fit_label_bias, label_bias, log_softmax
from calibration.logprobs import FloatArray, IntArray
from tests.unit.calibration.examples import overconfident, scores_and_truth


@given(scores_and_truth(), st.floats(0, 2))
def test_corrected_rows_are_distributions(example: tuple[FloatArray, IntArray], strength: float) -> None:
    corrected = correct_label_bias(example[0], strength)
    assert np.exp(corrected).sum(axis=1) == pytest.approx(np.ones(len(corrected)))


@given(scores_and_truth())
def test_strength_zero_only_normalises(example: tuple[FloatArray, IntArray]) -> None:
    assert correct_label_bias(example[0], 0.0) == pytest.approx(log_softmax(example[0]))


@given(scores_and_truth(impossible=False))
def test_full_strength_takes_out_any_liking_for_a_label(example: tuple[FloatArray, IntArray]) -> None:
    scores, _ = example
    liked = scores + np.arange(scores.shape[1])  # the same push for a label in every row
    assert correct_label_bias(liked, 1.0) == pytest.approx(correct_label_bias(scores, 1.0), abs=1e-9)


@given(scores_and_truth())
def test_the_order_of_rows_changes_nothing(example: tuple[FloatArray, IntArray]) -> None:
    scores, _ = example
    order = np.random.default_rng(len(scores)).permutation(len(scores))
    assert correct_label_bias(scores[order]) == pytest.approx(correct_label_bias(scores)[order], abs=1e-9)


def test_half_strength_by_hand() -> None:
    # Mean log-probabilities are (ln 0.6, ln 0.2): the second label gains sqrt(3) against the first.
    logprobs = np.log([[0.6, 0.2]])
    assert np.exp(correct_label_bias(logprobs)) == pytest.approx(np.array([[3**0.5, 1.0]]) / (3**0.5 + 1))


def test_a_part_of_a_run_is_corrected_as_the_whole() -> None:
    logprobs = log_softmax(np.random.default_rng(0).normal(size=(50, 3)))
    part = correct_label_bias(logprobs[:10], bias=label_bias(logprobs))
    assert part == pytest.approx(correct_label_bias(logprobs)[:10])


def test_impossible_labels_do_not_drown_the_mean() -> None:
    assert label_bias([[-1.0, -np.inf], [-3.0, -np.inf]]).tolist() == [-2.0, 0.0]


def test_no_rows_have_no_bias() -> None:
    assert label_bias(np.empty((0, 2))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("strength", "bias"), [(np.nan, None), (0.5, [0.0]), (0.5, [0.0, np.nan])])
def test_a_correction_that_makes_no_sense_is_refused(strength: float, bias: list[float] | None) -> None:
    with pytest.raises(ValueError, match=r"bias|strength"):
        correct_label_bias([[0.0, 0.0]], strength, bias=bias)


def test_content_free_answers_divide_by_their_mean_probability() -> None:
    asked = np.log([[0.9, 0.1], [0.7, 0.3]])
    corrected = correct_label_bias(np.log([[0.8, 0.2]]), 1.0, bias=content_free_bias(asked))
    assert np.exp(corrected) == pytest.approx(np.array([[0.5, 0.5]]))
    assert np.array_equal(content_free_bias(np.zeros((0, 3))), np.zeros(3))
    assert np.isfinite(content_free_bias([[0.0, -np.inf]])).all()


def test_with_no_labels_a_fitted_bias_is_the_correction_itself() -> None:
    scores, _ = overconfident(40)
    fitted = fit_label_bias(np.zeros((0, 3)), [], bias=label_bias(scores))
    assert fitted.apply(scores) == pytest.approx(correct_label_bias(scores))


def test_few_labels_move_it_little_and_many_take_over() -> None:
    scores, truth = overconfident(4000, temperature=1.0)
    liking = np.array([4.0, 0.0, 0.0])
    scores = log_softmax(scores) + liking
    bias = label_bias(scores)
    guess = correct_label_bias(scores, bias=bias)

    def moved(rows: int) -> float:
        fitted = fit_label_bias(scores[:rows], truth[:rows], bias=bias)
        return float(np.abs(np.exp(fitted.apply(scores)) - np.exp(guess)).mean())

    assert moved(3) < 0.1 < moved(4000)
    offsets = np.array(fit_label_bias(scores, truth, bias=bias).offsets)
    assert offsets - offsets.mean() == pytest.approx(liking.mean() - liking, abs=0.4)


def test_a_strength_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_label_bias(np.zeros((1, 2)), [0], bias=[0.0, 0.0], strength=np.nan)
