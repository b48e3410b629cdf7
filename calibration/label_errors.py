"""Labels people gave that are probably wrong: where a calibrated model and the label disagree most.

Confident learning (Northcutt, Jiang, Chuang 2021, "Confident learning: estimating uncertainty in dataset labels").
The model must not have seen the labels it judges: `logprobs` are calibrated out-of-fold log-probabilities [n, k].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, IntArray, as_logprobs, as_truth, log_softmax

# Scores: on average this share of the rows shown as suspects may be there by chance.
FALSE_SHARE = 0.2
_ROUNDING = 1e-6  # a probability that misses its threshold by less than this has reached it


@dataclass(frozen=True, slots=True)
class LabelErrors:
    """Suspects, the most suspicious first. `places` [s]: their rows; `suggested` [s]: what the model would say;
    `margin` [s], in -1..0: probability of the given label minus that of the suggested one.

    `joint` [k, k]: estimated share of rows given label i that are j in truth (None for scores); all add up to one.
    `share`: its sum off the diagonal, an estimate of the share of wrong labels that counts rows which are merely
    hard as well, so rather too high; for scores the share of suspects.
    """

    places: IntArray
    suggested: IntArray
    margin: FloatArray
    joint: FloatArray | None
    share: float
    why: str


def find_label_errors(logprobs: npt.ArrayLike, given: npt.ArrayLike) -> LabelErrors:
    """Suspects among the labels `given` [n], as indices, n >= 0.

    A row counts as label j when its probability of j reaches the average that rows given j have, so that a model
    which is unsure of one label throughout accuses nobody of it. Suspects are the rows that count as another label
    than the given one and whose most probable label is another one too (the paper's method 2), ordered by the
    normalised margin. Raises ValueError for wrong shapes and values.
    """
    probabilities = np.exp(log_softmax(as_logprobs(logprobs)))
    n, k = probabilities.shape
    labels = as_truth(given, n, k)
    confident = confident_joint(logprobs, given)
    counts = np.bincount(labels, minlength=k)
    # Every row of the joint stands for as many rows as were given that label.
    found = confident.sum(axis=1, keepdims=True)
    joint = np.where(found > 0, confident / np.maximum(found, 1), np.eye(k)) * counts[:, None] / max(1, n)
    counted, best = _counted_as(probabilities, labels), probabilities.argmax(axis=1)
    suspects = np.flatnonzero((counted >= 0) & (counted != labels) & (best != labels))
    share = float(joint.sum() - np.trace(joint)) if n else 0.0
    why = f"Of {n:,} labels, {len(suspects):,} are worth a second look: there the model is surer of another one."
    return _ranked(probabilities, labels, suspects, best, joint, share, why)


def confident_joint(logprobs: npt.ArrayLike, given: npt.ArrayLike) -> IntArray:
    """Rows [k, k] that were given label i and count as label j; rows that count as none are left out."""
    probabilities = np.exp(log_softmax(as_logprobs(logprobs)))
    k = probabilities.shape[1]
    labels = as_truth(given, *probabilities.shape)
    counted = _counted_as(probabilities, labels)
    joint = np.zeros((k, k), dtype=np.int64)
    np.add.at(joint, (labels[counted >= 0], counted[counted >= 0]), 1)
    return joint


def find_score_errors(
    logprobs: npt.ArrayLike, given: npt.ArrayLike, *, false_share: float = FALSE_SHARE
) -> LabelErrors:
    """Suspects among scores `given` [n], indices of the k ordered values: those far out for the model.

    A score one step off is no error, so a row is judged by how improbable a value at least as far out is on either
    side (mid-p, so that a value counts half towards its own side). As many are shown as keep the expected share of
    suspects by chance below `false_share` (Benjamini, Hochberg 1995). Raises ValueError as above.
    """
    probabilities = np.exp(log_softmax(as_logprobs(logprobs)))
    n, k = probabilities.shape
    labels = as_truth(given, n, k)
    if not 0 < false_share < 1:
        raise ValueError("the share of false suspects lies between 0 and 1")
    own = probabilities[np.arange(n), labels]
    below = np.cumsum(probabilities, axis=1)[np.arange(n), labels] - own / 2
    tail = 2 * np.minimum(below, 1 - below)
    order = np.argsort(tail, kind="stable")
    passes = np.flatnonzero(tail[order] <= false_share * np.arange(1, n + 1) / max(1, n))
    best = probabilities.argmax(axis=1)
    suspects = order[: passes[-1] + 1 if passes.size else 0]
    suspects = suspects[best[suspects] != labels[suspects]]
    share = len(suspects) / max(1, n)
    why = f"{len(suspects):,} of {n:,} scores lie far from what the model expects."
    return LabelErrors(
        places=suspects.astype(np.int64),
        suggested=best[suspects].astype(np.int64),
        margin=own[suspects] - probabilities[suspects, best[suspects]],
        joint=None,
        share=share,
        why=why,
    )


def _counted_as(probabilities: FloatArray, labels: IntArray) -> IntArray:
    """The label [n] each row counts as: the most probable of those that reach their threshold, -1 for none."""
    k = probabilities.shape[1]
    counts = np.bincount(labels, minlength=k)
    own = probabilities[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=own, minlength=k)
    # A label nobody was given has no rows to compare with: nothing counts as it.
    threshold = np.where(counts > 0, sums / np.maximum(counts, 1), 2.0)
    reached = probabilities >= threshold - _ROUNDING
    counted = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), counted, -1).astype(np.int64)


def _ranked(
    probabilities: FloatArray,
    labels: IntArray,
    suspects: IntArray,
    best: IntArray,
    joint: FloatArray,
    share: float,
    why: str,
) -> LabelErrors:
    margin = probabilities[suspects, labels[suspects]] - probabilities[suspects, best[suspects]]
    order = np.argsort(margin, kind="stable")
    places = suspects[order].astype(np.int64)
    return LabelErrors(places, best[places].astype(np.int64), margin[order], joint, share, why)
