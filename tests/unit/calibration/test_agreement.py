"""Agreement beyond chance: published values, closed forms, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score

from calibration import Agreement, cohen_kappa, fleiss_kappa, krippendorff_alpha
from calibration.agreement import Scale
from calibration.intervals import Redraws

GAP = np.nan
# Krippendorff 2011, section C: 4 observers, 12 units.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, GAP, GAP, GAP],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, GAP, 3],
        [GAP, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, GAP],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, GAP],
    ]
).T
# Fleiss 1971, as reprinted widely: 10 units, 14 raters, counts of 5 labels.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def value(agreement: Agreement) -> float:
    assert agreement.estimate is not None, agreement.why_not
    return agreement.estimate.value


def test_krippendorff_gives_the_published_values() -> None:
    labels = np.where(np.isnan(OBSERVERS), -1, OBSERVERS)
    assert value(krippendorff_alpha(labels)) == pytest.approx(0.743421, abs=1e-6)
    assert value(krippendorff_alpha(OBSERVERS, "ordinal")) == pytest.approx(0.815388, abs=1e-6)
    assert value(krippendorff_alpha(OBSERVERS, "interval")) == pytest.approx(0.849107, abs=1e-6)
    assert krippendorff_alpha(labels).units == 11  # the last one was rated once


def test_fleiss_gives_the_published_value() -> None:
    ratings = np.array([np.repeat(np.arange(5), counts) for counts in FLEISS])
    assert value(fleiss_kappa(ratings)) == pytest.approx(0.210, abs=5e-4)


@settings(max_examples=40)
@given(arrays(np.int64, (40, 2), elements=st.integers(0, 3)))
def test_cohen_is_what_scikit_learn_says(pairs: np.ndarray) -> None:
    found = cohen_kappa(pairs[:, 0], pairs[:, 1], resamples=1)
    if found.estimate is not None:
        assert found.estimate.value == pytest.approx(cohen_kappa_score(pairs[:, 0], pairs[:, 1]), abs=1e-12)


@settings(max_examples=40)
@given(arrays(np.int64, (12, 3), elements=st.integers(-1, 3)))
def test_the_order_of_units_and_raters_changes_nothing(ratings: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(12)
    mixed = ratings[order][:, [2, 0, 1]]
    for statistic in (fleiss_kappa, krippendorff_alpha):
        plain, other = statistic(ratings, resamples=1), statistic(mixed, resamples=1)
        assert (plain.units, plain.why_not) == (other.units, other.why_not)
        if plain.estimate is not None and other.estimate is not None:
            assert plain.estimate.value == pytest.approx(other.estimate.value, abs=1e-12)


@settings(max_examples=40)
@given(arrays(np.int64, (15, 1), elements=st.integers(0, 4)))
def test_people_who_always_agree_have_agreement_one(labels: np.ndarray) -> None:
    ratings = np.repeat(labels, 3, axis=1)
    for statistic in (fleiss_kappa, krippendorff_alpha):
        found = statistic(ratings, resamples=20)
        if np.unique(labels).size > 1:
            assert value(found) == pytest.approx(1.0)
        else:
            assert found.estimate is None
            assert "one and the same" in found.why_not


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (cohen_kappa([0, -1], [-1, 1]), "labeled by both"),
        (fleiss_kappa([[0, -1], [-1, 1]]), "by two people"),
        (krippendorff_alpha([[0, -1], [-1, 1]]), "by two people"),
    ],
)
def test_what_is_not_defined_is_said_in_words(found: Agreement, words: str) -> None:
    assert found.estimate is None
    assert words in found.why_not


def test_an_interval_holds_its_value_and_is_the_same_each_time() -> None:
    labels = np.where(np.isnan(OBSERVERS), -1, OBSERVERS)
    found = krippendorff_alpha(labels)
    assert found == krippendorff_alpha(labels)
    assert found.estimate is not None
    assert found.estimate.low <= found.estimate.value <= found.estimate.high
    assert found.estimate.low > 0.2


def test_draws_of_each_scale_are_what_the_drawn_units_give() -> None:
    """The statistics are computed from sums; here each drawn set of units is written out and measured anew."""
    generator = np.random.default_rng(4)
    ratings = generator.integers(0, 4, (30, 1)) + generator.integers(0, 2, (30, 3))
    drawn = Redraws(30, 500)
    times = np.stack([drawn.sums(np.eye(30)[unit])[:, 0] for unit in range(30)], axis=1).astype(int)
    scales: list[Scale] = ["nominal", "ordinal", "interval"]
    for scale in scales:
        again = [value(krippendorff_alpha(np.repeat(ratings, many, axis=0), scale, resamples=1)) for many in times]
        estimate = krippendorff_alpha(ratings, scale).estimate
        assert estimate is not None
        assert (estimate.low, estimate.high) == pytest.approx(np.quantile(again, [0.025, 0.975]), abs=1e-12)


def test_values_without_steps_are_measured_as_well() -> None:
    generator = np.random.default_rng(5)
    truth = generator.random((3000, 1)) * 10
    ratings = truth + generator.normal(0, 1, (3000, 3))
    ratings[generator.random(ratings.shape) < 0.2] = np.nan
    reliability = (100 / 12) / (100 / 12 + 1)  # variance of the truth in that of the ratings
    scales: tuple[Scale, ...] = ("interval", "ordinal")
    for scale in scales:
        estimate = krippendorff_alpha(ratings, scale).estimate
        assert estimate is not None
        assert estimate.low < reliability < estimate.high or scale == "ordinal"
        assert estimate.value == pytest.approx(reliability, abs=0.03)
        assert 0.005 < estimate.high - estimate.low < 0.03


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="label indices"):
        cohen_kappa([[0]], [[1]])
    with pytest.raises(ValueError, match="shape"):
        krippendorff_alpha([1, 2])
