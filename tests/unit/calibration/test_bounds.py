from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, hypergeom

from calibration.bounds import betting_upper, clopper_pearson_upper, poisson_upper


@given(st.integers(1, 400), st.data(), st.floats(0.001, 0.5))
def test_the_bound_is_scipys_exact_one(checked: int, data: st.DataObject, delta: float) -> None:
    wrong = data.draw(st.integers(0, checked))
    interval = binomtest(wrong, checked, alternative="less").proportion_ci(1 - delta, method="exact")
    assert clopper_pearson_upper(wrong, checked, delta) == pytest.approx(interval.high, abs=1e-9)


def test_the_rule_of_three() -> None:
    # 0 of n wrong: 1 - delta ** (1 / n); 59 rows are the fewest that show 5 %.
    assert clopper_pearson_upper([0, 0, 0], [58, 59, 100]) == pytest.approx(
        1 - 0.05 ** (1 / np.array([58, 59, 100]))
    )
    assert clopper_pearson_upper(0, 0) == 1


@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_of_few_rows_the_bound_is_right_by_counting(delta: float) -> None:
    for rows, checked in [(1, 1), (7, 3), (12, 5), (12, 11), (12, 12)]:
        for wrong in range(checked + 1):
            possible = [
                bad
                for bad in range(wrong, rows - checked + wrong + 1)
                if sum(
                    Fraction(comb(bad, k) * comb(rows - bad, checked - k), comb(rows, checked))
                    for k in range(wrong + 1)
                )
                > delta
            ]
            assert clopper_pearson_upper(wrong, checked, delta, rows=rows) == max(possible) / rows


@settings(max_examples=20)
@given(st.integers(1, 300), st.data())
def test_many_rows_are_as_good_as_infinitely_many(checked: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, checked))
    of_many = clopper_pearson_upper(wrong, checked, rows=10**8)
    assert of_many == pytest.approx(clopper_pearson_upper(wrong, checked), abs=1e-4)


def test_checking_everything_leaves_no_doubt() -> None:
    assert clopper_pearson_upper([0, 3, 50], 50, rows=50).tolist() == [0, 0.06, 1]
    assert clopper_pearson_upper(0, 0, rows=50) == 1
    assert clopper_pearson_upper(0, 0, rows=0) == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 1), st.booleans()), min_size=3, max_size=7), st.floats(0.05, 0.6))
def test_bets_are_lost_by_the_truth_no_more_often_than_promised(
    rows: list[tuple[float, bool]], delta: float
) -> None:
    """Every sample there can be of independent draws, with its chance: no simulation."""
    chance, wrong = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    error, broken = wrong.mean(), 0.0
    for drawn in product([False, True], repeat=len(rows)):
        inside = np.array(drawn)
        bound = betting_upper(1 / chance[inside], wrong[inside], 1 / chance.min(), delta)
        if bound < error - 1e-5:
            broken += float(np.where(inside, chance, 1 - chance).prod())
    assert broken <= delta + 1e-12


def test_the_bound_by_the_smallest_chance_is_poissons_exact_one() -> None:
    # Of Garwood's table (1936): 0, 1 and 10 seen, one-sided at 95 %.
    assert poisson_upper([0, 1, 10], 100) == pytest.approx([0.02996, 0.04744, 0.16962], abs=1e-5)
    assert poisson_upper([0, 5], [0.0, 3.0]).tolist() == [1, 1]
    assert poisson_upper(2, 50, 0.9) == poisson_upper(2, 50, 1 / 3)


@pytest.mark.parametrize("delta", [0.05, 0.3, 0.6])
def test_of_samples_within_strata_that_bound_is_broken_no_more_often_than_promised(delta: float) -> None:
    """By counting, however the wrong rows are spread over strata of which different shares were checked."""
    sizes, counts = (40, 15, 9), (8, 4, 2)
    seen = np.arange(sum(counts) + 1)
    expected = sum(sizes) * min(count / size for count, size in zip(counts, sizes, strict=True))
    bounds = poisson_upper(seen, expected, delta)
    for spread in product(range(0, 41, 8), range(0, 16, 5), range(0, 10, 3)):
        chances = np.ones(1)
        for size, count, wrong in zip(sizes, counts, spread, strict=True):
            chances = np.convolve(chances, hypergeom.pmf(np.arange(count + 1), size, wrong, count))
        assert chances[bounds < sum(spread) / sum(sizes) - 1e-9].sum() <= delta + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 1), st.booleans()), min_size=3, max_size=7), st.floats(0.05, 0.6))
def test_so_it_is_of_independent_draws(rows: list[tuple[float, bool]], delta: float) -> None:
    chance, wrong = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = np.ones(1)
    for one in chance[wrong]:
        found = np.convolve(found, [1 - one, one])
    bounds = poisson_upper(np.arange(found.size), len(rows) * chance.min(), delta)
    assert found[bounds < wrong.mean() - 1e-9].sum() <= delta + 1e-9


def test_bets_grow_sure_with_the_rows_and_say_nothing_of_rows_that_could_not_be_drawn() -> None:
    weights = np.tile([2.0, 5.0], 200)
    wrong = np.zeros(400, dtype=bool)
    bounds = [betting_upper(weights[:n], wrong[:n], 5.0) for n in (0, 50, 100, 400)]
    assert bounds[0] == pytest.approx(1, abs=1e-5)
    assert bounds == sorted(bounds, reverse=True)
    assert 0.01 < bounds[-1] < 0.02
    assert betting_upper(weights, wrong, np.inf) == pytest.approx(1, abs=1e-5)
    assert betting_upper(weights, ~wrong, 5.0) == 1


@pytest.mark.parametrize(
    ("wrong", "checked", "delta", "rows"),
    [(2, 1, 0.05, None), (-1, 1, 0.05, None), (0, 1, 1.0, None), (0, 5, 0.05, 4)],
)
def test_what_cannot_be_is_refused(wrong: int, checked: int, delta: float, rows: int | None) -> None:
    with pytest.raises(ValueError, match=r"part of|delta"):
        clopper_pearson_upper(wrong, checked, delta, rows=rows)
