from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import Estimate, wilson_interval
from calibration.logprobs import FloatArray, IntArray
from calibration.totals import class_shares, mean_value

SURE = np.array([[0.0, -np.inf], [-np.inf, 0.0]])


def world(
    generator: np.random.Generator, rows: int, shares: list[float], strength: float, temperature: float = 1.0
) -> tuple[FloatArray, IntArray]:
    """Log-probabilities that are true at temperature 1, and labels drawn from them."""
    honest = strength * generator.normal(size=(rows, len(shares))) + np.log(shares)
    truth = (honest + generator.gumbel(size=honest.shape)).argmax(axis=1)
    return honest * temperature, truth.astype(np.int64)


def draw(
    generator: np.random.Generator, scores: FloatArray, m: int, design: str
) -> tuple[IntArray, dict[str, Any]]:
    """About m places of checked rows, and how they were drawn: unsure rows more often, but for "uniform"."""
    rows = len(scores)
    if design == "uniform":
        return generator.choice(rows, m, replace=False), {}
    top = np.sort(scores, axis=1)
    margin = top[:, -1] - top[:, -2]
    if design == "weighted":
        unsure = 1 / (1 + margin)
        chance = np.minimum(1.0, m * (0.5 * unsure / unsure.sum() + 0.5 / rows))
        places = np.flatnonzero(generator.random(rows) < chance)
        return places, {"inclusion": chance[places]}
    stratum = margin.argsort().argsort() * 4 // rows
    sizes = [2 * m // 5, 3 * m // 10, m // 5, m // 10]
    parts = [generator.choice(np.flatnonzero(stratum == h), sizes[h], replace=False) for h in range(4)]
    places = np.concatenate(parts)
    inclusion = (np.array(sizes) / np.bincount(stratum))[stratum[places]]
    return places, {"inclusion": inclusion, "strata": stratum[places]}


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


def covered(design: str, model: tuple[list[float], float, float], m: int, worlds: int) -> tuple[Any, Any, Any]:
    """Per label: how often the interval of people and the corrected one held the truth; ratio of their widths."""
    generator = np.random.default_rng(5)
    held, widths = np.zeros((2, len(model[0]))), np.zeros((2, len(model[0])))
    for _ in range(worlds):
        scores, truth = world(generator, 2000, *model)
        places, how = draw(generator, scores, m, design)
        shares = np.bincount(truth, minlength=len(model[0])) / len(truth)
        for c, total in enumerate(class_shares(scores, places, truth[places], **how)):
            for way, estimate in enumerate((total.people, total.corrected)):
                held[way, c] += estimate.low <= shares[c] <= estimate.high
                widths[way, c] += width(estimate)
    return held[0] / worlds, held[1] / worlds, widths[1] / widths[0]


MODELS = {
    "good": ([0.4, 0.35, 0.25], 2.0, 1.0),
    "rare labels": ([0.9, 0.07, 0.03], 2.5, 1.0),
    "knows nothing": ([0.7, 0.2, 0.1], 0.01, 1.0),
    "too sure": ([0.6, 0.3, 0.1], 2.0, 4.0),
}


@pytest.mark.parametrize("design", ["uniform", "weighted", "stratified"])
def test_intervals_hold_the_truth(design: str) -> None:
    """200 worlds: a 95% interval that held it in fewer than 178 of them would be an accident of 1 in 3,000."""
    _, corrected, ratio = covered(design, MODELS["rare labels"], 60, 200)
    assert (corrected >= 0.89).all()
    assert (ratio < 0.9).all()


@pytest.mark.soak
@pytest.mark.parametrize("design", ["uniform", "weighted", "stratified"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("m", [20, 60, 200])
def test_intervals_hold_the_truth_whatever_the_model(design: str, model: str, m: int) -> None:
    people, corrected, ratio = covered(design, MODELS[model], m, 2000)
    assert (corrected >= 0.92).all()
    assert (corrected >= people - 0.02).all()
    assert (ratio <= 1.03).all()


def test_a_model_that_is_always_right_leaves_no_doubt_but_that_of_few_rows() -> None:
    truth = np.arange(1000) % 4 == 0
    places = np.arange(0, 1000, 9)
    no, yes = class_shares(SURE[truth.astype(int)], places, truth[places].astype(int))
    assert yes.model == yes.corrected.value == 0.25
    assert yes.power == no.power == 1.0
    assert yes.worth > 5 * len(places)
    assert width(yes.corrected) < 0.4 * width(yes.people)


def test_a_model_that_says_the_same_of_every_row_changes_nothing() -> None:
    truth = np.array([0] * 70 + [1] * 30)
    places = np.arange(0, 100, 2)
    for c, total in enumerate(class_shares(np.log(np.full((100, 2), 0.5)), places, truth[places])):
        assert total.power == 0
        assert total.people == total.corrected
        assert total.people.value == pytest.approx([0.7, 0.3][c])


def test_among_very_many_rows_people_alone_have_wilsons_interval() -> None:
    truth = np.array([0] * 80 + [1] * 20)
    total = class_shares(np.zeros((500_000, 2)), np.arange(100), truth)[1]
    assert (total.people.low, total.people.high) == pytest.approx(wilson_interval(20, 100), abs=1e-4)


def test_the_difference_estimator_by_hand() -> None:
    """Ten rows, four checked ones; the weight is covariance over variance, the rest is the mean error."""
    predicted = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 9])
    places, given = [0, 3, 5, 8], np.array([2.0, 4, 5, 7])
    weight = np.cov(given, predicted[places])[0, 1] / np.var(predicted[places], ddof=1)
    total = mean_value(predicted, places, given)
    assert total.power == pytest.approx(weight)
    assert total.corrected.value == pytest.approx(weight * 5.4 + (given - weight * predicted[places]).mean())
    assert total.people.value == 4.5
    assert total.model == 5.4


def test_a_row_that_stands_for_more_counts_for_more() -> None:
    predicted = np.zeros(100)
    total = mean_value(predicted, [0, 1, 2], [1.0, 1.0, 5.0], inclusion=[0.1, 0.1, 0.05])
    assert total.people.value == pytest.approx((1 * 10 + 1 * 10 + 5 * 20) / 40)


def test_every_row_checked_leaves_no_doubt() -> None:
    scores, truth = world(np.random.default_rng(0), 50, [0.5, 0.5], 1.0)
    for c, total in enumerate(class_shares(scores, np.arange(50), truth)):
        assert total.corrected.low == total.corrected.high == pytest.approx((truth == c).mean())


def test_strata_that_explain_everything_leave_little_doubt() -> None:
    truth = np.array([0] * 500 + [1] * 500)
    places = np.concatenate([np.arange(0, 500, 10), np.arange(500, 1000, 10)])
    how: dict[str, Any] = {"inclusion": np.full(100, 0.1)}
    flat = np.zeros((1000, 2))
    with_strata = class_shares(flat, places, truth[places], **how, strata=truth[places])
    without = class_shares(flat, places, truth[places], **how)
    assert width(with_strata[0].people) < 0.5 * width(without[0].people)


def test_a_label_never_seen_may_still_be_there() -> None:
    total = class_shares(np.zeros((5000, 3)), np.arange(50), np.arange(50) % 2)[2]
    assert total.corrected.value == total.people.value == 0
    assert 0.05 < total.people.high < 0.1


def test_equal_values_do_not_promise_certainty() -> None:
    total = mean_value(np.full(1000, 4.0), np.arange(20), np.full(20, 3.0))
    assert total.people.low < 3 < total.people.high
    assert total.corrected.value == 3


def test_two_rows_are_enough_for_a_wide_interval() -> None:
    total = mean_value(np.linspace(0, 10, 100), [20, 70], [3.0, 6.0])
    assert total.corrected.low == 0
    assert total.corrected.high == 10


@pytest.mark.parametrize("soak", [pytest.param(1, marks=pytest.mark.soak), 0])
def test_intervals_of_means_hold_the_truth(soak: int) -> None:
    generator, worlds = np.random.default_rng(3), 2000 if soak else 300
    held, widths = np.zeros(2), np.zeros(2)
    for _ in range(worlds):
        quality = generator.normal(5, 2, 1500)
        given = np.clip(np.round(quality + generator.normal(0, 1, 1500)), 0, 10)
        predicted = np.clip(0.6 * quality + 3, 0, 10)
        places = generator.choice(1500, 40, replace=False)
        total = mean_value(predicted, places, given[places])
        for way, estimate in enumerate((total.people, total.corrected)):
            held[way] += estimate.low <= given.mean() <= estimate.high
            widths[way] += width(estimate)
    assert (held / worlds >= (0.935 if soak else 0.91)).all()
    assert widths[1] < 0.6 * widths[0]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 40), st.booleans())
def test_shares_are_shares(seed: int, k: int, m: int, weighted: bool) -> None:
    generator = np.random.default_rng(seed)
    scores = 5 * generator.normal(size=(50, k))
    scores[generator.random((50, k)) < 0.1] = -np.inf
    places, truth = generator.choice(50, m, replace=False), generator.integers(0, k, m)
    how: dict[str, Any] = (
        {"inclusion": generator.uniform(0.05, 1, m), "strata": generator.integers(0, 3, m)} if weighted else {}
    )
    totals = class_shares(scores, places, truth, **how)
    for way in ("people", "corrected"):
        estimates = [getattr(total, way) for total in totals]
        assert sum(estimate.value for estimate in estimates) == pytest.approx(1)
        assert all(0 <= estimate.low <= estimate.value <= estimate.high <= 1 for estimate in estimates)
    assert sum(total.model for total in totals) == pytest.approx(1)
    order = generator.permutation(m)
    moved: dict[str, Any] = {name: values[order] for name, values in how.items()}
    for total, again in zip(totals, class_shares(scores, places[order], truth[order], **moved), strict=True):
        assert again.corrected.value == pytest.approx(total.corrected.value, abs=1e-9)
        assert width(again.corrected) == pytest.approx(width(total.corrected), abs=1e-9)


@pytest.mark.parametrize(
    ("places", "truth", "how"),
    [
        ([0], [0], {}),
        ([0, 0], [0, 1], {}),
        ([0, 9], [0, 1], {}),
        ([0, -1], [0, 1], {}),
        ([0, 1], [0, 2], {}),
        ([0, 1], [0], {}),
        ([0.0, 1.0], [0, 1], {}),
        ([0, 1], [0, 1], {"inclusion": [0.5, 0.0]}),
        ([0, 1], [0, 1], {"inclusion": [0.5, 1.5]}),
        ([0, 1], [0, 1], {"inclusion": [0.5]}),
        ([0, 1], [0, 1], {"strata": ["a"]}),
        ([0, 1], [0, 1], {"level": 1.0}),
    ],
)
def test_what_cannot_be_is_refused(places: Any, truth: Any, how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"row|label|level"):
        class_shares(np.zeros((5, 2)), places, truth, **how)


@pytest.mark.parametrize(
    ("predicted", "values", "how"),
    [
        ([1.0, 2, 11], [1.0, 2, 3], {}),
        ([1.0, 2, 3], [1.0, 2, np.nan], {}),
        ([1.0, 2, 3], [1.0, 2], {}),
        ([1.0, 2, 3], [1.0, 2, 3], {"low": 5.0, "high": 5.0}),
        ([1.0, 2, 3], [1.0, 2, 3], {"level": 0.0}),
    ],
)
def test_what_cannot_be_a_mean_is_refused(predicted: Any, values: Any, how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"between|one value"):
        mean_value(predicted, [0, 1, 2], values, **how)
