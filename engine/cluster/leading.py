"""What a leader does: keeps the table of claims, and decides who gets which rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec import structs

from engine.cluster.claims import PREFETCH, Claims
from engine.cluster.effects import GiveUp, claim_name
from engine.cluster.entries import AnyBody, Labeled, Outline, StateSet
from engine.cluster.membership import Membership
from engine.cluster.messages import Beat, Card, Credit, Epoch, Grant, Held, Release
from engine.cluster.pace import Paces
from engine.cluster.peers import Peers
from engine.cluster.plan import Block, Plan, RunPlan
from engine.cluster.replication import Replication

ONE_AFTER_THE_OTHER = "The model process ended on one row after the other."


class Leading:
    """The leader's part of a node; idle while another machine leads."""

    def __init__(self, plan: Plan, peers: Peers, replication: Replication, membership: Membership) -> None:
        self.claims: Claims | None = None
        self._plan = plan
        self._peers = peers
        self._replication = replication
        self._membership = membership
        self._paces = Paces()
        self._credits: dict[str, tuple[Credit, float]] = {}  # by member, with the time it came
        self._unable: dict[tuple[str, str], tuple[str, str]] = {}  # member and run: boot, why
        self._told: dict[str, str] = {}  # member: the life of it that told this leader what it holds
        self._began = 0.0
        self._number = 0

    @property
    def size(self) -> int:
        """How many things it remembers of members."""
        return len(self._credits) + len(self._unable) + len(self._told)

    def begin(self, boot: str, own: Iterable[Held], now: float) -> None:
        """A leadership begins, with what this machine itself is working on."""
        self._told = {self._peers.me: boot}
        self._began = now
        self.claims = Claims(self._plan, self._paces, self._owners())
        self._credits.clear()
        self._number = 0
        for held in own:
            self.claims.adopt(claim_name(held.epoch, held.claim), held, self._peers.me, boot, now)

    def end(self) -> None:
        """This machine does not lead any more."""
        self.claims = None

    def members_changed(self) -> None:
        """Blocks are divided anew."""
        if self.claims is not None:
            self.claims.set_owners(self._owners())

    def retry(self, run_id: str) -> None:
        """Somebody decided about this run: what went wrong with it before does not count."""
        self._unable = {key: why for key, why in self._unable.items() if key[1] != run_id}
        if self.claims is not None:
            self.claims.given_up.pop(run_id, None)

    def look(self, now: float) -> None:
        """Take back what is out for too long, or is with a machine that is gone."""
        if self.claims is not None:
            self.claims.expire(now, lambda member: self._peers.dead(member, now))

    def heard(self, sender: str, beat: Beat, epoch: Epoch, now: float) -> None:
        """A beat renews the claims it names; the first one under this epoch tells what is worked on already."""
        if self.claims is not None:
            if beat.epoch == epoch:
                self._told[sender] = beat.card.boot
            held = {claim_name(item.epoch, item.claim): item for item in beat.held}
            for name, item in held.items():
                if name not in self.claims.out:
                    self.claims.adopt(name, item, sender, beat.card.boot, now)
            self.claims.heard(sender, beat.card.boot, held, now)

    def left(self, member: str) -> None:
        """A machine said goodbye."""
        self._credits.pop(member, None)
        if self.claims is not None:
            self.claims.expire(float("-inf"), lambda worker: worker == member)

    def credit(self, sender: str, credit: Credit, now: float) -> None:
        """A worker has room."""
        self._credits[sender] = (credit, now)

    def arriving(self, bodies: Iterable[AnyBody]) -> None:
        """Answers came in and are on their way to the disk: their workers have room again."""
        if self.claims is not None:
            for body in bodies:
                if isinstance(body, Labeled):
                    self.claims.arrived(body.about.claim)

    def answered(self, member: str, body: Labeled | Outline, now: float) -> None:
        """Answers are on disk and in the plan."""
        if body.seconds > 0:
            self._paces.measure(member, body.run_id, len(body.at), body.seconds)
        if self.claims is not None:
            self.claims.settled(body.about.claim, body.run_id, now)

    def grants(self, epoch: Epoch, card: Card, now: float) -> Iterator[tuple[str, Grant]]:
        """Claims for everybody who has room and can do something."""
        if self.claims is None or not self._credits or self._listening(now):
            return
        able: dict[str, list[str]] = {}

        def can(run: RunPlan) -> list[str]:
            if run.run_id not in able:
                able[run.run_id] = self.able(run, card, now)
            return able[run.run_id]

        for member, (credit, came) in list(self._credits.items()):
            # An old reading of a worker's clock would make a lease that is over when it arrives.
            if member == self._peers.me:
                credit = structs.replace(credit, clock=now)
            elif now - came > 2 * self._peers.timers.beat:
                del self._credits[member]
                continue
            if self._told.get(member) != credit.boot:
                continue  # what it holds already is not known before its first beat
            slots = min(credit.slots, PREFETCH - self.claims.held_by(member))
            while slots > 0:
                found = self.claims.take(member, self._card(member, card), can, self._ready(member, now), now)
                if found is None:
                    break
                work, failures, died_at = found
                self._number += 1
                name = claim_name(epoch, self._number)
                ttl = self.claims.grant(name, work, member, credit.boot, now, failures, died_at)
                yield member, Grant(epoch, self._number, work, ttl, credit.clock, failures)
                slots -= 1
                left = credit.slots - 1
                if left > 0:
                    credit = structs.replace(credit, slots=left)
                    self._credits[member] = (credit, came)
                else:
                    del self._credits[member]
                    break

    def released(
        self, sender: str, release: Release, card: Card, next_clock: Callable[[], int], now: float
    ) -> tuple[list[AnyBody], list[GiveUp]]:
        """A claim comes back undone: what to write about it, and which row to give up."""
        name = claim_name(release.epoch, release.claim)
        claim = self.claims.out.get(name) if self.claims is not None else None
        if self.claims is None or claim is None or claim.worker != sender:
            return [], []
        run = self._plan.runs[claim.work.run_id]
        if release.reason == "died":
            others = any(member != sender for member in self.able(run, card, now))
            ended = self.claims.died(name, sender, others)
            if ended is None:
                return [], []
            paused = self.claims.gave_up(run.run_id) and run.state == "running"
            note = StateSet(run.run_id, "paused", ONE_AFTER_THE_OTHER, next_clock()) if paused else None
            return [note] if note else [], [GiveUp(ended.work, ended.failures + 1)]
        if release.reason == "model":
            self._unable[sender, run.run_id] = (self._card(sender, card).boot, release.detail)
        self.claims.release(name)
        if release.reason == "model" and run.state == "running" and not self.able(run, card, now):
            return [StateSet(run.run_id, "paused", release.detail, next_clock())], []
        return [], []

    def able(self, run: RunPlan, card: Card, now: float) -> list[str]:
        """Reachable members that can do a run and may be given work. `card` is this machine's own."""
        if run.spec is None:
            return []
        digest = run.spec.model.digest
        found = []
        for member_id, member in self._membership.members.items():
            theirs = self._card(member_id, card)
            failed = self._unable.get((member_id, run.run_id))
            if (
                not member.paused
                and theirs.working
                and digest in theirs.models
                and not (failed is not None and failed[0] == theirs.boot)
                and self._peers.responsive(member_id, now)
            ):
                found.append(member_id)
        return found

    def _listening(self, now: float) -> bool:
        """Whether it is too early to grant: machines that are there have not told yet what they hold already. What
        is lost on the way is waited for no longer than two beats."""
        return now - self._began < 2 * self._peers.timers.beat and any(
            member not in self._told and self._peers.responsive(member, now) for member in self._peers.all
        )

    def _ready(self, worker: str, now: float) -> Callable[[Block], bool]:
        """Whether a block is on disk at the worker and, if there are others, on two machines."""
        mine = self._replication.durable
        others = [peer for member, peer in self._peers.all.items() if self._peers.responsive(member, now)]
        holder = self._peers.all.get(worker)

        def ready(block: Block) -> bool:
            author, seq = block
            if mine.get(author, 0) <= seq:
                return False
            if holder is not None:
                return holder.vector.get(author, 0) > seq
            return not others or any(peer.vector.get(author, 0) > seq for peer in others)

        return ready

    def _card(self, member: str, mine: Card) -> Card:
        peer = self._peers.all.get(member)
        return mine if member == self._peers.me else (peer.card if peer and peer.card else _NO_CARD)

    def _owners(self) -> list[str]:
        return sorted(member.id for member in self._membership.members.values() if not member.paused)


_NO_CARD = Card("", working=False)
