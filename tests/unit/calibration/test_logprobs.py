from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from calibration import log_softmax, top_label
from calibration.logprobs import FloatArray, IntArray, as_truth
from tests.unit.calibration.examples import scores_and_truth


@given(scores_and_truth())
def test_every_row_becomes_a_distribution(example: tuple[FloatArray, IntArray]) -> None:
    scores, _ = example
    normalised = log_softmax(scores)
    assert np.exp(normalised).sum(axis=1) == pytest.approx(np.ones(len(scores)))
    assert (normalised <= 1e-12).all()


@given(scores_and_truth())
def test_normalising_twice_is_normalising_once(example: tuple[FloatArray, IntArray]) -> None:
    once = log_softmax(example[0])
    assert log_softmax(once) == pytest.approx(once, abs=1e-12)


def test_an_impossible_label_stays_impossible() -> None:
    assert np.exp(log_softmax([[0.0, -np.inf, 0.0]])).tolist() == [[0.5, 0.0, 0.5]]


def test_a_row_that_says_nothing_is_a_uniform_guess() -> None:
    assert np.exp(log_softmax([[-np.inf] * 4])).tolist() == [[0.25] * 4]


def test_huge_scores_neither_overflow_nor_warn() -> None:
    assert np.exp(log_softmax([[1e308, -1e308]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("wrong", [[1.0, 2.0], [[np.nan]], [[np.inf]], np.empty((3, 0)), np.empty((1, 2, 3))])
def test_what_is_no_table_of_log_probabilities_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        log_softmax(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [[0], [0, 3], [0, -1], [0.0, 1.0], [[0, 1]]])
def test_labels_that_do_not_exist_are_refused(wrong: list[object]) -> None:
    with pytest.raises(ValueError, match="label"):
        as_truth(wrong, 2, 3)  # type: ignore[arg-type]


def test_the_top_label_and_its_probability() -> None:
    certain = [np.log(0.2), np.log(0.7), np.log(0.1)]
    torn = [np.log(0.5), np.log(0.5), -np.inf]
    label, confidence = top_label([certain, torn])
    assert label.tolist() == [1, 0]  # a tie goes to the first label
    assert confidence == pytest.approx([0.7, 0.5])


def test_no_rows_are_fine() -> None:
    label, confidence = top_label(np.empty((0, 3)))
    assert label.shape == confidence.shape == (0,)
