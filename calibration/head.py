"""A small learned head: what the models said and what the text is like, weighed by what people decided.

It starts as the bias-corrected average of the models and stays that until there are labels. From them it learns
how much each voice (a phrasing of a model, or another model) counts, which label a model says when it means
another, how frequent labels are, and what texts of a label are like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from calibration.documents import Document, Numbers
from calibration.folds import FOLDS
from calibration.head_evidence import Evidence, evidence, fair_folds
from calibration.head_fitting import Scale, fit_path, score, unscaled
from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax

Matrix = tuple[Numbers, ...]

# Spreads of the priors that are tried, each of the scores' and of the embedding's weights.
SPREADS_EMBEDDED = tuple((1.4, spread) for spread in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0))
SPREADS = ((0.0, 0.0), (0.7, 0.0), (1.4, 0.0), (2.8, 0.0))
MANY_ROWS = 400  # from here on three folds tell the spreads apart well enough
_FOLDS_OF_MANY = 3
_DIGITS = 6  # decimals kept of a weight
_ROUGH, _FINE = 1e-4, 1e-6  # when a fit has converged: to compare spreads, and to be used


@dataclass(frozen=True)
class Head(Document):
    """Scores of a row: base + voices @ weights + offsets + (base and voices) @ confusion + embedding @ likeness.

    "Voices" here are by how much each differs from the base. Without any labels all numbers are zero.
    """

    weights: Numbers  # [1 + v]: of the base beyond 1, and of each voice
    offsets: Numbers  # [k]
    confusion: Matrix  # [(1 + v) k, k]
    centre: Numbers  # [e], the embedding that says nothing
    likeness: Matrix  # [e, k]
    method: ClassVar[str] = "head"
    several: ClassVar[bool] = False

    def __post_init__(self) -> None:
        k, rows = len(self.offsets), len(self.weights) * len(self.offsets)
        if not k or not self.weights or len(self.confusion) != rows or len(self.likeness) != len(self.centre):
            raise ValueError("the numbers of this head do not belong together")
        if any(len(row) != k for row in (*self.confusion, *self.likeness)):
            raise ValueError(f"every row of a head's matrices has {k} numbers, one for each label")

    @property
    def is_base(self) -> bool:
        """True while it has learned nothing."""
        return not any(map(any, (self.weights, self.offsets, *self.confusion, *self.likeness)))

    def apply(
        self, base: npt.ArrayLike, voices: npt.ArrayLike | None = None, embeddings: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Log-probabilities (log-odds of `LabelsHead`) [n, k] of rows with these answers; shapes as in `fit_head`.

        Voices and embeddings not given say nothing: the base stands for the one, the mean text for the other.
        Each row is judged by itself, so many can be given in parts.
        Raises ValueError when labels, voices or numbers per embedding are not those of the fit.
        """
        scores = np.asarray(base, dtype=np.float64) if self.several else as_logprobs(base)
        n, fitted = len(scores), (len(self.weights), len(self.offsets), len(self.centre))
        if voices is None:
            voices = np.full((n, fitted[0] - 1, fitted[1]), np.nan)
        if embeddings is None or not self.centre:
            embeddings = np.full((n, fitted[2]), np.nan)
        seen = evidence(scores, voices, embeddings, several=self.several)
        given = (*seen.scores.shape[1:], seen.embeddings.shape[1])
        if given != fitted:
            raise ValueError(f"this head was fitted on [1 + voices, labels, numbers] {fitted}, not {given}")
        if self.is_base:
            return scores if self.several else log_softmax(scores)
        added = np.einsum("v,nvk->nk", np.array(self.weights), seen.scores) + np.array(self.offsets)
        added += seen.numbers @ np.array(self.confusion)
        if self.centre:
            known = np.where(seen.embedded[:, None], seen.embeddings - np.array(self.centre), 0.0)
            added += known @ np.array(self.likeness)
        found = seen.scores[:, 0] + added
        return found if self.several else log_softmax(found)


@dataclass(frozen=True)
class LabelsHead(Head):
    """The same where any number of labels may apply: scores are log-odds of each label.

    A label heeds what was said about the others too, and what the text is like.
    """

    method: ClassVar[str] = "labels_head"
    several: ClassVar[bool] = True


def fit_head(
    base: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    voices: npt.ArrayLike | None = None,
    embeddings: npt.ArrayLike | None = None,
) -> Head:
    """The head learned from n labelled rows; with none it is the base.

    `base` [n, k]: bias-corrected average of the models. `truth` [n]: label indices. `voices` [n, v, k]:
    bias-corrected log-probabilities of each phrasing and model, NaN where one has not answered a row. `embeddings`
    [n, e] of the texts, NaN where unknown. Labels that nobody has given yet stay possible.

    Where any number of labels may apply, `truth` [n, k] says for each whether it does, base and voices are
    log-odds, and what comes is a `LabelsHead`: log losses are sums over the labels then.

    The weights have Gaussian priors around those of the base, and their most probable values are taken. How wide
    the priors are is not set but weighed: for several widths, and for the base itself, the log loss L of rows left
    out is measured by cross-validation (texts that occur twice are left out together), and the weights are
    averaged with shares proportional to exp(-L / 2). That is the pseudo-Bayesian model averaging of Yao, Vehtari,
    Simpson and Gelman 2018 ("Using Stacking to Average Bayesian Predictive Distributions"), at half its strength
    since L is itself uncertain. Averaging weights is the log-linear pool of the models: the head stays linear.

    Deterministic; the order of the rows does not matter. Takes 0.2 s of a processor for 300 rows of 6 labels with
    3 voices and 256 numbers per embedding. Raises ValueError for wrong shapes.
    """
    several = np.ndim(truth) == 2
    seen = evidence(base, voices, embeddings, several=several)
    n, places, k = seen.scores.shape
    labels = _as_truth(truth, n, k)
    kind = LabelsHead if several else Head
    if n < 2 or (k < 2 and not several):
        return kind((0.0,) * places, (0.0,) * k, ((0.0,) * k,) * (places * k), (), ())
    # Sums depend on the order of what is summed in their last digits, so the rows are put in one.
    keys = seen.keys()
    order = np.array(sorted(range(n), key=lambda row: (tuple(np.atleast_1d(labels[row])), keys[row])))
    seen, labels = seen.take(order), labels[order]
    spreads = SPREADS_EMBEDDED if seen.embedded.any() else SPREADS
    shares = _shares(seen, labels, spreads)
    scale = Scale.of(seen)
    weights = shares[1:] @ fit_path(scale, seen, labels, spreads, _FINE)
    voice, offsets, confusion, likeness = unscaled(scale, weights, places, k)
    centre = scale.centre if seen.embedded.any() else np.zeros(0)
    return kind(
        _numbers(voice), _numbers(offsets), _matrix(confusion), _numbers(centre), _matrix(likeness[: len(centre)])
    )


def cross_fit_head(
    base: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    voices: npt.ArrayLike | None = None,
    embeddings: npt.ArrayLike | None = None,
    folds: int = FOLDS,
) -> FloatArray:
    """Every row under a head fitted on the other folds only: [n, k] -> [n, k].

    Calibrators and promises see labelled rows only like this. The folds are those of `fair_folds`: rows with the
    same embedding are in one fold. Raises ValueError as `fit_head` does, or for fewer than two folds.
    """
    if folds < 2:
        raise ValueError("cross-validation needs at least two folds")
    several = np.ndim(truth) == 2
    given = np.asarray(base, dtype=np.float64) if several else as_logprobs(base)
    seen = evidence(given, voices, embeddings, several=several)
    labels = _as_truth(truth, *given.shape)
    fold = fair_folds(seen, _first(labels), folds)
    heard = np.full((len(given), 0, given.shape[1]), 0.0) if voices is None else np.asarray(voices)
    vectors = np.full((len(given), 0), 0.0) if embeddings is None else np.asarray(embeddings)
    result = np.empty_like(given)
    for number in np.unique(fold):
        rest, held_out = fold != number, fold == number
        head = fit_head(given[rest], labels[rest], voices=heard[rest], embeddings=vectors[rest])
        result[held_out] = head.apply(given[held_out], heard[held_out], vectors[held_out])
    return result


def _shares(seen: Evidence, truth: IntArray, spreads: Sequence[tuple[float, float]]) -> FloatArray:
    """How much the base and each pair of spreads deserve, [1 + pairs], summing to one."""
    fold = fair_folds(seen, _first(truth), _FOLDS_OF_MANY if len(truth) >= MANY_ROWS else FOLDS)
    said = np.empty((1 + len(spreads), len(truth)))
    for number in np.unique(fold):
        held_out, rest = fold == number, fold != number
        asked, right = seen.take(held_out), truth[held_out]
        said[0, held_out] = _log_loss(asked.scores[:, 0], right)
        if not rest.any():  # one text, however often: nothing to learn from
            said[1:, held_out] = np.inf
            continue
        scale = Scale.of(seen.take(rest))
        for place, weights in enumerate(fit_path(scale, seen.take(rest), truth[rest], spreads, _ROUGH), start=1):
            said[place, held_out] = _log_loss(score(scale, asked, weights), right)
    losses = said.sum(axis=1)
    shares = np.exp((losses.min() - losses) / 2)
    return np.asarray(shares / shares.sum())


def _log_loss(scores: FloatArray, truth: IntArray) -> FloatArray:
    if truth.ndim == 2:
        return np.asarray(np.logaddexp(0.0, np.where(truth > 0, -scores, scores)).sum(axis=1))
    said: FloatArray = np.maximum(log_softmax(scores)[np.arange(len(truth)), truth], LOG_FLOOR)
    return -said


def _as_truth(truth: npt.ArrayLike, n: int, k: int) -> IntArray:
    """Label indices [n], or whether each label applies [n, k] as 0 and 1."""
    given = np.asarray(truth)
    if given.ndim < 2:
        return as_truth(given, n, k)
    if given.shape != (n, k) or not np.isin(given, (0, 1)).all():
        raise ValueError(f"of {n} rows and {k} labels it must be said which apply, not {given.shape}")
    return given.astype(np.int64)


def _first(truth: IntArray) -> IntArray:
    """The label of each row [n], where there may be several the first one, k for none."""
    if truth.ndim < 2:
        return truth
    return np.asarray(np.where(truth.any(axis=1), truth.argmax(axis=1), truth.shape[1]))


def _numbers(values: FloatArray) -> Numbers:
    return tuple(np.round(values, _DIGITS).tolist())


def _matrix(values: FloatArray) -> Matrix:
    return tuple(map(tuple, np.round(values, _DIGITS).tolist()))
