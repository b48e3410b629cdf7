"""Dimensions with more labels than a prompt lists, as they are asked about a row: with its likeliest labels."""

from __future__ import annotations

import math

import msgspec

from engine.labeler import Answer
from engine.models.shortlist import PRUNED, PRUNED_WARNING, shortlists
from engine.prompt import LISTED
from workspace.facts import DimensionSpec


class Narrowed(msgspec.Struct, frozen=True):
    """A dimension with those of its labels that come into question; `chosen` are their places, () for all."""

    dimension: DimensionSpec
    chosen: tuple[int, ...] = ()

    def widened(self, answer: Answer, count: int) -> Answer:
        """The answer with all `count` labels: those that did not come into question share next to nothing."""
        if not self.chosen or not answer.logprobs or len(self.chosen) == count:
            return answer
        multi = self.dimension.kind == "multi"
        every = [math.log(PRUNED if multi else PRUNED / (count - len(self.chosen)))] * count
        for place, value in zip(self.chosen, answer.logprobs, strict=True):
            every[place] = value if multi else value + math.log1p(-PRUNED)
        return msgspec.structs.replace(answer, logprobs=tuple(every), warnings=(*answer.warnings, PRUNED_WARNING))


def narrowed(dimension: DimensionSpec, text: str) -> Narrowed:
    """The dimension as it is asked about this text."""
    if LISTED not in dimension.user:
        return Narrowed(dimension)
    (chosen,) = shortlists(dimension, [text])
    words = tuple(dimension.words[place] for place in chosen)
    fewer = msgspec.structs.replace(
        dimension,
        labels=tuple(dimension.labels[place] for place in chosen),
        words=words,
        meanings=tuple(dimension.meanings[place] for place in chosen) if dimension.meanings else (),
        user=dimension.user.replace(LISTED, ", ".join(words)),
    )
    return Narrowed(fewer, chosen)
