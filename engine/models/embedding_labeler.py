"""Labels by likeness: the label whose name and meaning are nearest to the text, by static embeddings.

It reads nothing, it compares: thousands of rows per second, topics well, tone poorly. There is no order of words
and no question in it, so what a dimension asks counts only through its labels and what is said about them.

A label's anchor is the mean of the embeddings of its name and of its meaning. Log-probabilities of `single` and
`boolean` are a softmax over cosine similarities divided by `TEMPERATURE`; of `multi`, for each label a sigmoid of
how far its similarity is above that of the row's mean label. A score has no anchors, and answers that are only
yes or no have none unless the task says what they mean: both are refused in words. Earlier answers and other
phrasings make no difference.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.labeler import EMPTY, TRUNCATED, Answer, LoadedModel, Progress
from engine.models import embeddings
from workspace.errors import ModelError
from workspace.facts import DimensionSpec

TEMPERATURE = 0.1  # of cosine similarities; near the least log-loss on tweets, messages and news
APPLIES_ABOVE = 0.05  # above the mean similarity of the row's labels, a label of `multi` applies
CHARACTERS_PER_TOKEN = 4  # to say in tokens how long a row may be

_ROWS_AT_ONCE = 1024
_NO_CONTENT = {"yes", "no", "true", "false", "y", "n"}

Numbers = npt.NDArray[np.float64]


class EmbeddingLabeler:
    """Implements `engine.labeler.Labeler`. Raises ModelError for dimensions that likeness cannot answer."""

    def __init__(self, dimensions: Sequence[DimensionSpec]) -> None:
        began = time.perf_counter()
        self._kinds = [dimension.kind for dimension in dimensions]
        self._anchors = [_anchors(dimension) for dimension in dimensions]
        self.loaded = LoadedModel(
            name=f"{embeddings.NAME} {embeddings.SIZE}",
            build=embeddings.build(),
            n_ctx=embeddings.MAX_CHARACTERS // CHARACTERS_PER_TOKEN,
            row_tokens=embeddings.MAX_CHARACTERS // CHARACTERS_PER_TOKEN,
            threads=1,
            capabilities=("logprobs",),
            seconds=time.perf_counter() - began,
        )

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """See `engine.labeler.Labeler`. Rows influence each other by rounding only."""
        answers: list[tuple[Answer, ...]] = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            answers += self._some(rows[start : start + _ROWS_AT_ONCE])
            if progress is not None:
                progress(len(answers))
        return answers

    def close(self) -> None:
        """Nothing is held: the vectors are the process's."""

    def _some(self, rows: Sequence[str]) -> list[tuple[Answer, ...]]:
        began = time.perf_counter()
        texts = embeddings.embed(rows)
        numbers = [
            logprobs_of(kind, texts @ anchors.T).tolist()
            for kind, anchors in zip(self._kinds, self._anchors, strict=True)
        ]
        each = (time.perf_counter() - began) / len(rows) / len(self._kinds)
        return [
            tuple(Answer(tuple(found[place]), 0, 0, each, warnings_of(row)) for found in numbers)
            for place, row in enumerate(rows)
        ]


def logprobs_of(kind: str, similarities: npt.ArrayLike) -> Numbers:
    """Log-probabilities from cosine similarities [rows, labels], see the module. Each row is for itself."""
    near = np.asarray(similarities, dtype=np.float64)
    if kind == "multi":
        above = (near - near.mean(axis=1, keepdims=True) - APPLIES_ABOVE) / TEMPERATURE
        return np.asarray(-np.logaddexp(0.0, -above))
    scaled = near / TEMPERATURE
    return np.asarray(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))


def warnings_of(row: str) -> tuple[str, ...]:
    """What is to be said of a row whatever its answer."""
    if not row.strip():
        return (EMPTY,)
    return (TRUNCATED,) if len(row) > embeddings.MAX_CHARACTERS else ()


def _anchors(dimension: DimensionSpec) -> embeddings.Vectors:
    """One vector of length one per label. Raises ModelError when they would say nothing about the labels."""
    if dimension.explain:
        raise ModelError("Likeness of texts gives no reasons.", "Ask a language model for explanations.")
    if dimension.kind == "score":
        raise ModelError(
            f"'{dimension.name}' is a score, and likeness of texts gives none.",
            "Choose a language model, or make the score a few labels in words.",
        )
    names = [label.replace(":", " ").replace("_", " ") for label in dimension.labels]
    meanings = dimension.meanings or ("",) * len(names)
    for name, meaning in zip(names, meanings, strict=True):
        if not meaning and (name.strip().casefold() in _NO_CONTENT or not any(map(str.isalpha, name))):
            raise ModelError(
                f"The label '{name}' of '{dimension.name}' says nothing a text could be like.",
                "Say in the task what each label means, or choose a language model.",
            )
    found = embeddings.embed(names)
    described = [place for place, meaning in enumerate(meanings) if meaning]
    if described:
        told = embeddings.embed([meanings[place] for place in described])
        for place, vector in zip(described, told, strict=True):
            # "yes" and "no" are only what their meanings say.
            bare = names[place].strip().casefold() in _NO_CONTENT
            found[place] = vector if bare else found[place] + vector
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    np.divide(found, lengths, out=found, where=lengths > 0)
    return found
