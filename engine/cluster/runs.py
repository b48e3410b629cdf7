"""What people want of runs and machines, written into this machine's log: durable before anybody hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import msgspec

from engine.cluster import entries as log
from engine.cluster.driver import Driver
from engine.cluster.own_models import OwnModels
from engine.cluster.plan import RunPlan, row_bytes
from workspace.errors import EngineError
from workspace.facts import RunSpec, RunState

Row = tuple[str, str, str]  # id, text, domain
MOST_ROW_BYTES = 4 << 20  # of the probabilities of one row; its entry has to fit a message


class Runs:
    """The runs of a driver's core, as its clients change them. One change at a time."""

    def __init__(self, driver: Driver, models: OwnModels) -> None:
        self._driver = driver
        self._models = models
        self._changing = asyncio.Lock()  # whoever looks at a log before adding to it sees all of it

    async def open(self, spec: RunSpec, task: str) -> int:
        """Know a run; returns the rows it has. Raises EngineError when the id is taken by a different run."""
        if not 1 <= len(spec.dimensions) <= log.MAX_DIMENSIONS or any(not part.labels for part in spec.dimensions):
            raise EngineError("This run asks nothing the engine can answer.", "Check the labels of its task.")
        if row_bytes(spec) > MOST_ROW_BYTES:
            raise EngineError(
                "This task has too many labels to be asked at once.",
                "Ask some of its dimensions in a task of their own, or each in one way only.",
            )
        async with self._changing:
            run = self._driver.core.plan.runs.get(spec.run_id)
            old = run.spec if run is not None else None
            if old is not None and _questions(old) != _questions(spec):
                raise EngineError(
                    "This run was started with other questions or another model.", "Nothing was changed."
                )
            self._models.hand_over(spec.model)
            if old is None:
                everywhere = msgspec.structs.replace(spec.model, path="")
                await self._append([log.RunOpened(msgspec.structs.replace(spec, model=everywhere), task)])
            return self._known(spec.run_id).rows

    async def add_rows(self, run_id: str, rows: Sequence[Row]) -> int:
        """Plan rows into a run; returns how many it has now."""
        async with self._changing:
            run, disk = self._known(run_id), self._driver.disk
            new = await disk.ask(disk.ledger.unplanned, run_id, rows)
            if new:
                await self._append([log.RowsPlanned(run_id, block) for block in _blocks(new)])
            return run.rows

    async def set_state(self, run_id: str, state: RunState, note: str = "") -> int:
        """Change where a run stands; returns the rows it has. Nothing is written when it stands there."""
        async with self._changing:
            run = self._known(run_id)
            if state == "running" and run.spec is not None:
                self._models.retry(run.spec.model.digest)
            if run.state != state and state != "done":
                await self._append([log.StateSet(run_id, state, note, self._driver.core.next_clock())])
            return run.rows

    async def decide(self, decisions: Sequence[log.Decided]) -> int:
        """Keep what people decided; returns where this machine's log ends then."""
        if decisions:
            return await self._append(decisions)
        return self._driver.core.vector.get(self._driver.core.author, 0)

    async def seal(self, run_id: str) -> log.Vector:
        """Note that a run was exported; returns the vector the seal is about."""
        async with self._changing:
            self._known(run_id)
            vector = dict(self._driver.core.vector)
            await self._append([log.Sealed(run_id, vector)])
            return vector

    async def _append(self, bodies: Sequence[log.AnyBody]) -> int:
        return await self._driver.append(bodies)

    def _known(self, run_id: str) -> RunPlan:
        run = self._driver.core.plan.runs.get(run_id)
        if run is None or run.spec is None:
            raise EngineError("The engine does not know this run.", "Start it from the Label page.")
        return run


def _questions(spec: RunSpec) -> tuple[object, ...]:
    """What may not change under a run; where the model's file lies may."""
    return spec.model.digest, spec.prompt_id, spec.dimensions


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[Row, ...]]:
    """Rows in pieces of a size at which they travel and are divided among machines."""
    block: list[Row] = []
    size = 0
    for row in rows:
        # Four bytes is the most a character takes; exact would mean encoding every text twice.
        bytes_ = len(row[1]) * (1 if row[1].isascii() else 4) + len(row[2])
        if block and (len(block) == log.BLOCK_ROWS or size + bytes_ > log.BLOCK_BYTES):
            yield tuple(block)
            block, size = [], 0
        block.append(row)
        size += bytes_
    if block:
        yield tuple(block)
