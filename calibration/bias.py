"""Taking out a model's liking for a label: without any human labels, or with a few."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calibration.logprobs import LOG_FLOOR, FloatArray, as_logprobs, log_softmax
from calibration.vector import Vector, fit_vector

HALF_STRENGTH = 0.5
BIAS_ROWS = 10.0  # labels it takes to move a weight or an offset some of the way from the guess without labels


def label_bias(logprobs: npt.ArrayLike) -> FloatArray:
    """Mean log-probability of every label over the rows: [n, k] -> [k], in nats.

    Rows that hold a label for impossible (`-inf`) do not count for that label; a label nobody ever gave a
    probability, and no rows at all, give 0, which corrects nothing. Raises ValueError as `as_logprobs` does.
    """
    array = as_logprobs(logprobs)
    finite = np.isfinite(array)
    total: FloatArray = np.where(finite, array, 0.0).sum(axis=0)
    bias: FloatArray = total / np.maximum(finite.sum(axis=0), 1)
    return bias


def content_free_bias(logprobs: npt.ArrayLike) -> FloatArray:
    """What a model answers to inputs that say nothing ("N/A", "", "..."): [m, k] -> [k], in nats.

    The logarithm of the mean probability of every label, for `correct_label_bias(..., 1.0, bias=...)`, which then
    divides by that mean. No inputs give 0, which corrects nothing. Often no better than `label_bias`, and on some
    tasks much worse. Source: Zhao, Wallace, Feng, Klein, Singh 2021, "Calibrate Before Use: Improving Few-Shot
    Performance of Language Models". Raises ValueError as `as_logprobs` does.
    """
    array = as_logprobs(logprobs)
    if len(array) == 0:
        return np.zeros(array.shape[1])
    mean = np.exp(log_softmax(array)).mean(axis=0)
    bias: FloatArray = np.log(np.maximum(mean, np.exp(LOG_FLOOR)))
    return bias


def correct_label_bias(
    logprobs: npt.ArrayLike, strength: float = HALF_STRENGTH, *, bias: npt.ArrayLike | None = None
) -> FloatArray:
    """log_softmax(logprobs - strength * bias): [n, k] -> [n, k], every row summing to one after `exp`.

    `bias` is `label_bias` of these rows unless given; give it when the rows are a part of a run, so that every
    part is corrected alike. Strength 1 assumes that all labels are equally frequent and hurts where they are
    not; 0 only normalises; one half was the best guess without labels over several tasks and models.

    Source: the label-wise prior of batch calibration (Zhou et al. 2024, "Batch Calibration: Rethinking
    Calibration for In-Context Learning and Prompt Engineering"), here as a mean of logarithms and damped.
    Raises ValueError for wrong shapes or a strength that is not finite.
    """
    array = as_logprobs(logprobs)
    if not np.isfinite(strength):
        raise ValueError("the strength of the correction must be finite")
    shift = label_bias(array) if bias is None else np.asarray(bias, dtype=np.float64)
    if shift.shape != (array.shape[1],) or not np.isfinite(shift).all():
        raise ValueError(f"the label bias must be {array.shape[1]} finite numbers")
    return log_softmax(array - strength * shift)


def fit_label_bias(
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    bias: npt.ArrayLike,
    strength: float = HALF_STRENGTH,
    prior: float = BIAS_ROWS,
) -> Vector:
    """The correction with a few labels: vector scaling drawn towards `correct_label_bias(..., strength)`.

    `logprobs` [n, k] and `truth` [n] of the labelled rows, uncorrected; `bias` [k] of all rows of the run, as
    `label_bias` or `content_free_bias` gives it. With no labels the result is that correction itself; `prior` is
    how strongly labels have to speak against it (`fit_vector`). Raises ValueError for wrong shapes.
    """
    shift = np.asarray(bias, dtype=np.float64)
    if not np.isfinite(strength):
        raise ValueError("the strength of the correction must be finite")
    return fit_vector(logprobs, truth, prior=prior, offsets=-strength * shift)
