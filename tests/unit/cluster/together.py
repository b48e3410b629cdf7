"""Several nodes in one process, each with its own folder, sockets and worker, spoken to by their own clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from engine.client import Engine
from engine.cluster.ledger import Ledger
from engine.cluster.node import Node
from engine.cluster.options import EngineOptions
from engine.cluster.peers import Timers
from engine.cluster.state_folder import StateFolder
from engine.executor import LocalExecutor
from tests.unit.cluster.examples import RuleWorker
from tests.waiting import wait_for
from workspace.machines import Cluster, Machine

T = TypeVar("T")

QUICK = Timers(beat=0.1, suspect=0.4, dead=1.0, hangup=0.4, stagger=0.1, stall=2.0)


class Helper:
    """One machine. `engine` is a client of its node."""

    def __init__(self, name: str, folder: StateFolder, worker: RuleWorker) -> None:
        self.name = name
        self.folder = folder
        self.worker = worker
        self.node: Node
        self.task: asyncio.Task[int]
        self.engine: Engine
        self.id = ""

    @property
    def cluster(self) -> Cluster:
        return self.engine.status().cluster

    def sees(self, other: Helper) -> Machine | None:
        """How this machine shows another one."""
        return next((machine for machine in self.cluster.machines if machine.id == other.id), None)

    @property
    def rows_asked(self) -> int:
        return sum(self.worker.asked)


class Together:
    """Starts, pairs and kills nodes; everything is called from the script's thread."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.helpers: dict[str, Helper] = {}
        self._path = path
        self._loop = loop

    def start(self, name: str, worker: RuleWorker | None = None, **options: Any) -> Helper:
        """Start the machine of this name, for the first time or again."""
        folder = StateFolder(self._path / name)
        folder.make()
        helper = self.helpers[name] = Helper(name, folder, worker or RuleWorker())
        chosen = {"name": name, "listen": "127.0.0.1:0", "find": "none", "stay": True, **options}
        self.on_loop(self._start(helper, EngineOptions(**chosen)))
        helper.engine = Engine.ensure(folder.path, start=False)
        helper.id = helper.node.driver.core.me
        return helper

    def pair(self, inviting: Helper, invited: Helper) -> str:
        """Type the code that `invited` shows at `inviting`."""
        shown = invited.engine.open_pairing()
        return inviting.engine.pair(f"127.0.0.1:{shown.port}", shown.code)

    def kill(self, helper: Helper) -> None:
        """End a node without a word: its sockets close, its disk keeps what was synced, nothing else."""
        helper.engine.close()
        helper.worker.hold.set()
        self.on_loop(_ended(helper.task))
        helper.folder.take_card()

    def stop(self, helper: Helper) -> None:
        """Let a node end as it should."""
        if helper.folder.card() is not None:
            helper.engine.shutdown(wait=False)
        helper.engine.close()
        self.on_loop(_ended(helper.task, cancel=False))

    def ledger(self, helper: Helper) -> dict[str, list[bytes]]:
        """Everything a machine that does not run has on disk: the bodies of every log."""
        found = Ledger(helper.folder.ledger, helper.node.driver.core.me)
        try:
            return {
                author: [entry.body for entry in found.read(author, 0, 1 << 30, 1 << 20)]
                for author in found.vector()
            }
        finally:
            found.close()

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self, helper: Helper, options: EngineOptions) -> None:
        executor = LocalExecutor(helper.folder.worker_log, lambda: helper.worker)
        helper.node = Node(helper.folder, options, executor, QUICK)
        helper.task = asyncio.create_task(helper.node.run())
        while helper.folder.card() is None:
            if helper.task.done():
                helper.task.result()
                raise AssertionError(f"{helper.name} ended")
            await asyncio.sleep(0.01)


def together(path: Path, script: Callable[[Together], None]) -> None:
    """Run nodes in this thread while `script` speaks to them from another one."""

    def guarded(machines: Together) -> None:
        try:
            script(machines)
        except StopIteration as error:  # it would never leave the thread
            raise AssertionError("nothing found") from error

    async def all_of_it() -> None:
        machines = Together(path, asyncio.get_running_loop())
        try:
            await asyncio.to_thread(guarded, machines)
        finally:
            for helper in machines.helpers.values():
                helper.worker.hold.set()
                helper.engine.close()
                await _ended(helper.task)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(all_of_it())


def known_to_all(helpers: list[Helper]) -> None:
    """Wait until every machine sees every other one alive, and all follow the same leader."""

    def there() -> bool:
        clusters = [helper.cluster for helper in helpers]
        seen = all(
            len(cluster.machines) == len(helpers) and all(machine.alive for machine in cluster.machines)
            for cluster in clusters
        )
        return seen and len({(cluster.leader, cluster.epoch) for cluster in clusters}) == 1

    wait_for(there, lambda: f"all to see each other: {[helper.cluster for helper in helpers]}", 20)


async def _ended(task: asyncio.Task[int], cancel: bool = True) -> None:
    if cancel:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
