"""The bundled sample: rows, human labels and the task that fits them, in one step."""

from __future__ import annotations

from workspace import intake, samples, tasks
from workspace.store import Store


def open_sample(store: Store, name: str) -> intake.LoadResult:
    """Load a bundled sample and save its task. Doing it twice adds nothing. Raises IntakeError, KeyError."""
    sample = samples.sample(name)
    task = tasks.bundled()[sample.task]
    gold = {task.dimensions[0].name: sample.gold_column} if sample.gold_column else {}
    mapping = intake.Mapping(
        text=(sample.text_column,), template=None, id=None, domain=sample.domain_column, gold=gold
    )
    tasks.save(store, task)
    return intake.load(store, sample.path, mapping, source=sample.title)
