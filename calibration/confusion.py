"""How right labels are beyond accuracy: macro F1 and Cohen's kappa, from how often each label was given and true.

Counts per label have shape [..., k], so that one function serves the rows themselves and every draw of a
bootstrap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from calibration.intervals import NO_ROWS, Redraws, Undefined
from calibration.logprobs import FloatArray, IntArray, as_truth


class LabelCounts(NamedTuple):
    """Per label, each [..., k]: rows it was given to, rows it was true for, rows where both are so."""

    given: FloatArray
    true: FloatArray
    both: FloatArray


def macro_f1(given: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean of the F1 of every label that was given or true, in 0..1; each label counts alike, however rare it is.

    `given`, `truth` [n]: label indices. F1 = 2 hits / (given + true), as in scikit-learn. Raises Undefined when
    n = 0.
    """
    return float(f1_of(_counts(given, truth)))


def kappa(given: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Cohen's kappa of labels [n] and truth [n]: agreement beyond what their shares alone would give, at most 1.

    Source: Cohen 1960, "A coefficient of agreement for nominal scales". Raises Undefined when n = 0 and when one
    label was given to every row and is the truth of every row.
    """
    value = float(kappa_of(_counts(given, truth)))
    if np.isnan(value):
        raise Undefined("Every row has one and the same label on both sides, so chance explains all agreement.")
    return value


def label_counts(given: IntArray, truth: IntArray, labels: int, drawn: Redraws | None = None) -> LabelCounts:
    """Counts per label [labels]; [resamples, labels] when drawn."""
    hits = (given == truth).astype(np.float64)
    pairs = ((None, given), (None, truth), (hits, given))
    if drawn is not None:
        return LabelCounts(*(drawn.sums(weights, cell, labels) for weights, cell in pairs))
    return LabelCounts(*(np.bincount(cell, weights, labels).astype(np.float64) for weights, cell in pairs))


def f1_of(counts: LabelCounts) -> FloatArray:
    """Macro F1 [...] from counts [..., k]."""
    either = counts.given + counts.true
    each = 2 * counts.both / np.maximum(either, 1.0)
    mean: FloatArray = each.sum(axis=-1) / (either > 0).sum(axis=-1)
    return mean


def kappa_of(counts: LabelCounts) -> FloatArray:
    """Cohen's kappa [...] from counts [..., k]; NaN where chance alone explains all."""
    rows = counts.given.sum(axis=-1)
    observed = counts.both.sum(axis=-1) / rows
    expected = (counts.given * counts.true).sum(axis=-1) / rows**2
    return beyond_chance(observed, expected)


def beyond_chance(observed: FloatArray, expected: FloatArray) -> FloatArray:
    """(observed - expected) / (1 - expected) agreement [...]; NaN where chance alone explains all."""
    room = 1 - expected
    beyond: FloatArray = np.divide(
        observed - expected, room, out=np.full(np.shape(room), np.nan), where=room > 1e-12
    )
    return beyond


def _counts(given: npt.ArrayLike, truth: npt.ArrayLike) -> LabelCounts:
    one, other = np.asarray(given), np.asarray(truth)
    if one.size == 0 and other.size == 0:
        raise Undefined(NO_ROWS)
    labels = int(max(one.max(initial=0), other.max(initial=0))) + 1
    return label_counts(as_truth(one, one.size, labels), as_truth(other, one.size, labels), labels)
