"""Curves with a formula: Platt's sigmoid and beta calibration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from calibration.documents import Numbers, numbers_alike
from calibration.logprobs import BoolArray, FloatArray
from calibration.newton import Terms, minimise
from calibration.one_vs_rest import Curves, each_curve

PRIOR_ROWS = 1.0
_IDENTITY = np.array([1.0, 1.0, 0.0])


@dataclass(frozen=True)
class Platt(Curves):
    """Log-odds become slope * log-odds + offset. Rising wherever the fitted slope is positive."""

    slopes: Numbers
    offsets: Numbers
    method: ClassVar[str] = "platt"

    def __post_init__(self) -> None:
        numbers_alike(self.slopes, self.offsets)

    @property
    def curves(self) -> int:
        """One for two labels, otherwise one for each label."""
        return len(self.slopes)

    def bend(self, curve: int, odds: FloatArray) -> FloatArray:
        """[n] -> [n]."""
        return self.slopes[curve] * odds + self.offsets[curve]


@dataclass(frozen=True)
class Beta(Curves):
    """Log-odds become a ln p - b ln(1 - p) + c with a, b >= 0: never falling, and the identity among them."""

    a: Numbers
    b: Numbers
    c: Numbers
    method: ClassVar[str] = "beta"

    def __post_init__(self) -> None:
        numbers_alike(self.a, self.b, self.c)
        if min(self.a + self.b) < 0:
            raise ValueError("beta calibration never falls: a and b are zero or more")

    @property
    def curves(self) -> int:
        """One for two labels, otherwise one for each label."""
        return len(self.a)

    def bend(self, curve: int, odds: FloatArray) -> FloatArray:
        """[n] -> [n]."""
        held, left = _both_logs(odds)
        return self.a[curve] * held - self.b[curve] * left + self.c[curve]


def fit_platt(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> Platt:
    """The sigmoid of each label against the rest, on log-odds, from `logprobs` [n, k] and `truth` [n].

    Source: Platt 1999, "Probabilistic Outputs for Support Vector Machines", with his targets
    (hits + 1) / (hits + 2) and 1 / (misses + 2) in place of one and zero, which keep the fit finite; solved by
    Newton's method as in Lin, Lin, Weng 2007. Raises ValueError for wrong shapes.
    """
    fitted = []
    for odds, hit in each_curve(logprobs, truth):
        hits = float(hit.sum())
        wanted = np.where(hit, (hits + 1) / (hits + 2), 1 / (len(hit) - hits + 2))
        features = np.stack([odds, np.ones_like(odds)])
        fitted.append(minimise(partial(_logistic, features, wanted), np.array([1.0, 0.0]), len(odds)))
    slopes, offsets = np.array(fitted).T.tolist()
    return Platt(tuple(slopes), tuple(offsets))


def fit_beta(logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, prior: float = PRIOR_ROWS) -> Beta:
    """Beta calibration of each label against the rest, from `logprobs` [n, k] and `truth` [n].

    Source: Kull, Silva Filho, Flach 2017, "Beta calibration: a well-founded and easily implemented improvement on
    logistic calibration for binary classifiers". `prior` adds prior / 2 * ((a - 1)^2 + (b - 1)^2 + c^2) to the
    summed log loss, which draws the fit towards changing nothing; 0 is the fit of the paper.
    Raises ValueError for wrong shapes or a negative prior.
    """
    if not (np.isfinite(prior) and prior >= 0):
        raise ValueError("the prior must be a finite number of rows, zero or more")
    fitted = [_beta(odds, hit, prior / max(1, len(hit))) for odds, hit in each_curve(logprobs, truth)]
    a, b, c = np.array(fitted).T.tolist()
    return Beta(tuple(a), tuple(b), tuple(c))


def _beta(odds: FloatArray, hit: BoolArray, weight: float) -> FloatArray:
    """[a, b, c]. The loss is convex: where its lowest point has a negative a or b, the best lies on a border."""
    held, left = _both_logs(odds)
    features, wanted = np.stack([held, -left, np.ones_like(odds)]), hit.astype(np.float64)

    def penalised(free: list[int], rows: slice, at: FloatArray) -> Terms:
        loss, slope, curvature = _logistic(features[free], wanted, rows, at)
        away = at - _IDENTITY[free]
        return loss + weight / 2 * float(away @ away), slope + weight * away, curvature + weight * np.eye(len(at))

    def lowest(free: list[int]) -> tuple[float, FloatArray]:
        found = np.zeros(3)
        found[free] = minimise(partial(penalised, free), _IDENTITY[free], len(odds))
        return penalised([0, 1, 2], slice(None), found)[0], found

    inside = lowest([0, 1, 2])
    if inside[1][:2].min() >= 0:
        return inside[1]
    borders = [lowest(free) for free in ([0, 2], [1, 2], [2])]
    return min((border for border in borders if border[1][:2].min() >= 0), key=lambda border: border[0])[1]


def _logistic(features: FloatArray, wanted: FloatArray, rows: slice, at: FloatArray) -> Terms:
    """Mean log loss of the log-odds `at @ features`, features [p, n], against shares [n], with its derivatives."""
    features, wanted = features[:, rows], wanted[rows]
    odds = at @ features
    share = expit(odds)
    loss = float(np.mean(np.logaddexp(0.0, odds) - wanted * odds))
    slope = features @ (share - wanted) / len(odds)
    return loss, slope, (features * (share * (1 - share))) @ features.T / len(odds)


def _both_logs(odds: FloatArray) -> tuple[FloatArray, FloatArray]:
    """ln p and ln(1 - p) of log-odds."""
    return -np.logaddexp(0.0, -odds), -np.logaddexp(0.0, odds)
