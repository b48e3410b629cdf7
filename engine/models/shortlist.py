"""Which of very many labels come into question for a text, by static embeddings, before a model reads it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from engine.models.embeddings import embed
from engine.prompt import LISTED_LABELS
from workspace.facts import DimensionSpec
from workspace.task import LEVELS

PRUNED_WARNING = "pruned"  # warning: the labels were too many to be listed, only the likeliest came into question
PRUNED = 1e-6  # probability that labels which were not on a row's shortlist have together


def shortlists(dimension: DimensionSpec, texts: Sequence[str], size: int = LISTED_LABELS) -> list[tuple[int, ...]]:
    """For each text the `size` labels (indices, in task order) that are nearest to it in meaning."""
    if not texts or len(dimension.labels) <= size:
        return [tuple(range(len(dimension.labels)))] * len(texts)
    likeness = embed(list(texts)) @ _labels(dimension.labels, dimension.meanings).T
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :size]
    return [tuple(sorted(int(index) for index in row)) for row in nearest]


@lru_cache(maxsize=8)
def _labels(labels: tuple[str, ...], meanings: tuple[str, ...]) -> npt.NDArray[np.float32]:
    names = [name.replace(LEVELS, " ").replace("_", " ") for name in labels]
    told = meanings or ("",) * len(labels)
    return embed([f"{name}. {meaning}" if meaning else name for name, meaning in zip(names, told, strict=True)])
