"""The runs of a node: every change is durable in the ledger before the scheduler, and so anybody, knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from engine.cluster.ledger import Ledger, StoredRun
from engine.cluster.scheduler import Batch, Scheduler
from workspace.errors import EngineError
from workspace.facts import DimensionSpec, Fact, RunSpec, RunState

P = ParamSpec("P")
T = TypeVar("T")
MAX_DIMENSIONS = 50
ADDING = "Rows are being added."


class Runs:
    """Ledger and scheduler kept in step. The ledger works on a thread of its own, so that a disk that is slow to
    sync delays labels and not the event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.scheduler = Scheduler()
        self.changed = asyncio.Event()  # there may be something to do
        self._stored: dict[str, StoredRun] = {}
        self._changing = asyncio.Lock()  # whoever decides on a run's state sees all of its rows
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def load(self) -> None:
        """Take up everything where the last process of this ledger left it."""
        for run in await self.on_ledger(self.ledger.runs):
            await self._take_up(run)
        self.changed.set()

    def close(self) -> None:
        """Finish what the ledger is doing and close it."""
        self._thread.shutdown()
        self.ledger.close()

    async def on_ledger(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on the ledger's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))

    def spec(self, run_id: str) -> RunSpec:
        """Specification of a known run. Raises EngineError."""
        return self._known(run_id).spec

    async def open(self, spec: RunSpec) -> int:
        """Know a run; returns the rows it has. Raises EngineError when the id is taken by a different run."""
        if not 1 <= len(spec.dimensions) <= MAX_DIMENSIONS or any(not part.labels for part in spec.dimensions):
            raise EngineError("This run asks nothing the engine can answer.", "Check the labels of its task.")
        async with self._changing:
            old = self._stored.get(spec.run_id)
            if old is not None and _questions(old.spec) != _questions(spec):
                raise EngineError(
                    "This run was started with other questions or another model.", "Nothing was changed."
                )
            run = await self.on_ledger(self.ledger.open_run, spec)
            self._stored[spec.run_id] = run
            if old is None:
                self.scheduler.open(spec.run_id, spec.model.digest, len(spec.dimensions))
            return run.rows

    async def add_rows(self, run_id: str, rows: Sequence[tuple[str, str]]) -> int:
        """Plan rows into a run; returns how many it has now."""
        async with self._changing:
            planned, state, note = await self.on_ledger(
                self.ledger.add_rows, self._known(run_id).number, rows, ADDING
            )
            self.scheduler.grow(run_id, planned)
            if state != self.scheduler.state(run_id):
                self.scheduler.set_state(run_id, state, note)
            self.changed.set()
            return planned

    async def set_state(self, run_id: str, state: RunState, note: str = "") -> int:
        """Durably change where a run stands; returns the rows it has."""
        async with self._changing:
            await self._set_state(run_id, state, note)
            return self.scheduler.rows(run_id)

    async def close_finished(self) -> None:
        """Runs with nothing left to do are done."""
        if self.scheduler.finished():
            async with self._changing:
                for run_id in self.scheduler.finished():
                    await self._set_state(run_id, "done", "")

    async def texts(self, batch: Batch) -> list[tuple[str, str]]:
        """(row id, text) of a batch's rows."""
        return await self.on_ledger(self.ledger.texts, self._known(batch.run_id).number, batch.positions)

    async def append(self, batch: Batch, facts: Sequence[Fact]) -> int:
        """Make the facts of a batch durable, one for each of its rows; returns how many were new."""
        pairs = list(zip(batch.positions, facts, strict=True))
        return await self.on_ledger(self.ledger.append, self._known(batch.run_id).number, batch.dimension, pairs)

    def dimension(self, batch: Batch) -> DimensionSpec:
        """The question a batch asks."""
        return self.spec(batch.run_id).dimensions[batch.dimension]

    async def _take_up(self, run: StoredRun) -> None:
        spec, scheduler = run.spec, self.scheduler
        self._stored[spec.run_id] = run
        scheduler.open(spec.run_id, spec.model.digest, len(spec.dimensions))
        scheduler.grow(spec.run_id, run.rows)
        if run.state == "done":
            scheduler.recall_done(spec.run_id, await self.on_ledger(self.ledger.failed_rows, run.number))
        else:
            for dimension in range(len(spec.dimensions)):
                answers = await self.on_ledger(self.ledger.answered, run.number, dimension)
                scheduler.recall(spec.run_id, dimension, answers)
        scheduler.set_state(spec.run_id, run.state, run.note)

    async def _set_state(self, run_id: str, state: RunState, note: str) -> None:
        await self.on_ledger(self.ledger.set_state, self._known(run_id).number, state, note)
        self.scheduler.set_state(run_id, state, note)
        self.changed.set()

    def _known(self, run_id: str) -> StoredRun:
        try:
            return self._stored[run_id]
        except KeyError:
            raise EngineError("The engine does not know this run.", "Start it from the Label page.") from None


def _questions(spec: RunSpec) -> tuple[object, ...]:
    """What may not change under a run; where the model's file lies may."""
    return spec.model.digest, spec.prompt_id, spec.dimensions
