"""Temperature scaling: one number that makes a model's confidence as high as it deserves."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax

COLDEST, HOTTEST = 0.05, 20.0
PRIOR_ROWS = 1.0
_STEPS = 200
_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divides log-probabilities by `value` (> 0): above 1 lowers confidence, below 1 raises it.

    The most probable label stays what it was, so accuracy never changes.
    """

    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"a temperature is a positive number, not {self.value}")

    @property
    def at_limit(self) -> bool:
        """True when the fit ran into its bounds: confidence then says (almost) nothing, or all was right."""
        return self.value <= COLDEST or self.value >= HOTTEST

    def apply(self, logprobs: npt.ArrayLike) -> FloatArray:
        """log_softmax(logprobs / value): [n, k] -> [n, k]. A temperature of 1 only normalises."""
        array = as_logprobs(logprobs)
        with np.errstate(over="ignore"):
            return log_softmax(array / self.value)

    def to_json(self) -> str:
        """As JSON text; `Temperature.from_json` gives the very same number back."""
        return json.dumps({"temperature": self.value})

    @classmethod
    def from_json(cls, document: str) -> Temperature:
        """Read what `to_json` wrote. Raises ValueError if it is anything else."""
        data = json.loads(document)
        value = data.get("temperature") if isinstance(data, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("no temperature in this document")
        return cls(float(value))


def fit_temperature(logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, prior: float = PRIOR_ROWS) -> Temperature:
    """The temperature with the smallest log loss of `logprobs` [n, k] against `truth` [n] (label indices).

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2.
    The loss is convex in b = 1/T, so its slope is followed to zero by Newton steps kept inside a bracket, for T
    in 0.05..20. `prior` adds prior * (b - 1 - ln b), a Gamma prior with its mode at T = 1 that weighs about as
    much as that many rows: without it, a handful of rows that all happen to be right would make every
    confidence 100 %. `prior=0` is the plain maximum likelihood of the paper.

    Fewer than two rows or a single label tell nothing: T = 1. A label held for impossible counts as `LOG_FLOOR`.
    The result does not depend on the order of the rows. Raises ValueError for wrong shapes or a negative prior.
    """
    scores = as_logprobs(logprobs)
    n, k = scores.shape
    labels = as_truth(truth, n, k)
    if prior < 0 or not math.isfinite(prior):
        raise ValueError("the prior must be a finite number of rows, zero or more")
    if n < 2 or k < 2:
        return Temperature(1.0)
    scores = np.maximum(log_softmax(scores), LOG_FLOOR)
    scores = scores - scores.max(axis=1, keepdims=True)
    return Temperature(1.0 / _coldness(scores, labels, prior / n))


def _coldness(scores: FloatArray, labels: IntArray, weight: float) -> float:
    """Where the slope of the mean loss in b = 1/T is zero, or the bound it points to."""
    low, high = 1.0 / HOTTEST, 1.0 / COLDEST
    seen_low = seen_high = False
    mean_true = float(np.take_along_axis(scores, labels[:, None], axis=1).mean())
    b = 1.0
    for _ in range(_STEPS):
        slope, curvature = _slope(scores, mean_true, weight, b)
        if slope == 0 or (slope < 0 and b >= high) or (slope > 0 and b <= low):
            return b
        if slope > 0:
            high, seen_high = b, True
        else:
            low, seen_low = b, True
        newton = b - slope / curvature if curvature > 0 else (low if slope > 0 else high)
        step = min(max(newton, low), high)
        if (step == low and seen_low) or (step == high and seen_high):
            step = math.sqrt(low * high)
        if abs(step - b) <= _TOLERANCE * b:
            return step
        b = step
    return b


def _slope(scores: FloatArray, mean_true: float, weight: float, b: float) -> tuple[float, float]:
    """First and second derivative in b of the mean log loss plus `weight` times the prior's term."""
    weights = np.exp(b * scores)
    total = np.einsum("nk->n", weights)
    weights *= scores
    expected = np.einsum("nk->n", weights) / total
    squares = np.einsum("nk,nk->n", weights, scores) / total
    slope = float(expected.mean()) - mean_true + weight * (1 - 1 / b)
    curvature = float(np.maximum(squares - expected**2, 0.0).mean()) + weight / b**2
    return slope, curvature


def cross_fit_temperature(
    logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, folds: int = 5, prior: float = PRIOR_ROWS
) -> FloatArray:
    """Every row under a temperature fitted on the other folds only: [n, k] -> [n, k].

    Metrics of the result say how the fitted temperature does on rows it has not seen; metrics of
    `fit_temperature(...).apply` on the same rows flatter it. Rows are dealt to the folds in turn after sorting
    them by truth and log-probabilities, which stratifies the folds and makes the outcome independent of the
    order of the rows, with no seed. With fewer than two rows nothing can be left out: T = 1.
    Raises ValueError for wrong shapes or fewer than two folds.
    """
    scores = as_logprobs(logprobs)
    n, k = scores.shape
    labels = as_truth(truth, n, k)
    if folds < 2:
        raise ValueError("cross-validation needs at least two folds")
    fold = np.empty(n, dtype=np.int64)
    fold[np.lexsort((*scores.T, labels))] = np.arange(n) % folds
    result = np.empty_like(scores)
    for number in range(min(folds, n)):
        held_out = fold == number
        fitted = fit_temperature(scores[~held_out], labels[~held_out], prior=prior)
        result[held_out] = fitted.apply(scores[held_out])
    return result
