"""What must hold at every moment, checked while it happens: I4 to I7, I9, I11, I13, and durable before visible.

The watch knows everything about every machine, but only from outside: what was sent, written and begun.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.cluster import messages as m
from engine.cluster.blocks import owner_of
from engine.cluster.core import Core
from engine.cluster.effects import AnyEffect, Claim, HangUp
from engine.cluster.entries import (
    AnyBody,
    Decided,
    Entry,
    Labeled,
    MemberRevoked,
    MemberSet,
    StateSet,
    Vector,
    decode,
    member_of,
)
from engine.cluster.messages import NOBODY, AnyMessage, Epoch
from engine.cluster.testing.people import CLUSTER

if TYPE_CHECKING:
    from engine.cluster.testing.cluster import World
    from engine.cluster.testing.machine import Machine

Question = tuple[str, str]  # run, row
BACKUP_AFTER = 0.5  # seconds a claim has to be out at least before it is granted a second time
LARGEST_ENTRY = 4096  # bytes, in these histories
SPREAD = 1.2  # seconds by which every machine knows who holds a new block
SILENCE = 16.0  # seconds after which nothing but signs of life may be sent to a machine
ENOUGH = 20  # violations of one history that are worth telling
WITH_EPOCH = (m.Beat, m.Lead, m.Credit, m.Grant, m.Release, m.Hello, m.Welcome)


class Life(msgspec.Struct):
    """What one life of a process has been told and has told."""

    highest: Epoch = NOBODY  # heard or led
    revoked: set[str] = set()
    answered: set[Question] = set()  # of which the core was told that they are on disk
    told: Vector = {}
    spoken: Vector = {}  # last vector in a beat
    heard: dict[str, float] = {}  # when each machine was heard last
    clocks: dict[object, int] = {}  # largest clock that is known for each thing people decide about
    beat: m.Beat | None = None  # the last one that was checked


class Watch:
    """Sees every machine's every act. What is wrong is in `violations`."""

    def __init__(self, world: World) -> None:
        self.violations: list[str] = []
        self.promised: dict[str, Vector] = defaultdict(dict)  # by author of a disk: what it said it holds
        self.computed_times: Counter[Question] = Counter()
        self.granted: dict[tuple[Epoch, Question], float] = {}  # when a leader granted it last
        self._claims: dict[tuple[Epoch, int], list[Question]] = {}
        self.backups: set[Question] = set()  # granted a second time by the same leader, when nothing else was left
        self.led: dict[Epoch, tuple[int, int]] = {}  # machine and life
        self.two_leaders = False
        self.largest_queue = 0
        self._world = world
        self._lives: dict[int, Life] = {}
        self._first: dict[tuple[str, int], Entry] = {}  # every fact ever on a disk
        self._planned: dict[tuple[str, int], float] = {}  # when it was first on a disk
        self._bodies: dict[bytes, AnyBody] = {}

    def wrong(self, invariant: str, what: str) -> None:
        """Note a violation."""
        if len(self.violations) < ENOUGH:
            self.violations.append(f"{invariant} {what}")
            self._world.tell("WRONG", invariant, what)

    def body(self, entry: Entry) -> AnyBody:
        """What an entry says, decoded once."""
        found = self._bodies.get(entry.body)
        if found is None:
            found = self._bodies[entry.body] = decode(entry.body)
        return found

    # disks and lives

    def started(self, machine: Machine) -> None:
        """A life of a process begins with what is on its disk."""
        life = self._lives[machine.number] = Life(revoked=set(), answered=set(), told={}, heard={}, clocks={})
        self._tell(life, machine.disk.everything())

    def on_disk(self, machine: Machine, entries: Sequence[Entry]) -> None:
        """Entries were synced. I5: a place in a log is used once, whoever holds it."""
        for entry in entries:
            first = self._first.setdefault((entry.author, entry.seq), entry)
            if first is entry:
                self._planned.setdefault((entry.author, entry.seq), self._world.queue.now)
            if first is not entry and first != entry:
                self.wrong("I5", f"{entry.author[-4:]}/{entry.seq} is two facts, one on {machine.name}")

    def woken(self, machine: Machine) -> None:
        """A process that stood still goes on: for it no time has passed since it heard of others."""
        life = self._lives[machine.number]
        life.heard = dict.fromkeys(life.heard, machine.now)

    def written(self, machine: Machine, entries: Iterable[Entry]) -> None:
        """The core is told that entries are synced."""
        self._tell(self._lives[machine.number], entries)

    def _tell(self, life: Life, entries: Iterable[Entry]) -> None:
        for entry in entries:
            body = self.body(entry)
            life.told[entry.author] = max(life.told.get(entry.author, 0), entry.end)
            if type(body) is Labeled:
                life.answered.update((body.run_id, row) for row in body.rows)
            elif type(body) is MemberRevoked:
                life.revoked.add(body.id)
            elif isinstance(body, (Decided, StateSet, MemberSet)):
                subject = _subject(body)
                life.clocks[subject] = max(body.clock, life.clocks.get(subject, 0))

    def said(self, machine: Machine, bodies: Sequence[AnyBody]) -> None:
        """Somebody says something at a machine. I10: it counts more than all that was known there."""
        life = self._lives[machine.number]
        for body in bodies:
            if isinstance(body, (Decided, StateSet, MemberSet)):
                known = life.clocks.get(_subject(body), 0)
                if body.clock <= known:
                    self.wrong("I10", f"{machine.name} says {_subject(body)} at {body.clock}, {known} was known")

    # messages

    def sent(self, machine: Machine, to: str, message: AnyMessage) -> None:
        """A machine says something."""
        life, kind = self._lives[machine.number], type(message)
        if to in life.revoked:
            self.wrong("I11", f"{machine.name} still speaks to a machine it knows to be removed: {kind.__name__}")
        if isinstance(message, m.Beat):
            if message is not life.beat:
                life.beat = message
                self._speaks(machine, life, message.vector)
        elif isinstance(message, m.Hello):
            self._speaks(machine, life, message.vector)
        elif isinstance(message, m.Have):
            self._promises(machine, message.author, message.end)
        elif isinstance(message, m.Facts):
            end = message.first + sum(count for count, _ in message.entries)
            if end > machine.disk.ends.get(message.author, 0):
                self.wrong("I1", f"{machine.name} sends facts that are not on its disk")
            elif message.author == machine.author:
                self._promises(machine, message.author, end)
            silent = machine.now - life.heard.get(to, float("-inf"))
            if silent > SILENCE:
                self.wrong(
                    "I13", f"{machine.name} sends facts to a machine it has not heard of for {silent:.0f} s"
                )
        elif isinstance(message, m.Lead):
            self._leads(machine, message.epoch)
        elif isinstance(message, m.Grant):
            self._leads(machine, message.epoch)
            self._grants(machine, message.epoch, message.claim, message.work)

    def _speaks(self, machine: Machine, life: Life, vector: Vector) -> None:
        if vector != life.spoken:
            for author, end in vector.items():
                self._promises(machine, author, end)
            for author, end in life.spoken.items():
                if vector.get(author, 0) < end:
                    self.wrong("I4", f"{machine.name} held {end} facts of {author[-4:]} and now fewer")
            life.spoken = dict(vector)

    def _promises(self, machine: Machine, author: str, end: int) -> None:
        if end > machine.disk.ends.get(author, 0):
            self.wrong("I1", f"{machine.name} says it holds {author[-4:]}/{end}, its disk does not")
        promised = self.promised[machine.author]
        promised[author] = max(end, promised.get(author, 0))

    def _leads(self, machine: Machine, epoch: Epoch) -> None:
        """A machine speaks as the leader. I6: an epoch belongs to one life of one process."""
        who = self.led.setdefault(epoch, (machine.number, machine.lives))
        if who != (machine.number, machine.lives):
            self.wrong("I6", f"epoch {epoch.number} is used by {who} and {machine.name}, life {machine.lives}")
        if epoch.number > machine.disk.epoch_max.number:
            self.wrong("I6", f"{machine.name} leads epoch {epoch.number} that is not on its disk")
        life = self._lives[machine.number]
        life.highest = max(life.highest, epoch)

    def heard(self, machine: Machine, sender: str, message: AnyMessage) -> None:
        """A machine is about to take a message in."""
        self._lives[machine.number].heard[sender] = machine.now
        stranger = isinstance(message, m.Hello) and message.cluster != machine.disk.cluster
        if isinstance(message, WITH_EPOCH) and sender in machine.core.members and not stranger:
            life = self._lives[machine.number]
            if isinstance(message, m.Release):
                for question in self._claims.pop((message.epoch, message.claim), ()):
                    self.granted.pop((message.epoch, question), None)
            elif message.epoch > life.highest:
                life.highest = message.epoch

    def acted(self, machine: Machine, sender: str, effects: Sequence[AnyEffect]) -> None:
        """What came of a message. I11: nothing, from a machine known to be removed."""
        if sender in self._lives[machine.number].revoked:
            done = [type(effect).__name__ for effect in effects if not isinstance(effect, HangUp)]
            if done:
                self.wrong("I11", f"{machine.name} acts on a removed machine's word: {done}")

    # work

    def obeyed(self, machine: Machine, claim: Claim) -> None:
        """A machine begins a claim. I7: never below the highest epoch it heard of."""
        life = self._lives[machine.number]
        if claim.epoch < life.highest:
            self.wrong("I7", f"{machine.name} obeys {claim.name}, but heard of epoch {life.highest.number}")
        if member_of(claim.epoch.author) == machine.id:
            self._leads(machine, claim.epoch)
            self._grants(machine, claim.epoch, claim.number, claim.work)
        if machine.id in life.revoked:
            self.wrong("I11", f"{machine.name} works though it knows that it was removed")

    def _grants(self, machine: Machine, epoch: Epoch, claim: int, work: m.Work) -> None:
        """A leader gives out work. I9: never what it knows to be answered."""
        life, now = self._lives[machine.number], self._world.queue.now
        questions = [(work.run_id, row) for row, _, _ in machine.disk.rows(work.block, work.at)]
        for question in questions:
            if question in life.answered and self._known(machine, life, question):
                self.wrong("I9", f"{machine.name} grants {question}, which it knows to be answered")
        again = [question for question in questions if (epoch, question) in self.granted]
        if again:
            youngest = now - max(self.granted[epoch, question] for question in again)
            if youngest >= BACKUP_AFTER and not self._ungranted(machine, life, epoch):
                self.backups.update(again)
            elif self._world.profile.peaceful:
                self.wrong("I9", f"{machine.name} grants {again[0]} again after {youngest:.2f} s with no need")
        self.granted.update(((epoch, question), now) for question in questions)
        self._claims[epoch, claim] = questions

    def _ungranted(self, machine: Machine, life: Life, epoch: Epoch) -> bool:
        """Whether anything is left that this leader neither granted nor took over from the one before."""
        claims = machine.core.leading.claims
        works = [claim.work for claim in claims.out.values()] if claims is not None else []
        out = {(work.run_id, row) for work in works for row, _, _ in machine.disk.rows(work.block, work.at)}
        return any(
            (run.run_id, row) not in life.answered
            and (run.run_id, row) not in out
            and (epoch, (run.run_id, row)) not in self.granted
            for run in machine.core.plan.working()
            for block in run.names
            if self._world.queue.now - self._planned[block] > SPREAD
            for row, _, _ in machine.disk.rows(block, range(run.blocks[block][1]))
        )

    def _known(self, machine: Machine, life: Life, question: Question) -> bool:
        """Whether an answer counts here: the rows it is about have to be known as well."""
        run, row = question
        for entry in machine.disk.everything():
            body = self.body(entry)
            if (
                isinstance(body, Labeled)
                and body.run_id == run
                and row in body.rows
                and entry.end <= life.told.get(entry.author, 0)
                and life.told.get(body.block[0], 0) > body.block[1]
            ):
                return True
        return False

    def computed(self, labeled: Labeled) -> None:
        """A worker answered these rows."""
        for row in labeled.rows:
            self.computed_times[labeled.run_id, row] += 1

    def outstanding(self, workers: Sequence[Machine], machines: Sequence[Machine]) -> int:
        """Answers these workers have to give: claims that are with them, or on their way to them."""
        out = {claim.name: len(claim.work.at) for worker in workers for claim in worker.worker.claims}
        ids = {worker.id for worker in workers}
        for claims in (machine.core.leading.claims for machine in machines):
            granted = claims.out.values() if claims is not None else ()
            out |= {claim.name: len(claim.work.at) for claim in granted if claim.worker in ids}
        return sum(out.values())

    def unknown(self, machines: Sequence[Machine]) -> int:
        """Answers that were computed and that some machine does not know of."""
        lives = [self._lives[machine.number] for machine in machines if machine.running]
        return sum(any(question not in life.answered for life in lives) for question in self.computed_times)

    def has_own_work(self, machine: Machine, machines: Sequence[Machine]) -> bool:
        """Whether a machine has rows to begin in blocks that are its own share."""
        owners = [other.id for other in machines]
        taken = {(claim.work.block, at) for claim in machine.worker.claims for at in claim.work.at}
        return any(
            owner_of(block, owners) == machine.id
            and any(not run.answered[first + at] and (block, at) not in taken for at in range(count))
            for run in machine.core.plan.runs.values()
            for block, (first, count) in run.blocks.items()
        )

    def wasted(self) -> list[Question]:
        """Answers computed more than once though nobody granted them a second time on purpose."""
        return sorted(q for q, times in self.computed_times.items() if times > 1 and q not in self.backups)

    @property
    def recomputed(self) -> int:
        """Answers computed more than once, each time counted."""
        return sum(self.computed_times.values()) - len(self.computed_times)

    # bounds

    def look(self, machines: Sequence[Machine]) -> None:
        """A look at everything. I13: what a core keeps of its peers and its work does not grow with time or with
        their silence."""
        running = [machine for machine in machines if machine.running]
        leaders = [machine for machine in running if machine.core.is_leader and machine.disk.cluster == CLUSTER]
        self.two_leaders |= len([m for m in leaders if m.id not in self._world.people.removed]) > 1
        logs = sum(machine.logs for machine in machines)
        for machine in running:
            for name, size, bound in sizes(machine.core, len(machines), logs, self._world.profile.room):
                self.largest_queue = max(self.largest_queue, size)
                if size > bound:
                    self.wrong("I13", f"{machine.name} has {size} in {name}, at most {bound} are right")


def _subject(body: Decided | StateSet | MemberSet) -> object:
    """What it is about: the latest of those about the same thing counts."""
    if isinstance(body, Decided):
        return body.task_name, body.dimension, body.row_id
    return body.run_id if isinstance(body, StateSet) else body.member.id


def sizes(core: Core, members: int, logs: int, room: int) -> list[tuple[str, int, int]]:
    """(name, size, bound) of everything in a core that could grow without end. `room` is what it may keep of
    others on its way to the disk."""
    claims, replication, plan = core.leading.claims, core.replication, core.plan
    waiting = [entry for entries, _ in core._writing.values() for entry, _ in entries]
    own = sum(len(entry.body) for entry in waiting if entry.author == core.author)
    return [
        ("peers", len(core.peers.all), members),
        ("in flight", replication.in_flight - own, room + LARGEST_ENTRY),
        ("leases", len(core.leases), 8),
        ("claims", len(claims.out) if claims else 0, 4 * members + len(waiting)),  # some may be answered by these
        ("credits", core.leading.size, 2 * members * (1 + len(plan.runs))),
        ("asked", replication.asked, logs),
        ("early", sum(run.early for run in plan.runs.values()), sum(replication.durable.values())),
    ]
