"""Models travel between the machines of a cluster: what a node does about the four messages on models.

Files are read and written in threads of their own, so that the loop, and with it beats and labels, never waits
for a disk. An Ollama model is not a file and does not travel.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from engine.cluster.capacity import gigabytes
from engine.cluster.effects import Send
from engine.cluster.messages import AnyMessage, ModelAsk, ModelOffer, ModelPart, ModelWant, Refusal
from engine.cluster.model_fetch import Conclude, Fetch, FetchEffect, Inspect, Store, Transfer
from engine.cluster.model_files import Closing, Find, Library, PartFile
from engine.models import catalog
from workspace.errors import ModelError

T = TypeVar("T")
log = logging.getLogger("engine")

MAX_FETCHES = 4  # at a time; the network is one
MAX_ASKS = 16  # of one peer that wait to be answered; more than it may ask for at once
MAX_WANTED = 16  # models peers asked for that wait to be looked up
ABSENT_SECONDS = 5.0  # for which a model that was not found is not looked for again

MODEL_MESSAGES = (ModelWant, ModelOffer, ModelAsk, ModelPart)


class ModelTraveler:
    """Fetches models this machine wants and serves those it has. Everything but the files happens on the loop.

    `send` may lose messages; `on_ready` is called on the loop with a digest and where the file is now. `find` and
    `fits` are called in threads and on the loop: this machine's file of a digest, and why a file of a size cannot
    be held here, empty when it can.
    """

    def __init__(
        self,
        send: Callable[[str, AnyMessage], object],
        on_ready: Callable[[str, Path], object],
        *,
        find: Find,
        fits: Callable[[int], str],
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._on_ready = on_ready
        self._find = find
        self._fits = fits
        self._folder = folder or catalog.models_folder()
        self._clock = clock
        self._library = Library(find)
        self._fetches: dict[str, _Fetching] = {}
        self._wanted_by: dict[str, set[str]] = {}  # models being looked up for peers
        self._absent: dict[str, float] = {}  # models that were not found, and when
        self._asks: collections.Counter[str] = collections.Counter()
        self._reading = ThreadPoolExecutor(1, "model-reader")
        self._serving = ThreadPoolExecutor(1, "model-server")
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # what this machine wants

    def want(self, digest: str, name: str) -> None:
        """See to it that the model of this digest comes here; `name` is what people call it. Asking again is
        nothing new."""
        going = sum(not fetching.fetch.refusal for fetching in self._fetches.values())
        if digest not in self._fetches and going < MAX_FETCHES and not self._closed:
            self._fetches[digest] = _Fetching(Fetch(digest, name, self._fits), PartFile(self._folder, digest))

    def drop(self, digest: str) -> None:
        """It is not wanted any more. What has come stays on disk for a while, should it be wanted again."""
        fetching = self._fetches.pop(digest, None)
        if fetching is not None:
            self._later(fetching.close())

    def transfers(self) -> tuple[Transfer, ...]:
        """Models on their way, in the order they were wanted."""
        now = self._clock()
        return tuple(fetching.fetch.transfer(now) for fetching in self._fetches.values())

    def refusals(self) -> tuple[Refusal, ...]:
        """Models this machine cannot hold, and why."""
        found = ((digest, fetching.fetch.refusal) for digest, fetching in self._fetches.items())
        return tuple(Refusal(digest, why) for digest, why in found if why)

    # what happens

    def tick(self, peers: Collection[str]) -> None:
        """Called about every second with the members that can be reached."""
        now = self._clock()
        for fetching in list(self._fetches.values()):
            self._do(fetching, fetching.fetch.tick(now, peers))

    def gone(self, member: str) -> None:
        """The connection to a member broke."""
        now = self._clock()
        for fetching in list(self._fetches.values()):
            self._do(fetching, fetching.fetch.gone(member, now))

    def hear(self, sender: str, message: ModelWant | ModelOffer | ModelAsk | ModelPart) -> None:
        """A message of a member."""
        if self._closed:
            return
        if isinstance(message, ModelWant):
            self._look_up(sender, message.digest)
        elif isinstance(message, ModelAsk):
            if self._asks[sender] < MAX_ASKS:
                self._asks[sender] += 1
                self._later(self._serve(sender, message))
        elif fetching := self._fetches.get(message.digest):
            now = self._clock()
            if isinstance(message, ModelOffer):
                self._do(fetching, fetching.fetch.offered(sender, message, now))
            else:
                self._do(fetching, fetching.fetch.part(sender, message, now))

    async def close(self) -> None:
        """Stop; files under way are left as they are."""
        self._closed = True
        fetches, self._fetches = list(self._fetches.values()), {}
        for fetching in fetches:
            fetching.part.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for fetching in fetches:
            await fetching.close()
        for pool in (self._reading, self._serving):
            # A file being read for its offer may be large: nobody waits for that.
            await asyncio.to_thread(pool.shutdown, wait=pool is self._serving, cancel_futures=True)

    # serving

    def _look_up(self, sender: str, digest: str) -> None:
        if self._clock() - self._absent.get(digest, float("-inf")) < ABSENT_SECONDS:
            return
        if digest in self._wanted_by:
            self._wanted_by[digest].add(sender)
        elif len(self._wanted_by) < MAX_WANTED:
            self._wanted_by[digest] = {sender}
            self._later(self._offer(digest))

    async def _offer(self, digest: str) -> None:
        try:
            offer = await self._in(self._reading, self._library.offer, digest)
        finally:
            senders = self._wanted_by.pop(digest)
        if offer is None:
            now = self._clock()
            self._absent = {name: at for name, at in self._absent.items() if now - at < ABSENT_SECONDS}
            self._absent[digest] = now
            return
        for sender in senders:
            self._send(sender, offer)

    async def _serve(self, sender: str, ask: ModelAsk) -> None:
        try:
            part = await self._in(self._serving, self._library.part, ask.digest, ask.piece)
        finally:
            self._asks[sender] -= 1
            if not self._asks[sender]:
                del self._asks[sender]
        self._send(sender, part)

    # fetching

    def _do(self, fetching: _Fetching, effects: Sequence[FetchEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect.to, effect.message)
            else:
                self._later(self._on_disk(fetching, effect))

    async def _on_disk(self, fetching: _Fetching, effect: Inspect | Store | Conclude) -> None:
        """Carry an effect out in the fetch's own thread, in which they keep their order, and tell it."""
        fetch, part = fetching.fetch, fetching.part
        try:
            if isinstance(effect, Store):
                await self._in(fetching.thread, part.store, effect.piece, effect.data)
                effects = fetch.stored(effect.piece, self._clock())
            elif isinstance(effect, Inspect):
                ready = await self._in(fetching.thread, self._find, fetch.digest)
                if ready is not None:
                    self._arrived(fetching, ready)
                    return
                held = await self._in(fetching.thread, part.open, effect.offer)
                effects = fetch.inspected(held, self._clock())
            else:
                place = await self._in(fetching.thread, part.conclude, fetch.name or effect.offer.name)
                effects = fetch.concluded(place is not None, self._clock())
                if place is not None:
                    self._arrived(fetching, place)
        except Closing:
            return
        except (ModelError, OSError) as error:
            effects = fetch.blocked(_words(fetch.name, error), self._clock())
            log.warning("fetching %s: %s", fetch.name, error)
        if self._fetches.get(fetch.digest) is fetching:
            self._do(fetching, effects)

    def _arrived(self, fetching: _Fetching, place: Path) -> None:
        log.info("%s is here", fetching.fetch.name)
        if self._fetches.get(fetching.fetch.digest) is fetching:
            del self._fetches[fetching.fetch.digest]
            self._later(fetching.close())
            self._on_ready(fetching.fetch.digest, place)

    # threads

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    def _later(self, work: collections.abc.Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("models: unexpected trouble", exc_info=error)


class _Fetching:
    """A fetch, its file, and the thread that writes it."""

    def __init__(self, fetch: Fetch, part: PartFile) -> None:
        self.fetch = fetch
        self.part = part
        self.thread = ThreadPoolExecutor(1, "model-writer")

    async def close(self) -> None:
        self.part.stop()
        await asyncio.get_running_loop().run_in_executor(self.thread, self.part.close)
        await asyncio.to_thread(self.thread.shutdown)


def words(transfer: Transfer) -> str:
    """A sentence on a model that is on its way."""
    if transfer.problem:
        return transfer.problem
    if not transfer.size:
        return f"Looking for {transfer.name}"
    rate = f", {transfer.bytes_per_s / 1e6:,.0f} MB/s" if transfer.bytes_per_s else ""
    return f"Fetching {transfer.name}: {gigabytes(transfer.done)} of {gigabytes(transfer.size)}{rate}"


def _words(name: str, error: ModelError | OSError) -> str:
    if isinstance(error, ModelError):
        return str(error)
    reason = error.strerror or error
    return f"{name or 'The model'} cannot be written to disk ({reason}). Make room; it goes on by itself."
