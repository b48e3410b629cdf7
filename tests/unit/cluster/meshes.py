"""A machine's end of the mesh in a thread of its own, for tests that stay plain functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from engine.cluster.mesh import Mesh
from engine.cluster.sockets import KeyPair, new_keys

T = TypeVar("T")


class Machine:
    """Listens on loopback, keeps what it hears and which ways came up (+) and went down (-)."""

    def __init__(
        self, keys: KeyPair | None = None, port: int = 0, host: str = "127.0.0.1", reads: bool = True
    ) -> None:
        self.keys = keys or new_keys()
        self.key = self.keys.public
        self.members: set[str] = set()
        self.turned_away: list[str] = []  # keys of no members that were asked for
        self.heard: list[tuple[str, bytes]] = []
        self.ips: set[str] = set()
        self.ways: list[str] = []
        self.failed: list[BaseException] = []
        self._reads, self._host, self._port = reads, host, port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(30)

    async def _run(self) -> None:
        try:
            self.mesh = Mesh(self.keys, self._is_member)
            self.port = self.mesh.listen(self._host, self._port)
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.address = f"{host}:{self.port}"
        finally:
            self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
            self._ready.set()
        tasks = [
            asyncio.create_task(self.mesh.guard()),
            asyncio.create_task(
                self.mesh.watch(lambda key: self.ways.append("+" + key), lambda key: self.ways.append("-" + key))
            ),
        ]
        if self._reads:
            tasks.append(asyncio.create_task(self.mesh.serve(self._hear)))
        over = asyncio.create_task(self._over.wait())
        done, _ = await asyncio.wait([*tasks, over], return_when=asyncio.FIRST_COMPLETED)
        self.failed = [error for task in done if (error := task.exception()) is not None]
        await over
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.mesh.close()

    def _is_member(self, key: str) -> bool:
        if key not in self.members:
            self.turned_away.append(key)
        return key in self.members

    def _hear(self, key: str, body: bytes, ip: str) -> None:
        self.heard.append((key, body))
        self.ips.add(ip)
        if body == b"break":
            raise ArithmeticError("a mistake in what hears")

    def do(self, work: Callable[[], T]) -> T:
        """Do something in the machine's loop."""

        async def inside() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result(30)

    def knows(self, *others: Machine) -> None:
        """Count others as members and dial them."""
        for other in others:
            self.members.add(other.key)
            self.do(lambda other=other: self.mesh.dial(other.key, [other.address]))  # type: ignore[misc]

    def send(self, to: str, body: bytes) -> bool:
        return self.do(lambda: self.mesh.send(to, body))

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(30)
        assert not self._thread.is_alive()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
