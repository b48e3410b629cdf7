"""Where claims are executed: behind one small protocol, so that it can be something else than a local process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from engine.labeler import Answer, LoadedModel, Progress
from engine.worker_process import WorkerDied, WorkerProcess
from workspace.errors import ModelError
from workspace.facts import RunSpec

log = logging.getLogger("engine")

LOAD_ATTEMPTS = 3  # deaths while loading the same model, then it cannot be used here
LOAD_PAUSE = 0.5  # seconds before the second attempt, twice as many before the third
SIGN_EVERY = 0.2  # seconds between signs of life passed on


class Batch(msgspec.Struct, frozen=True):
    """One claim, ready to be worked on: everything needed and nothing of where it came from."""

    claim: str  # its name in logs
    spec: RunSpec  # of the run, its model with the path it has on this machine
    texts: tuple[str, ...]


class Result(msgspec.Struct, frozen=True):
    """For each text of a batch, in its order, one answer to each dimension of the run."""

    answers: list[tuple[Answer, ...]]
    seconds: float  # of work for the whole batch, without loading


class Holding(msgspec.Struct, frozen=True):
    """What an executor holds and does at this moment."""

    slots: int  # batches it takes at once
    loaded: str = ""  # digest of the model in memory, "" while none is
    pid: int = 0  # of the process that holds it
    doing: str = ""  # in words, when it is more than working


class Executor(Protocol):
    """Turns batches into answers."""

    def capacity(self) -> Holding:
        """What it holds and does now; cheap."""
        ...

    async def run(self, batch: Batch, progress: Callable[[], None]) -> Result:
        """Work it off. `progress` is called in the loop at every sign of life.

        Raises WorkerDied when the rows may be the reason, ModelError when the model cannot be used at all.
        """
        ...

    async def close(self) -> None:
        """Give back all memory at once; a `run` under way raises WorkerDied. It may be used again."""
        ...


class Worker(Protocol):
    """What the local executor needs of the process that holds a model; `WorkerProcess` is it."""

    @property
    def pid(self) -> int: ...

    def start(
        self, spec: RunSpec, log_path: Path, progress: Callable[[float], None] | None = None
    ) -> LoadedModel: ...

    def score(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]: ...

    def kill(self) -> None: ...


class LocalExecutor:
    """Works on one claim at a time, in a process of this machine that holds one model."""

    def __init__(self, log_path: Path, make_worker: Callable[[], Worker] = WorkerProcess) -> None:
        self._log_path = log_path
        self._worker = make_worker()
        self._loaded: RunSpec | None = None  # of the run the worker was started for
        self._doing = ""
        self._closings = 0
        self._closing = asyncio.Event()

    def capacity(self) -> Holding:
        """See `Executor`."""
        pid = self._worker.pid
        return Holding(1, self._loaded.model.digest if pid and self._loaded else "", pid, self._doing)

    async def run(self, batch: Batch, progress: Callable[[], None]) -> Result:
        """See `Executor`."""
        self._closing.clear()
        alive = _Signs(progress)
        if self._loaded is None or _asks(self._loaded) != _asks(batch.spec) or not self._worker.pid:
            await self._load(batch, alive)
        began = time.monotonic()
        try:
            answers = await asyncio.to_thread(self._worker.score, batch.texts, lambda _: alive.heard())
        except WorkerDied:
            self._loaded = None
            raise
        return Result(answers, time.monotonic() - began)

    async def close(self) -> None:
        """See `Executor`."""
        self._closings += 1
        self._closing.set()
        self._loaded = None
        await asyncio.to_thread(self._worker.kill)

    async def _load(self, batch: Batch, alive: _Signs) -> None:
        model, closings, began = batch.spec.model, self._closings, time.monotonic()

        def loading(share: float) -> None:
            self._doing = f"Loading {model.name} ({share:.0%})"
            alive.heard()

        self._loaded = None
        try:
            for attempt in range(1, LOAD_ATTEMPTS + 1):
                self._doing = f"Loading {model.name}"
                try:
                    await asyncio.to_thread(self._worker.start, batch.spec, self._log_path, loading)
                    break
                except WorkerDied as death:
                    log.warning("loading %s: %s", model.name, death.title)
                    if self._closings != closings:
                        raise
                if attempt == LOAD_ATTEMPTS:
                    raise ModelError(
                        f"{model.name} could not be loaded: its process ended {LOAD_ATTEMPTS} times.",
                        f"Is there enough memory? See {self._log_path}.",
                    )
                try:
                    await asyncio.wait_for(self._closing.wait(), LOAD_PAUSE * attempt)
                except TimeoutError:
                    continue
                raise WorkerDied("The model was put away while it was loaded.")
            if self._closings != closings:
                await asyncio.to_thread(self._worker.kill)
                raise WorkerDied("The model was put away while it was loaded.")
        finally:
            self._doing = ""
        self._loaded = batch.spec
        log.info("%s loaded in %.1f s", model.name, time.monotonic() - began)


def _asks(spec: RunSpec) -> RunSpec:
    """What makes a loaded model answer otherwise; runs that have it in common share it. What a run may cost is
    counted by its id."""
    run_id = spec.run_id if spec.settings.budget is not None else ""
    return msgspec.structs.replace(spec, run_id=run_id, task_id="", task_name="", prompt_id="")


class _Signs:
    """Passes signs of life from the worker's thread to the loop, not more often than anybody looks."""

    def __init__(self, progress: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._progress = progress
        self._last = 0.0

    def heard(self) -> None:
        now = time.monotonic()
        if now - self._last >= SIGN_EVERY:
            self._last = now
            self._loop.call_soon_threadsafe(self._progress)
