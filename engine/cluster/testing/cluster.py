"""A whole history of a cluster from its seed: the machines, what happens to them, and how it ends."""

from __future__ import annotations

import hashlib
import random
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.cluster import messages
from engine.cluster.core import Core
from engine.cluster.entries import Entry, MemberSet, Vector, count_of, encode
from engine.cluster.messages import AnyMessage
from engine.cluster.peers import Timers
from engine.cluster.testing.clock import Queue
from engine.cluster.testing.faults import Faults
from engine.cluster.testing.invariants import check, settled
from engine.cluster.testing.machine import Machine
from engine.cluster.testing.network import CALM, Network
from engine.cluster.testing.people import CLUSTER, People
from engine.cluster.testing.profiles import Profile
from engine.cluster.testing.watch import Watch
from engine.cluster.testing.winners import RowKey, Winner, Winners, winners
from engine.cluster.testing.worker import Talent

LONGEST_END = 240.0  # seconds after everything is healed within which everything must be done
LOOK_EVERY = 1.0  # seconds between looks at whether it is


def within(entry: Entry, vector: Vector) -> bool:
    """Whether an entry lies within a version vector."""
    return entry.end <= vector.get(entry.author, 0)


class Laws(msgspec.Struct):
    """The code that is tried, so that a mutant can take its place."""

    core: type[Core] = Core
    winners: Callable[[list[Entry]], Winners] = winners
    within: Callable[[Entry, Vector], bool] = within
    same_log: bool = False  # a machine that lost its disk goes on under the name of its old log


class Outcome(msgspec.Struct, frozen=True):
    """What became of one history."""

    seed: int
    machines: int
    violations: tuple[str, ...]
    two_leaders: bool
    rows: int  # rows answered
    recomputed: int
    events: int
    seconds: float  # simulated, until everything was done
    digest: str  # of the whole history
    story: tuple[str, ...] = ()


class World:
    """Everything there is in one history. `story` keeps the last events in words, if asked for."""

    def __init__(self, seed: int, profile: Profile, laws: Laws, story: int = 0) -> None:
        self.seed = seed
        self.profile = profile
        self.laws = laws
        self.chance = random.Random(seed)  # noqa: S311 - chance that can be repeated
        self.queue = Queue()
        self.network = Network(self.chance, profile.weather)
        self.watch = Watch(self)
        self.story: deque[str] | None = deque(maxlen=story) if story else None
        self.timers = Timers(tick=profile.tick)
        self.trusting = profile.trusting
        self.machines: list[Machine] = []
        self.by_id: dict[str, Machine] = {}
        self.sends = 0
        for number in range(profile.machines + profile.newcomers):
            self._add(number)
        self._found(self.machines[: profile.machines])
        self.people = People(self)
        self.faults = Faults(self)

    # what the machines use

    def new_core(self, machine: Machine) -> Core:
        """A core for a new life of this machine's process."""
        core = self.laws.core(
            machine.author, machine.boot, machine.disk.cluster, machine.now, machine.mode, self.timers
        )
        core.replication.room = self.profile.room
        core.replication.push_room = self.profile.push_room
        return core

    def send(self, machine: Machine, to: str, message: AnyMessage) -> None:
        """A message leaves a machine."""
        receiver = self.by_id.get(to)
        self.watch.sent(machine, to, message)
        if receiver is None or receiver is machine:
            return
        self.sends += 1
        journeys = self.network.journeys(machine.id, to)
        if self.story is not None:
            self.tell("send", machine.name, receiver.name, message, "" if journeys else "LOST")
        if self.profile.encoded:
            message = messages.decode(messages.encode(message))
        for seconds in journeys:
            self.queue.after(seconds, self._deliver, machine.id, receiver, message)

    def _deliver(self, sender: str, receiver: Machine, message: AnyMessage) -> None:
        if self.network.reaches(sender, receiver.id):
            receiver.arrive(sender, message)

    def connects(self, machine: Machine, member: str) -> bool:
        """Whether a connection to a member stands or can be made: the other side has to know this machine."""
        other = self.by_id.get(member)
        return (
            other is not None
            and other.running
            and machine.id in other.core.members
            and self.network.connects(machine.id, member)
        )

    def broken(self, machine: Machine) -> None:
        """A process died: the system of its machine tells those who are connected to it."""
        for other in self.machines:
            if other is not machine and other.up and self.network.connects(machine.id, other.id):
                other.later(self.chance.random() * 0.1, other.unlink, machine.id)

    def export(self, machine: Machine, run_id: str, vector: Vector) -> dict[RowKey, Winner]:
        """The labels of a run as they follow from what is within a version vector, at one machine."""
        entries = [entry for entry in machine.disk.everything() if self.laws.within(entry, vector)]
        table = self.laws.winners(entries).table()
        return {key: winner for key, winner in table.items() if key[0] == run_id}

    def name_of(self, member: str) -> str:
        """Short name of a machine."""
        machine = self.by_id.get(member)
        return machine.name if machine is not None else member[:6]

    def tell(self, *words: object) -> None:
        """Add an event to the story."""
        if self.story is not None:
            told = " ".join(str(word) for word in words)
            for machine in self.machines:
                told = told.replace(machine.id, machine.name)
            self.story.append(f"{self.queue.now:9.3f} {told[:600]}")

    # the history

    def run(self) -> Outcome:
        """Let it happen, heal everything, and see how it ends."""
        for machine in self.machines[: self.profile.machines]:
            machine.start()
        self.people.plan()
        self.faults.plan()
        self.queue.after(LOOK_EVERY, self._look)
        try:
            self.queue.run(self.profile.horizon)
            self.heal()
            self.queue.run(self.profile.horizon + LONGEST_END, self.is_over)
            violations = [*self.watch.violations, *check(self)]
        except Exception as error:  # noqa: BLE001 - whatever the core raises, the history has failed
            place = traceback.extract_tb(error.__traceback__)[-1]
            raised = f"I0 {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            violations = [*self.watch.violations, raised]
        return Outcome(
            seed=self.seed,
            machines=len(self.machines),
            violations=tuple(violations),
            two_leaders=self.watch.two_leaders,
            rows=len(self.watch.computed_times),
            recomputed=self.watch.recomputed,
            events=self.queue.count,
            seconds=round(self.queue.now, 3),
            digest=self._digest(),
            story=tuple(self.story or ()),
        )

    def heal(self) -> None:
        """Everything works again from now on, and people put in order what only people can."""
        self.tell("HEAL")
        self.network.heal()
        self.network.weather = CALM
        self.faults.over()
        self._settled_at = self.queue.now
        for machine in self.machines:
            machine.thaw()
            if machine.lives and not machine.up:
                machine.start()
        self.queue.after(2.0, self.people.put_in_order)

    def _look(self) -> None:
        """Once a second: bounds, and leaders at the same time."""
        self.watch.look(self.machines)
        self.queue.after(LOOK_EVERY, self._look)

    def is_over(self) -> bool:
        """Whether nothing is left to be done. Looked at now and then only, it takes long."""
        now = self.queue.now
        if now < self._settled_at + LOOK_EVERY:
            return False
        self._settled_at = now
        return self.people.content and settled(self)

    def _digest(self) -> str:
        state = [(m.author, m.lives, sorted(m.disk.ends.items()), m.disk.epoch_max) for m in self.machines]
        bodies = hashlib.blake2b(digest_size=16)
        for machine in self.machines:
            for entry in machine.disk.everything():
                bodies.update(entry.body)
        said = f"{state} {self.queue.count} {self.sends} {self.queue.now} {bodies.hexdigest()}"
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()

    # how it begins

    def _add(self, number: int) -> None:
        profile, chance = self.profile, self.chance
        founding = number < profile.machines
        talent = Talent(
            seconds=profile.pace * chance.choice([0.5, 1.0, 1.0, 2.0]) if profile.uneven else profile.pace,
            load=profile.load * chance.random(),
            models=frozenset(
                digest for digest in profile.models if number == 0 or not profile.lacking or chance.random() < 0.7
            ),
            small=profile.small > chance.random(),
            errors=profile.errors,
        )
        machine = Machine(self, number, CLUSTER if founding else f"{number:032x}", talent)
        machine.mode = chance.choice(profile.modes)
        machine.rhythm.tick = profile.tick
        machine.rhythm.sync = profile.sync
        machine.rhythm.serve = profile.serve
        machine.clock.offset = chance.uniform(-1e6, 1e6) if profile.offset else 1000.0
        machine.clock.rate = 1.0 + chance.uniform(-profile.drift, profile.drift)
        self.machines.append(machine)
        self.by_id[machine.id] = machine

    def _found(self, machines: list[Machine]) -> None:
        """Those that are there from the beginning know each other."""
        bodies = [MemberSet(machine.member(rank), rank + 1) for rank, machine in enumerate(machines)]
        entries = [Entry(machines[0].author, seq, count_of(body), encode(body)) for seq, body in enumerate(bodies)]
        for machine in machines:
            machine.disk.write(entries, None)
