"""The most probable weights of a head under given spreads of their priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import expit
from threadpoolctl import ThreadpoolController

from calibration.head_evidence import Evidence
from calibration.logprobs import FloatArray, IntArray

# Standard deviations of the priors. What weights apply to has been scaled to about one, so these say by how many
# nats the evidence may move a label's score. Twice or half as much changed accuracy on questions, messages and
# tweets by less than 0.015 wherever it was tried.
VOICE_SPREAD = 0.5  # of the weight of a whole voice
OFFSET_SPREAD = 1.0  # of a label's offset
_STEPS = 200


@dataclass(frozen=True)
class Scale:
    """What evidence is divided by and counted from, taken from the labelled rows."""

    middle: FloatArray  # [1 + v, k], mean scores
    size: float
    centre: FloatArray  # [e], mean embedding
    length: float

    @classmethod
    def of(cls, seen: Evidence) -> Scale:
        """From n > 0 rows."""
        size = float(seen.scores[:, 0].std()) * float(np.sqrt(seen.scores.shape[2]))
        known = seen.embeddings[seen.embedded]
        centre = known.mean(axis=0) if len(known) else np.zeros(seen.embeddings.shape[1])
        length = float(np.sqrt(((known - centre) ** 2).sum(axis=1).mean())) if len(known) else 0.0
        return cls(seen.scores.mean(axis=0), size or 1.0, centre, length or 1.0)

    def columns(self, seen: Evidence) -> FloatArray:
        """[n, 1 + (1 + v) k + e]: one, scores, embedding; an unknown embedding is the mean one."""
        scores = (seen.numbers - self.middle.ravel()) / self.size
        embeddings = np.where(seen.embedded[:, None], seen.embeddings - self.centre, 0.0) / self.length
        return np.concatenate([np.ones((len(seen), 1)), scores, embeddings], axis=1)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries, which takes as long as a fit


def fit_path(
    scale: Scale, seen: Evidence, truth: IntArray, spreads: Sequence[tuple[float, float]], tolerance: float
) -> FloatArray:
    """Weights for each pair of spreads, of the scores' and of the embedding's weights: [pairs, weights].

    `truth` [n]: label indices, or [n, k] where `seen` is of `several`: whether each label applies.

    A row's scores are base + sum over voices of weight * voice + columns @ matrix. The weights are first the 1 + v
    of voices (that of the base: by how much it is more than 1), then the matrix [columns, k], flattened; each has
    a Gaussian prior around zero. Log loss and prior together are convex and minimised by L-BFGS, for each pair
    from where the one before it ended, until a step is worth less than `tolerance` of them.
    """
    from scipy.optimize import minimize  # takes long to load, and few who import this need it

    columns = scale.columns(seen)
    n, voices, k = seen.scores.shape
    several = seen.several
    flat = np.ascontiguousarray(seen.scores.transpose(1, 0, 2)).reshape(voices, n * k)
    wanted = truth.astype(np.float64) if several else np.eye(k)[truth]
    rest = columns.shape[1] - 1 - voices * k
    weights = np.zeros(voices + columns.shape[1] * k)
    found = []
    for scores_spread, embedding_spread in spreads:
        blocks = [OFFSET_SPREAD] + [scores_spread] * (voices * k) + [embedding_spread] * rest
        spread = np.concatenate([np.full(voices, VOICE_SPREAD), np.repeat(blocks, k)])

        def loss(scaled: FloatArray, spread: FloatArray = spread) -> tuple[float, FloatArray]:
            voice, matrix = _parts(scaled * spread, voices, k)
            scores = seen.scores[:, 0] + (voice @ flat).reshape(n, k) + columns @ matrix
            if several:
                chances, unlikely = expit(scores), np.logaddexp(0.0, scores).sum()
            else:
                scores -= scores.max(axis=1, keepdims=True)
                odds = np.exp(scores)
                total = odds.sum(axis=1, keepdims=True)
                chances, unlikely = odds / total, np.log(total).sum()
            value = unlikely - (scores * wanted).sum() + scaled @ scaled / 2
            surplus = chances - wanted
            slope = np.concatenate([flat @ surplus.ravel(), (columns.T @ surplus).ravel()])
            return float(value), slope * spread + scaled

        start = np.divide(weights, spread, out=np.zeros_like(weights), where=spread > 0)
        options = {"maxiter": _STEPS, "ftol": tolerance, "gtol": 1e-6}
        # Several threads for matrices this small wait for each other: ten times as long where a model works too.
        with _libraries().limit(limits=1, user_api="blas"):
            ended = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        weights = ended.x * spread
        found.append(weights)
    return np.array(found)


def score(scale: Scale, seen: Evidence, weights: FloatArray) -> FloatArray:
    """Scores [n, k], not normalised."""
    _, voices, k = seen.scores.shape
    voice, matrix = _parts(weights, voices, k)
    added: FloatArray = np.einsum("v,nvk->nk", voice, seen.scores) + scale.columns(seen) @ matrix
    return seen.scores[:, 0] + added


def unscaled(
    scale: Scale, weights: FloatArray, voices: int, k: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The same weights for evidence as it is, but for the embedding's centre: of voices [1 + v], offsets [k], of
    scores [(1 + v) k, k] and of the embedding [e, k]."""
    voice, matrix = _parts(weights, voices, k)
    scores = matrix[1 : 1 + voices * k] / scale.size
    embedding = matrix[1 + voices * k :] / scale.length
    return voice, matrix[0] - scale.middle.ravel() @ scores, scores, embedding


def _parts(weights: FloatArray, voices: int, k: int) -> tuple[FloatArray, FloatArray]:
    return weights[:voices], weights[voices:].reshape(-1, k)
