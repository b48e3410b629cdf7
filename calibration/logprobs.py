"""Rows of log-probabilities over the labels of one dimension: checking them, normalising them, reading them.

Everywhere in this package `logprobs` has shape [n, k]: n rows, k labels, natural logarithms. `-inf` (a label
the model holds for impossible) is allowed, NaN and `+inf` are not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# A probability of zero for what turned out to be true would cost infinitely much. It is read as the smallest
# relative step of a double, the same reading as in scikit-learn's log_loss.
LOG_FLOOR = float(np.log(np.finfo(np.float64).eps))


def as_logprobs(logprobs: npt.ArrayLike) -> FloatArray:
    """Check and convert to float64 [n, k]. Raises ValueError on any other shape, k = 0, NaN or `+inf`."""
    array = np.asarray(logprobs, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"log-probabilities must have shape [rows, labels], not {array.shape}")
    if np.isnan(array).any() or np.isposinf(array).any():
        raise ValueError("log-probabilities must be numbers or -inf")
    return array


def as_truth(truth: npt.ArrayLike, n: int, k: int) -> IntArray:
    """Check and convert label indices to int64 [n], each in 0..k-1. Raises ValueError otherwise."""
    array = np.asarray(truth)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.shape != (n,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"the truth must be {n} label indices, not {array.shape} {array.dtype}")
    if n and (array.min() < 0 or array.max() >= k):
        raise ValueError(f"label indices must lie in 0..{k - 1}")
    return array.astype(np.int64)


def log_softmax(scores: npt.ArrayLike) -> FloatArray:
    """Subtract from every row of [n, k] the logarithm of its summed exponentials, so that `exp` sums to one.

    A row of nothing but `-inf` says nothing about any label and becomes the uniform distribution.
    Raises ValueError as `as_logprobs` does.
    """
    array = as_logprobs(scores)
    top = array.max(axis=1, keepdims=True)
    silent = np.isneginf(top)
    with np.errstate(over="ignore"):  # finite minus huge may underflow to -inf, which is what is meant
        shifted = np.where(silent, 0.0, array - np.where(silent, 0.0, top))
    normalised: FloatArray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def top_label(logprobs: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """The most probable label of every row [n] and its probability [n], in 0..1. Ties go to the first label."""
    normalised = log_softmax(logprobs)
    label = normalised.argmax(axis=1)
    confidence: FloatArray = np.exp(np.take_along_axis(normalised, label[:, None], axis=1)[:, 0])
    return label.astype(np.int64), np.minimum(confidence, 1.0)
