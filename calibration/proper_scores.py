"""Scores that only the true probabilities make best: log loss and Brier, and what the Brier score is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.calibration_error import BINS, BinSums, Scheme, class_sums
from calibration.intervals import NO_ROWS, Undefined
from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax


@dataclass(frozen=True, slots=True)
class BrierParts:
    """brier = reliability - resolution + uncertainty + within, exactly; all over all labels, in 0..2.

    `reliability`: mean squared distance of probability from what happened (0 is perfect). `resolution`: how far
    the bins differ from each other in what happened (more is better). `uncertainty`: what it would be for
    somebody who only knew the share of each label. `within`: what bins leave out, 0 if all probabilities in a
    bin are alike.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def log_loss(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean of -ln(probability of the true label), in nats, 0 at best; ln k for a uniform guess over k labels.

    A probability below 2.2e-16 counts as that, as in scikit-learn. Raises Undefined when n = 0.
    """
    normalised, labels = _rows(logprobs, truth)
    return float(log_losses(normalised, labels).mean())


def brier(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Mean over rows of the summed squared differences between probabilities and the truth, in 0..2.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", summed over all labels:
    with two labels it is twice the number that looks at one of them. Raises Undefined when n = 0.
    """
    normalised, labels = _rows(logprobs, truth)
    return float(brier_scores(np.exp(normalised), labels).mean())


def brier_parts(
    logprobs: npt.ArrayLike, truth: npt.ArrayLike, bins: int = BINS, scheme: Scheme = "width"
) -> BrierParts:
    """What the Brier score of [n, k] is made of, label by label over bins of that label's probability, summed.

    Source: Murphy 1973, "A new vector partition of the probability score"; the part within bins, without which
    the parts do not add up, Stephenson, Coelho, Jolliffe 2008, "Two extra components in the Brier score
    decomposition" (variance minus covariance within bins). Raises Undefined when n = 0.
    """
    normalised, labels = _rows(logprobs, truth)
    chances = np.exp(normalised)
    total = float(brier_scores(chances, labels).mean())
    reliability, resolution, uncertainty = (
        float(part) for part in murphy(class_sums(chances, labels, bins, scheme))
    )
    within = total - (reliability - resolution + uncertainty)
    return BrierParts(total, reliability, resolution, uncertainty, within)


def log_losses(normalised: FloatArray, truth: IntArray) -> FloatArray:
    """The log loss of every row [n] of normalised log-probabilities [n, k]."""
    of_truth = np.take_along_axis(normalised, truth[:, None], axis=1)[:, 0]
    return -np.maximum(of_truth, LOG_FLOOR)


def brier_scores(chances: FloatArray, truth: IntArray) -> FloatArray:
    """The Brier score of every row [n] of probabilities [n, k]: sum of squares - 2 p(truth) + 1."""
    of_truth = np.take_along_axis(chances, truth[:, None], axis=1)[:, 0]
    scores: FloatArray = np.einsum("nk,nk->n", chances, chances) - 2 * of_truth + 1
    return np.maximum(scores, 0.0)


def murphy(sums: BinSums) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Reliability, resolution, uncertainty, each [...], from sums [..., k, bins]."""
    count = np.maximum(sums.rows, 1.0)
    weight = sums.rows / sums.rows.sum(axis=-1, keepdims=True)
    happened = sums.right / count
    share = (weight * happened).sum(axis=-1, keepdims=True)
    reliability = (weight * (sums.said / count - happened) ** 2).sum(axis=(-2, -1))
    resolution = (weight * (happened - share) ** 2).sum(axis=(-2, -1))
    uncertainty = (share * (1 - share)).sum(axis=(-2, -1))
    return reliability, resolution, uncertainty


def _rows(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    scores = as_logprobs(logprobs)
    if len(scores) == 0:
        raise Undefined(NO_ROWS)
    return log_softmax(scores), as_truth(truth, *scores.shape)
