"""Labels as a tree of tokens, so that labels of several tokens are scored by all of their tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workspace.errors import ModelError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Branching:
    """A place in the tree where the model has a choice: after `path`, one of `tokens` comes next."""

    path: Ints
    tokens: Ints
    labels: Ints  # all labels under this place
    ways: Ints  # for each of `labels`, which of `tokens` leads to it
    parent: int  # the branching before this one, -1 for the root


@dataclass(frozen=True)
class LabelTree:
    """The places of choice, each after the one before it. Places with one way on cost nothing: their probability
    is one.

    A label's probability is the product over the branchings on its way of the softmax over the tokens possible
    there: what sampling under a grammar that allows only the labels would yield. Not every branching has to be
    looked at: the probability of one that was not is shared out evenly among the labels under it. So probabilities
    always sum to one, and where only branchings of a probability of at most `bound` are left out, each label's
    probability is off by at most `bound`.
    """

    size: int
    branchings: tuple[Branching, ...]

    def wanting(self, known: Mapping[int, Floats], bound: float) -> list[int]:
        """The branchings to look at next: reached with a probability above `bound`, their parent known.

        `known` has the logits of the ways at each branching looked at so far.
        """
        if 0 not in known:
            return [0]
        if len(known) == len(self.branchings):
            return []
        masses, closed = self._masses(known)
        floor = math.log(bound) if bound > 0 else -math.inf
        return [
            index
            for index in closed
            if self.branchings[index].parent in known and masses[self.branchings[index].labels[0]] > floor
        ]

    def logprobs(self, known: Mapping[int, Floats]) -> Floats:
        """Natural log-probabilities [labels]. `exp` of them sums to one whatever is known."""
        result, closed = self._masses(known)
        for index in closed:
            place = self.branchings[index]
            if place.parent in known or place.parent < 0:
                result[place.labels] -= math.log(len(place.labels))
        return log_softmax(result)  # removes the last rounding error

    def _masses(self, known: Mapping[int, Floats]) -> tuple[Floats, list[int]]:
        """For each label the log-probability of the last known place on its way; and the unknown branchings."""
        result, closed = np.zeros(self.size), []
        for index, place in enumerate(self.branchings):
            logits = known.get(index)
            if logits is None:
                closed.append(index)
            else:
                result[place.labels] += log_softmax(logits)[place.ways]
        return result, closed


def log_softmax(values: Floats) -> Floats:
    """Natural log of the softmax along the last axis, float64."""
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def label_tree(words: Sequence[Sequence[int]], end: int) -> LabelTree:
    """The tree of the labels' tokens. Where one label is the beginning of another, `end` (the token that closes
    an answer) stands for stopping there. Raises ModelError when two labels are the same tokens or one is none."""
    seen: dict[tuple[int, ...], int] = {}
    for index, word in enumerate(words):
        key = tuple(word)
        if not key:
            raise ModelError(f"Label {index + 1} is empty for this model.", "Give it another name.")
        if key in seen:
            raise ModelError(
                f"Labels {seen[key] + 1} and {index + 1} are the same word for this model.",
                "Give one of them another name.",
            )
        seen[key] = index
    branchings: list[Branching] = []
    waiting: list[tuple[tuple[int, ...], list[int], int]] = [((), list(range(len(words))), -1)]
    for path, members, parent in waiting:
        ways: dict[int, list[int]] = {}
        for index in members:
            word = words[index]
            token = word[len(path)] if len(word) > len(path) else end
            ways.setdefault(token, []).append(index)
        above = parent
        if len(ways) > 1:
            above = len(branchings)
            labels = [index for group in ways.values() for index in group]
            taken = [way for way, group in enumerate(ways.values()) for _ in group]
            branchings.append(Branching(_ints(path), _ints(list(ways)), _ints(labels), _ints(taken), parent))
        waiting += [((*path, token), labels, above) for token, labels in ways.items() if len(labels) > 1]
    return LabelTree(len(words), tuple(branchings))


def _ints(values: Sequence[int]) -> Ints:
    return np.asarray(values, dtype=np.int32)
