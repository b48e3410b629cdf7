"""Taking out a model's liking for a label, without any human labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, as_logprobs, log_softmax

HALF_STRENGTH = 0.5


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
