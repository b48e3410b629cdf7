"""Discovery in a thread with a loop of its own, for tests that stay plain functions."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

from engine.cluster.adverts import Advert
from engine.cluster.discovery import Discovery

T = TypeVar("T")


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        ready = threading.Event()

        def run() -> None:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.call_soon(ready.set)
                self._loop.run_forever()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert ready.wait(30)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        assert not self._thread.is_alive()


class Looking:
    """A machine that calls itself out and looks for others."""

    def __init__(
        self,
        name: str,
        interfaces: Sequence[str] = (),
        members: Sequence[str] = (),
        every: float = 0.2,
        port: int = 5870,
    ) -> None:
        self.id = secrets.token_hex(16)
        self.members = set(members)
        self.changes = 0
        self.advert = Advert(self.id, name, cluster="c" * 32, boot=secrets.token_hex(8), port=port)
        self._loop = Loop()
        self.discovery = self._loop.do(self._made(interfaces, every))

    async def _made(self, interfaces: Sequence[str], every: float) -> Discovery:
        discovery = Discovery(self.id, self.members.__contains__, self._changed, interfaces, every)
        await discovery.start(self.advert if self.advert.port else None)
        return discovery

    def _changed(self) -> None:
        self.changes += 1

    def say(self, advert: Advert | None) -> None:
        self._loop.do(self.discovery.update(advert))

    def rest(self) -> None:
        self._loop.do(self.discovery.close())

    def start(self) -> None:
        self._loop.do(self.discovery.start(self.advert))

    def look(self) -> None:
        async def look() -> None:
            self.discovery.look()

        self._loop.do(look())

    def finds(self, other: Looking) -> Callable[[], bool]:
        return lambda: other.id in self.discovery.found

    def close(self) -> None:
        self._loop.do(self.discovery.close())
        self._loop.stop()

    def __enter__(self) -> Looking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
