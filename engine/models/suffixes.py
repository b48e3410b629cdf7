"""What several continuations have in common, so that it is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.models.llama_native import Ints

WORTH_SHARING = 4  # tokens saved, to justify a branch of its own


@dataclass(frozen=True)
class Branch:
    """Tokens, the continuations that end after them, and what branches off there."""

    tokens: Ints
    ends: tuple[int, ...]
    branches: tuple[Branch, ...]


def common_beginning(sequences: Sequence[Ints]) -> Ints:
    """The tokens with which all of the sequences begin."""
    first = min(sequences, key=len)
    for count in range(len(first), 0, -1):
        if all(np.array_equal(sequence[:count], first[:count]) for sequence in sequences):
            return first[:count]
    return first[:0]


def branches(sequences: Sequence[Ints]) -> Branch:
    """A tree in which each sequence, named by its index, is the way from the root to where it ends."""
    ends = tuple(index for index, sequence in enumerate(sequences) if not len(sequence))
    left = [(index, sequence) for index, sequence in enumerate(sequences) if len(sequence)]
    return Branch(np.zeros(0, dtype=np.int32), ends, tuple(_split(left)))


def _split(sequences: Sequence[tuple[int, Ints]]) -> list[Branch]:
    groups: dict[int, list[tuple[int, Ints]]] = {}
    for index, sequence in sequences:
        groups.setdefault(int(sequence[0]), []).append((index, sequence))
    found = []
    for group in groups.values():
        shared = common_beginning([sequence for _, sequence in group])
        if (len(group) - 1) * len(shared) < WORTH_SHARING:
            found += [Branch(sequence, (index,), ()) for index, sequence in group]
            continue
        rest = [(index, sequence[len(shared) :]) for index, sequence in group]
        ends = tuple(index for index, sequence in rest if not len(sequence))
        below = _split([(index, sequence) for index, sequence in rest if len(sequence)])
        found.append(Branch(shared, ends, tuple(below)))
    return found
