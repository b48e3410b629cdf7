"""What a head looks at: log-probabilities of the base and of every voice, and embeddings, some of them missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.logprobs import LOG_FLOOR, BoolArray, FloatArray, IntArray, as_logprobs, log_softmax


@dataclass(frozen=True)
class Evidence:
    """About n rows, all finite."""

    scores: FloatArray  # [n, 1 + v, k]: the base, then by how much each voice differs from it
    embeddings: FloatArray  # [n, e], zeros where unknown; e is 0 where there are none
    embedded: BoolArray  # [n], whether the embedding is known
    several: bool = False  # scores are log-odds, each label for itself; else logarithms that sum to 0

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def numbers(self) -> FloatArray:
        """The scores as one row of numbers each, [n, (1 + v) k]."""
        return self.scores.reshape(len(self), self.scores.shape[1] * self.scores.shape[2])

    def take(self, rows: npt.NDArray[np.generic]) -> Evidence:
        """The evidence about some rows, by places or by a mask."""
        return Evidence(self.scores[rows], self.embeddings[rows], self.embedded[rows], self.several)

    def keys(self) -> list[bytes]:
        """Of every row something equal only for rows with equal evidence, and in the same order everywhere."""
        parts = (self.embedded[:, None], self.embeddings, self.numbers)
        everything: FloatArray = np.concatenate(parts, axis=1)
        return [row.tobytes() for row in everything + 0.0]  # adding zero makes one of the two zeros there are

    def contents(self) -> list[bytes]:
        """Equal for rows that are the same text as far as can be told: the embedding, or else the scores."""
        scores, embeddings = self.numbers + 0.0, self.embeddings + 0.0
        return [
            b"e" + embeddings[row].tobytes() if known else b"s" + scores[row].tobytes()
            for row, known in enumerate(self.embedded)
        ]


def evidence(
    base: npt.ArrayLike,
    voices: npt.ArrayLike | None = None,
    embeddings: npt.ArrayLike | None = None,
    *,
    several: bool = False,
) -> Evidence:
    """Check and convert `base` [n, k], `voices` [n, v, k] and `embeddings` [n, e].

    A label held for impossible counts as `LOG_FLOOR`. A voice that is NaN for a row has not been heard there and
    is taken to say what the base says; an embedding that is NaN is unknown. `several`: base and voices are
    log-odds of each label, where any number of them may apply. Raises ValueError for other shapes.
    """
    first = _level(_as_odds(base) if several else as_logprobs(base), several)
    n, k = first.shape
    others = np.empty((n, 0, k)) if voices is None else np.asarray(voices, dtype=np.float64)
    if others.ndim != 3 or others.shape[::2] != (n, k):
        raise ValueError(f"voices must have shape [{n} rows, voices, {k} labels], not {others.shape}")
    heard = ~np.isnan(others).any(axis=2, keepdims=True)
    flat = np.where(heard, others, 0.0).reshape(-1, k)
    said = _level(flat, several).reshape(others.shape)
    scores = np.concatenate([first[:, None], np.where(heard, said - first[:, None], 0.0)], axis=1)
    if not several:
        scores -= scores.mean(axis=2, keepdims=True)
    vectors = np.empty((n, 0)) if embeddings is None else np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != n or np.isinf(vectors).any():
        raise ValueError(f"embeddings must be finite, of shape [{n} rows, numbers], not {vectors.shape}")
    embedded = ~np.isnan(vectors).any(axis=1) & (vectors.shape[1] > 0)
    return Evidence(scores, np.where(embedded[:, None], vectors, 0.0), embedded, several)


def _level(scores: FloatArray, several: bool) -> FloatArray:
    if several:
        return np.asarray(np.clip(scores, LOG_FLOOR, -LOG_FLOOR))
    return np.asarray(np.maximum(log_softmax(scores), LOG_FLOOR))


def _as_odds(base: npt.ArrayLike) -> FloatArray:
    odds = np.asarray(base, dtype=np.float64)
    if odds.ndim != 2 or np.isnan(odds).any():
        raise ValueError(f"log-odds must have shape [rows, labels] and be known, not {odds.shape}")
    return odds


def fair_folds(seen: Evidence, truth: IntArray, folds: int) -> IntArray:
    """The fold of every row, [n] in 0..folds-1: texts that occur twice are in one fold, and every fold has its
    share of every label. Depends neither on a seed nor on the order of the rows."""
    members: dict[bytes, list[int]] = {}
    for row, content in enumerate(seen.contents()):
        members.setdefault(content, []).append(row)
    order = sorted(members, key=lambda content: (min(int(truth[row]) for row in members[content]), content))
    fold = np.empty(len(truth), dtype=np.int64)
    for number, content in enumerate(order):
        fold[members[content]] = number % folds
    return fold
