"""The core at work: whatever happens goes in here, and what the core wants done about it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from engine.cluster import messages as m
from engine.cluster import steady
from engine.cluster.core import Core
from engine.cluster.disk import Disk
from engine.cluster.effects import Abandon, AnyEffect, Claim, GiveUp, HangUp, Send, Serve, Start, Write
from engine.cluster.entries import AnyBody, BlockFound, Entry, Labeled
from engine.cluster.identity import member_id
from engine.cluster.ledger import Ledger
from engine.cluster.mesh import Mesh
from workspace.errors import EngineError

log = logging.getLogger("engine")

_CORES = (m.Beat, m.Credit, m.Grant, m.Facts, m.Have, m.Need, m.Lead, m.Release, m.Bye)
MOST_SERVED = 64  # Facts being read from disk at a time, for all peers; who gets none asks again


class Driver:
    """Owns the core and the ways out of it. Everything happens on the loop's thread.

    `start`, `abandon` and `give_up` are the worker's side, `other` gets the messages the core does not read,
    `changed` is called after entries have been applied, `failed` once if the ledger fails.
    """

    def __init__(
        self,
        ledger: Ledger,
        mesh: Mesh,
        make_core: Callable[[Ledger], Core],
        *,
        start: Callable[[Claim], None],
        abandon: Callable[[Claim], None],
        give_up: Callable[[GiveUp], None],
        other: Callable[[str, m.AnyMessage, str], None],
        changed: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.mesh = mesh
        self.disk = Disk(ledger, self._written, self._broke)
        self._make_core = make_core
        self._start = start
        self._abandon = abandon
        self._give_up = give_up
        self._other = other
        self._changed = changed
        self._failed = failed
        self.held: dict[str, int] = {}  # by member: claims it said it holds
        self._members: dict[str, str] = {}  # member id by key, of those who are or were members
        self._waiting: dict[int, asyncio.Future[None]] = {}  # number of a write: who waits for it
        self._answered: dict[int, tuple[str, int]] = {}  # number of a write: claim and rows
        self._served: set[tuple[str, str, int]] = set()
        self._encoded: tuple[m.AnyMessage | None, bytes] = (None, b"")
        self._moving = False
        self._late: list[tuple[Claim, Labeled]] = []  # answers that came while moving
        self.core = self._load(ledger)

    # events

    def tick(self) -> None:
        """Let the core look at the time."""
        if not self._moving:
            self.do(self.core.tick(steady.now()))

    def is_member(self, key: str) -> bool:
        """Whether the holder of this key belongs to the cluster."""
        return self._id(key) in self.core.members and not self.core.removed

    def hear(self, key: str, body: bytes, address: str = "") -> None:
        """A message of the holder of this key, which came from this address."""
        sender = self._id(key)
        if self._moving:
            return
        if not body:
            log.warning("%.8s speaks another version of the protocol", sender)
            return
        try:
            message = m.decode(body)
        except msgspec.DecodeError as error:
            # The reason may quote the content, so only its kind is logged.
            log.warning("a message of %.8s was not understood: %s", sender, type(error).__name__)
            return
        if isinstance(message, m.Beat):
            self.held[sender] = len(message.held)
        self.do(self.core.receive(sender, message, steady.now()))
        if not isinstance(message, _CORES) and sender in self.core.members and not self.core.removed:
            self._other(sender, message, address)

    def up(self, key: str) -> None:
        """The connection to the holder of this key is there."""
        if not self._moving:
            self.do(self.core.linked(self._id(key)))

    def down(self, key: str) -> None:
        """The connection to the holder of this key broke."""
        if not self._moving:
            self.do(self.core.hung_up(self._id(key), steady.now()))

    def finished(self, claim: Claim, labeled: Labeled) -> None:
        """The answers of a claim."""
        if self._moving:
            self._late.append((claim, labeled))
            return
        effects = self.core.finished(claim, labeled, steady.now())
        for effect in effects:
            if isinstance(effect, Write):
                self._answered[effect.number] = (claim.name, len(labeled.at))
                break
        self.do(effects)

    def gave_up(self, claim: Claim, reason: m.Reason, detail: str = "") -> None:
        """A claim ends without answers."""
        if not self._moving:
            self.do(self.core.failed(claim, reason, detail, steady.now()))

    def progressed(self) -> None:
        """The backend shows a sign of life."""
        self.core.progressed(steady.now())

    def stop(self) -> bool:
        """Say goodbye to the others. True if there are any."""
        goodbyes = self.core.stop()
        self.do(goodbyes)
        return bool(goodbyes)

    async def settled(self) -> None:
        """Wait until everything said so far is on disk and counts."""
        await self.disk.ask(lambda: None)

    async def append(self, bodies: Sequence[AnyBody]) -> int:
        """Write to this machine's log; returns where it ends then, once that is durable and counts."""
        if self._moving:
            raise EngineError("This machine is joining a cluster.", "Try again in a moment.")
        effects = self.core.append(bodies)
        write = effects[0]
        assert isinstance(write, Write)
        written = self._waiting[write.number] = asyncio.get_running_loop().create_future()
        self.do(effects)
        await written
        return write.entries[-1].end

    async def move(self, change: Callable[[Ledger], object]) -> None:
        """Change what the ledger says of this machine itself, and begin anew from it with another core.

        Nothing is lost: what was on its way to the disk is there before. `change` runs on the ledger's thread.
        """
        self._moving = True
        try:
            ledger = self.disk.ledger
            await self.disk.ask(change, ledger)
            self.core = self._load(ledger)
        finally:
            self._moving = False
            late, self._late = self._late, []
            for claim, labeled in late:
                self.finished(claim, labeled)
        self._changed()
        for member, known in list(self.core.members.items()):
            if self.mesh.linked(known.key):  # ways that were open before are news to this core
                self.do(self.core.linked(member))

    async def close(self) -> None:
        """Finish what the disk is doing and close the ledger."""
        await self.disk.close()

    # effects

    def do(self, effects: Sequence[AnyEffect]) -> None:
        """Carry out what the core wants, in order."""
        for effect in effects:
            match effect:
                case Send():
                    self.send(effect.to, effect.message)
                case Write():
                    self.disk.write(effect)
                case Start():
                    self._start(effect.claim)
                case Serve():
                    self._serve(effect)
                case Abandon():
                    self._abandon(effect.claim)
                case GiveUp():
                    self._give_up(effect)
                case HangUp():
                    self._hang_up(effect.to)

    def send(self, member: str, message: m.AnyMessage) -> bool:
        """Send to a member; may be lost. False when that is known at once."""
        known = self.core.members.get(member)
        if known is None:
            return False
        if self._encoded[0] is not message:  # the same goes to one after the other
            self._encoded = (message, m.encode(message))
        return self.mesh.send(known.key, self._encoded[1])

    def _serve(self, effect: Serve) -> None:
        key = (effect.to, effect.author, effect.first)
        if key in self._served or len(self._served) >= MOST_SERVED:
            return
        self._served.add(key)
        read = self.disk.ask(self.disk.ledger.read, effect.author, effect.first, m.FACTS_BYTES)
        read.add_done_callback(lambda done: self._served_from(effect, done))

    def _served_from(self, effect: Serve, done: asyncio.Future[list[Entry]]) -> None:
        self._served.discard((effect.to, effect.author, effect.first))
        if done.cancelled() or done.exception() is not None or not (entries := done.result()):
            return
        pairs = tuple((entry.count, entry.body) for entry in entries)
        more = entries[-1].end < self.core.vector.get(effect.author, 0)
        self.send(effect.to, m.Facts(effect.author, entries[0].seq, pairs, more))

    def _hang_up(self, member: str) -> None:
        for key, known in self._members.items():
            if known == member:
                self.mesh.hang_up(key)

    def _written(self, numbers: Sequence[int], found: Sequence[BlockFound]) -> None:
        # Told once for the whole transaction, so that what follows from it goes out in few messages.
        self.do(self.core.written(numbers[-1], found, steady.now()))
        for number in numbers:
            if answered := self._answered.pop(number, None):
                log.info("batch %s: %d rows durable", *answered)
            waiting = self._waiting.pop(number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        self._changed()

    def _broke(self, error: BaseException) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)
        self._waiting.clear()
        self._failed(error)

    def _load(self, ledger: Ledger) -> Core:
        core = self._make_core(ledger)
        core.load(ledger.replay(), ledger.epoch_max.number)
        return core

    def _id(self, key: str) -> str:
        known = self._members.get(key)
        if known is None:
            known = member_id(key)
            if known in self.core.members:  # strangers may come with as many keys as they like
                self._members[key] = known
        return known
