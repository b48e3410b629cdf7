from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from calibration import fit
from calibration.drift import check_fit, check_fit_by_group, confidence_shift, spiegelhalter
from calibration.logprobs import FloatArray, IntArray
from tests.unit.calibration.examples import scores_and_truth


def honest(
    generator: np.random.Generator, rows: int, k: int, temperature: float = 1.0, odds: float = 0.0
) -> tuple[FloatArray, IntArray]:
    """Scores whose softmax is true once they are divided by `temperature` and `odds` is taken off label 0."""
    scores = 1.5 * generator.normal(size=(rows, k))
    truth = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
    return scores * temperature + odds * (np.arange(k) == 0), truth.astype(np.int64)


def alarms(
    worlds: int, k: int, fitted_on: int | None, looks: tuple[int, ...], method: str = "temperature"
) -> float:
    """How often a map that fits is ever said not to, with a look after each of these numbers of labels."""
    generator, found = np.random.default_rng(k), 0
    for _ in range(worlds):
        scores, truth = honest(generator, looks[-1], k, temperature=2.0)
        fitted = scores / 2.0
        if fitted_on is not None:
            fitted = fit(method, *honest(generator, fitted_on, k, temperature=2.0)).apply(scores)
        found += any(not check_fit(fitted[:m], truth[:m], fitted_on=fitted_on).fits for m in looks)
    return found / worlds


@pytest.mark.parametrize(("k", "fitted_on"), [(2, None), (4, None), (2, 60), (6, 60)])
def test_false_alarms_are_rare_however_often_one_looks(k: int, fitted_on: int | None) -> None:
    """Of 40 maps that fit, more than 6 alarms at 5% would be an accident of 1 in 300."""
    assert alarms(40, k, fitted_on, (40, 640)) <= 6 / 40


@pytest.mark.soak
@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("fitted_on", [None, 50, 200])
@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_false_alarms_are_below_alpha(k: int, fitted_on: int | None, method: str) -> None:
    assert alarms(300, k, fitted_on, (10, 20, 40, 80, 160, 320, 640), method) <= 0.06


@pytest.mark.parametrize(
    ("temperature", "odds", "finding", "label"),
    [
        (2.5, 0.0, "too sure", None),
        (0.4, 0.0, "too modest", None),
        (1.0, 1.5, "label too often", 0),
        (1.0, -1.5, "label too rarely", 0),
    ],
)
def test_a_map_that_does_not_fit_is_found_and_the_way_it_fails(
    temperature: float, odds: float, finding: str, label: int | None
) -> None:
    scores, truth = honest(np.random.default_rng(2), 400, 3, temperature, odds)
    check = check_fit(scores, truth, fitted_on=200, names=["ham", "spam", "other"])
    assert (check.fits, check.finding, check.label) == (False, finding, label)
    assert check.p_value < 0.05
    assert "no longer fits" in check.why
    assert label is None or "“ham”" in check.why


def test_the_sentence_says_what_was_seen() -> None:
    claimed = np.log([[0.9, 0.1]] * 20 + [[0.1, 0.9]] * 20)
    wrong_half = np.array(([0] * 10 + [1] * 10) * 2)
    check = check_fit(claimed, wrong_half)
    assert check.rows == 40
    assert check.said == pytest.approx(0.9)
    assert check.finding == "too sure"
    assert "it said 90% on average, 50% of 40 new labels were right [35–65%]" in check.why
    one_sided = check_fit(claimed[:20], wrong_half[:20], names=["ham", "spam"])
    assert "it expects “spam” too rarely: it expected 10% among 20 new labels, 50% came" in one_sided.why
    assert "So few labels" in check_fit(claimed[:5], wrong_half[:5]).why


def test_evidence_is_an_e_value() -> None:
    """On average over labels drawn from the map it is 1: here over all 2^8 outcomes of 8 rows."""
    claimed = np.array([0.1, 0.3, 0.5, 0.5, 0.7, 0.8, 0.9, 0.97])
    logs = np.log(np.column_stack([1 - claimed, claimed]))
    mean = 0.0
    for outcome in range(256):
        truth = np.array([outcome >> bit & 1 for bit in range(8)])
        mean += np.exp(logs[np.arange(8), truth].sum()) * check_fit(logs, truth).evidence
    assert mean == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=25)
@given(scores_and_truth())
def test_checks_are_numbers_whatever_comes(rows: tuple[FloatArray, IntArray]) -> None:
    scores, truth = rows
    for fitted_on in (None, 20):
        check = check_fit(scores, truth, fitted_on=fitted_on)
        assert np.isfinite(check.evidence)
        assert 0 <= check.p_value <= 1
        assert check.fits == (check.evidence < 20) == (check.finding == "fits")
        again = check_fit(scores[::-1], truth[::-1], fitted_on=fitted_on)
        assert again.evidence == pytest.approx(check.evidence, rel=1e-4)
    z, p_value = spiegelhalter(scores, truth)
    assert np.isfinite(z)
    assert 0 <= p_value <= 1


def test_groups_share_the_chance_of_a_false_alarm() -> None:
    generator = np.random.default_rng(4)
    good, bad = honest(generator, 300, 3), honest(generator, 300, 3, temperature=3.0)
    scores, truth = np.concatenate([good[0], bad[0]]), np.concatenate([good[1], bad[1]])
    groups = [("sha256:1", 3, "attic")] * 300 + [("sha256:1", 3, "cellar")] * 300
    found = check_fit_by_group(groups, scores, truth)
    assert {key[2]: check.fits for key, check in found.items() if isinstance(key, tuple)} == {
        "attic": True,
        "cellar": False,
    }
    alone = check_fit(good[0], good[1], alpha=0.025)
    assert found["sha256:1", 3, "attic"] == alone


def test_spiegelhalter_by_hand() -> None:
    """For two labels: sum of (y - p)(1 - 2p) over the root of the sum of (1 - 2p)² p (1 - p)."""
    p, y = np.array([0.9, 0.8, 0.3, 0.6]), np.array([0, 1, 0, 1])
    expected = ((y - p) * (1 - 2 * p)).sum() / np.sqrt(((1 - 2 * p) ** 2 * p * (1 - p)).sum())
    z, p_value = spiegelhalter(np.log(np.column_stack([1 - p, p])), y)
    assert z == pytest.approx(expected)
    assert p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)))


def test_spiegelhalter_cannot_judge_certainty() -> None:
    assert spiegelhalter([[0.0, -np.inf]], [0]) == (0.0, 1.0)


def test_a_shift_of_confidences_is_seen_and_read_honestly() -> None:
    generator = np.random.default_rng(0)
    before, now = generator.beta(8, 2, 2000), generator.beta(4, 2, 500)
    shift = confidence_shift(before, now)
    assert shift.changed
    assert shift.distance == pytest.approx(abs(shift.before - shift.now), abs=1e-9)
    assert shift.before == (before > shift.threshold).mean()
    assert "only new blind labels can say" in shift.why


def test_confidences_that_stay_are_rarely_said_to_move() -> None:
    generator = np.random.default_rng(0)
    draws = generator.beta(8, 2, (100, 2, 600))
    assert sum(confidence_shift(before, now).changed for before, now in draws) <= 12


def test_a_shift_too_small_to_matter_is_no_shift() -> None:
    grid = (np.arange(200_000) + 0.5) / 200_000
    shift = confidence_shift(grid, grid**1.05)
    assert shift.p_value < 1e-6
    assert not shift.changed


@pytest.mark.parametrize(
    ("scores", "truth", "how"),
    [
        (np.zeros((0, 2)), [], {}),
        (np.zeros((2, 2)), [0, 2], {}),
        (np.zeros((2, 2)), [0, 1], {"alpha": 0.0}),
        (np.zeros((2, 2)), [0, 1], {"fitted_on": 0}),
        (np.zeros((2, 2)), [0, 1], {"names": ["one"]}),
    ],
)
def test_what_cannot_be_is_refused(scores: Any, truth: Any, how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"label"):
        check_fit(scores, truth, **how)


def test_groups_and_labels_belong_together() -> None:
    with pytest.raises(ValueError, match="groups"):
        check_fit_by_group(["a"], np.zeros((2, 2)), [0, 1])


@pytest.mark.parametrize(("before", "now"), [([], [0.5]), ([0.5], [1.5]), ([[0.5]], [0.5])])
def test_confidences_are_confidences(before: Any, now: Any) -> None:
    with pytest.raises(ValueError, match="confidences"):
        confidence_shift(before, now)
