"""Formulas of calibration written out as in the papers, and the library calls that come nearest to a fit of
ours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def _bins(said: Floats, right: Floats, edges: Floats | None = None) -> Iterator[tuple[Floats, Floats]]:
    """Confidences and outcomes of every bin that holds a row, bin by bin as in the code of Guo et al. 2017."""
    cuts = np.linspace(0, 1, 11) if edges is None else edges
    for place, (low, high) in enumerate(pairwise(cuts.tolist())):
        inside = ((said > low) | ((said == low) & (place == 0))) & (said <= high)
        if inside.any():
            yield said[inside], right[inside]


def ece(said: Floats, right: Floats, edges: Floats | None = None) -> float:
    """Sum of count/n * |accuracy - confidence|."""
    return float(sum(len(p) / len(said) * abs(y.mean() - p.mean()) for p, y in _bins(said, right, edges)))


def mce(said: Floats, right: Floats) -> float:
    """The largest |accuracy - confidence|."""
    return float(max(abs(y.mean() - p.mean()) for p, y in _bins(said, right)))


def debiased(said: Floats, right: Floats) -> float:
    """Kumar et al. 2019, normal case: 2 ECE - E|N(accuracy, its variance) - confidence|, by scipy's folded
    normal."""
    total = 0.0
    for p, y in _bins(said, right):
        gap, spread = abs(y.mean() - p.mean()), np.sqrt(y.mean() * (1 - y.mean()) / len(y))
        expected = stats.foldnorm.mean(gap / spread, scale=spread) if spread > 0 else gap
        total += len(p) / len(said) * (2 * gap - expected)
    return max(0.0, float(total))


def debiased_square(said: Floats, right: Floats) -> float:
    """Kumar et al. 2019: root of the weighted sum of (gap² - variance of the accuracy)."""
    square = sum(
        len(p) / len(said) * ((y.mean() - p.mean()) ** 2 - y.mean() * (1 - y.mean()) / (len(y) - 1))
        for p, y in _bins(said, right)
        if len(p) > 1
    )
    return float(np.sqrt(max(0.0, square)))


def murphy(chances: Floats, truth: Ints) -> list[float]:
    """Reliability, resolution, uncertainty and what is left within bins, summed over labels."""
    parts, whole = np.zeros(3), 0.0
    for label in range(chances.shape[1]):
        said, happened = chances[:, label], (truth == label).astype(np.float64)
        share = happened.mean()
        for p, y in _bins(said, happened):
            weight = len(p) / len(said)
            parts[:2] += weight * (p.mean() - y.mean()) ** 2, weight * (y.mean() - share) ** 2
        parts[2] += share * (1 - share)
        whole += np.square(said - happened).mean()
    return [*parts.tolist(), float(whole - parts[0] + parts[1] - parts[2])]


def aurc(said: Floats, right: Floats) -> float:
    """Mean error of the i surest rows; confidences that differ have one order only."""
    order = np.argsort(-said, kind="stable")
    return float((np.cumsum(1 - right[order]) / np.arange(1, len(said) + 1)).mean())


def smooth_ece(said: Floats, right: Floats) -> float:
    """Where smECE and its width meet, with mirrored Gaussians and the trapezoid rule (Blasiok, Nakkiran 2023)."""
    at = np.linspace(0, 1, 4001)

    def beyond(width: float) -> float:
        summed = np.zeros_like(at)
        for shift in (-2, 0, 2):
            for sign in (1, -1):
                summed += np.exp(-np.square((at[:, None] - sign * said - shift) / width) / 2) @ (right - said)
        density = summed / (len(said) * width * np.sqrt(2 * np.pi))
        return float(np.trapezoid(np.abs(density), at)) - width

    return float(optimize.brentq(beyond, 0.01, 1.0, xtol=1e-9))


class _Scores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Rows that are scores already, as the classifier scikit-learn wants to calibrate."""

    def fit(self, _scores: Floats, truth: Ints) -> _Scores:
        self.classes_ = np.unique(truth)
        return self

    def predict(self, scores: Floats) -> Ints:
        return np.asarray(self.classes_[scores.argmax(axis=1)])

    def decision_function(self, scores: Floats) -> Floats:
        return scores


def temperature(scores: Floats, truth: Ints) -> Floats:
    """scikit-learn's temperature scaling of [n, k] log-probabilities, applied to them."""
    fitted = CalibratedClassifierCV(FrozenEstimator(_Scores().fit(scores, truth)), method="temperature")
    chances: Floats = fitted.fit(scores, truth).predict_proba(scores)
    return chances


def logistic(features: Floats, hit: Bools, weights: Floats | None = None) -> Floats:
    """scikit-learn's logistic regression without a penalty, to convergence, applied to its rows."""
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    chances: Floats = model.fit(features, hit, sample_weight=weights).predict_proba(features)[:, 1]
    return chances


def platt(odds: Floats, hit: Bools) -> Floats:
    """Platt's sigmoid as a logistic regression: each row once as right, once as wrong, weighted by his targets."""
    wanted = np.where(hit, (hit.sum() + 1) / (hit.sum() + 2), 1 / ((~hit).sum() + 2))
    features = np.concatenate([odds, odds])[:, None]
    both = np.repeat([True, False], len(odds))
    return logistic(features, both, np.concatenate([wanted, 1 - wanted]))[: len(odds)]


def isotonic(said: Floats, hit: Bools) -> Floats:
    """scikit-learn's isotonic regression, kept as far from 0 and 1 as ours."""
    curve = IsotonicRegression(out_of_bounds="clip").fit(said, hit.astype(np.float64)).predict(said)
    return np.asarray(np.clip(curve, 1 / (len(hit) + 2), 1 - 1 / (len(hit) + 2)))


def histogram(said: Floats, hit: Bools) -> Floats:
    """Ten bins of equally many rows, each with its share of hits."""
    result = np.empty_like(said)
    for rows in np.array_split(np.argsort(said, kind="stable"), 10):
        least = 1 / (len(rows) + 2)
        result[rows] = np.clip(hit[rows].mean(), least, 1 - least)
    return result


def vector(scores: Floats, truth: Ints) -> Floats:
    """Vector scaling by scipy's L-BFGS with the gradient, to convergence, applied to its rows."""
    n, k = scores.shape
    hits = np.eye(k)[truth]

    def loss(at: Floats) -> tuple[float, Floats]:
        raised = special.log_softmax(at[:k] * scores + at[k:], axis=1)
        off = (np.exp(raised) - hits) / n
        return float(-(raised * hits).sum() / n), np.concatenate([(off * scores).sum(axis=0), off.sum(axis=0)])

    start = np.concatenate([np.ones(k), np.zeros(k)])
    options = {"ftol": 1e-16, "gtol": 1e-10, "maxiter": 500}
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    chances: Floats = special.softmax(found[:k] * scores + found[k:], axis=1)
    return chances


def crowd_kit(ratings: Ints) -> Floats:
    """crowd-kit's Dawid-Skene of [units, people] labels with -1 for gaps, to convergence: posterior of each
    unit."""
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    unit, person = np.nonzero(ratings >= 0)
    table = pd.DataFrame({"task": unit, "worker": person, "label": ratings[unit, person]})
    found = DawidSkene(n_iter=500, tol=1e-12).fit_predict_proba(table)
    chances = np.full((len(ratings), found.shape[1]), np.nan)
    chances[found.index.to_numpy()] = found.to_numpy()
    return chances
