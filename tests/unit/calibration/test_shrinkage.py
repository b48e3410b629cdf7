from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings

from calibration import DomainCalibrator, fit_by_domain, fit_temperature, log_loss, log_softmax
from calibration.logprobs import FloatArray, IntArray
from calibration.vector import fit_vector
from tests.unit.calibration.examples import scores_and_truth

LABELS = 3


def world(rows: list[int], spread: float, seed: int) -> tuple[FloatArray, IntArray, list[str]]:
    """Domains with so many rows each; in each the labels are shifted by offsets of that spread."""
    generator = np.random.default_rng(seed)
    offsets = spread * generator.normal(size=(len(rows), LABELS))
    domain = np.repeat(np.arange(len(rows)), rows)
    scores = log_softmax(2.0 * generator.normal(size=(len(domain), LABELS)))
    truth = (0.5 * scores + offsets[domain] + generator.gumbel(size=scores.shape)).argmax(axis=1)
    return scores, truth.astype(np.int64), [f"domain {number}" for number in domain]


def split(rows: list[int], spread: float, seed: int, left: int = 400) -> tuple[list[int], list[int]]:
    """The places of rows to be fitted, so many of each domain, and of `left` rows of each domain to judge by."""
    fitted: list[int] = []
    judged: list[int] = []
    start = 0
    for count in rows:
        fitted += range(start, start + count)
        judged += range(start + count, start + count + left)
        start += count + left
    return fitted, judged


def losses(rows: list[int], spread: float, seed: int, only: str | None = None) -> tuple[float, float, float]:
    """Held-out log loss of pooled, separate and shrunk fits, over all domains or only one."""
    scores, truth, domains = world([count + 400 for count in rows], spread, seed)
    fitted, judged = split(rows, spread, seed)
    names = np.array(domains)
    found = fit_by_domain(scores[fitted], truth[fitted], names[fitted].tolist())
    if only is not None:
        judged = [row for row in judged if domains[row] == only]
    separate = np.empty((len(judged), LABELS))
    for name in np.unique(names[judged]):
        own = [row for row in fitted if domains[row] == name]
        asked = names[judged] == name
        separate[asked] = fit_vector(scores[own], truth[own]).apply(scores[judged][asked])
    said = [found.pooled.apply(scores[judged]), separate, found.apply(scores[judged], names[judged].tolist())]
    first, second, third = (log_loss(one, truth[judged]) for one in said)
    return first, second, third


def test_between_domains_that_differ_it_beats_both_extremes() -> None:
    found = np.array([losses([60, 40, 25, 15, 10, 10], 1.0, seed) for seed in range(5)])
    pooled, separate, shrunk = found.mean(axis=0)
    assert shrunk < separate - 0.02
    assert shrunk < pooled - 0.02


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_a_domain_with_three_rows_gets_no_worse_than_pooled(spread: float) -> None:
    found = np.array([losses([80, 80, 80, 80, 3], spread, seed, only="domain 4") for seed in range(12)])
    behind = found[:, 2] - found[:, 0]
    error = behind.std(ddof=1) / np.sqrt(len(behind))
    assert behind.mean() <= max(0.002, 2 * error)
    assert (found[:, 1] - found[:, 2]).mean() > 0.02  # on its own it would be lost


def test_domains_that_do_not_differ_are_left_pooled() -> None:
    together = 0
    for seed in range(8):
        scores, truth, domains = world([40] * 8, 0.0, seed)
        found = fit_by_domain(scores, truth, domains)
        together += found.spreads == (0.0, 0.0)
        difference = np.exp(found.apply(scores, domains)) - np.exp(found.pooled.apply(scores))
        assert np.abs(difference).max() < 0.15
    assert together >= 6


def test_the_more_rows_a_domain_has_the_more_it_follows_them() -> None:
    scores, truth, domains = world([200, 50, 10, 2], 1.0, 3)
    found = fit_by_domain(scores, truth, domains)
    own = [found.own[f"domain {number}"] for number in range(4)]
    assert 0 < own[3] < own[2] < min(own[:2]) < 1
    assert found.rows == {"domain 0": 200, "domain 1": 50, "domain 2": 10, "domain 3": 2}


def test_the_spread_of_domains_is_found() -> None:
    assert fit_by_domain(*world([400] * 20, 0.8, 1)).spreads[1] in {0.4, 0.8}


def test_an_unknown_domain_gets_the_pooled_map() -> None:
    scores, truth, domains = world([50, 50], 1.0, 2)
    found = fit_by_domain(scores, truth, domains)
    assert found.spreads[1] > 0
    assert np.allclose(found.apply(scores, ["never seen"] * 100), found.pooled.apply(scores))


def test_another_pooled_fit_can_be_asked_for() -> None:
    scores, truth, domains = world([50, 50], 0.0, 2)
    assert fit_by_domain(scores, truth, domains, fit_pooled=fit_temperature).pooled == fit_temperature(
        scores, truth
    )


def test_a_single_domain_is_the_pooled_fit() -> None:
    scores, truth, _ = world([50], 0.0, 2)
    found = fit_by_domain(scores, truth, ["one"] * 50)
    assert np.allclose(found.apply(scores, ["one"] * 50), fit_vector(scores, truth).apply(scores))


@settings(max_examples=10, deadline=None)
@given(scores_and_truth(min_rows=0))
def test_any_rows_stay_distributions_and_survive_json(example: tuple[FloatArray, IntArray]) -> None:
    scores, truth = example
    domains = [str(row % 3) for row in range(len(truth))]
    found = fit_by_domain(scores, truth, domains)
    applied = found.apply(scores, domains)
    assert np.exp(applied).sum(axis=1) == pytest.approx(np.ones(len(truth)))
    again = DomainCalibrator.from_json(found.to_json())
    assert again == found
    assert np.array_equal(again.apply(scores, domains), applied)


def test_the_order_of_rows_changes_nothing() -> None:
    scores, truth, domains = world([40, 20, 5], 1.0, 4)
    order = np.random.default_rng(1).permutation(65)
    one = fit_by_domain(scores, truth, domains)
    other = fit_by_domain(scores[order], truth[order], np.array(domains)[order].tolist())
    assert np.exp(other.apply(scores, domains)) == pytest.approx(np.exp(one.apply(scores, domains)), abs=1e-6)


def test_many_rows_are_quick_and_large_domains_do_not_swamp_small_ones() -> None:
    scores, truth, domains = world([5000, 300, 3], 0.7, 5)
    found = fit_by_domain(scores, truth, domains)
    assert found.own["domain 0"] > 0.95 > found.own["domain 2"]


def test_wrong_shapes_and_documents_are_refused() -> None:
    scores, truth, domains = world([10, 10], 1.0, 6)
    with pytest.raises(ValueError, match="domains for"):
        fit_by_domain(scores, truth, domains[:-1])
    found = fit_by_domain(scores, truth, domains)
    with pytest.raises(ValueError, match="another number of labels"):
        found.apply(scores[:, :2], domains)
    for broken in ("[]", "{}", '{"method": "temperature"}', json.dumps({**json.loads(found.to_json()), "own": 1})):
        with pytest.raises(ValueError):  # noqa: PT011 - messages differ by what is broken
            DomainCalibrator.from_json(broken)
