"""The node without its surroundings: events come in, what is to be done about them goes out.

Everything that decides how machines work together lives here and in the parts tied together here, and none of it
knows a clock, a network, a disk or randomness: time is an argument, the rest are effects. So the very code that
runs in production is run through thousands of random histories by the simulator.

In short: facts are immutable and always welcome; what is not on disk does not count. A leader only grants work,
its commands are refused below the highest epoch seen. Silence costs a machine claims, never facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.cluster import entries as log
from engine.cluster import messages as m
from engine.cluster.effects import AnyEffect, Claim, HangUp, Send, Write
from engine.cluster.election import Election
from engine.cluster.entries import AnyBody, AnyOutline, BlockFound, Entry, Member, Vector, member_of
from engine.cluster.leading import Leading
from engine.cluster.leases import Leases
from engine.cluster.membership import Membership
from engine.cluster.peers import Peers, Timers
from engine.cluster.plan import Plan
from engine.cluster.replication import Replication
from workspace.facts import RunProgress

PROTOCOLS = (2, 2)


class Core:
    """One machine of a cluster. Call `load` first, then any event; effects are to be carried out in order."""

    def __init__(
        self, author: str, boot: str, cluster: str, now: float, mode: m.Mode = "auto", timers: Timers | None = None
    ) -> None:
        self.author = author
        self.me = member_of(author)
        self.cluster = cluster
        self.timers = timers or Timers()
        self.card = m.Card(boot, mode)
        self.membership = Membership()
        self.plan = Plan()
        self.fitness = self.plan.fitness
        self.peers = Peers(self.me, self.timers, now)
        self.election = Election(author, mode, self.peers)
        self.replication = Replication(author, self.peers)
        self.leases = Leases(self.plan)
        self.leading = Leading(self.plan, self.peers, self.replication, self.membership)
        self.addresses: tuple[str, ...] = ()
        self.rolled_back = False  # peers hold more of this machine's log than it does: it needs a new one
        self.refused_commands = 0
        self._clock = 0  # Lamport clock
        self._writes = 0
        self._writing: dict[int, tuple[tuple[tuple[Entry, AnyBody], ...], m.Epoch | None]] = {}
        self._ticked = now
        self._beaten = float("-inf")
        self._stopped = False

    @property
    def members(self) -> dict[str, Member]:
        """Members by id; this machine is one from its first entry on."""
        return self.membership.members

    @property
    def removed(self) -> bool:
        """This machine was removed from the cluster."""
        return self.me in self.membership.revoked

    @property
    def epoch(self) -> m.Epoch:
        """The highest leadership seen in this life of the process."""
        return self.election.epoch

    @property
    def is_leader(self) -> bool:
        """Whether this machine grants the work."""
        return self.election.leading

    @property
    def leader(self) -> str:
        """Member id of the leader, empty while there is none."""
        return self.election.leader

    @property
    def vector(self) -> Vector:
        """Facts of each author that are on disk here."""
        return self.replication.durable

    def progress(self, now: float) -> tuple[RunProgress, ...]:
        """Every run that is known with its questions, in the order they became known."""
        return tuple(run.progress(now) for run in self.plan.runs.values() if run.spec is not None)

    def next_clock(self) -> int:
        """A reading of the Lamport clock for an entry that is to be the latest."""
        self._clock += 1
        return self._clock

    # events

    def load(self, found: Iterable[Entry | BlockFound], highest_epoch: int) -> None:
        """Take up what the ledger holds, before anything else. Entries of one author come in order."""
        self.election.highest = highest_epoch
        durable = self.replication.durable
        for item in found:
            if isinstance(item, BlockFound):
                self.plan.run(item.run_id).add_block(item)
                durable[item.block[0]] = item.block[1] + 1
            else:
                self._apply(item, log.outline(item.body), None)
                durable[item.author] = item.end
        self.replication.received = dict(durable)
        self._members_changed()

    def tick(self, now: float) -> list[AnyEffect]:
        """Time has passed; to be called about every `timers.tick` seconds."""
        effects: list[AnyEffect] = []
        if now - self._ticked > self.timers.stall:
            self.peers.slept(now)
            self.election.slept(now)
            self.leading.end()
        self._ticked = now
        if self._stopped:
            return effects
        bid = None if self.removed else self.election.look(self.members, now)
        if bid is not None:
            effects.append(self._write((), bid))
        if now - self._beaten >= self.timers.beat:
            self._beaten = now
            beat = self._beat()
            effects += self._to_all(beat)
            if self.is_leader:
                self.leading.heard(self.me, beat, self.epoch, now)
            effects += self._want(now)
        effects += self._from_worker(self.leases.expire(now), now)
        if self.is_leader:
            self.leading.look(now)
            effects += self._grant(now)
        return effects

    def receive(self, sender: str, message: m.AnyMessage, now: float) -> list[AnyEffect]:
        """A message of the machine whose key the connection has."""
        if sender not in self.members or sender == self.me or self.removed:
            return [HangUp(sender)]
        peer = self.peers.hear(sender, now)
        if peer is None or self._stopped:
            return []
        effects: list[AnyEffect] = []
        if isinstance(message, m.Beat | m.Lead | m.Credit | m.Grant | m.Release):
            effects = self._see(message.epoch, sender, now)
        match message:
            case m.Hello():  # and Welcome
                return self._greeted(sender, message, now)
            case m.Beat():
                return effects + self._heard_beat(sender, message, now)
            case m.Credit():
                if self.is_leader and message.epoch == self.epoch:
                    self.leading.credit(sender, message, now)
                    effects += self._grant(now)
            case m.Grant():
                if message.epoch != self.epoch or sender != member_of(self.epoch.author):
                    self.refused_commands += 1
                else:
                    effects += self._from_worker(self.leases.granted(message, self._willing, now), now)
            case m.Release():
                effects += self._released(sender, message, now)
            case m.Facts():  # sent from the disk, so the sender holds them
                peer.hold(message.author, message.first + sum(count for count, _ in message.entries))
                accepted, effects = self.replication.accept(sender, message, now)
                if accepted:
                    self.leading.arriving(body for _, body in accepted)
                    effects.append(self._write(tuple(accepted), None))
                return effects + (self._grant(now) if accepted else [])
            case m.Have():
                peer.hold(message.author, message.end)
                return self._grant(now)
            case m.Need():
                return self.replication.serve(sender, message)
            case m.Bye():
                return self._left(sender, message, now)
        return effects  # audits and models are not the core's

    def linked(self, member: str) -> list[AnyEffect]:
        """A connection to a member came up."""
        if member not in self.members or self._stopped:
            return []
        return [Send(member, m.Hello(*self._hello()))]

    def hung_up(self, member: str, now: float) -> list[AnyEffect]:
        """The connection to a member broke: a hint, silence has to follow."""
        peer = self.peers.all.get(member)
        if peer is not None:
            peer.hung_up = now
        return []

    def written(self, number: int, found: Sequence[BlockFound], now: float) -> list[AnyEffect]:
        """A Write, and every one before it, is synced; `found` is what the ledger made of its RowsPlanned."""
        done = [self._writing.pop(write) for write in sorted(self._writing) if write <= number]
        entries = [pair for pairs, _ in done for pair in pairs]
        plain = tuple(entry for entry, _ in entries)
        blocks, members = {block.block: block for block in found}, self.membership.version
        effects: list[AnyEffect] = []
        for entry, body in entries:
            if isinstance(body, log.RowsPlanned):
                name = (entry.author, entry.seq)
                block = blocks.get(name) or BlockFound(body.run_id, name, len(body.rows))
                self.plan.run(body.run_id).add_block(block)
            else:
                self._apply(entry, body, now)
        if self.membership.version != members:
            effects += self._members_changed()
        effects += self.replication.on_disk(plain)
        effects += self.replication.push(plain, now) + self.replication.ask_on(now)
        for _, epoch in done:
            if epoch is not None and self.election.written(epoch, now):
                effects += self._won(now)
        if entries:
            effects += self._from_worker(self.leases.reconsider(self._willing), now)
            effects += self._want(now)
        return effects + self._grant(now)

    def append(self, bodies: Sequence[AnyBody]) -> list[AnyEffect]:
        """Write to this machine's own log. The first effect is the one Write of it."""
        return [self._write(tuple((self.replication.own(body), body) for body in bodies), None)]

    def finished(self, claim: Claim, labeled: log.Labeled, now: float) -> list[AnyEffect]:
        """Answers of a claim."""
        self.leases.finished(claim)
        return [*self.append([labeled]), *self._want(now)]

    def failed(self, claim: Claim, reason: m.Reason, detail: str, now: float) -> list[AnyEffect]:
        """A claim ends without answers."""
        self.leases.drop(claim)
        release = m.Release(claim.epoch, claim.number, reason, detail[:2000])
        again = [] if reason == "stopped" else self._want(now)
        return self._from_worker([release], now) + again

    def progressed(self, now: float) -> None:
        """The backend of this machine gets on with something."""
        self.leases.progressed(now)

    def describe(self, card: m.Card) -> None:
        """What this machine says of itself from now on."""
        self.card = card

    def stop(self) -> list[AnyEffect]:
        """This life of the process ends: tell the others, so that they need not wait for its silence."""
        self._stopped = True
        return self._to_all(m.Bye(self.card.boot))

    # inside

    def _write(self, entries: tuple[tuple[Entry, AnyBody], ...], epoch: m.Epoch | None) -> Write:
        self._writes += 1
        self._writing[self._writes] = (entries, epoch)
        return Write(self._writes, tuple(entry for entry, _ in entries), epoch)

    def _apply(self, entry: Entry, body: AnyOutline | AnyBody, now: float | None) -> None:
        """An entry is on disk: let it count. `now` is None while the ledger is being read."""
        if isinstance(body, log.StateSet | log.MemberSet | log.Decided):
            self._clock = max(self._clock, body.clock)
        match body:
            case log.Labeled() | log.Outline():
                self.plan.answer(member_of(entry.author), now, body)
                if now is not None:
                    self.leading.answered(member_of(entry.author), body, now)
                    if entry.author == self.author:
                        self.leases.published(body.about.claim)
            case log.RunOpened():
                self.plan.run(body.spec.run_id).open(body)
            case log.StateSet():
                if self.plan.run(body.run_id).set_state(entry.author, entry.seq, body):
                    self.leading.retry(body.run_id)
            case log.MemberSet() | log.MemberRevoked():
                self.membership.apply(entry.author, entry.seq, body)
        # Rows come as BlockFound, and a seal changes nothing here.

    def _members_changed(self) -> list[AnyEffect]:
        gone = [member for member in self.peers.all if member not in self.members]
        self.peers.set_members(() if self.removed else self.members)
        self.leading.members_changed()
        return [HangUp(member) for member in gone]

    def _hello(self) -> tuple[str, tuple[int, int], m.Card, m.Epoch, Vector, tuple[str, ...]]:
        return self.cluster, PROTOCOLS, self.card, self.epoch, dict(self.vector), self.addresses

    def _greeted(self, sender: str, message: m.Hello, now: float) -> list[AnyEffect]:
        oldest, newest = message.protocols
        if message.cluster != self.cluster or oldest > PROTOCOLS[1] or newest < PROTOCOLS[0]:
            return [HangUp(sender)]
        self.peers.greet(sender, message.card)
        effects = self._see(message.epoch, sender, now)
        if not isinstance(message, m.Welcome):
            effects.append(Send(sender, m.Welcome(*self._hello())))
        return effects + self._compare(sender, message.vector, now)

    def _heard_beat(self, sender: str, message: m.Beat, now: float) -> list[AnyEffect]:
        self.peers.greet(sender, message.card)
        self.peers.all[sender].epoch = message.epoch
        effects = self._compare(sender, message.vector, now)
        if self.is_leader:
            if message.epoch < self.epoch:
                effects.append(Send(sender, m.Lead(self.epoch, "")))
            self.leading.heard(sender, message, self.epoch, now)
            effects += self._grant(now)
        return effects

    def _compare(self, sender: str, vector: Vector, now: float) -> list[AnyEffect]:
        peer = self.peers.all[sender]
        for author, end in vector.items():
            peer.hold(author, end)
        if vector.get(self.author, 0) > self.replication.received.get(self.author, 0):
            self.rolled_back = True
            return []
        return self.replication.compare(sender, vector, now)

    def _see(self, epoch: m.Epoch, sender: str, now: float) -> list[AnyEffect]:
        """Fence: a higher epoch ends this machine's leadership; its number is kept on disk."""
        new, higher = self.election.see(epoch, sender, now)
        effects: list[AnyEffect] = [self._write((), epoch)] if higher else []
        if new:
            self.leading.end()
            if leader := self.leader:  # it must know what is being worked on before it grants anything
                effects += [Send(leader, self._beat()), *self._want(now)]
        return effects

    def _beat(self) -> m.Beat:
        held = tuple(self.leases.held(self.epoch, self._ticked))
        return m.Beat(self.epoch, dict(self.vector), held, self.card)

    def _to_all(self, message: m.AnyMessage) -> list[AnyEffect]:
        return [Send(member, message) for member in self.peers.all]

    def _won(self, now: float) -> list[AnyEffect]:
        self.leading.begin(self.card.boot, self.leases.held(self.epoch, now), now)
        return self._to_all(m.Lead(self.epoch, self.election.reason)) + self._want(now)

    def _left(self, sender: str, message: m.Bye, now: float) -> list[AnyEffect]:
        peer = self.peers.all[sender]
        if peer.card is not None and peer.card.boot != message.boot:
            return []
        peer.heard = float("-inf")
        self.election.left(sender)
        self.leading.left(sender)
        return self._grant(now)

    # work: this machine as a worker

    def _willing(self, run_id: str) -> bool:
        """Whether a claim on this run should be begun."""
        me, run = self.members.get(self.me), self.plan.runs.get(run_id)
        free = self.card.working and not self._stopped and not (me is not None and me.paused)
        return free and run is not None and run.state == "running"

    def _want(self, now: float) -> list[AnyEffect]:
        slots = self.leases.free
        if slots <= 0 or self._stopped or not self.card.working or not any(self.plan.working()):
            return []
        credit = m.Credit(self.epoch, slots, now, self.card.boot)
        if self.is_leader:
            self.leading.credit(self.me, credit, now)
            return self._grant(now)
        return [Send(self.leader, credit)] if self.leader else []

    def _from_worker(self, items: Sequence[AnyEffect | m.Release], now: float) -> list[AnyEffect]:
        """What the leases say: releases go to whoever granted the claim."""
        effects: list[AnyEffect] = []
        for item in items:
            if not isinstance(item, m.Release):
                effects.append(item)
            elif member_of(item.epoch.author) == self.me:
                effects += self._released(self.me, item, now)
            elif self.leader and not self.is_leader:
                effects.append(Send(self.leader, item))
            else:  # its own leadership, of a claim another one granted
                effects += self._released(self.me, item, now)
        return effects

    # work: this machine as the leader

    def _grant(self, now: float) -> list[AnyEffect]:
        if not self.is_leader or self._stopped:
            return []
        effects: list[AnyEffect] = []
        for member, grant in self.leading.grants(self.epoch, self.card, now):
            if member == self.me:
                effects += self._from_worker(self.leases.granted(grant, self._willing, now), now)
            else:
                effects.append(Send(member, grant))
        return effects

    def _released(self, sender: str, release: m.Release, now: float) -> list[AnyEffect]:
        if not self.is_leader:
            return []
        bodies, rows = self.leading.released(sender, release, self.card, self.next_clock, now)
        return [*(self.append(bodies) if bodies else []), *rows, *self._grant(now)]
