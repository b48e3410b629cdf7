"""Labels as a tree of tokens, so that labels of several tokens are scored exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workspace.errors import ModelError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Branching:
    """A place in the tree where the model has a choice: after `path`, one of `tokens` comes next."""

    path: tuple[int, ...]
    tokens: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]  # labels under each of `tokens`


@dataclass(frozen=True)
class LabelTree:
    """The places of choice, the root first. Places with one way on cost nothing: their probability is one."""

    size: int
    branchings: tuple[Branching, ...]

    def logprobs(self, choices: Sequence[Floats]) -> Floats:
        """Natural log-probabilities [labels] from the logits at each branching, in the order of `branchings`.

        A label's probability is the product over the branchings on its way of the softmax over the tokens
        possible there: what sampling under a grammar that allows only the labels would yield. Sums to one.
        """
        result = np.zeros(self.size)
        for place, logits in zip(self.branchings, choices, strict=True):
            values = log_softmax(np.asarray(logits, dtype=np.float64))
            for value, labels in zip(values, place.members, strict=True):
                result[list(labels)] += value
        return log_softmax(result)  # removes the last rounding error


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
    waiting: list[tuple[tuple[int, ...], list[int]]] = [((), list(range(len(words))))]
    while waiting:
        path, members = waiting.pop(0)
        ways: dict[int, list[int]] = {}
        for index in members:
            word = words[index]
            token = word[len(path)] if len(word) > len(path) else end
            ways.setdefault(token, []).append(index)
        if len(ways) > 1:
            branchings.append(Branching(path, tuple(ways), tuple(tuple(labels) for labels in ways.values())))
        waiting += [((*path, token), labels) for token, labels in ways.items() if len(labels) > 1]
    return LabelTree(len(words), tuple(branchings))
