from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from calibration import ENOUGH_ROWS, assess, fit_temperature, log_softmax
from calibration.logprobs import FloatArray, IntArray
from tests.unit.calibration.examples import overconfident, scores_and_truth


@given(scores_and_truth())
def test_every_bin_opens_exactly_its_rows(example: tuple[FloatArray, IntArray]) -> None:
    for scheme in ("width", "mass"):
        found = assess(*example, resamples=1, scheme=scheme)
        opened = [found.inside(bin.low, bin.high) for bin in found.bins]
        assert [len(rows) for rows in opened] == [bin.count for bin in found.bins]
        assert sorted(np.concatenate(opened).tolist()) == list(range(found.rows))


def test_the_surest_mistakes_come_first() -> None:
    scores = np.log([[0.9, 0.1], [0.92, 0.08], [0.95, 0.05], [0.91, 0.09]])
    found = assess(scores, [0, 1, 0, 1])
    assert found.inside(0.9, 1.0).tolist() == [1, 3, 2]  # 0.9 itself lies in the bin below
    assert found.inside(0.8, 0.9).tolist() == [0]
    assert found.inside(0.0, 0.5).tolist() == []


def test_a_fitted_temperature_lowers_the_error_and_keeps_accuracy() -> None:
    scores, truth = overconfident(600)
    before = assess(scores, truth, resamples=50)
    after = assess(fit_temperature(scores, truth).apply(scores), truth, resamples=50)
    assert after.accuracy == before.accuracy
    assert after.ece.value < before.ece.low
    assert after.log_loss < before.log_loss
    assert after.brier < before.brier


def test_how_many_checked_rows_are_missing() -> None:
    scores, truth = overconfident(ENOUGH_ROWS + 10)
    assert assess(scores[:8], truth[:8]).rows_missing == ENOUGH_ROWS - 8
    assert assess(scores, truth).rows_missing == 0


def test_the_numbers_are_those_of_the_single_functions() -> None:
    found = assess(np.log([[0.9, 0.1], [0.8, 0.2]]), [0, 1])
    assert found.accuracy.value == 0.5
    assert found.confidence == pytest.approx([0.9, 0.8])
    assert found.correct.tolist() == [True, False]
    assert found.ece.value == pytest.approx((0.1 + 0.8) / 2)
    assert found.log_loss == pytest.approx(-np.log([0.9, 0.2]).mean())
    assert found.brier == pytest.approx((2 * 0.1**2 + 2 * 0.8**2) / 2)


def test_no_rows_cannot_be_assessed() -> None:
    with pytest.raises(ValueError, match="at least one"):
        assess(log_softmax(np.empty((0, 3))), [])
