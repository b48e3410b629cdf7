"""How logs spread: entries come in whole and in order for each author, and holes are asked for.

A node keeps an author's fact only if it has all facts of that author before it, so a version vector says
everything. What is not on disk is never counted as held.
"""

from __future__ import annotations

from collections import deque

import msgspec

from engine.cluster import entries as log
from engine.cluster.effects import AnyEffect, Send, Serve
from engine.cluster.entries import AnyBody, Entry, Vector, member_of
from engine.cluster.messages import FACTS_BYTES, Facts, Have, Need
from engine.cluster.peers import Peers

IN_FLIGHT_BYTES = 8 << 20  # of entries that came in and are not on disk yet; what comes on top is asked for again
PUSHED_BYTES = 4 << 20  # of own entries on their way to a peer that it has not confirmed
ASK_AGAIN = 2.0  # seconds after which an unanswered Need is repeated

Accepted = tuple[Entry, AnyBody]


class Replication:
    """Version vectors of this machine, and what it has asked for."""

    def __init__(self, author: str, peers: Peers) -> None:
        self.author = author
        self.durable: Vector = {}
        self.received: Vector = {}
        self.in_flight = 0  # bytes
        self.room = IN_FLIGHT_BYTES
        self.push_room = PUSHED_BYTES  # for each peer
        self.malformed = 0  # messages dropped because of their content
        self._peers = peers
        self._asked: dict[str, tuple[str, float]] = {}  # author: whom, when
        self._advanced: dict[str, float] = {}  # author: when facts came last
        self._unconfirmed: dict[str, deque[tuple[int, int]]] = {}  # member: (end, bytes) pushed to it
        self._ahead: dict[str, str] = {}  # author: who has more of it

    @property
    def asked(self) -> int:
        """How many logs it waits for."""
        return len(self._asked.keys() | self._ahead.keys())

    def own(self, body: AnyBody) -> Entry:
        """An entry of this machine's own log."""
        raw, count, seq = log.encode(body), log.count_of(body), self.received.get(self.author, 0)
        self.received[self.author] = seq + count
        self.in_flight += len(raw)
        return Entry(self.author, seq, count, raw)

    def accept(self, sender: str, message: Facts, now: float) -> tuple[list[Accepted], list[AnyEffect]]:
        """What of a message is new and joins on without a gap, and what to ask for."""
        author = message.author
        have = self.received.get(author, 0)
        found: list[Accepted] = []
        seq, size, gap, full, more = message.first, 0, message.first > have, False, message.more
        for count, raw in message.entries:
            if seq > have or (seq < have < seq + count):
                break
            if seq == have:
                body = self._decode(count, raw)
                if body is None:
                    more = False  # asking again would bring the same
                    break
                if self.in_flight + size + len(raw) > self.room and (found or self.in_flight):
                    full = True  # the disk is slower than the sender
                    break
                found.append((Entry(author, seq, count, raw), body))
                size += len(raw)
                have += count
            seq += count
        if not found and not gap and not full:
            return [], []  # a double: whoever asked on asks already
        if found:
            self.received[author] = have
            self.in_flight += size
            self._advanced[author] = now
        if self._asked.get(author, ("", 0.0))[0] == sender:
            del self._asked[author]
        if more or gap or full:
            self._ahead[author] = sender
        return found, self.ask_on(now)

    def ask_on(self, now: float) -> list[AnyEffect]:
        """Ask for what is known to be there, as far as there is room for it."""
        effects: list[AnyEffect] = []
        for author, sender in list(self._ahead.items()):
            if self.in_flight <= self.room / 2:
                del self._ahead[author]
                if sender in self._peers.all:
                    effects += self._ask(sender, author, now)
        return effects

    def on_disk(self, entries: tuple[Entry, ...]) -> list[AnyEffect]:
        """Entries are on disk: tell their authors."""
        ends: Vector = {}
        for entry in entries:
            self.in_flight -= len(entry.body)
            ends[entry.author] = entry.end
        effects: list[AnyEffect] = []
        for author, end in ends.items():
            self.durable[author] = max(end, self.durable.get(author, 0))
            if member_of(author) in self._peers.all:
                effects.append(Send(member_of(author), Have(author, end)))
        return effects

    def push(self, entries: tuple[Entry, ...], now: float) -> list[AnyEffect]:
        """Own entries that are on disk go to everybody who is there; the others ask when they are back."""
        mine = [entry for entry in entries if entry.author == self.author]
        messages: list[Facts] = []
        part: list[Entry] = []
        size = 0
        for entry in mine:
            if part and size + len(entry.body) > FACTS_BYTES:
                messages.append(facts_of(part))
                part, size = [], 0
            part.append(entry)
            size += len(entry.body)
        if part:
            messages.append(facts_of(part))
        there = [member for member in self._peers.all if self._peers.alive(member, now)]
        return [
            Send(member, message) for message in messages for member in there if self._has_room(member, message)
        ]

    def _has_room(self, member: str, message: Facts) -> bool:
        """Whether a peer keeps up with what is pushed to it; one that does not asks for the rest when it can.

        Counted here, for queues count messages, not bytes, and beats wait behind them.
        """
        held = self._peers.all[member].vector.get(self.author, 0)
        waiting = self._unconfirmed.setdefault(member, deque())
        while waiting and waiting[0][0] <= held:
            waiting.popleft()
        if waiting and sum(size for _, size in waiting) > self.push_room:
            return False
        end = message.first + sum(count for count, _ in message.entries)
        waiting.append((end, sum(len(body) for _, body in message.entries)))
        return True

    def compare(self, sender: str, vector: Vector, now: float) -> list[AnyEffect]:
        """Ask a peer for what it has on disk and this machine has not."""
        effects: list[AnyEffect] = []
        for author, end in vector.items():
            if end <= self.received.get(author, 0):
                continue
            writer = member_of(author)
            fresh = now - self._advanced.get(author, float("-inf")) < 2 * self._peers.timers.beat
            if writer != sender and fresh and self._peers.responsive(writer, now):
                continue  # it is on its way from the author itself
            effects += self._ask(sender, author, now)
        return effects

    def serve(self, sender: str, message: Need) -> list[AnyEffect]:
        """Answer a Need from what is on disk."""
        if message.first < self.durable.get(message.author, 0):
            return [Serve(sender, message.author, message.first)]
        return []

    def _ask(self, sender: str, author: str, now: float) -> list[AnyEffect]:
        asked = self._asked.get(author)
        if self.in_flight > self.room or (asked is not None and now - asked[1] < ASK_AGAIN):
            return []
        self._asked[author] = (sender, now)
        return [Send(sender, Need(author, self.received.get(author, 0)))]

    def _decode(self, count: int, raw: bytes) -> AnyBody | None:
        try:
            body = log.decode(raw)
        except msgspec.DecodeError:
            body = None
        if body is None or not log.well_formed(count, body):
            self.malformed += 1
            return None
        return body


def facts_of(entries: list[Entry], more: bool = False) -> Facts:
    """The message that carries these entries of one log, which follow on each other."""
    first = entries[0]
    return Facts(first.author, first.seq, tuple((entry.count, entry.body) for entry in entries), more)
