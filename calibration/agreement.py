"""How far people, or people and models, agree beyond chance.

`ratings` has shape [units, raters]: indices of labels, or values of a score; -1 where a rater did not rate a unit
(NaN for values). Each statistic is 1 for perfect agreement, 0 for what chance alone gives, below 0 for less.
Where it is not defined it says why instead of giving a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, IntArray
from calibration.metrics import LEVEL, Estimate

Scale = Literal["nominal", "ordinal", "interval"]
RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Agreement:
    """A statistic of agreement with its bootstrap interval over units; `estimate` is None where it is not defined,
    and `why_not` says in a sentence why. `units` are those that entered it."""

    estimate: Estimate | None
    units: int
    why_not: str = ""


def cohen_kappa(
    first: npt.ArrayLike, second: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Agreement:
    """Cohen's kappa of two raters [units]; units that either left out do not enter.

    Source: Cohen 1960, "A coefficient of agreement for nominal scales". Raises ValueError for different lengths.
    """
    pair = np.column_stack([_labels(first, 1), _labels(second, 1)])
    both = pair[(pair >= 0).all(axis=1)]
    if len(both) == 0:
        return Agreement(None, 0, "No row was labeled by both.")
    if np.unique(both).size == 1:
        return Agreement(None, len(both), "Both gave one and the same label to every row, so chance explains all.")
    return _bootstrapped(_kappa_of_pair, both.astype(np.float64), resamples, seed, level)


def fleiss_kappa(
    ratings: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Agreement:
    """Fleiss' kappa of raters that need not be the same ones for every unit; [units, raters].

    Every unit must have the same number of ratings, two or more: those with fewer than the most do not enter.
    Source: Fleiss 1971, "Measuring nominal scale agreement among many raters".
    """
    table = _labels(ratings, 2)
    given = (table >= 0).sum(axis=1)
    most = int(given.max(initial=0))
    if most < 2:
        return Agreement(None, 0, "No row was labeled by two people.")
    counts = _counts(table[given == most])
    if (counts.sum(axis=0) > 0).sum() == 1:
        return Agreement(None, len(counts), "Everybody gave one and the same label, so chance explains all.")
    return _bootstrapped(_fleiss, counts, resamples, seed, level)


def krippendorff_alpha(
    ratings: npt.ArrayLike,
    scale: Scale = "nominal",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Agreement:
    """Krippendorff's alpha, [units, raters], any number of raters, any gaps.

    nominal: label indices, -1 for a gap. ordinal and interval: values, NaN for a gap; ordinal uses only their
    order. Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", with the difference functions
    given there. The interval draws units again with replacement, keeping the values each unit was given.
    """
    values = np.asarray(ratings, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"ratings must have shape [units, raters], not {values.shape}")
    if scale == "nominal":
        values = np.where(values < 0, np.nan, values)
    kept = values[np.isfinite(values).sum(axis=1) >= 2]
    if len(kept) == 0:
        return Agreement(None, 0, "No row was rated by two people.")
    levels, index = np.unique(kept[np.isfinite(kept)], return_inverse=True)
    if levels.size == 1:
        return Agreement(None, len(kept), "Everybody gave one and the same value, so chance explains all.")
    places = np.full(kept.shape, -1, dtype=np.int64)
    places[np.isfinite(kept)] = index
    counts = _counts(places)

    def alpha(units: FloatArray) -> float:
        return _alpha(units, levels, scale)

    return _bootstrapped(alpha, counts, resamples, seed, level)


def _kappa_of_pair(pairs: FloatArray) -> float:
    both = pairs.astype(np.int64)
    observed = float((both[:, 0] == both[:, 1]).mean())
    size = int(both.max()) + 1
    shares = [np.bincount(both[:, rater], minlength=size) / len(both) for rater in (0, 1)]
    expected = float(shares[0] @ shares[1])
    return (observed - expected) / (1 - expected) if expected < 1 else np.nan


def _fleiss(counts: FloatArray) -> float:
    raters = counts[0].sum()
    agreeing = float(((counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))).mean())
    shares = counts.sum(axis=0) / counts.sum()
    expected = float((shares**2).sum())
    return (agreeing - expected) / (1 - expected) if expected < 1 else np.nan


def _alpha(counts: FloatArray, levels: FloatArray, scale: Scale) -> float:
    """From how often each unit was given each value: 1 - observed over expected disagreement."""
    given = counts.sum(axis=1, keepdims=True)
    totals = counts.sum(axis=0)
    number = totals.sum()
    coincidences = (counts / (given - 1)).T @ counts - np.diag((counts / (given - 1)).sum(axis=0))
    difference = _difference(totals, levels, scale)
    expected = float((np.outer(totals, totals) * difference).sum()) / (number - 1)
    return 1.0 - float((coincidences * difference).sum()) / expected if expected > 0 else np.nan


def _difference(totals: FloatArray, levels: FloatArray, scale: Scale) -> FloatArray:
    if scale == "nominal":
        return 1.0 - np.eye(levels.size)
    if scale == "interval":
        return np.square(levels[:, None] - levels[None, :])
    # Between two values lie all that were given from the one to the other, the two themselves by half.
    middle = np.cumsum(totals) - totals / 2
    return np.square(middle[:, None] - middle[None, :])


def _bootstrapped(
    statistic: Callable[[FloatArray], float], units: FloatArray, resamples: int, seed: int, level: float
) -> Agreement:
    """Draws in which everything happens to be alike are left out: there the statistic is not defined."""
    generator = np.random.default_rng(seed)
    value = float(statistic(units))
    drawn = np.array([statistic(units[generator.integers(0, len(units), len(units))]) for _ in range(resamples)])
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if drawn.size else (value, value)
    return Agreement(Estimate(value, min(value, float(low)), max(value, float(high))), len(units))


def _counts(table: IntArray) -> FloatArray:
    """[units, labels]: how often each label was given to each unit."""
    counts = np.zeros((len(table), int(table.max(initial=0)) + 1))
    unit, rater = np.nonzero(table >= 0)
    np.add.at(counts, (unit, table[unit, rater]), 1.0)
    return counts


def _labels(labels: npt.ArrayLike, dimensions: int) -> IntArray:
    array = np.asarray(labels)
    if array.ndim != dimensions or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(
            f"ratings are label indices in {dimensions} dimension(s), not {array.shape} {array.dtype}"
        )
    return array.astype(np.int64)
