"""How far people, or people and models, agree beyond chance.

`ratings` has shape [units, raters]: indices of labels, or values of a score; -1 where a rater did not rate a unit
(NaN for values). Each statistic is 1 for perfect agreement, 0 for what chance alone gives, below 0 for less.
Where it is not defined it says why instead of giving a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.confusion import beyond_chance, kappa_of, label_counts
from calibration.intervals import LEVEL, RESAMPLES, Estimate, Redraws, percentile_interval
from calibration.logprobs import BoolArray, FloatArray, IntArray

Scale = Literal["nominal", "ordinal", "interval"]
# Values told apart in draws; where there are more, neighbours are taken together there.
_MOST_LEVELS = 40


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
    both = both[np.lexsort(both.T)]
    size = int(both.max()) + 1

    def kappa(drawn: Redraws | None) -> FloatArray:
        return kappa_of(label_counts(both[:, 0], both[:, 1], size, drawn))

    return _measured(kappa, len(both), resamples, seed, level)


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
    agreeing = (counts * (counts - 1)).sum(axis=1) / (most * (most - 1))

    def kappa(drawn: Redraws | None) -> FloatArray:
        units = _summed(np.ones(len(counts)), drawn)
        shares = [_summed(each, drawn) / (units * most) for each in counts.T]
        return beyond_chance(_summed(agreeing, drawn) / units, np.square(shares).sum(axis=0))

    return _measured(kappa, len(counts), resamples, seed, level)


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
    from scipy.stats import rankdata  # takes long to load, and few who import this need it

    values = np.asarray(ratings, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"ratings must have shape [units, raters], not {values.shape}")
    if scale == "nominal":
        values = np.where(values < 0, np.nan, values)
    kept = values[np.isfinite(values).sum(axis=1) >= 2]
    if len(kept) == 0:
        return Agreement(None, 0, "No row was rated by two people.")
    given = np.isfinite(kept)
    levels, index = np.unique(kept[given], return_inverse=True)
    if levels.size == 1:
        return Agreement(None, len(kept), "Everybody gave one and the same value, so chance explains all.")
    if scale == "interval":
        return _measured(_interval_alpha(np.where(given, kept, 0.0), given), len(kept), resamples, seed, level)
    places = np.zeros(kept.shape, dtype=np.int64)
    places[given] = index
    if scale == "nominal":
        return _measured(_nominal_alpha(places, given), len(kept), resamples, seed, level)
    ranks = np.zeros(kept.shape)
    ranks[given] = rankdata(kept[given])
    exact = _interval_alpha(ranks, given)
    if levels.size > _MOST_LEVELS:
        places = places * _MOST_LEVELS // levels.size
    drawn = _ordinal_alpha(places, given, min(levels.size, _MOST_LEVELS))
    return _measured(exact, len(kept), resamples, seed, level, drawn)


# What a statistic is for the units themselves (None), or in each draw of them [resamples].
Statistic = Callable[[Redraws | None], FloatArray]


def _interval_alpha(values: FloatArray, given: BoolArray) -> Statistic:
    """Disagreement within units and among all values, both as variances. Midranks make it the ordinal alpha of the
    rows themselves, for between two values lie all that were given from the one to the other."""
    values = np.where(given, values - values[given].mean(), 0.0)
    number, total = given.sum(axis=1).astype(np.float64), values.sum(axis=1)
    squares = np.square(values).sum(axis=1)
    within = (number * squares - total**2) / (number - 1)

    def alpha(drawn: Redraws | None) -> FloatArray:
        all_given = _summed(number, drawn)
        among = all_given * _summed(squares, drawn) - _summed(total, drawn) ** 2
        return _beyond_disagreement(_summed(within, drawn), among / (all_given - 1))

    return alpha


def _nominal_alpha(places: IntArray, given: BoolArray) -> Statistic:
    number = given.sum(axis=1).astype(np.float64)
    counts = _counts(np.where(given, places, -1))
    within = (number**2 - np.square(counts).sum(axis=1)) / (number - 1)

    def alpha(drawn: Redraws | None) -> FloatArray:
        all_given = _summed(number, drawn)
        among = all_given**2 - np.square([_summed(each, drawn) for each in counts.T]).sum(axis=0)
        return _beyond_disagreement(_summed(within, drawn), among / (all_given - 1))

    return alpha


def _ordinal_alpha(places: IntArray, given: BoolArray, levels: int) -> Statistic:
    """From the table of coinciding values, because the distance of two values depends on what was drawn."""
    number = given.sum(axis=1).astype(np.float64)

    def alpha(drawn: Redraws | None) -> FloatArray:
        table: FloatArray | float = 0.0
        for one, other in combinations(range(places.shape[1]), 2):
            weights = given[:, one] * given[:, other] / (number - 1)
            table = table + _summed(weights, drawn, places[:, one] * levels + places[:, other], levels**2)
        half = np.reshape(table, (-1, levels, levels))
        coincidences = half + half.transpose(0, 2, 1)
        totals = coincidences.sum(axis=2)
        middle = np.cumsum(totals, axis=1) - totals / 2
        distance = np.square(middle[:, :, None] - middle[:, None, :])
        among = np.einsum("rc,rk,rck->r", totals, totals, distance) / (totals.sum(axis=1) - 1)
        found = _beyond_disagreement((coincidences * distance).sum(axis=(1, 2)), among)
        return found if drawn is not None else found[0]

    return alpha


def _beyond_disagreement(within: FloatArray, among: FloatArray) -> FloatArray:
    """1 - observed / expected disagreement; NaN where none is expected."""
    # Rounding may leave a trace of disagreement where there is none.
    some = among > 1e-12
    share: FloatArray = np.divide(within, among, out=np.full(np.shape(among), np.nan), where=some)
    return 1.0 - share


def _measured(
    statistic: Statistic,
    units: int,
    resamples: int,
    seed: int,
    level: float,
    in_draws: Statistic | None = None,
) -> Agreement:
    """With its interval. `in_draws`: a coarser one for the draws, whose offset is taken out."""
    value, coarse = float(statistic(None)), in_draws or statistic
    draws = coarse(Redraws(units, resamples, seed)) + (value - float(coarse(None)))
    return Agreement(percentile_interval(value, draws, level), units)


def _summed(
    weights: FloatArray, drawn: Redraws | None, cell: IntArray | None = None, cells: int = 1
) -> FloatArray:
    """Sums over units: a number or [cells], and one such per draw."""
    if drawn is None:
        summed = weights.sum() if cell is None else np.bincount(cell, weights, cells)
        return np.asarray(summed, dtype=np.float64)
    sums = drawn.sums(weights, cell, cells)
    return sums[:, 0] if cell is None else sums


def _counts(table: IntArray) -> FloatArray:
    """[units, labels]: how often each label was given to each unit."""
    labels = int(table.max(initial=0)) + 1
    unit, rater = np.nonzero(table >= 0)
    counts = np.bincount(unit * labels + table[unit, rater], minlength=len(table) * labels)
    return counts.reshape(len(table), labels).astype(np.float64)


def _labels(labels: npt.ArrayLike, dimensions: int) -> IntArray:
    array = np.asarray(labels)
    if array.ndim != dimensions or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(
            f"ratings are label indices in {dimensions} dimension(s), not {array.shape} {array.dtype}"
        )
    return array.astype(np.int64)
