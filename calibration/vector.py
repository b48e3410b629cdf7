"""Vector scaling: a weight and an offset for every label, drawn towards a guess made without labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from calibration.documents import Document, Numbers, numbers_alike
from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax
from calibration.newton import Terms, minimise

PRIOR_ROWS = 1.0


@dataclass(frozen=True)
class Vector(Document):
    """log_softmax(weights * logprobs + offsets), one weight and one offset for each of k labels."""

    weights: Numbers
    offsets: Numbers
    method: ClassVar[str] = "vector"

    def __post_init__(self) -> None:
        numbers_alike(self.weights, self.offsets)

    def apply(self, logprobs: npt.ArrayLike) -> FloatArray:
        """[n, k] -> [n, k], normalised. Raises ValueError when the fit was for another number of labels."""
        scores = _bounded(as_logprobs(logprobs))
        if scores.shape[1] != len(self.weights):
            raise ValueError(f"this calibrator was fitted on another number of labels than {scores.shape[1]}")
        return log_softmax(np.array(self.weights) * scores + np.array(self.offsets))


def fit_vector(
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    prior: float = PRIOR_ROWS,
    offsets: npt.ArrayLike | None = None,
) -> Vector:
    """Vector scaling of `logprobs` [n, k] against `truth` [n].

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2. `prior`
    adds prior / 2 * (sum of (weight - 1)^2 + sum of (offset - offsets)^2) to the summed log loss: with no rows
    the result is log_softmax(logprobs + offsets), with `offsets` [k] zero unless given; 0 is the fit of the
    paper. Fitted offsets add up to what `offsets` add up to, since a common shift changes nothing.
    Raises ValueError for wrong shapes or a negative prior.
    """
    scores = _bounded(as_logprobs(logprobs))
    n, k = scores.shape
    labels = as_truth(truth, n, k)
    towards = np.zeros(k) if offsets is None else np.asarray(offsets, dtype=np.float64)
    if towards.shape != (k,) or not np.isfinite(towards).all():
        raise ValueError(f"the offsets to start from must be {k} finite numbers")
    if not (np.isfinite(prior) and prior >= 0):
        raise ValueError("the prior must be a finite number of rows, zero or more")
    start = np.concatenate([np.ones(k), towards])
    if n == 0:
        return Vector(tuple(start[:k].tolist()), tuple(start[k:].tolist()))
    found = minimise(partial(_terms, scores, labels, start, prior / n), start, n)
    found[k:] += (towards - found[k:]).mean()
    return Vector(tuple(found[:k].tolist()), tuple(found[k:].tolist()))


def _terms(
    scores: FloatArray, labels: IntArray, start: FloatArray, weight: float, rows: slice, at: FloatArray
) -> Terms:
    """Mean log loss with its derivatives in weights and offsets, [2k] and [2k, 2k]."""
    scores, labels = scores[rows], labels[rows]
    n, k = scores.shape
    raised = at[:k] * scores + at[k:]
    raised -= raised.max(axis=1, keepdims=True)
    of_truth = np.take_along_axis(raised, labels[:, None], axis=1)[:, 0]
    shares = np.exp(raised, out=raised)
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    away = at - start
    loss = float(np.log(total).mean() - of_truth.mean()) + weight / 2 * float(away @ away)
    both = np.concatenate([shares * scores, shares], axis=1)
    true_scores = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    seen = np.concatenate([np.bincount(labels, true_scores, k), np.bincount(labels, minlength=k)])
    sums = both.sum(axis=0)
    squares = np.diag(np.einsum("nk,nk->k", both[:, :k], scores))
    across, plain = np.diag(sums[:k]), np.diag(sums[k:])
    curvature = np.block([[squares, across], [across, plain]]) - both.T @ both
    return loss, (sums - seen) / n + weight * away, curvature / n + weight * np.eye(2 * k)


def _bounded(scores: FloatArray) -> FloatArray:
    """Normalised; labels held for impossible at `LOG_FLOOR`: no weight below zero may make them certain."""
    return np.maximum(log_softmax(scores), LOG_FLOOR)
