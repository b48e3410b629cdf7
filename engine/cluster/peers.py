"""What this machine knows of the others at the moment: soft, told by their messages, never written down."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.cluster.entries import Vector
from engine.cluster.messages import NOBODY, Card, Epoch


class Timers(msgspec.Struct, frozen=True):
    """Seconds, for a local network. False alarms cost a few rows computed twice, so they may be short."""

    tick: float = 0.1  # how often the core is asked to look at the time
    beat: float = 0.5
    suspect: float = 1.5  # of silence: no new work
    dead: float = 3.0  # of silence: its claims are taken back, a leader is replaced
    hangup: float = 1.0  # the same when its connection broke
    stagger: float = 0.3  # between the bids of machines of different rank
    stall: float = 2.0  # this machine itself stood still: it knows nothing of the others
    longest_dead: float = 15.0  # each false alarm adds half of `dead`, up to this


class Peer(msgspec.Struct):
    """Another machine."""

    heard: float = float("-inf")
    hung_up: float = float("-inf")
    card: Card | None = None
    vector: Vector = {}
    epoch: Epoch = NOBODY
    alarms: int = 0  # times it was taken for dead and was not
    declared_dead: bool = False

    def hold(self, author: str, end: int) -> None:
        """It has this author's facts before `end` on disk."""
        if end > self.vector.get(author, 0):
            self.vector[author] = end


class Peers:
    """All others of the cluster by member id."""

    def __init__(self, me: str, timers: Timers, now: float) -> None:
        self.me = me
        self.timers = timers
        self.all: dict[str, Peer] = {}
        self.since = now  # of this process, or of the moment it woke after standing still

    def set_members(self, members: Iterable[str]) -> None:
        """Forget who is no member, get to know who is."""
        wanted = set(members) - {self.me}
        for gone in set(self.all) - wanted:
            del self.all[gone]
        for new in sorted(wanted - set(self.all)):
            self.all[new] = Peer(vector={})

    def hear(self, member: str, now: float) -> Peer | None:
        """Any message is a sign of life. None for a stranger."""
        peer = self.all.get(member)
        if peer is not None:
            if peer.declared_dead:
                peer.declared_dead = False
                # Silent for much longer, it was really away, and patience would not have helped.
                peer.alarms += now - peer.heard < 2 * self.dead_after(peer)
            peer.heard = now
        return peer

    def greet(self, member: str, card: Card) -> None:
        """A machine says what it is; after a restart its former silence was no false alarm, and its disk may be
        another one."""
        peer = self.all[member]
        if peer.card is not None and peer.card.boot != card.boot:
            peer.alarms = 0
            peer.vector = {}
        peer.card = card

    def dead_after(self, peer: Peer) -> float:
        """Seconds of silence after which this machine is taken for dead."""
        timers = self.timers
        after = min(timers.longest_dead, timers.dead * (1 + peer.alarms / 2))
        return min(after, timers.hangup) if peer.hung_up >= peer.heard else after

    def alive(self, member: str, now: float) -> bool:
        """Whether it was heard of lately; this machine always is."""
        if member == self.me:
            return True
        peer = self.all.get(member)
        return peer is not None and now - peer.heard <= self.dead_after(peer)

    def responsive(self, member: str, now: float) -> bool:
        """Alive and not even suspect: it may be given work."""
        peer = self.all.get(member)
        return member == self.me or (
            peer is not None and now - peer.heard <= min(self.timers.suspect, self.dead_after(peer))
        )

    def dead(self, member: str, now: float) -> bool:
        """As `not alive`, and remembered, so that a false alarm is noticed."""
        if self.alive(member, now):
            return False
        peer = self.all.get(member)
        if peer is not None and peer.heard > float("-inf"):
            peer.declared_dead = True
        return True

    def slept(self, now: float) -> None:
        """This machine stood still: what it last heard of others says nothing about them."""
        self.since = now
        for peer in self.all.values():
            if peer.heard > float("-inf"):
                peer.heard = now
