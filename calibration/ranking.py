"""Whether sure labels are right more often than unsure ones: what it takes to send only the doubtful to people.

`confidence` [n] and `correct` [n] as everywhere. Only the order of the confidences counts, so no temperature
changes any of these numbers. Rows of equal confidence are taken in every order, on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.calibration_error import as_pair
from calibration.intervals import NO_ROWS, Undefined
from calibration.logprobs import FloatArray


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """Accepting all rows of confidence >= `threshold`: the share `coverage` of the rows is accepted, of which the
    share `risk` is wrong. Each [m], by falling threshold; one entry for each confidence that occurs."""

    threshold: FloatArray
    coverage: FloatArray
    risk: FloatArray


def auroc(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """How likely a right row is surer than a wrong one, in 0..1; 0.5 for confidences that say nothing.

    Area under the ROC curve of confidence against correctness, equal confidences counting half.
    Source: Hanley, McNeil 1982, "The meaning and use of the area under a ROC curve". Raises Undefined without rows
    or when all of them are right or all wrong.
    """
    _, count, hits = _tied(confidence, correct)
    if hits.sum() in (0, count.sum()):
        raise Undefined(f"All checked rows are {'wrong' if hits.sum() == 0 else 'right'}: nothing to tell apart.")
    return float(area_under_roc(count, hits))


def aurc(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Area under the risk-coverage curve, in 0..1, 0 at best: the error of the i surest rows, averaged over i.

    Source: Geifman, Uziel, El-Yaniv 2018, "Bias-reduced uncertainty estimation for deep neural classifiers".
    Raises Undefined without rows.
    """
    _, count, hits = _tied(confidence, correct)
    return float(area_under_risk(count, hits))


def risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> RiskCoverage:
    """The curve whose area `aurc` is, without any promise for rows that were not checked. Raises Undefined
    without rows."""
    values, count, hits = _tied(confidence, correct)
    accepted = np.cumsum(count)
    return RiskCoverage(values, accepted / accepted[-1], np.cumsum(count - hits) / accepted)


def area_under_roc(count: FloatArray, hits: FloatArray) -> FloatArray:
    """AUROC [...] from rows and right rows [..., m] of groups of equal confidence, by falling confidence.

    NaN where all are right or all wrong.
    """
    wrong = count - hits
    pairs = hits.sum(axis=-1) * wrong.sum(axis=-1)
    surer = np.cumsum(hits, axis=-1) - hits / 2  # right rows above each group, and half of its own
    won = (surer * wrong).sum(axis=-1)
    area: FloatArray = np.divide(won, pairs, out=np.full(np.shape(pairs), np.nan), where=pairs > 0)
    return area


def area_under_risk(count: FloatArray, hits: FloatArray) -> FloatArray:
    """AURC [...] from rows and right rows [..., m], whole numbers, of groups of equal confidence, falling.

    A group of c rows, w of them wrong, after N rows with W wrong: the errors expected after j of them are
    W + j w / c, and the sum over j of (W + j w / c) / (N + j) is w + (W - N w / c) (H(N + c) - H(N)), H(i) being
    the sum of 1, 1/2, ..., 1/i.
    """
    wrong = count - hits
    after, wrong_after = np.cumsum(count, axis=-1), np.cumsum(wrong, axis=-1)
    before, wrong_before = after - count, wrong_after - wrong
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(after[..., -1].max()) + 1))])
    steps = harmonic[after.astype(np.int64)] - harmonic[before.astype(np.int64)]
    summed = wrong + (wrong_before - before * wrong / np.maximum(count, 1.0)) * steps
    area: FloatArray = summed.sum(axis=-1) / after[..., -1]
    return area


def _tied(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The confidences that occur, falling, and how many rows have each, and how many of those are right."""
    values, right = as_pair(confidence, correct)
    if values.size == 0:
        raise Undefined(NO_ROWS)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    count = np.diff(np.append(first, ordered.size)).astype(np.float64)
    return ordered[first], count, np.add.reduceat(right[order].astype(np.float64), first)
