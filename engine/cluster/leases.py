"""The worker's side of claims: what this machine was granted, and until when."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from engine.cluster.claims import PREFETCH
from engine.cluster.effects import Abandon, AnyEffect, Claim, Start
from engine.cluster.messages import Epoch, Grant, Held, Reason, Release, Work
from engine.cluster.plan import Plan

REMEMBERED = 64  # claims that were refused


class Lease(msgspec.Struct):
    """A claim this machine holds. The first that is not done is the one its backend works on."""

    claim: Claim
    ttl: float
    since: float  # when it was asked for, by this machine's clock
    done: bool = False  # answered, but not on disk yet
    expired: bool = False  # its time is up, though the backend does not let go of it


class Leases:
    """Claims by name, in the order they came."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._leases: dict[str, Lease] = {}
        self._progressed = float("-inf")
        self._refused: deque[str] = deque(maxlen=REMEMBERED)  # a grant may come twice

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def free(self) -> int:
        """Claims that may be asked for."""
        return PREFETCH - sum(1 for lease in self._leases.values() if not lease.done)

    def held(self, epoch: Epoch, now: float) -> Iterator[Held]:
        """What a beat says of them; to a leader that did not grant a claim also what it is about."""
        for lease in self._leases.values():
            if not lease.expired:
                claim = lease.claim
                work = None if claim.epoch == epoch else claim.work
                yield Held(claim.epoch, claim.number, self._idle(lease, now), work)

    def granted(self, grant: Grant, willing: Callable[[str], bool], now: float) -> list[AnyEffect | Release]:
        """A claim comes in. What cannot be done goes back at once."""
        work = grant.work
        claim = Claim(grant.epoch, grant.claim, work, grant.failures)
        if claim.name in self._leases or claim.name in self._refused:
            return []
        if not self._plan.knows(work.run_id, work.block):
            return self._refuse(claim, "unknown")
        if not willing(work.run_id) or self.free < 0:
            return self._refuse(claim, "stopped")
        at = self._unanswered(work)
        if not at:
            return self._refuse(claim, "unknown")
        if now > grant.clock + grant.ttl:
            return self._refuse(claim, "expired")
        mine = self._places(work)
        at = tuple(place for place in at if place not in mine)
        if not at:
            return []  # at it already under another name, which the next beat tells the leader
        claim = msgspec.structs.replace(claim, work=msgspec.structs.replace(work, at=at))
        self._leases[claim.name] = Lease(claim, grant.ttl, grant.clock)
        return [Start(claim)]

    def finished(self, claim: Claim) -> None:
        """Answered; it is named to the leader until the answers are on disk and sent."""
        if claim.name in self._leases:
            self._leases[claim.name].done = True

    def published(self, name: str) -> None:
        """The answers are on disk and on their way."""
        self._leases.pop(name, None)

    def drop(self, claim: Claim) -> None:
        """It ended without answers."""
        self._leases.pop(claim.name, None)

    def progressed(self, now: float) -> None:
        """The backend gets on, which renews everything it has to do."""
        self._progressed = now

    def expire(self, now: float) -> list[AnyEffect | Release]:
        """Give back what has been without progress for too long."""
        late = [lease for lease in self._open() if not lease.expired and self._idle(lease, now) > lease.ttl]
        return self._give_back(late, "expired")

    def reconsider(self, willing: Callable[[str], bool]) -> list[AnyEffect | Release]:
        """Give back what is not to be begun any more: a run was paused, or this machine, or others answered it."""
        return self._give_back(
            [
                lease
                for lease in self._open()[1:]
                if not willing(lease.claim.work.run_id) or not self._unanswered(lease.claim.work)
            ],
            "stopped",
        )

    def _open(self) -> list[Lease]:
        return [lease for lease in self._leases.values() if not lease.done]

    def _give_back(self, leases: list[Lease], reason: Reason) -> list[AnyEffect | Release]:
        out: list[AnyEffect | Release] = []
        begun = self._open()[:1]
        for lease in leases:
            if lease in begun:
                lease.expired = True  # it stays in the way until the backend lets go of it
            else:
                del self._leases[lease.claim.name]
            out += [Abandon(lease.claim), _release(lease.claim, reason)]
        return out

    def _refuse(self, claim: Claim, reason: Reason) -> list[AnyEffect | Release]:
        self._refused.append(claim.name)
        return [_release(claim, reason)]

    def _places(self, work: Work) -> set[int]:
        """Places of this block that are held."""
        held = [lease.claim.work for lease in self._leases.values()]
        return {place for w in held if (w.run_id, w.block) == (work.run_id, work.block) for place in w.at}

    def _unanswered(self, work: Work) -> tuple[int, ...]:
        return self._plan.runs[work.run_id].unanswered(work.block, work.at)

    def _idle(self, lease: Lease, now: float) -> float:
        return max(0.0, now - max(lease.since, self._progressed))


def _release(claim: Claim, reason: Reason) -> Release:
    return Release(claim.epoch, claim.number, reason)
