"""Where this machine works: claims come in, rows are fetched while the one before is computed, answers go out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable

import msgspec

from engine.cluster.driver import Driver
from engine.cluster.effects import Claim, GiveUp
from engine.cluster.entries import StateSet
from engine.cluster.facts import error_answer, labeled
from engine.cluster.own_models import OwnModels
from engine.executor import Batch, Executor
from engine.worker_process import WorkerDied
from workspace.errors import BudgetReached, EngineError, ModelError
from workspace.facts import RunSpec

log = logging.getLogger("engine")

Row = tuple[str, str, str]  # id, text, domain
STARTED_AGAIN = "The model process ended; it is started again."


class Bench:
    """Works off the claims of a core one after the other. `work` is to run all the time."""

    def __init__(
        self,
        driver: Callable[[], Driver],
        executor: Executor,
        models: OwnModels,
        name: Callable[[], str],
        put_away_after: float,
    ) -> None:
        self.claim: Claim | None = None  # the one that is computed
        self._driver = driver
        self._executor = executor
        self._models = models
        self._name = name
        self._put_away_after = put_away_after
        self._waiting: deque[tuple[Claim, asyncio.Future[list[Row]]]] = deque()
        self._there = asyncio.Event()
        self._stopping = False
        self._troubles: dict[str, str] = {}  # by run: what is wrong at the moment
        self._side: set[asyncio.Task[None]] = set()

    # what the core wants

    def start(self, claim: Claim) -> None:
        """Work on it after those that wait."""
        disk = self._driver().disk
        self._waiting.append((claim, disk.ask(disk.ledger.rows, claim.work.block, claim.work.at)))
        self._there.set()

    def abandon(self, claim: Claim) -> None:
        """Do not begin it."""
        for waiting in self._waiting:
            if waiting[0].name == claim.name:
                waiting[1].cancel()
                self._waiting.remove(waiting)
                return

    def give_up(self, effect: GiveUp) -> None:
        """Write that a row cannot be answered."""
        task = asyncio.get_running_loop().create_task(self._give_up(effect))
        self._side.add(task)
        task.add_done_callback(self._gave_up)

    # how it goes

    def remarks(self) -> dict[str, str]:
        """By run, what this machine is doing for it, where that is more than labeling."""
        remarks = dict(self._troubles)
        doing = self._executor.capacity().doing
        if doing and self.claim is not None:
            remarks[self.claim.work.run_id] = doing
        return remarks

    # the work

    async def work(self) -> None:
        """Work until told to stop; the claim under way is finished first."""
        while not self._stopping:
            self._there.clear()
            if self._waiting:
                claim, rows = self._waiting.popleft()
                self.claim = claim
                try:
                    await self._do(claim, rows)
                finally:
                    self.claim = None
                continue
            try:
                await asyncio.wait_for(self._there.wait(), self._put_away_after)
            except TimeoutError:
                if self._executor.capacity().loaded:
                    log.info("no work: the model is put away")
                    await self._executor.close()
        while self._waiting:
            claim, rows = self._waiting.popleft()
            rows.cancel()
            self._driver().gave_up(claim, "stopped")

    def stop(self) -> None:
        """Finish the claim under way, then let `work` end."""
        self._stopping = True
        self._there.set()

    async def close(self) -> None:
        """End what is under way at once, and give back the memory."""
        await self._executor.close()
        if self._side:
            await asyncio.wait(self._side)

    async def _do(self, claim: Claim, fetched: asyncio.Future[list[Row]]) -> None:
        driver, work = self._driver(), claim.work
        run = driver.core.plan.runs.get(work.run_id)
        spec = run.spec if run is not None else None
        try:
            rows = await fetched
        except (LookupError, asyncio.CancelledError):
            if not fetched.done() or fetched.cancelled():
                raise
            driver.gave_up(claim, "unknown")
            return
        path = self._models.path(spec.model.digest) if spec is not None else None
        if spec is None or path is None:
            driver.gave_up(claim, "unknown" if spec is None else "model", "The model is not on this machine.")
            return
        batch = Batch(
            claim.name,
            msgspec.structs.replace(spec, model=self._models.local(spec.model)),
            tuple(text for _, text, _ in rows),
        )
        log.info("batch %s: %d rows of run %.8s, failures %d", claim.name, len(rows), work.run_id, claim.failures)
        try:
            result = await self._executor.run(batch, driver.progressed)
        except WorkerDied as death:
            log.warning("batch %s: %s", claim.name, death.title)
            if not self._stopping:
                self._troubles[work.run_id] = STARTED_AGAIN
            self._driver().gave_up(claim, "stopped" if self._stopping else "died", death.title)
        except BudgetReached as error:
            log.warning("batch %s: what the run may cost is reached", claim.name)
            await self._pause(work.run_id, str(error))
            self._driver().gave_up(claim, "stopped", str(error))
        except ModelError as error:
            # The words are for people's eyes: a model's words about a row do not belong in a log.
            log.warning("batch %s: the model cannot be used", claim.name)
            self._models.refuse(spec.model.digest, str(error))
            self._driver().gave_up(claim, "model", str(error))
            self._give_back(spec.run_id, str(error))
        else:
            self._troubles.pop(work.run_id, None)
            ids = [row_id for row_id, _, _ in rows]
            made = labeled(spec, claim, ids, result.answers, self._name(), result.seconds, time.time())
            self._driver().finished(claim, made)

    async def _pause(self, run_id: str, why: str) -> None:
        """On all machines: what was spent here was spent for all of them."""
        driver = self._driver()
        run = driver.core.plan.runs.get(run_id)
        if run is not None and run.state == "running":
            with contextlib.suppress(EngineError):  # it is joining a cluster: the next batch says it again
                await driver.append([StateSet(run_id, "paused", why[:2000], driver.core.next_clock())])

    def _give_back(self, run_id: str, why: str) -> None:
        """What waits of a run that cannot be done here."""
        same = [waiting for waiting in self._waiting if waiting[0].work.run_id == run_id]
        for claim, _ in same:
            self.abandon(claim)
            self._driver().gave_up(claim, "model", why)

    async def _give_up(self, effect: GiveUp) -> None:
        driver, work = self._driver(), effect.work
        run = driver.core.plan.runs.get(work.run_id)
        spec: RunSpec | None = run.spec if run is not None else None
        if spec is None:
            return
        rows = await driver.disk.ask(driver.disk.ledger.rows, work.block, work.at)
        claim = Claim(driver.core.epoch, 0, work, effect.deaths)
        reason = f"The model process ended {effect.deaths} times while labeling this row."
        answers = [(error_answer(reason),) * len(spec.dimensions)] * len(rows)
        ids = [row_id for row_id, _, _ in rows]
        await driver.append([labeled(spec, claim, ids, answers, self._name(), 0.0, time.time())])
        log.warning("batch %s: given up", claim.name)

    def _gave_up(self, task: asyncio.Task[None]) -> None:
        self._side.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if error := task.exception():
                log.error("a row could not be given up", exc_info=error)
