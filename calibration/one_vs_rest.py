"""Calibrators made for two labels, for any number of them: each label against the rest, then normalised.

With two labels there is one curve, for the second label; the first gets what is left. With k > 2 there are k
curves, and their k probabilities are divided by their sum (Zadrozny, Elkan 2002, "Transforming Classifier Scores
into Accurate Multiclass Probability Estimates"). Curves map log-odds to log-odds, which keeps every digit of
probabilities near 0 and 1.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from calibration.documents import Document
from calibration.logprobs import LOG_FLOOR, BoolArray, FloatArray, as_logprobs, as_truth, log_softmax


class Curves(Document):
    """A fitted calibrator that has a curve for every label, or only one when there are two labels."""

    @property
    @abstractmethod
    def curves(self) -> int:
        """How many curves there are: 1 for two labels, otherwise one for each label."""

    @abstractmethod
    def bend(self, curve: int, odds: FloatArray) -> FloatArray:
        """Calibrated log-odds [n] of a label from those the model gave, [n]."""

    def apply(self, logprobs: npt.ArrayLike) -> FloatArray:
        """[n, k] -> [n, k], normalised. Raises ValueError when the fit was for another number of labels."""
        scores = as_logprobs(logprobs)
        if scores.shape[1] != (2 if self.curves == 1 else self.curves):
            raise ValueError(f"this calibrator was fitted on another number of labels than {scores.shape[1]}")
        bent = [self.bend(curve, odds) for curve, odds in enumerate(each_odds(scores))]
        columns = [-bent[0], bent[0]] if self.curves == 1 else bent
        return log_softmax(-np.logaddexp(0.0, -np.stack(columns, axis=1)))


def each_odds(scores: FloatArray) -> list[FloatArray]:
    """The log-odds [n] of the second of two labels, or of each of k > 2, between -36 and 36."""
    odds = log_odds(scores)
    return [odds[:, 1]] if scores.shape[1] == 2 else list(odds.T)


def each_curve(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> list[tuple[FloatArray, BoolArray]]:
    """For every curve the log-odds [n] and whether its label is the true one [n], from [n, k] and [n].

    Raises ValueError for wrong shapes, fewer than two labels or no rows.
    """
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    if scores.shape[1] < 2 or len(labels) == 0:
        raise ValueError("a curve needs at least two labels and a row")
    curves = each_odds(scores)
    return [(odds, labels == label) for label, odds in enumerate(curves, start=scores.shape[1] == 2)]


def log_odds(logprobs: FloatArray) -> FloatArray:
    """ln(p / (1 - p)) of every label, [n, k] -> [n, k], bounded where a probability is 0 or 1 to rounding."""
    if logprobs.shape[1] == 2:
        scores = log_softmax(logprobs)
        with np.errstate(invalid="ignore"):  # two labels that are both impossible are made equal above
            second = np.clip(scores[:, 1] - scores[:, 0], LOG_FLOOR, -LOG_FLOOR)
        return np.stack([-second, second], axis=1)
    scores = log_softmax(logprobs)
    top = scores.argmax(axis=1)[:, None]
    # The rest of the top label is summed without it: 1 - p would lose the digits of a p near one.
    share = np.exp(scores - np.take_along_axis(scores, top, axis=1))
    np.put_along_axis(share, top, 0.0, axis=1)
    others = share.sum(axis=1, keepdims=True)
    rest = 1.0 + others - share
    np.put_along_axis(share, top, 1.0, axis=1)
    np.put_along_axis(rest, top, others, axis=1)
    with np.errstate(divide="ignore"):
        odds = np.log(share) - np.log(rest)
    clipped: FloatArray = np.clip(odds, LOG_FLOOR, -LOG_FLOOR)
    return clipped
