"""Temperature scaling: one number that makes a model's confidence as high as it deserves."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from calibration.documents import read
from calibration.folds import FOLDS, cross_fit
from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax
from calibration.newton import few_first

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
    method: ClassVar[str] = "temperature"

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
        """As JSON text; `from_json` gives the very same number back."""
        return json.dumps({"method": self.method, "temperature": self.value})

    @classmethod
    def from_json(cls, document: str) -> Self:
        """Read what `to_json` wrote, with or without the method. Raises ValueError if it is anything else."""
        data = read(document)
        if data.get("method", cls.method) != cls.method:
            raise ValueError(f"this is no document of a calibrator of the kind {cls.method}")
        value = data.get("temperature")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("no temperature in this document")
        return cls(float(value))


@dataclass(frozen=True, slots=True)
class LowerTemperature(Temperature):
    """A temperature that only lowers confidence: `value` is 1 or more."""

    method: ClassVar[str] = "lower_temperature"

    def __post_init__(self) -> None:
        Temperature.__post_init__(self)
        if self.value < 1:
            raise ValueError(f"a temperature of {self.value} raises confidence, and this one only lowers it")


def fit_temperature(logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, prior: float = PRIOR_ROWS) -> Temperature:
    """The temperature with the smallest log loss of `logprobs` [n, k] against `truth` [n] (label indices).

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2.
    The loss is convex in b = 1/T, so its slope is followed to zero by Newton steps kept inside a bracket, for T
    in 0.05..20. `prior` adds prior * (b - 1 - ln b), a Gamma prior with its mode at T = 1 that weighs about as
    much as that many rows: without it, a handful of rows that all happen to be right would make every
    confidence 100 %. `prior=0` is the plain maximum likelihood of the paper.

    Fewer than two rows or a single label tell nothing: T = 1. A label that lies more than `LOG_FLOOR` below
    the top one, or is impossible, counts as that far below. The result does not depend on the order of the rows.
    Raises ValueError for wrong shapes or a negative prior.
    """
    scores = as_logprobs(logprobs)
    n, k = scores.shape
    labels = as_truth(truth, n, k)
    if prior < 0 or not math.isfinite(prior):
        raise ValueError("the prior must be a finite number of rows, zero or more")
    if n < 2 or k < 2:
        return Temperature(1.0)
    top = scores.max(axis=1, keepdims=True)
    scores = np.maximum(scores - np.where(np.isneginf(top), 0.0, top), LOG_FLOOR)
    coldness = 1.0
    for rows in few_first(n):
        coldness = _coldness(scores[rows], labels[rows], prior / n, coldness)
    return Temperature(1.0 / coldness)


def _coldness(scores: FloatArray, labels: IntArray, weight: float, b: float) -> float:
    """Where the slope of the mean loss in b = 1/T is zero, or the bound it points to, looked for from b on."""
    low, high = 1.0 / HOTTEST, 1.0 / COLDEST
    seen_low = seen_high = False
    mean_true = float(np.take_along_axis(scores, labels[:, None], axis=1).mean())
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


def fit_lower_temperature(
    logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, prior: float = PRIOR_ROWS
) -> LowerTemperature:
    """The temperature of 1 or more with the smallest log loss; otherwise as `fit_temperature`.

    For labels where too little trust costs less than too much. The loss is convex in 1/T, so where the free fit
    lies below 1 the best allowed one is 1.
    """
    return LowerTemperature(max(1.0, fit_temperature(logprobs, truth, prior=prior).value))


def cross_fit_temperature(
    logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, folds: int = FOLDS, prior: float = PRIOR_ROWS
) -> FloatArray:
    """Every row under a temperature fitted on the other folds only: [n, k] -> [n, k], as `cross_fit` does it.

    With fewer than two rows nothing can be left out: T = 1. Raises ValueError for wrong shapes, a negative prior
    or fewer than two folds.
    """
    return cross_fit(partial(fit_temperature, prior=prior), logprobs, truth, folds=folds)
