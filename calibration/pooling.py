"""Several models answer the same rows: one distribution from them, and how much each one's voice is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, as_logprobs, log_softmax

PRIOR = 20.0  # checked answers a model has to show before it moves half the way from the common accuracy
LEAST = 0.01  # of the strongest voice: a model no better than chance is hardly heard
SPEED = 0.02  # how much more the fastest model weighs than one that takes forever
_SURE = 0.995  # accuracies beyond are not told apart from so few answers


@dataclass(frozen=True, slots=True)
class Record:
    """What a model has shown so far: of `checked` answers `right` agree (a share of an answer may be right), where
    guessing would be right in the share `chance`; and how many rows per second it labels, 0 while unknown."""

    right: float
    checked: float
    chance: float
    rows_per_s: float = 0.0


def log_opinion_pool(logprobs: Sequence[npt.ArrayLike], weights: Sequence[float]) -> FloatArray:
    """Weighted mean of the log-probabilities of m models, normalised: m arrays [n, k] -> [n, k], in nats.

    The logarithmic opinion pool (Genest and Zidek 1986, "Combining Probability Distributions"): the distribution
    with the least weighted sum of Kullback-Leibler divergences to those of the models. A label one of the models
    holds for impossible is impossible. Raises ValueError for shapes that differ and for weights that are not above
    0, and as `as_logprobs` does.
    """
    arrays = [as_logprobs(array) for array in logprobs]
    shares = np.asarray(weights, dtype=np.float64)
    if not arrays or shares.shape != (len(arrays),) or not (np.isfinite(shares).all() and (shares > 0).all()):
        raise ValueError("a pool needs a weight above 0 for each of its models")
    if any(array.shape != arrays[0].shape for array in arrays):
        raise ValueError("the models of a pool answer the same rows with the same labels")
    pooled: FloatArray = sum(share * array for share, array in zip(shares / shares.sum(), arrays, strict=True))
    return log_softmax(pooled)


def vote_weights(records: Sequence[Record]) -> FloatArray:
    """How much each model's voice is worth: [m], above 0, summing to one.

    Proportional to the log-odds of its accuracy above those of chance, ln(p / (1 - p)) - ln(c / (1 - c)), which is
    the weight of the best vote of independent judges (Nitzan and Paroush 1982; with c = 1/k the extension to k
    labels). The accuracy p is drawn towards that of all models together as if `PRIOR` answers had shown that one:
    without checked answers all voices are equal. Among equal ones the faster weighs a little more (`SPEED`).
    Raises ValueError for a chance outside (0, 1) or more right answers than checked ones.
    """
    for record in records:
        if not 0 < record.chance < 1:
            raise ValueError("the share guessing gets right lies between 0 and 1")
        if not 0 <= record.right <= record.checked:
            raise ValueError("right answers are a part of the checked ones")
    if not records:
        return np.zeros(0)
    checked = sum(record.checked for record in records)
    common = sum(record.right for record in records) / checked if checked else 0.0
    fastest = max(record.rows_per_s for record in records)
    voices = np.ones(len(records))
    for place, record in enumerate(records):
        if checked:
            shown = (record.right + PRIOR * common) / (record.checked + PRIOR)
            voices[place] = _log_odds(shown) - _log_odds(record.chance)
    top = voices.max()
    voices = np.maximum(voices, LEAST * top) if top > 0 else np.ones(len(records))
    if fastest > 0:
        voices *= np.array([1 + SPEED * record.rows_per_s / fastest for record in records])
    weights: FloatArray = voices / voices.sum()
    return weights


def _log_odds(share: float) -> float:
    bounded = min(max(share, 1 - _SURE), _SURE)
    return float(np.log(bounded / (1 - bounded)))
