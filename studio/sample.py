"""The bundled samples: rows, human labels and the task that fits them, in one step."""

from __future__ import annotations

from workspace import intake, samples, tasks
from workspace.store import Store


def open_sample(store: Store, name: str) -> intake.LoadResult:
    """Load a bundled sample and save its task. Doing it twice adds nothing. Raises IntakeError, KeyError."""
    sample = samples.sample(name)
    tasks.save(store, tasks.bundled()[sample.task])
    return intake.load(store, sample.path, sample.mapping, source=sample.title)
