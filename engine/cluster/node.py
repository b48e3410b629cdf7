"""The engine process: one for each state folder, a member of a cluster that may be this machine alone."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import platform
import re
import secrets
import signal
from collections.abc import Awaitable

from engine.cluster import identity, picture, steady
from engine.cluster import messages as m
from engine.cluster.audits import Audits
from engine.cluster.bench import Bench
from engine.cluster.core import Core
from engine.cluster.driver import Driver
from engine.cluster.identity import Identity
from engine.cluster.joining import Joining, software
from engine.cluster.ledger import Ledger, LedgerFailed
from engine.cluster.machines import Machines
from engine.cluster.mesh import Mesh
from engine.cluster.options import EngineOptions
from engine.cluster.own_models import OwnModels
from engine.cluster.peers import Timers
from engine.cluster.requests import Desk
from engine.cluster.runs import Runs
from engine.cluster.state_folder import StateFolder
from engine.cluster.transport import Door
from engine.executor import Executor, LocalExecutor
from workspace.errors import EngineError
from workspace.facts import EngineStatus

log = logging.getLogger("engine")

LOOK_EVERY = 1.0  # seconds between looks at what changes slowly
GOODBYE = 0.05  # seconds for the last messages to leave, where somebody is there to hear them


class Node:
    """One engine. `run` returns when it was told to stop, was idle for long, or cannot go on."""

    def __init__(
        self,
        folder: StateFolder,
        options: EngineOptions | None = None,
        executor: Executor | None = None,
        timers: Timers | None = None,
    ) -> None:
        self._folder = folder
        self._options = options or EngineOptions()
        self._executor = executor or LocalExecutor(folder.worker_log)
        self._timers = timers or Timers()
        self._boot = secrets.token_hex(8)
        self._heard = steady.now()
        self._stopped = asyncio.Event()
        self._starting_over = False

    async def run(self) -> int:
        """Open the ledger, let clients and members in, work until stopped. Returns the exit status.

        The caller holds the folder's lock. Raises EngineError when the ledger or the keys cannot be used.
        """
        me, ledger = self._open()
        mesh = Mesh(me.keys, lambda key: self.driver.is_member(key))
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.models = OwnModels(ledger.models(), self._remember_model, lambda to, what: self.driver.send(to, what))
        self.bench = Bench(
            lambda: self.driver,
            self._executor,
            self.models,
            lambda: self.machines.name,
            self._options.idle_seconds,
        )
        self.driver = Driver(
            ledger,
            mesh,
            self._make_core,
            start=self.bench.start,
            abandon=self.bench.abandon,
            give_up=self.bench.give_up,
            other=self._other,
            changed=self._changed,
            failed=self._fail,
        )
        self.machines = Machines(self.driver, me, self._options, self._name(), ledger)
        self.joining = Joining(self.driver, me, self.machines)
        self.audits = Audits(self.driver, self._differs)
        self._describe()
        door = Door()
        try:
            await self.machines.start()
            self._listen_to_signals()
            runs = Runs(self.driver, self.models)
            desk = Desk(self.driver, runs, self.machines, self.joining, self.status, self.stop, self._start_over)
            self._tick()
            self._folder.lay_card(door.address)
            log.info("engine of %s ready, %d authors known", self.driver.core.author, len(self.driver.core.vector))
            return await self._until_stopped(
                *(self.bench.work(), door.guard(), door.serve(functools.partial(self._hear, desk))),
                *(mesh.guard(), mesh.serve(self.driver.hear), mesh.watch(self._up, self._down)),
                *(self._keep_ticking(), self._keep_looking(), self._broken),
            )
        finally:
            self._folder.take_card()
            await self.bench.close()
            await self.joining.end()
            await self.models.close()
            await self.machines.close()
            await self.driver.close()
            door.close()
            mesh.close()
            if self._starting_over:
                log.info("this machine begins anew; what it was lies in %s", self._folder.set_aside())

    def stop(self) -> None:
        """Finish the claim under way, then end. A second call does not wait for it."""
        # From now on a client that looks for an engine waits for the next one.
        self._folder.take_card()
        if self._stopped.is_set() or self._executor.capacity().doing:
            self._kill = asyncio.ensure_future(self._executor.close())
        self._stopped.set()
        self.bench.stop()

    def status(self) -> EngineStatus:
        """This engine at this moment."""
        core, now = self.driver.core, steady.now()
        self._remark()
        return EngineStatus(
            pid=os.getpid(),
            node=self.machines.name,
            author=core.author,
            vector=core.vector,
            copies=picture.copies(core),
            worker_pid=self._executor.capacity().pid,
            runs=core.progress(now),
            cluster=picture.cluster(core, self.machines, self.driver.held, self.joining.pairing, now),
        )

    # the process

    def _open(self) -> tuple[Identity, Ledger]:
        me = identity.load(self._folder.path)
        return me, Ledger(self._folder.ledger, me.id)

    def _make_core(self, ledger: Ledger) -> Core:
        return Core(ledger.author, self._boot, ledger.cluster, steady.now(), self._options.mode, self._timers)

    async def _until_stopped(self, work: Awaitable[None], *others: Awaitable[None]) -> int:
        """Run everything until `work` ends. Anything else that ends is a failure: nothing may go on without it."""
        worker = asyncio.ensure_future(self._work(work))
        tasks = [worker, *(asyncio.ensure_future(other) for other in others)]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
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

    async def _work(self, work: Awaitable[None]) -> None:
        """Work until stopped; then see to it that what was done is safe, and say goodbye."""
        await work
        await self.driver.settled()
        if self.driver.stop():
            await asyncio.sleep(GOODBYE)

    async def _hear(self, desk: Desk, body: bytes) -> bytes | None:
        self._heard = steady.now()
        return await desk.answer(body, stopping=self._stopped.is_set())

    def _start_over(self) -> None:
        if not self.machines.removed:
            raise EngineError("This machine belongs to its cluster.", "Remove it from another machine first.")
        self._starting_over = True
        self.stop()

    def _listen_to_signals(self) -> None:
        # Ctrl-C in the terminal of a studio is the studio's to handle.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGTERM, self.stop)
        except NotImplementedError:  # Windows
            signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(self.stop))

    def _fail(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)

    # what happens by itself

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(self._timers.tick)
            self._tick()

    def _tick(self) -> None:
        self.driver.tick()

    async def _keep_looking(self) -> None:
        """What changes slowly: this machine itself, models, addresses; and whether anybody needs this engine."""
        while True:
            self.models.measure()
            if self.driver.core.rolled_back:
                # A disk that was set back must not number facts anew that others hold under these numbers.
                log.warning("others hold more of this machine's log than it does: it begins another one")
                await self.driver.move(Ledger.new_log)
            core = self.driver.core
            wanted = [run.spec.model for run in core.plan.working() if run.spec is not None]
            self.models.tick(wanted, self.machines.within_reach())
            await self.machines.look(self.joining.pairing)
            self._describe()
            self.audits.look()
            self._end_if_idle()
            await asyncio.sleep(min(LOOK_EVERY, self._options.idle_seconds / 4))

    def _end_if_idle(self) -> None:
        quiet = steady.now() - self._heard
        needed = self._options.stay or any(self.driver.core.plan.working())
        if quiet > self._options.idle_seconds and not needed and not self._stopped.is_set():
            log.info("nothing to do for %.0f s", quiet)
            self.stop()

    def _changed(self) -> None:
        if self.driver.core is not self._described:
            self._describe()
        self.machines.changed()

    def _other(self, sender: str, message: m.AnyMessage, address: str) -> None:
        if isinstance(message, m.Hello):
            self.machines.greeted(sender, message, address)
        elif isinstance(message, m.Audit):
            self.audits.hear(sender, message)
        else:
            self.models.hear(sender, message)

    def _differs(self, problem: str) -> None:
        self.machines.differs = problem

    def _up(self, key: str) -> None:
        self.driver.up(key)
        self.machines.up(identity.member_id(key), self.driver.mesh.linked(key))

    def _down(self, key: str) -> None:
        self.driver.down(key)
        self.models.gone(identity.member_id(key))

    # what this machine says of itself

    def _name(self) -> str:
        name = self._options.name.strip() or platform.node().split(".")[0]
        return re.sub(r"\s+", " ", name)[:80] or "node"

    def _describe(self) -> None:
        self._remark()
        self._described = self.driver.core
        self._described.describe(self._card())

    def _card(self) -> m.Card:
        holding, size = self._executor.capacity(), self.models.size
        return size.card(
            self._boot,
            mode=self._options.mode,
            software=software(),
            models=self.models.here(),
            loaded=holding.loaded,
            refused=self.models.refusals(),
            rows_per_s=picture.rows_per_s(self.driver.core, steady.now()),
            doing=self._doing(),
            port=self.machines.port,
            working=not self._stopped.is_set(),
            batch=self._options.batch,
        )

    def _doing(self) -> str:
        if doing := self._executor.capacity().doing:
            return doing
        claim = self.bench.claim
        run = self.driver.core.plan.runs.get(claim.work.run_id) if claim is not None else None
        if run is not None and run.spec is not None:
            return f"Labeling {run.spec.task_name}"
        return next(iter(self.models.doing().values()), "")

    def _remark(self) -> None:
        remarks, doing, now = self.bench.remarks(), self.models.doing(), steady.now()
        for run in self.driver.core.plan.runs.values():
            run.remark = remarks.get(run.run_id, "")
            if not run.remark and run.working and run.spec is not None:
                run.remark = doing.get(run.spec.model.digest, "") or picture.why_nobody(self.driver.core, run, now)

    def _remember_model(self, digest: str, path: str) -> None:
        disk = self.driver.disk
        disk.ask(disk.ledger.remember_model, digest, path)
        self._describe()
