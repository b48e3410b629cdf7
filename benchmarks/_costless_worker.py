"""`python -m benchmarks._costless_worker`: the worker process as it runs in production, around a model that costs
nothing: every row gets the same answer at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from engine import worker
from engine.labeler import Answer, LoadedModel, Progress
from workspace.facts import RunSpec


class Costless:
    """All labels are as likely as each other."""

    def __init__(self, spec: RunSpec, _progress: Callable[[float], None]) -> None:
        self.loaded = LoadedModel(spec.model.name, "none", 0, 0, 1, (), 0.0)
        labels = (len(one.labels) for one in spec.dimensions)
        self._row = tuple(Answer((-math.log(count),) * count, 60, 0, 0.0) for count in labels)

    def ask(self, rows: Sequence[str], _progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """See `Labeler`."""
        return [self._row] * len(rows)

    def close(self) -> None:
        """See `Labeler`."""


if __name__ == "__main__":
    worker.main(Costless)
