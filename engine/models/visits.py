"""The order in which a run's dimensions are asked, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine.models.llama_native import Ints
from engine.models.questions import Group, Questions
from engine.models.suffixes import common_beginning
from workspace.facts import DimensionSpec

BOUND = 1e-3  # probability up to which labels of several tokens are not told apart any further


@dataclass(frozen=True)
class Visit:
    """Dimensions of one group that can be asked together once the visits before it are done."""

    questions: Questions
    group: Group
    stages: tuple[tuple[int, ...], ...]  # places of dimensions; each stage is told the answers of those before
    bound: float = BOUND

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(place for stage in self.stages for place in stage)

    @cached_property
    def tail(self) -> Ints:
        """Tokens that follow every row, whatever it is asked; computed together with the row."""
        if not self.is_same_for_all:
            return np.zeros(0, dtype=np.int32)
        return common_beginning([q.suffix for place in self.places for q in self.questions.typical(place)])

    @cached_property
    def is_same_for_all(self) -> bool:
        """Whether every row is asked in the very same words, none of which depends on an answer."""
        dimensions = [self.questions.dimensions[place] for place in self.places]
        return not any(
            dimension.after or dimension.explain or self.questions.is_shortlisted(place)
            for place, dimension in zip(self.places, dimensions, strict=True)
        )


def visits(questions: Questions, bound: float = BOUND) -> list[Visit]:
    """The order in which a run's dimensions are asked: each after those whose answers it is told."""
    found: list[Visit] = []
    known: set[int] = set()
    left = list(range(len(questions.dimensions)))
    while left:
        group = next(group for group in questions.groups if left[0] in group.places)
        stages: list[tuple[int, ...]] = []
        while True:
            told = known.copy()
            stage = tuple(
                place
                for place in left
                if place in group.places and told >= set(earlier(questions.dimensions, place))
            )
            if not stage:
                break
            stages.append(stage)
            known |= set(stage)
            left = [place for place in left if place not in stage]
        found.append(Visit(questions, group, tuple(stages), bound))
    return found


def earlier(dimensions: Sequence[DimensionSpec], place: int) -> list[int]:
    """The dimensions whose answers this one is told."""
    names = {dimension.name: index for index, dimension in enumerate(dimensions[:place])}
    return [names[name] for name in dimensions[place].after if name in names]
