"""How far confidence is from the share that turns out right: bins of a reliability diagram and errors over them.

`confidence` [n] is the probability of the label that was given, `correct` [n] whether that label was right. Sums
per bin have shape [..., bins], so that one function serves the rows themselves and every draw of a bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from calibration.intervals import LEVEL, NO_ROWS, Redraws, Undefined, wilson_interval
from calibration.logprobs import BoolArray, FloatArray, IntArray, as_logprobs, as_truth, log_softmax

Scheme = Literal["width", "mass"]
BINS = 10


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


class BinSums(NamedTuple):
    """Per bin, each [..., bins]: rows, summed confidence p, rows that were right, summed p (1 - p)."""

    rows: FloatArray
    said: FloatArray
    right: FloatArray
    spread: FloatArray


def assign_bins(
    confidence: npt.ArrayLike, bins: int = BINS, scheme: Scheme = "width"
) -> tuple[IntArray, FloatArray]:
    """The bin of every row [n] and the edges [bins + 1]: row i lies in (edges[b], edges[b + 1]].

    "width" cuts 0..1 into equal parts as in Guo et al. 2017; "mass" cuts at quantiles, so that bins hold
    about equally many rows (Nguyen, O'Connor 2015), with fewer bins where equal confidences would be parted.
    Raises ValueError for confidences outside 0..1 or fewer than one bin.
    """
    values = as_confidence(confidence)
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
    bins: int = BINS,
    scheme: Scheme = "width",
    level: float = LEVEL,
) -> list[Bin]:
    """The points of a reliability diagram, by rising confidence. Empty bins are left out, so n = 0 gives [].

    The counts add up to n. Raises ValueError as `assign_bins` does, or when the arrays differ in length.
    """
    values, right = as_pair(confidence, correct)
    index, edges = assign_bins(values, bins, scheme)
    sums = bin_sums(values, right, index, len(edges) - 1)
    points = []
    for b in np.flatnonzero(sums.rows):
        count, hits = int(sums.rows[b]), int(sums.right[b])
        low_ci, high_ci = wilson_interval(hits, count, level)
        points.append(
            Bin(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                count=count,
                # A mean of many equal numbers may leave their range by a rounding error.
                mean_confidence=float(np.clip(sums.said[b] / count, edges[b], edges[b + 1])),
                accuracy=hits / count,
                low_ci=low_ci,
                high_ci=high_ci,
            )
        )
    return points


def expected_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS, scheme: Scheme = "width"
) -> float:
    """ECE, in 0..1: sum over bins of count/n * |accuracy - mean confidence|.

    Source: Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, equation 3. It is biased upwards: with few rows
    in a bin, chance alone parts accuracy from confidence. Raises Undefined when n = 0.
    """
    return float(expected_error(_sums_of(confidence, correct, bins, scheme)))


def maximum_calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS, scheme: Scheme = "width"
) -> float:
    """MCE, in 0..1: the largest |accuracy - mean confidence| of any bin that holds a row.

    Source: Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, equation 5. One unlucky row in an otherwise empty bin
    can make it large. Raises Undefined when n = 0.
    """
    return float(maximum_error(_sums_of(confidence, correct, bins, scheme)))


def debiased_calibration_error(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    bins: int = BINS,
    scheme: Scheme = "mass",
    *,
    norm: Literal[1, 2] = 1,
) -> float:
    """Calibration error less what chance alone adds to it, in 0..1; 0 where chance adds more than was seen.

    norm 1: the ECE less its expected bias when each bin's accuracy scatters normally around what was seen,
    sqrt(a (1 - a) / count): twice the ECE minus the mean of that folded normal, which the library of Kumar et
    al. draws by chance and is written out here. norm 2: root of the weighted mean of squared differences, each
    less its unbiased variance a (1 - a) / (count - 1); a bin of one row counts as 0. Source: Kumar, Liang, Ma
    2019, "Verified uncertainty calibration", section 4; on equal mass as the binning to be preferred, Roelofs,
    Cain, Shlens, Mozer 2022, "Mitigating bias in calibration error estimation". Raises Undefined when n = 0.
    """
    sums = _sums_of(confidence, correct, bins, scheme)
    return float(debiased_error(sums) if norm == 1 else debiased_square_error(sums))


def classwise_calibration_error(
    logprobs: npt.ArrayLike, truth: npt.ArrayLike, bins: int = BINS, scheme: Scheme = "width"
) -> float:
    """Mean over the k labels of the ECE of "this label applies", whose confidence is the label's probability;
    0..1.

    Sees what the ECE of the top label hides: probabilities of the other labels that say too much or too little.
    Source: Kull et al. 2019, "Beyond temperature scaling", section 2. Raises Undefined when n = 0.
    """
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    if len(labels) == 0:
        raise Undefined(NO_ROWS)
    return float(classwise_error(class_sums(np.exp(log_softmax(scores)), labels, bins, scheme)))


def bin_sums(
    values: FloatArray, right: BoolArray, index: IntArray, bins: int, drawn: Redraws | None = None
) -> BinSums:
    """Sums per bin [bins] from the bin of every row; [resamples, bins] when drawn."""
    summed = (None, values, right, values * (1 - values))
    if drawn is not None:
        return BinSums(*(drawn.sums(weights, index, bins) for weights in summed))
    return BinSums(*(np.bincount(index, weights, bins).astype(np.float64) for weights in summed))


def class_sums(
    chances: FloatArray, truth: IntArray, bins: int, scheme: Scheme = "width", drawn: Redraws | None = None
) -> BinSums:
    """Sums per label and bin [k, bins], of each label's probability against whether it was true.

    [resamples, k, bins] when drawn. With "mass" some labels may have fewer bins, and zeros at the end.
    """
    found = []
    for label in range(chances.shape[1]):
        values = np.minimum(chances[:, label], 1.0)
        found.append(bin_sums(values, truth == label, assign_bins(values, bins, scheme)[0], bins, drawn))
    return BinSums(*(np.stack(part, axis=-2) for part in zip(*found, strict=True)))


def chance_sums(sums: BinSums, resamples: int, seed: int) -> BinSums:
    """Sums [resamples, ..., bins] as a perfectly calibrated model with these confidences would give them.

    The right rows of a bin scatter around the summed confidence with variance `spread`, here normally. Source of
    testing calibration so: Brocker, Smith 2007, "Increasing the reliability of reliability diagrams".
    """
    noise = np.random.default_rng(seed).standard_normal((resamples, *sums.said.shape)) * np.sqrt(sums.spread)
    return sums._replace(right=np.clip(sums.said + noise, 0.0, sums.rows))


def expected_error(sums: BinSums) -> FloatArray:
    """ECE [...] from sums [..., bins]."""
    error: FloatArray = np.abs(sums.right - sums.said).sum(axis=-1) / sums.rows.sum(axis=-1)
    return np.minimum(error, 1.0)


def maximum_error(sums: BinSums) -> FloatArray:
    """MCE [...] from sums [..., bins]."""
    gaps: FloatArray = np.abs(sums.right - sums.said) / np.maximum(sums.rows, 1.0)
    largest: FloatArray = gaps.max(axis=-1)
    return np.minimum(largest, 1.0)


def debiased_error(sums: BinSums) -> FloatArray:
    """ECE less its bias [...] from sums [..., bins]; see `debiased_calibration_error`."""
    count = np.maximum(sums.rows, 1.0)
    share = sums.right / count
    gap = np.abs(share - sums.said / count)
    spread = np.sqrt(np.maximum(share * (1 - share), 0.0) / count)
    ratio = np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 0)
    folded = spread * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + gap * (1 - 2 * ndtr(-ratio))
    expected = np.where(spread > 0, folded, gap)
    return np.clip(_weighted(2 * gap - expected, sums), 0.0, 1.0)


def debiased_square_error(sums: BinSums) -> FloatArray:
    """Root mean squared calibration error less its bias [...] from sums [..., bins]."""
    count = np.maximum(sums.rows, 1.0)
    share = sums.right / count
    variance = share * (1 - share) / np.maximum(count - 1, 1.0)
    square = np.where(sums.rows > 1, (share - sums.said / count) ** 2 - variance, 0.0)
    root: FloatArray = np.sqrt(np.maximum(_weighted(square, sums), 0.0))
    return root


def classwise_error(sums: BinSums) -> FloatArray:
    """Classwise ECE [...] from sums [..., k, bins]."""
    error: FloatArray = expected_error(sums).mean(axis=-1)
    return error


def as_confidence(confidence: npt.ArrayLike) -> FloatArray:
    """Check and convert to float64 [n]. Raises ValueError on any other shape and on values outside 0..1."""
    values = np.asarray(confidence, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("confidences are a list of numbers between 0 and 1")
    return values


def as_pair(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Check and convert both [n]. Raises ValueError when they differ in length, or as `as_confidence` does."""
    values, right = as_confidence(confidence), np.asarray(correct, dtype=np.bool_)
    if values.shape != right.shape:
        raise ValueError(f"{values.size} confidences do not go with {right.size} outcomes")
    return values, right


def _sums_of(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int, scheme: Scheme) -> BinSums:
    values, right = as_pair(confidence, correct)
    if values.size == 0:
        raise Undefined(NO_ROWS)
    index, edges = assign_bins(values, bins, scheme)
    return bin_sums(values, right, index, len(edges) - 1)


def _weighted(per_bin: FloatArray, sums: BinSums) -> FloatArray:
    mean: FloatArray = (per_bin * sums.rows).sum(axis=-1) / sums.rows.sum(axis=-1)
    return mean
