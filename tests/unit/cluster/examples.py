"""Specifications, facts and a worker that needs no model, for the tests of the engine's parts."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.labeler import Answer, LoadedModel, Progress
from engine.worker_process import WorkerDied
from tests.seeding import fact_of
from workspace.errors import BudgetReached, ModelError
from workspace.facts import DimensionSpec, Fact, ModelSpec, RunSpec, run_id
from workspace.ids import row_id

MODEL = ModelSpec("rule", "Rule", "rule.gguf", "d" * 32)


def dimension(name: str = "mood", labels: tuple[str, ...] = ("good", "bad")) -> DimensionSpec:
    return DimensionSpec(name, "single", labels, labels, "Answer with a word.", "Text: {text}")


def spec(*names: str, prompt: str = "p", model: ModelSpec = MODEL) -> RunSpec:
    dimensions = tuple(dimension(name) for name in names or ("mood",))
    return RunSpec(run_id("task", prompt, model.digest), "task", "moods", prompt, model, dimensions)


def rows(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    return [of(f"text number {i}") for i in range(start, start + count)]


def of(text: str) -> tuple[str, str, str]:
    """A text as a row."""
    return row_id(text), text, "general"


def fact(run: RunSpec, row: str, name: str = "mood", kind: str = "label") -> Fact:
    return fact_of(
        run.run_id,
        row,
        name,
        ("good", "bad"),
        (0.75, 0.25),
        author="",
        seq=-1,
        kind=kind,
        model_digest=run.model.digest,
    )


class RuleWorker:
    """A worker whose rule is in the texts: "deadly" ends it, "wrong" is answered with an error, "costly"
    is beyond the budget."""

    def __init__(self, refuse: str = "", loading_deaths: int = 0) -> None:
        self.refuse = refuse
        self.loading_deaths = loading_deaths
        self.starts = 0
        self.spec: RunSpec | None = None  # of the run that is loaded
        self.asked: list[int] = []  # rows of every batch
        self.hold = threading.Event()  # cleared: batches wait
        self.hold.set()
        self.busy = threading.Event()  # a batch is being computed
        self.killed = threading.Event()
        self.running = False

    @property
    def pid(self) -> int:
        return 1 if self.running else 0

    def start(self, spec: RunSpec, log_path: Path, progress: Callable[[float], None] | None = None) -> LoadedModel:
        self.starts += 1
        if self.refuse:
            raise ModelError(self.refuse)
        if self.starts <= self.loading_deaths:
            raise WorkerDied("It ended while loading.")
        self.spec = spec
        self.running = True
        self.killed.clear()
        return LoadedModel(spec.model.name, "rule", 100, 50, 1, (), 0.0)

    def score(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        assert self.spec is not None
        self.asked.append(len(rows))
        self.busy.set()
        while not self.hold.wait(0.01):
            if self.killed.is_set():
                raise WorkerDied("It was killed.")
        if any("deadly" in row for row in rows):
            self.running = False
            raise WorkerDied("It ended.")
        if any("costly" in row for row in rows):
            raise BudgetReached("The budget of this run is spent.", "Raise it to go on.")
        return [(self._answer(row),) * len(self.spec.dimensions) for row in rows]

    def kill(self) -> None:
        self.running = False
        self.killed.set()

    def _answer(self, row: str) -> Answer:
        if "wrong" in row:
            return Answer((), 5, 0, 0.001, (), "This row cannot be answered.")
        share = 0.9 if len(row) % 2 else 0.3
        return Answer((math.log(share), math.log(1 - share)), 5, 0, 0.001)
