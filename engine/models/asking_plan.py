"""In which order dimensions are asked of a chat server, and which of them together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.prompt import LISTED
from workspace.facts import DimensionSpec


class Step(msgspec.Struct, frozen=True):
    """Dimensions asked in one request, by their places: one by probabilities (`told`), or some by JSON."""

    places: tuple[int, ...]
    told: bool


Stage = tuple[Step, ...]  # asked at the same time


def stages_of(dimensions: Sequence[DimensionSpec], told: Sequence[bool]) -> tuple[Stage, ...]:
    """Stages after each other. A dimension comes after all it is told of; in one JSON object it may also stand
    in the same request behind them. Every place is in exactly one step. As few stages as the order allows."""
    names = [dimension.name for dimension in dimensions]
    waiting = list(range(len(dimensions)))
    done: set[str] = set()
    stages: list[Stage] = []
    while waiting:
        steps: list[Step] = []
        groups: dict[tuple[str, str, str], list[int]] = {}
        for place in waiting:
            dimension = dimensions[place]
            if told[place]:
                if done.issuperset(dimension.after):
                    steps.append(Step((place,), told=True))
                continue
            # Where a row's own labels are listed, they are listed for one dimension.
            alone = dimension.name if LISTED in dimension.user else ""
            group = groups.setdefault((dimension.system, dimension.user, alone), [])
            if done.union(names[other] for other in group).issuperset(dimension.after):
                group.append(place)
        steps += [Step(tuple(group), told=False) for group in groups.values() if group]
        assert steps, "the first that waits is after nothing that waits"
        taken = {place for step in steps for place in step.places}
        waiting = [place for place in waiting if place not in taken]
        done.update(names[place] for place in taken)
        stages.append(tuple(steps))
    return tuple(stages)
