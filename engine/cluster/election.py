"""Who leads: epochs, bids, and when to make one. A leader only hands out work, so two at once do no harm."""

from __future__ import annotations

from collections.abc import Mapping

from engine.cluster.entries import Member, member_of
from engine.cluster.messages import NOBODY, Epoch, Mode
from engine.cluster.peers import Peers


class Election:
    """One machine's view of the leadership.

    `epoch` is the highest epoch seen in this life of the process, `highest` the largest number ever, kept on disk.
    """

    def __init__(self, author: str, mode: Mode, peers: Peers) -> None:
        self.author = author
        self.mode: Mode = mode
        self.epoch = NOBODY
        self.highest = 0
        self.heard = peers.since  # last word of the leader
        self.won: Epoch | None = None  # the epoch this life of the process leads, or led last
        self.bid: Epoch | None = None  # on its way to the disk
        self.reason = ""
        self._peers = peers
        self._bid_at: float | None = None

    @property
    def leading(self) -> bool:
        """Leader is whoever this life of the process won with: an own epoch from before a restart is nobody's."""
        return self.won is not None and self.epoch == self.won

    @property
    def leader(self) -> str:
        """Member id, empty while there is none; a machine that was removed leads nobody."""
        if self.leading:
            return self._peers.me
        leader = member_of(self.epoch.author)
        return leader if leader in self._peers.all else ""

    def see(self, epoch: Epoch, sender: str, now: float) -> tuple[bool, bool]:
        """Note the epoch of a message. Returns whether it is a new leadership, and whether its number must be
        written down."""
        higher = epoch.number > self.highest
        self.highest = max(self.highest, epoch.number)
        new = epoch > self.epoch
        if new:
            self.epoch = epoch
            self._bid_at = None
        if epoch == self.epoch and (new or sender == member_of(epoch.author)):
            self.heard = now
            if sender == member_of(epoch.author):
                self._bid_at = None
        return new, higher

    def look(self, members: Mapping[str, Member], now: float) -> Epoch | None:
        """The epoch to bid for, if it is time to. It has to be on disk before anybody hears of it."""
        if self.leading or self.bid is not None or self.mode == "client":
            self._bid_at = None
            return None
        if not self._vacant(members, now):
            self._bid_at = None
            return None
        if self._bid_at is None:
            self._bid_at = now + self._peers.timers.stagger * self._place(members, now)
        if now < self._bid_at:
            return None
        self._bid_at = None
        self.highest += 1
        self.bid = Epoch(self.highest, self.author)
        return self.bid

    def written(self, epoch: Epoch, now: float) -> bool:
        """An epoch is on disk. True when this machine leads from now on."""
        if epoch != self.bid:
            return False
        self.bid = None
        if epoch < self.epoch:
            return False
        self.epoch = self.won = epoch
        self.heard = now
        return True

    def slept(self, now: float) -> None:
        """This machine stood still: it steps down before anything else, and listens before it bids again."""
        self.won = self.bid = None
        self.heard = now
        self._bid_at = (
            now + 2 * self._peers.timers.beat if member_of(self.epoch.author) == self._peers.me else None
        )

    def left(self, leader: str) -> None:
        """The leader said goodbye: no need to wait for its silence."""
        if leader == self.leader:
            self.heard = float("-inf")
            self.reason = "the leader left"

    def _vacant(self, members: Mapping[str, Member], now: float) -> bool:
        peers = self._peers
        if member_of(self.epoch.author) == peers.me:
            self.reason = "back after a restart"
            return True
        if not any(other != peers.me for other in members):
            self.reason = "alone"
            return True
        leader = peers.all.get(self.leader)
        if leader is None:  # nobody yet, or no member any more
            self.reason = "no leader"
            return now - max(self.heard, peers.since) > peers.timers.dead
        if self.heard == float("-inf"):
            return True
        self.reason = "the leader is silent"
        if now - self.heard <= peers.dead_after(leader):
            return False
        peers.dead(self.leader, now)
        return True

    def _place(self, members: Mapping[str, Member], now: float) -> int:
        """How many machines heard of lately come before this one: those that prefer to lead, then by pairing."""

        def key(member: str) -> tuple[bool, int, str]:
            peer = self._peers.all.get(member)
            mode = self.mode if member == self._peers.me else (peer.card.mode if peer and peer.card else "auto")
            return mode != "server", members[member].rank if member in members else 1 << 30, member

        def may_lead(member: str) -> bool:
            peer = self._peers.all.get(member)
            return self._peers.alive(member, now) and not (peer and peer.card and peer.card.mode == "client")

        mine = key(self._peers.me)
        return sum(1 for member in members if member != self._peers.me and may_lead(member) and key(member) < mine)
