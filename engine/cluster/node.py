"""The engine process: one for each state folder, it labels what runs ask for and answers its clients."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import platform
import re
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from engine.cluster.facts import error_fact, label_fact, new_boot
from engine.cluster.ledger import Ledger, LedgerFailed
from engine.cluster.requests import Desk
from engine.cluster.runs import Runs
from engine.cluster.scheduler import Batch
from engine.cluster.state_folder import StateFolder
from engine.cluster.transport import Door
from engine.labeler import Answer, LoadedModel
from engine.worker_process import WorkerDied, WorkerProcess
from workspace.errors import ModelError
from workspace.facts import DimensionSpec, EngineStatus, ModelSpec, RunSpec

T = TypeVar("T")
log = logging.getLogger("engine")

IDLE_SECONDS = 60.0  # without a running run and without a client
LOAD_ATTEMPTS = 3  # deaths while loading the same model, then the run is paused


class Worker(Protocol):
    """What the node needs of the process that holds a model; `WorkerProcess` is it."""

    @property
    def pid(self) -> int: ...

    def start(
        self,
        model: ModelSpec,
        dimensions: Sequence[DimensionSpec],
        log_path: Path,
        progress: Callable[[float], None] | None = None,
    ) -> LoadedModel: ...

    def score(self, dimension: DimensionSpec, rows: Sequence[str]) -> list[Answer]: ...

    def kill(self) -> None: ...


class Node:
    """One engine. `run` returns when it was told to stop, was idle for long, or cannot go on."""

    def __init__(
        self,
        folder: StateFolder,
        idle_seconds: float = IDLE_SECONDS,
        make_worker: Callable[[], Worker] = WorkerProcess,
    ) -> None:
        self.name = re.sub(r"[^A-Za-z0-9-]+", "-", platform.node())[:40] or "node"
        self._folder = folder
        self._idle_seconds = idle_seconds
        self._worker = make_worker()
        self._loaded = ""  # digest of the model the worker holds
        self._loading = False
        self._load_deaths = 0
        self._boot = new_boot()
        self._heard = time.monotonic()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Open the ledger, let clients in, work until stopped. Returns the exit status.

        The caller holds the folder's lock. Raises EngineError when the ledger cannot be opened.
        """
        self._runs = Runs(Ledger(self._folder.ledger, self.name))
        door = Door()
        try:
            await self._runs.load()
            self._listen_to_signals()
            desk = Desk(self._runs, self.status, self.stop)
            self._folder.lay_card(door.address)
            log.info("engine of %s ready, %d facts", self._runs.ledger.author, self._runs.ledger.next_seq)
            return await self._until_stopped(
                self._work(), door.guard(), door.serve(functools.partial(self._hear, desk)), self._watch_idle()
            )
        finally:
            self._folder.take_card()
            await asyncio.to_thread(self._worker.kill)
            door.close()
            self._runs.close()

    def stop(self) -> None:
        """Finish the batch under way, then end. A second call does not wait for the batch."""
        # From now on a client that looks for an engine waits for the next one.
        self._folder.take_card()
        if self._loading or self._stop.is_set():
            self._worker.kill()
        self._stop.set()
        self._runs.changed.set()

    def status(self) -> EngineStatus:
        """This engine at this moment."""
        ledger = self._runs.ledger
        return EngineStatus(
            pid=os.getpid(),
            node=self.name,
            author=ledger.author,
            next_seq=ledger.next_seq,
            worker_pid=self._worker.pid,
            runs=self._runs.scheduler.progress(),
        )

    # the process

    async def _until_stopped(self, work: Awaitable[None], *others: Awaitable[None]) -> int:
        """Run everything until `work` ends. Anything else that ends is a failure: nothing may go on without it."""
        worker = asyncio.ensure_future(work)
        tasks = [worker, *(asyncio.ensure_future(other) for other in others)]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, LedgerFailed):
                log.error("%s", result)
                return 1
            if isinstance(result, Exception):
                log.error("the engine cannot go on", exc_info=result)
                return 1
        return 0 if worker in ended else 1

    async def _hear(self, desk: Desk, body: bytes) -> bytes | None:
        self._heard = time.monotonic()
        return await desk.answer(body, stopping=self._stop.is_set())

    async def _watch_idle(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 4))
            quiet = time.monotonic() - self._heard
            if quiet > self._idle_seconds and not self._runs.scheduler.running() and not self._stop.is_set():
                log.info("nothing to do for %.0f s", quiet)
                self.stop()

    def _listen_to_signals(self) -> None:
        # Ctrl-C in the terminal of a studio is the studio's to handle.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGTERM, self.stop)
        except NotImplementedError:  # Windows
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self.stop))

    # the work

    async def _work(self) -> None:
        while not self._stop.is_set():
            # Before looking, so that what changes while looking is not missed.
            self._runs.changed.clear()
            await self._runs.close_finished()
            batch = self._runs.scheduler.next()
            if batch is not None:
                await self._do(batch)
                continue
            try:
                await asyncio.wait_for(self._runs.changed.wait(), self._idle_seconds)
            except TimeoutError:
                if self._loaded and not self._runs.scheduler.running():
                    log.info("no work: the model is put away")
                    self._loaded = ""
                    await asyncio.to_thread(self._worker.kill)

    async def _do(self, batch: Batch) -> None:
        scheduler = self._runs.scheduler
        spec, dimension = self._runs.spec(batch.run_id), self._runs.dimension(batch)
        try:
            if not await self._load(spec):
                scheduler.withdrawn(batch)
                return
            began = time.monotonic()
            rows = await self._runs.texts(batch)
            log.info(
                "batch %s.%d: %d rows of run %.8s, dimension %d, failures %d",
                *(self._boot, batch.number, len(rows), batch.run_id, batch.dimension, batch.failures),
            )
            answers = await asyncio.to_thread(self._worker.score, dimension, [text for _, text in rows])
        except WorkerDied as death:
            self._loaded = ""
            log.warning("batch %s.%d: %s", self._boot, batch.number, death.title)
            await self._failed(batch, spec, dimension)
        except ModelError as error:
            scheduler.withdrawn(batch)
            await self._pause(spec.run_id, str(error))
        else:
            claim = f"{self._boot}.{batch.number}"
            facts = [
                label_fact(spec, dimension, row_id, answer, self.name, claim)
                for (row_id, _), answer in zip(rows, answers, strict=True)
            ]
            written = await self._runs.append(batch, facts)
            log.info("batch %s: %d facts durable", claim, written)
            failed = [at for at, fact in zip(batch.positions, facts, strict=True) if fact.kind == "error"]
            scheduler.answered(batch, failed, time.monotonic() - began)

    async def _failed(self, batch: Batch, spec: RunSpec, dimension: DimensionSpec) -> None:
        scheduler = self._runs.scheduler
        if self._stop.is_set():
            scheduler.withdrawn(batch)
            return
        scheduler.remark(spec.run_id, "The model process ended; it is started again.")
        if not scheduler.failed(batch):
            return
        ((row_id, _),) = await self._runs.texts(batch)
        claim = f"{self._boot}.{batch.number}"
        reason = f"The model process ended {batch.failures + 1} times while labeling this row."
        await self._runs.append(batch, [error_fact(spec, dimension, row_id, reason, self.name, claim)])
        log.warning("batch %s: given up", claim)
        if scheduler.given_up(batch):
            await self._pause(
                spec.run_id, f"The model process ended on one row after the other. See {self._folder.worker_log}."
            )

    async def _load(self, spec: RunSpec) -> bool:
        """Whether the worker holds the run's model now; if not, the run is paused or it is worth another try."""
        if self._loaded == spec.model.digest and self._worker.pid:
            return True
        scheduler, loop = self._runs.scheduler, asyncio.get_running_loop()
        began = time.monotonic()

        def loading(share: float) -> None:
            loop.call_soon_threadsafe(self._remark_loading, spec, share)

        self._loaded, self._loading = "", True
        scheduler.remark(spec.run_id, f"Loading {spec.model.name}")
        try:
            await asyncio.to_thread(
                self._worker.start, spec.model, spec.dimensions, self._folder.worker_log, loading
            )
        except WorkerDied as death:
            self._load_deaths += 1
            log.warning("loading %s: %s", spec.model.name, death.title)
            if self._stop.is_set():
                return False
            if self._load_deaths >= LOAD_ATTEMPTS:
                self._load_deaths = 0
                note = f"{spec.model.name} could not be loaded: its process ended {LOAD_ATTEMPTS} times. "
                await self._pause(spec.run_id, f"{note}Is there enough memory? See {self._folder.worker_log}.")
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 0.5 * self._load_deaths)
            return False
        finally:
            self._loading = False
        self._load_deaths = 0
        self._loaded = spec.model.digest
        scheduler.remark(spec.run_id, "")
        log.info("%s loaded in %.1f s", spec.model.name, time.monotonic() - began)
        return True

    def _remark_loading(self, spec: RunSpec, share: float) -> None:
        if self._loading:
            self._runs.scheduler.remark(spec.run_id, f"Loading {spec.model.name} ({share:.0%})")

    async def _pause(self, run_id: str, note: str) -> None:
        # The note is for the person's eyes only: a model's words about a row do not belong in a log.
        log.warning("run %.8s paused", run_id)
        if self._runs.scheduler.state(run_id) == "running":
            await self._runs.set_state(run_id, "paused", note)
