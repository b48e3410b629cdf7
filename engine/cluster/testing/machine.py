"""One simulated machine: a core as in production, with a clock, a disk and a worker of its own.

It does what a node does: carries out the core's effects, in order, and tells the core what came of them. What is
lost when the process dies, and what is not, is as on a real machine: see `crash`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from engine.cluster.core import Core
from engine.cluster.effects import Abandon, AnyEffect, Claim, GiveUp, HangUp, Send, Serve, Start, Write
from engine.cluster.entries import AnyBody, BlockFound, Member, MemberSet
from engine.cluster.messages import AnyMessage, Card, Mode, Reason
from engine.cluster.replication import facts_of
from engine.cluster.testing.clock import Clock
from engine.cluster.testing.disk import Disk
from engine.cluster.testing.worker import Talent, Worker

if TYPE_CHECKING:
    from engine.cluster.testing.cluster import World

SOCKET_QUEUE = 200  # messages the socket keeps for a process that stands still
DIAL = 0.7  # seconds between attempts to connect, about


class Rhythm(msgspec.Struct):
    """How fast this machine does things, in seconds. Faults make it slower."""

    tick: float = 0.1
    sync: float = 0.004
    serve: int = 40  # entries of one Facts that answers a Need


class Machine:
    """A machine and, while it is up, the life of the process on it."""

    def __init__(self, world: World, number: int, cluster: str, talent: Talent, mode: Mode = "auto") -> None:
        self.world = world
        self.number = number
        self.name = f"m{number}"
        self.key = f"{number:040d}"
        self.id = hashlib.blake2b(self.key.encode(), digest_size=16).hexdigest()
        self.mode: Mode = mode
        self.talent = talent
        self.clock = Clock()
        self.rhythm = Rhythm()
        self.logs = 0  # authors this machine has been
        self.lives = 0
        self.up = False
        self.frozen = False
        self.core: Core
        self.worker: Worker
        self.disk: Disk
        self.links: set[str] = set()
        self.on_disk: Callable[[], None] | None = None  # a fault that strikes right after a sync
        self._asleep_since: float | None = None
        self._held: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._writes: deque[Write] = deque()
        self._syncing = False
        self.new_disk(cluster)

    @property
    def now(self) -> float:
        """What its clock shows."""
        return self.clock.read(self.world.queue.now)

    @property
    def author(self) -> str:
        """Name of its log."""
        return self.disk.author

    @property
    def busy(self) -> bool:
        """Something is on its way to the disk, or being worked on."""
        return bool(self._writes) or self._syncing or self.worker.current is not None

    @property
    def running(self) -> bool:
        """The process is there and gets time."""
        return self.up and not self.frozen

    def member(self, rank: int) -> Member:
        """What is written down of it when it is paired."""
        return Member(self.id, self.key, self.name, rank, (f"{self.name}:1",))

    def card(self) -> Card:
        """What it says of itself."""
        talent = self.talent
        return Card(
            boot=self.boot,
            mode=self.mode,
            software="simulated",
            models=tuple(sorted(talent.models)),
            working=talent.working,
            batch=talent.batch,
        )

    # lives

    def new_disk(self, cluster: str) -> None:
        """An empty disk. Its log has a name no log had before."""
        log = hashlib.blake2b(f"{self.id}/{self.logs}".encode(), digest_size=8).hexdigest()
        if self.logs and self.world.laws.same_log:
            log = self.disk.author[-16:]
        self.disk = Disk(f"{self.id}.{log}", cluster)
        self.logs += 1

    def old_disk(self, share: float) -> None:
        """The disk as it was when it held this share of what it holds. Its ledger begins a log of its own."""
        old = self.disk
        self.new_disk(old.cluster)
        kept = old.arrived()
        self.disk.write(kept[: int(len(kept) * share)], old.epoch_max)

    def join(self, cluster: str) -> None:
        """Belong to another cluster from now on, with what is on the disk."""
        if cluster != self.disk.cluster:
            self.crash(syncs=len(self._writes))
            self.disk.cluster = cluster
            self.start()

    def start(self) -> None:
        """The process begins: it knows what is on the disk and nothing else."""
        self.lives += 1
        self.up, self.frozen, self._syncing = True, False, False
        self.boot = f"{self.number:x}{self.lives:06x}"
        self.links, self._held, self._writes = set(), deque(), deque()
        world = self.world
        self.core = world.new_core(self)
        self.core.load(self.disk.replay(), self.disk.epoch_max.number)
        self.worker = Worker(self, self.talent)
        world.watch.started(self)
        world.tell("start", self.name, self.author[-4:], self.disk.epoch_max)
        self.core.describe(self.card())
        if self.id not in self.core.members and not self.core.removed:
            self.append(MemberSet(self.member(0), self.core.next_clock()))
        self.later(self.rhythm.tick * world.chance.random(), self._tick)
        self.later(DIAL * world.chance.random(), self._dial)

    def crash(self, syncs: int = 0) -> None:
        """The process dies at once. Of what waited for the disk the first `syncs` writes got there, as their
        sync was under way; nobody heard of it."""
        if not self.up:
            return
        self.world.tell("crash", self.name, syncs)
        for write in list(self._writes)[:syncs]:
            self._write([write])
        self.up = self.frozen = False
        self.world.broken(self)

    def leave(self) -> None:
        """The process ends in order: it says goodbye, and what waits for the disk gets there."""
        if self.running:
            self.do(self.core.stop())
            self.crash(syncs=len(self._writes))

    def freeze(self, aware: bool = True) -> None:
        """The process gets no time any more (SIGSTOP, lid closed). Its clock may stand still as well."""
        if self.up and not self.frozen:
            self.world.tell("freeze", self.name, aware)
            self.frozen = True
            self._asleep_since = None if aware else self.world.queue.now

    def thaw(self, messages_first: bool = True) -> None:
        """It goes on, with what its sockets and timers have collected."""
        if not self.frozen:
            return
        self.world.tell("thaw", self.name)
        self.frozen = False
        if self._asleep_since is not None:
            self.clock.slept += self.world.queue.now - self._asleep_since
        self.world.watch.woken(self)
        held, self._held = self._held, deque()
        for call, arguments in sorted(held, key=lambda step: (step[0] == self._hear) != messages_first):
            self.later(0.0, call, *arguments)

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call it after so many true seconds, in this life of the process and when it gets time."""
        self.world.queue.after(seconds, self._wake, self.lives, call, arguments)

    def _wake(self, life: int, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if life != self.lives or not self.up:
            return
        if self.frozen:
            self._held.append((call, arguments))
        else:
            call(*arguments)

    # what happens to it

    def arrive(self, sender: str, message: AnyMessage) -> None:
        """A message reaches this machine's socket."""
        if self.frozen and self.up:
            if len(self._held) < SOCKET_QUEUE:
                self._held.append((self._hear, (sender, message)))
        elif self.up:
            self._hear(sender, message)

    def _hear(self, sender: str, message: AnyMessage) -> None:
        world = self.world
        if not world.trusting and sender not in self.core.members:
            return  # the transport knows the members as well
        world.tell("hear", self.name, world.name_of(sender), message)
        world.watch.heard(self, sender, message)
        effects = self.core.receive(sender, message, self.now)
        world.watch.acted(self, sender, effects)
        self.do(effects)

    def _tick(self) -> None:
        chance = self.world.chance
        self.do(self.core.tick(self.now))
        self.later(self.rhythm.tick * (0.9 + 0.2 * chance.random()), self._tick)

    def _dial(self) -> None:
        """Connections come up where they can, and those that broke are noticed."""
        world = self.world
        for member in list(self.core.members):
            if member == self.id:
                continue
            stands = world.connects(self, member)
            if stands and member not in self.links:
                self.links.add(member)
                world.tell("linked", self.name, world.name_of(member))
                self.do(self.core.linked(member))
            elif not stands and member in self.links:
                self.unlink(member)
        self.later(DIAL * (0.5 + world.chance.random()), self._dial)

    def unlink(self, member: str) -> None:
        """The connection to a member broke."""
        if member in self.links:
            self.links.discard(member)
            self.world.tell("hung up", self.name, self.world.name_of(member))
            self.do(self.core.hung_up(member, self.now))

    def failed(self, claim: Claim, reason: Reason, detail: str) -> None:
        """The worker could not do a claim."""
        self.world.tell("failed", self.name, claim.name, reason)
        self.do(self.core.failed(claim, reason, detail, self.now))

    def append(self, *bodies: AnyBody) -> bool:
        """Somebody at this machine says something; False when nobody can at the moment."""
        if not self.running:
            return False
        self.world.tell("append", self.name, *bodies)
        self.world.watch.said(self, bodies)
        self.do(self.core.append(bodies))
        return True

    def describe(self) -> None:
        """What the machine is has changed."""
        if self.running:
            self.core.describe(self.card())

    # what it does

    def do(self, effects: Sequence[AnyEffect]) -> None:
        """Carry out effects in their order."""
        world = self.world
        for effect in effects:
            if isinstance(effect, Send):
                world.send(self, effect.to, effect.message)
            elif isinstance(effect, Write):
                self._writes.append(effect)
                self._sync()
            elif isinstance(effect, Serve):
                self.later(self.rhythm.sync, self._serve, effect)
            elif isinstance(effect, Start):
                world.watch.obeyed(self, effect.claim)
                self.worker.start(effect.claim)
            elif isinstance(effect, Abandon):
                self.worker.abandon(effect.claim)
            elif isinstance(effect, HangUp):
                self.links.discard(effect.to)
            elif isinstance(effect, GiveUp):
                self.append(self.worker.give_up(effect.work))

    def _serve(self, effect: Serve) -> None:
        if effect.to not in self.core.members:
            return  # removed meanwhile
        limit = self.rhythm.serve
        entries = self.disk.read(effect.author, effect.first, limit)
        if entries:
            more = entries[-1].end < self.disk.ends[effect.author]
            self.world.send(self, effect.to, facts_of(entries, more))

    def _sync(self) -> None:
        """Whatever waits now goes to the disk in one transaction; what comes meanwhile waits for the next."""
        if self._writes and not self._syncing:
            self._syncing = True
            seconds = self.rhythm.sync * (0.5 + self.world.chance.random())
            self.world.queue.after(seconds, self._synced, self.lives, len(self._writes))

    def sync_now(self) -> None:
        """Whatever waits for the disk is there."""
        if self.up and self._writes:
            self._syncing = True
            self._synced(self.lives, len(self._writes))

    def _synced(self, life: int, count: int) -> None:
        # The system finishes a sync even for a process that stands still, but not for one that is dead.
        if life != self.lives or not self.up:
            return
        group = [self._writes.popleft() for _ in range(count)]
        found = self._write(group)
        if self.on_disk is not None:
            strike, self.on_disk = self.on_disk, None
            strike()
        self.later(0.0, self._tell_written, group, found)

    def _write(self, group: Sequence[Write]) -> list[BlockFound]:
        entries = [entry for write in group for entry in write.entries]
        epoch = max((write.epoch for write in group if write.epoch is not None), default=None)
        self.world.watch.on_disk(self, entries)
        try:
            return self.disk.write(entries, epoch)
        except ValueError as error:
            self.world.watch.wrong("I5", f"{self.name}: {error}")
            return []

    def _tell_written(self, group: Sequence[Write], found: Sequence[BlockFound]) -> None:
        self._syncing = False
        self.world.watch.written(self, [entry for write in group for entry in write.entries])
        self.do(self.core.written(group[-1].number, found, self.now))
        self._sync()
