from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import correct_label_bias, label_bias, log_softmax
from calibration.logprobs import FloatArray, IntArray
from tests.unit.calibration.examples import scores_and_truth


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
