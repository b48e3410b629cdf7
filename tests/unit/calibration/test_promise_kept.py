"""The promise in repeated drawing, in the cases made to break it: no more than delta of them may be broken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from calibration.calibrators import fit
from calibration.folds import cross_fit
from calibration.logprobs import BoolArray, FloatArray, log_softmax, top_label
from calibration.risk import accept, accept_by_domain
from calibration.sampling import draw, even_rates, recommend

DRAWN = 1_000_000  # seeds of draws begin here: with the seed of the rows a draw would follow their confidences

Case = Callable[[np.random.Generator], tuple[FloatArray, BoolArray]]


def useless(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Confidence says nothing, and every set is wrong a little more often than is allowed."""
    return random.random(600), np.arange(600) % 9 == 0


def flat(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """One set, wrong a little more often than is allowed: here the test uses up all of delta."""
    return np.full(600, 0.9), random.permutation(600) < 61


def ties(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Three confidences, the surest of which is borne out and the next just not."""
    said = np.repeat([0.99, 0.9, 0.5], [100, 300, 200])
    return said, random.permutation(600) < np.where(said == 0.99, 30, np.where(said == 0.9, 78, 200))


def upside_down(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """The surer, the more often wrong."""
    said = random.random(600)
    return said, random.random(600) < said * 0.25


def turning(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """All right up to a point and all wrong after it, so that a set is over the limit by a few rows."""
    said = np.linspace(1, 0, 600)
    return said, (np.arange(600) >= 300) & (np.arange(600) < 336)


def imbalanced(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Hardly any row is wrong, except where the model is least sure."""
    said = random.beta(30, 1, 600)
    return said, random.random(600) < np.where(said < np.quantile(said, 0.15), 0.7, 0.005)


def tiny(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Forty rows, of which the sample is a large part."""
    return random.random(40), np.arange(40) % 9 == 0


def true(random: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Confidences as they should be."""
    said = random.beta(4, 0.6, 600)
    return said, random.random(600) > said


CASES: tuple[Case, ...] = (useless, flat, ties, upside_down, turning, imbalanced, tiny, true)


def assert_kept(broken: list[bool], delta: float) -> None:
    """No more than delta of the promises are broken, as far as chance lets one tell (1 in 1000)."""
    assert sum(broken) <= binom.ppf(0.999, len(broken), delta)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [8, 30, 120, 400])
@pytest.mark.parametrize("rate_of_wrong", [1.0, 0.4, 2.5])
def test_a_promise_is_broken_no_more_often_than_said(case: Case, count: int, rate_of_wrong: float) -> None:
    """Also when wrong rows are drawn less or more often than others, as long as their chance is known."""
    broken = []
    for seed in range(400):
        said, wrong = case(np.random.default_rng(seed))
        drawn = draw(np.where(wrong, rate_of_wrong, 1.0), count, seed=seed + DRAWN)
        found = accept(
            said,
            drawn.places,
            wrong[drawn.places],
            epsilon=0.1,
            delta=0.1,
            inclusion=drawn.inclusion,
        )
        broken.append(found.threshold is not None and bool(wrong[said >= found.threshold].mean() > 0.1))
    assert_kept(broken, 0.1)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_of_promises_for_every_domain_all_hold_together(case: Case) -> None:
    broken = []
    for seed in range(300):
        said, wrong = case(np.random.default_rng(seed))
        domain = np.random.default_rng(seed).choice(["a", "b", "c"], said.size, p=[0.6, 0.3, 0.1])
        drawn = draw(even_rates(domain), 240, seed=seed + DRAWN)
        found = accept_by_domain(
            said, drawn.places, wrong[drawn.places], domain, epsilon=0.1, delta=0.1, inclusion=drawn.inclusion
        )
        broken.append(
            any(
                one.threshold is not None and wrong[(said >= one.threshold) & (domain == name)].mean() > 0.1
                for name, one in found.items()
            )
        )
    assert_kept(broken, 0.1)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_looking_until_it_holds_keeps_the_promise_when_looks_are_counted(case: Case) -> None:
    """Also when every draw is the one recommended after the last, at rates that follow what was found wrong."""
    broken = []
    for seed in range(200):
        said, wrong = case(np.random.default_rng(seed))
        drawn = draw(np.ones(said.size), min(60, said.size // 3), seed=seed + DRAWN)
        places, outcome = drawn.places, False
        for look in range(1, 6):
            found = accept(
                said, places, wrong[places], epsilon=0.1, delta=0.1, inclusion=drawn.inclusion, look=look
            )
            if found.threshold is not None:
                outcome = bool(wrong[said >= found.threshold].mean() > 0.1)
                break
            advice = recommend(
                said, places, wrong[places], epsilon=0.1, delta=0.1, inclusion=drawn.inclusion, look=look + 1
            )
            drawn = draw(advice.rates, advice.count, seed=seed + DRAWN, drawn=places, inclusion=drawn.inclusion)
            places = np.concatenate([places, drawn.places])
        broken.append(outcome)
    assert_kept(broken, 0.1)


@pytest.mark.soak
@pytest.mark.parametrize("method", ["temperature", "vector", "platt"])
def test_confidences_fitted_on_the_same_labels_out_of_fold_keep_the_promise(method: str) -> None:
    """Labels that have nothing to do with the scores are where fitting on them could fool the promise most."""
    broken: list[bool] = []
    for seed in range(300):
        random = np.random.default_rng(seed)
        scores = log_softmax(random.normal(size=(800, 3)))
        share = [0.89, 0.06, 0.05]  # always saying the first label is wrong a little more often than allowed
        truth = random.choice(3, 800, p=share)
        checked = draw(np.ones(800), 100, seed=seed + DRAWN).places
        logprobs = fit(method, scores[checked], truth[checked]).apply(scores)
        logprobs[checked] = cross_fit(lambda s, t: fit(method, s, t), scores[checked], truth[checked])
        label, said = top_label(logprobs)
        wrong = label != truth
        found = accept(said, checked, wrong[checked], epsilon=0.1, delta=0.1)
        broken.append(found.threshold is not None and bool(wrong[said >= found.threshold].mean() > 0.1))
    assert_kept(broken, 0.1)


def test_without_counting_the_looks_the_promise_would_not_hold() -> None:
    """Why `look` is there: a model whose error is just not allowed, asked about after every ten labels."""
    ends = {True: 0, False: 0}
    for seed in range(30):
        order = np.random.default_rng(seed).permutation(4000)
        wrong = np.arange(4000) % 19 < 2
        for counted in ends:
            for look, count in enumerate(range(40, 240, 10), start=1):
                at = order[:count]
                found = accept(
                    np.full(4000, 0.9), at, wrong[at], epsilon=0.1, delta=0.1, look=look if counted else None
                )
                if found.rows:
                    ends[counted] += 1
                    break
    assert ends[False] > 0.2 * 30
    assert ends[True] <= binom.ppf(0.999, 30, 0.1)
