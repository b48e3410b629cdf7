"""Calibrators without a formula: shares of bins, and the best curve that never falls. Both need many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from calibration.documents import Numbers
from calibration.logprobs import BoolArray, FloatArray
from calibration.one_vs_rest import Curves, each_curve

BINS = 10


@dataclass(frozen=True)
class Histogram(Curves):
    """For each curve the inner edges between bins of probability, and the share of right rows of every bin.

    A probability that equals an edge belongs to the bin below it.
    """

    edges: tuple[Numbers, ...]
    shares: tuple[Numbers, ...]
    method: ClassVar[str] = "histogram"

    def __post_init__(self) -> None:
        _check(self.shares)
        for edges, shares in zip(self.edges, self.shares, strict=True):
            if len(edges) + 1 != len(shares) or list(edges) != sorted(edges):
                raise ValueError("there is one edge between every two bins, and they rise")

    @property
    def curves(self) -> int:
        """One for two labels, otherwise one for each label."""
        return len(self.shares)

    def bend(self, curve: int, odds: FloatArray) -> FloatArray:
        """[n] -> [n]."""
        bins = np.searchsorted(np.array(self.edges[curve]), expit(odds), side="left")
        bent: FloatArray = logit(np.array(self.shares[curve]))[bins]
        return bent


@dataclass(frozen=True)
class Isotonic(Curves):
    """For each curve the corners of a line that never falls: probabilities given, and shares that were right."""

    given: tuple[Numbers, ...]
    shares: tuple[Numbers, ...]
    method: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        _check(self.shares)
        for given, shares in zip(self.given, self.shares, strict=True):
            if len(given) != len(shares) or list(given) != sorted(given) or list(shares) != sorted(shares):
                raise ValueError("the corners of an isotonic curve rise")

    @property
    def curves(self) -> int:
        """One for two labels, otherwise one for each label."""
        return len(self.shares)

    def bend(self, curve: int, odds: FloatArray) -> FloatArray:
        """[n] -> [n]."""
        bent: FloatArray = logit(np.interp(expit(odds), self.given[curve], self.shares[curve]))
        return bent


def fit_histogram(logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, bins: int = BINS) -> Histogram:
    """Histogram binning of each label against the rest, from `logprobs` [n, k] and `truth` [n].

    Source: Zadrozny, Elkan 2001, "Obtaining calibrated probability estimates from decision trees and naive
    Bayesian classifiers": bins of equally many rows, each with its share of hits. Fewer bins where equal
    probabilities would be parted. No share seen in m rows is taken for certain: it stays within
    1 / (m + 2) of 0 and 1. Raises ValueError for wrong shapes or fewer than one bin.
    """
    if bins < 1:
        raise ValueError("there must be at least one bin")
    fitted = [_histogram(expit(odds), hit, bins) for odds, hit in each_curve(logprobs, truth)]
    return Histogram(tuple(edges for edges, _ in fitted), tuple(shares for _, shares in fitted))


def _histogram(said: FloatArray, hit: BoolArray, bins: int) -> tuple[Numbers, Numbers]:
    ordered = np.sort(said)
    cuts = np.arange(1, bins) * len(said) // bins
    cuts = cuts[cuts > 0]
    edges = (ordered[cuts - 1] + ordered[cuts]) / 2
    below, first = np.unique(np.searchsorted(ordered, edges, side="right"), return_index=True)
    edges = edges[first[below < len(said)]]  # edges with the same rows below them are one
    place = np.searchsorted(edges, said, side="left")
    counts = np.bincount(place, minlength=len(edges) + 1)
    shares = np.bincount(place, weights=hit, minlength=len(edges) + 1) / counts
    return tuple(edges.tolist()), tuple(_uncertain(shares, counts).tolist())


def fit_isotonic(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> Isotonic:
    """Isotonic regression of each label against the rest, from `logprobs` [n, k] and `truth` [n].

    Source: Zadrozny, Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates";
    the fit is scikit-learn's, linear between corners and flat outside. No share seen in n rows is taken for
    certain: the curve stays within 1 / (n + 2) of 0 and 1. Raises ValueError for wrong shapes.
    """
    from sklearn.isotonic import IsotonicRegression  # takes long to load, and few who import this need it

    given, shares = [], []
    for odds, hit in each_curve(logprobs, truth):
        curve = IsotonicRegression(out_of_bounds="clip").fit(expit(odds), hit.astype(np.float64))
        given.append(tuple(np.asarray(curve.X_thresholds_, dtype=np.float64).tolist()))
        values = np.asarray(curve.y_thresholds_, dtype=np.float64)
        shares.append(tuple(_uncertain(values, len(hit)).tolist()))
    return Isotonic(tuple(given), tuple(shares))


def _uncertain(shares: FloatArray, rows: npt.ArrayLike) -> FloatArray:
    """Shares as far from 0 and 1 as Laplace's rule of succession puts what was never seen in that many rows."""
    least = 1.0 / (np.asarray(rows) + 2.0)
    kept: FloatArray = np.clip(shares, least, 1.0 - least)
    return kept


def _check(shares: tuple[Numbers, ...]) -> None:
    if not shares or not all(curve and min(curve) > 0 and max(curve) < 1 for curve in shares):
        raise ValueError("calibrated shares lie strictly between 0 and 1")
