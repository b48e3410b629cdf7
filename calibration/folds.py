"""Cross-fitting: every row judged by a fit that has not seen it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, IntArray, as_logprobs, as_truth

FOLDS = 5


class Applies(Protocol):
    """Anything fitted that turns log-probabilities [n, k] into log-probabilities [n, k]."""

    def apply(self, logprobs: npt.ArrayLike, /) -> FloatArray:
        """[n, k] -> [n, k]."""
        ...


def deal_folds(logprobs: npt.ArrayLike, truth: npt.ArrayLike, folds: int = FOLDS) -> IntArray:
    """The fold of every row, [n] in 0..folds-1.

    Rows are dealt in turn after sorting them by truth and log-probabilities [n, k]: every fold gets its share of
    every label and of sure and unsure rows, and the outcome depends neither on a seed nor on the order of the
    rows. Raises ValueError for wrong shapes or fewer than two folds.
    """
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    if folds < 2:
        raise ValueError("cross-validation needs at least two folds")
    fold = np.empty(len(labels), dtype=np.int64)
    fold[np.lexsort((*scores.T, labels))] = np.arange(len(labels)) % folds
    return fold


def cross_fit(
    fit_one: Callable[[FloatArray, IntArray], Applies],
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    folds: int = FOLDS,
) -> FloatArray:
    """Every row under what `fit_one(logprobs, truth)` made of the other folds only: [n, k] -> [n, k].

    Metrics of the result say how a fit does on rows it has not seen; metrics of a fit on its own rows flatter it.
    Raises ValueError as `deal_folds` does.
    """
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    fold = deal_folds(scores, labels, folds)
    result = np.empty_like(scores)
    for number in range(min(folds, len(labels))):
        held_out = fold == number
        fitted = fit_one(scores[~held_out], labels[~held_out])
        result[held_out] = fitted.apply(scores[held_out])
    return result
