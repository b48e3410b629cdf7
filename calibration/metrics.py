"""How right the labels are, and how well confidence says so; each number with what is known about its error.

`confidence` [n] is the probability of the label that was given, `correct` [n] whether that label was right.
Intervals are two-sided at 95 % unless another `level` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.logprobs import LOG_FLOOR, BoolArray, FloatArray, IntArray, as_logprobs, as_truth, log_softmax

Scheme = Literal["width", "mass"]
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the interval it lies in at the stated level; low <= value <= high."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """The rows whose confidence lies in (low, high], the first bin including its low end.

    `accuracy` is the share of them that was right, [low_ci, high_ci] its Wilson interval.
    """

    low: float
    high: float
    count: int
    mean_confidence: float
    accuracy: float
    low_ci: float
    high_ci: float


def wilson_interval(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share of `successes` among `n`; (0, 1) when n = 0. Always contains successes / n.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference". Unlike
    p ± 1.96 s it keeps its coverage for few rows and for shares near 0 and 1 (Brown, Cai, DasGupta 2001).
    Raises ValueError unless 0 <= successes <= n and 0 < level < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    z = _quantile(level)
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # Exact at the ends, where rounding could leave the share itself just outside.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def accuracy(correct: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Share of `correct` [n] that is true, with its Wilson interval. Raises ValueError when n = 0."""
    right = np.asarray(correct, dtype=np.bool_)
    if right.ndim != 1 or right.size == 0:
        raise ValueError("accuracy needs at least one checked row")
    low, high = wilson_interval(int(right.sum()), right.size, level)
    return Estimate(float(right.mean()), low, high)


def assign_bins(
    confidence: npt.ArrayLike, bins: int = 10, scheme: Scheme = "width"
) -> tuple[IntArray, FloatArray]:
    """The bin of every row [n] and the edges [bins + 1]: row i lies in (edges[b], edges[b + 1]].

    "width" cuts 0..1 into equal parts as in Guo et al. 2017; "mass" cuts at quantiles, so that bins hold
    about equally many rows (Nguyen, O'Connor 2015), with fewer bins where equal confidences would be parted.
    Raises ValueError for confidences outside 0..1 or fewer than one bin.
    """
    values = _confidences(confidence)
    if bins < 1:
        raise ValueError("there must be at least one bin")
    parts = np.linspace(0.0, 1.0, bins + 1)
    edges: FloatArray = parts
    if scheme == "mass" and values.size:
        edges = np.unique(np.quantile(values, parts))
        edges = edges if edges.size > 1 else np.repeat(edges, 2)
    return np.searchsorted(edges[1:-1], values, side="left").astype(np.int64), edges


def reliability_bins(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    bins: int = 10,
    scheme: Scheme = "width",
    level: float = LEVEL,
) -> list[Bin]:
    """The points of a reliability diagram, by rising confidence. Empty bins are left out, so n = 0 gives [].

    The counts add up to n. Raises ValueError as `assign_bins` does, or when the arrays differ in length.
    """
    values, right = _pair(confidence, correct)
    index, edges = assign_bins(values, bins, scheme)
    counts, said, hits = _sums(values, right, index, len(edges) - 1)
    points = []
    for b in np.flatnonzero(counts):
        low_ci, high_ci = wilson_interval(int(hits[b]), int(counts[b]), level)
        points.append(
            Bin(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                count=int(counts[b]),
                # A mean of many equal numbers may leave their range by a rounding error.
                mean_confidence=float(np.clip(said[b] / counts[b], edges[b], edges[b + 1])),
                accuracy=float(hits[b] / counts[b]),
                low_ci=low_ci,
                high_ci=high_ci,
            )
        )
    return points


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10, scheme: Scheme = "width"
) -> float:
    """ECE, in 0..1: sum over bins of count/n * |accuracy - mean confidence|.

    Source: Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, equation 3. It is biased upwards: with few rows
    in a bin, chance alone parts accuracy from confidence. Raises ValueError when n = 0.
    """
    values, right = _pair(confidence, correct)
    if values.size == 0:
        raise ValueError("a calibration error needs at least one checked row")
    index, edges = assign_bins(values, bins, scheme)
    _, said, hits = _sums(values, right, index, len(edges) - 1)
    return float(min(1.0, np.abs(hits - said).sum() / values.size))


def log_loss(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean of -ln(probability of the true label), in nats, 0 at best; ln k for a uniform guess over k labels.

    A probability below 2.2e-16 counts as that, as in scikit-learn. Raises ValueError when n = 0.
    """
    normalised, labels = _rows(logprobs, truth)
    of_truth = np.take_along_axis(normalised, labels[:, None], axis=1)
    return float(-np.maximum(of_truth, LOG_FLOOR).mean())


def brier(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean over rows of the summed squared differences between probabilities and the truth, in 0..2.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", summed over all labels:
    with two labels it is twice the number that looks at one of them. Raises ValueError when n = 0.
    """
    normalised, labels = _rows(logprobs, truth)
    difference = np.exp(normalised)
    difference[np.arange(labels.size), labels] -= 1.0
    return float(np.square(difference).sum(axis=1).mean())


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: npt.ArrayLike,
    resamples: int = 500,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """`statistic(*arrays)` and its percentile interval over rows drawn again with replacement.

    All arrays have n >= 1 rows along their first axis and are drawn together. The same seed gives the same
    interval. Widened where needed so that it contains the value itself.
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife". Raises ValueError on bad arguments.
    """
    columns = [np.asarray(array) for array in arrays]
    if not columns or resamples < 1 or len({len(column) for column in columns}) != 1 or len(columns[0]) == 0:
        raise ValueError("a bootstrap needs arrays of one and the same length, at least one row and one resample")
    _quantile(level)
    generator = np.random.default_rng(seed)
    value = float(statistic(*columns))
    draws = np.empty(resamples)
    for i in range(resamples):
        chosen = generator.integers(0, len(columns[0]), len(columns[0]))
        draws[i] = statistic(*(column[chosen] for column in columns))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError("a level lies between 0 and 1")
    return NormalDist().inv_cdf((1 + level) / 2)


def _sums(
    values: FloatArray, right: BoolArray, index: IntArray, bins: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Per bin: rows, summed confidence, rows that were right."""
    counts = np.bincount(index, minlength=bins).astype(np.int64)
    # An empty array of weights would come back as integers.
    said = np.bincount(index, weights=values, minlength=bins).astype(np.float64)
    hits = np.bincount(index, weights=right, minlength=bins).astype(np.float64)
    return counts, said, hits


def _confidences(confidence: npt.ArrayLike) -> FloatArray:
    values = np.asarray(confidence, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("confidences are a list of numbers between 0 and 1")
    return values


def _pair(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    values, right = _confidences(confidence), np.asarray(correct, dtype=np.bool_)
    if values.shape != right.shape:
        raise ValueError(f"{values.size} confidences do not go with {right.size} outcomes")
    return values, right


def _rows(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    scores = as_logprobs(logprobs)
    if len(scores) == 0:
        raise ValueError("a loss needs at least one checked row")
    return log_softmax(scores), as_truth(truth, *scores.shape)
