"""Workspaces whose rows have answers of every kind of dimension, made without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.seeding import fact_of, ingest, spec_of
from workspace import runs
from workspace.facts import DimensionSpec, Fact, RunSpec
from workspace.kinds import label_of
from workspace.store import Store
from workspace.task import Task


def chances(dimension: DimensionSpec, turn: int) -> list[float]:
    """Probabilities of the labels as a model would give them for its row number `turn`: never certain.

    For `multi` three labels or fewer apply, each with its own; for a score they rise and fall around one figure.
    """
    count = len(dimension.labels)
    best = (turn * 7 + 3) % count
    if dimension.kind == "multi":
        on = {best, (best + 3) % count, (best + 5) % count} if turn % 4 else set()
        return [
            0.55 + 0.4 * ((turn + place) % 5) / 5 if place in on else 0.03 + place / count / 9
            for place in range(count)
        ]
    if dimension.kind == "score":
        raw = [math.exp(-0.5 * ((place - best) / (1.2 + turn % 3)) ** 2) + 1e-4 for place in range(count)]
    else:
        raw = [1.0 / (1 + (place - best) % count) ** 1.5 for place in range(count)]
    total = sum(raw)
    return [value / total for value in raw]


def kinds_run(store: Store, task: Task, ids: Sequence[str]) -> RunSpec:
    """A run of the task over these rows, the first of the workspace, with an answer in every dimension."""
    spec = spec_of(store, task)
    runs.plan(store, spec.run_id, limit=len(ids))
    facts: list[Fact] = []
    for turn, id in enumerate(ids):
        for dimension in spec.dimensions:
            shares = chances(dimension, turn)
            label, confidence = label_of(dimension.kind, dimension.labels, [math.log(share) for share in shares])
            fact = fact_of(
                spec.run_id,
                id,
                dimension.name,
                dimension.labels,
                shares,
                author=f"kinds-{task.name}",
                seq=len(facts),
                label=label,
                confidence=confidence,
                explanation=f"Reason number {turn}." if turn % 3 else "",
            )
            facts.append(fact)
    ingest(store, facts)
    return spec
