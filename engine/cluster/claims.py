"""The leader's table: which rows are granted to whom, and what to grant next. It dies with the leadership."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from engine.cluster.blocks import Queue, owner_of
from engine.cluster.messages import Card, Held, Work
from engine.cluster.pace import FIRST_BATCH, Paces
from engine.cluster.plan import Block, Plan, RunPlan

PREFETCH = 2  # claims one worker has at a time: while one is computed the next is on its way
TURN = 8  # claims a worker gets of one run before another run that wants the same model
TURN_LOADED = 40  # the same when a change of turns means loading another model
SPLIT_AFTER = 2  # deaths with a whole batch before it is split
POISON_AFTER = 3  # deaths with a row, the last one alone, before it is given up
GIVE_UP_ROWS = 5  # rows in a row given up before the run is paused: then it is not the rows
GRACE = 1.0  # seconds by which the leader waits longer than the worker
MISSED_BEATS = 3  # beats of a worker that do not name a claim before it is taken for lost on the way
TAIL_FACTOR = 1.5  # times the 95th percentile of durations after which a claim is granted a second time
TAIL_SAMPLES = 5
REMEMBERED = 256  # claims taken back without a word of the worker


Able = Callable[[RunPlan], Sequence[str]]


class Piece(msgspec.Struct, frozen=True):
    """Rows that go back into the pool together because a worker died with them."""

    work: Work
    failures: int
    died_at: frozenset[str]  # members


class Granted(msgspec.Struct):
    """A claim that is out."""

    name: str
    work: Work
    worker: str
    boot: str
    at: float  # when it was granted
    ttl: float
    expires: float
    failures: int = 0
    died_at: frozenset[str] = frozenset()
    arrived: bool = False  # its facts are here, though not on disk yet
    unnamed: int = 0  # beats of its worker since it was last named by one
    doubled: bool = False  # a backup of it is out


class Claims:
    """Claims of one leadership. Every method that takes a run takes one of the plan's."""

    def __init__(self, plan: Plan, paces: Paces, owners: Sequence[str]) -> None:
        self.out: dict[str, Granted] = {}  # by name
        self.given_up: dict[str, int] = defaultdict(int)  # rows of a run given up since the last success
        self._plan = plan
        self._paces = paces
        self._owners = tuple(owners)
        self._taken: dict[str, bytearray] = {}  # by run: 1 per position granted or answered
        self._queues: dict[tuple[str, str], Queue] = {}  # run and owner: its blocks
        self._queued: dict[str, int] = {}  # run: blocks that are in queues
        self._again: dict[str, deque[Piece]] = defaultdict(deque)
        self._turns: dict[str, tuple[str, int]] = {}  # worker: run and claims granted of it
        self._durations: deque[float] = deque(maxlen=100)
        self._lost: dict[str, Granted] = {}  # taken back without a word of the worker; the latest ones

    def set_owners(self, owners: Sequence[str]) -> None:
        """Members among whom blocks are divided, reachable or not: both sides of a cut divide alike."""
        if tuple(owners) != self._owners:
            self._owners = tuple(owners)
            self._queues.clear()
            self._queued.clear()

    def held_by(self, worker: str) -> int:
        """Claims this worker still has to answer."""
        return sum(1 for claim in self.out.values() if claim.worker == worker and not claim.arrived)

    # granting

    def take(
        self,
        worker: str,
        card: Card,
        able: Able,
        ready: Callable[[Block], bool],
        now: float,
    ) -> tuple[Work, int, frozenset[str]] | None:
        """What a worker should do next: work, earlier deaths with it and where; None when there is nothing.

        `able` names the reachable members that can do a run, `ready` says whether the worker and enough others
        hold a block on disk.
        """
        for run in self._in_turn(worker, card, able):
            workers = able(run)
            piece = self._take_again(run, worker, workers, ready)
            found = piece or self._take_new(run, worker, card, workers, ready)
            if found is not None:
                last, count = self._turns.get(worker, ("", 0))
                self._turns[worker] = (run.run_id, count + 1 if last == run.run_id else 1)
                self._mark(found.work, 1)
                return found.work, found.failures, found.died_at
        return self._take_slow(worker, able, ready, now)

    def grant(
        self, name: str, work: Work, worker: str, boot: str, now: float, failures: int, died_at: frozenset[str]
    ) -> float:
        """Note a claim that is sent out; returns its time to live in seconds."""
        usual = self._paces.seconds(worker, work)
        ttl = 30.0 if usual is None else min(120.0, max(5.0, 4 * usual))
        self.out[name] = Granted(name, work, worker, boot, now, ttl, now + ttl + GRACE, failures, died_at)
        return ttl

    def adopt(self, name: str, held: Held, worker: str, boot: str, now: float) -> None:
        """A claim of an earlier leadership, or one that was taken back too soon, that a worker still works on."""
        lost = self._lost.pop(name, None)
        work = lost.work if lost is not None else held.work
        if work is not None and self._plan.knows(work.run_id, work.block):
            self._mark(work, 1)
            ttl = max(5.0, 4 * (self._paces.seconds(worker, work) or 7.5))
            self.out[name] = Granted(name, work, worker, boot, now, ttl, now + ttl + GRACE)

    # what becomes of claims

    def heard(self, worker: str, boot: str, held: dict[str, Held], now: float) -> bool:
        """A beat of a worker: renews what it works on, takes back what it does not know of. True if any."""
        freed = False
        for claim in [claim for claim in self.out.values() if claim.worker == worker]:
            mine = held.get(claim.name)
            if claim.boot != boot:
                freed |= self._free(claim)
            elif mine is not None:
                claim.unnamed = 0
                claim.expires = now - mine.idle + claim.ttl + GRACE
            elif not claim.arrived:
                claim.unnamed += 1
                if claim.unnamed >= MISSED_BEATS and now > claim.at + GRACE:  # beats may come twice
                    freed |= self._lose(claim)
        return freed

    def arrived(self, name: str) -> None:
        """The facts of a claim came in; when they are on disk, `settled` follows."""
        if name in self.out:
            self.out[name].arrived = True

    def settled(self, name: str, run_id: str, now: float) -> None:
        """The facts of a claim are on disk and in the plan."""
        claim = self.out.pop(name, None)
        if claim is not None:
            self._durations.append(now - claim.at)
            self._open(claim)
            self.given_up[run_id] = 0

    def expire(self, now: float, dead: Callable[[str], bool]) -> bool:
        """Take back claims whose time is up or whose worker is gone. True if any is free."""
        gone = [claim for claim in self.out.values() if now > claim.expires or dead(claim.worker)]
        for claim in gone:
            self._lose(claim)
        return bool(gone)

    def release(self, name: str) -> None:
        """A worker gives a claim back undone."""
        claim = self.out.get(name)
        if claim is not None:
            self._free(claim)

    def died(self, name: str, worker: str, others: bool) -> Granted | None:
        """A worker's backend died with a claim: it is tried once more as a whole, then in halves, and at another
        machine if there are `others`. Returns the claim when that ends here, for a row that died alone."""
        claim = self.out.pop(name, None)
        if claim is None:
            return None
        failures, died_at = claim.failures + 1, claim.died_at | {worker}
        work = self._open(claim)
        if not work.at:
            return None
        if len(work.at) == 1 and failures >= POISON_AFTER and (len(died_at) > 1 or not others):
            self._mark(work, 1)
            return claim
        half = len(work.at) // 2
        parts = [work.at[:half], work.at[half:]] if half and failures >= SPLIT_AFTER else [work.at]
        for at in reversed(parts):
            part = msgspec.structs.replace(work, at=at)
            self._mark(part, 1)
            self._again[work.run_id].appendleft(Piece(part, failures, died_at))
        return None

    def gave_up(self, run_id: str) -> bool:
        """A row was given up. True when the run had better pause: so many in a row are not poison."""
        self.given_up[run_id] += 1
        return self.given_up[run_id] >= GIVE_UP_ROWS

    # inside

    def _in_turn(self, worker: str, card: Card, able: Able) -> list[RunPlan]:
        """Runs the worker can do, the one whose turn it is first."""
        runs = [run for run in self._plan.working() if worker in able(run)]
        last, count = self._turns.get(worker, ("", 0))
        index = next((i for i, run in enumerate(runs) if run.run_id == last), None)
        if index is None:
            # Nothing done yet: what needs no loading first.
            return sorted(runs, key=lambda run: _digest(run) != card.loaded)
        others = runs[index + 1 :] + runs[:index]
        turn = TURN if len({_digest(run) for run in runs}) == 1 else TURN_LOADED
        return [runs[index], *others] if count < turn else [*others, runs[index]]

    def _take_again(
        self, run: RunPlan, worker: str, workers: Sequence[str], ready: Callable[[Block], bool]
    ) -> Piece | None:
        pieces = self._again[run.run_id]
        for _ in range(len(pieces)):
            piece = pieces.popleft()
            at = self._open_places(piece.work)
            # Somebody who has not died with it is better evidence that it is the row.
            elsewhere = worker in piece.died_at and any(other not in piece.died_at for other in workers)
            if at and (not ready(piece.work.block) or (elsewhere and piece.failures >= POISON_AFTER)):
                pieces.append(piece)
            elif at:
                return msgspec.structs.replace(piece, work=msgspec.structs.replace(piece.work, at=at))
        return None

    def _take_new(
        self, run: RunPlan, worker: str, card: Card, workers: Sequence[str], ready: Callable[[Block], bool]
    ) -> Piece | None:
        self._enqueue(run)
        # Its own blocks, then those of reachable members, then those of absent ones: the two sides of a cut do not
        # come to the same rows before one of them has finished its share.
        others = sorted((owner for owner in self._owners if owner != worker), key=lambda o: (o not in workers, o))
        size, taken = self.size(run, worker, card, len(workers)), self.taken(run)
        for owner in [worker, *others]:
            queue = self._queues.get((run.run_id, owner))
            found = queue.take(run, ready, size, taken) if queue is not None else None
            if found is not None:
                return Piece(found, 0, frozenset())
        return None

    def _take_slow(
        self, worker: str, able: Able, ready: Callable[[Block], bool], now: float
    ) -> tuple[Work, int, frozenset[str]] | None:
        """Nothing is left to grant: a second try of a claim that takes unusually long."""
        if len(self._durations) < TAIL_SAMPLES:
            return None
        usual = sorted(self._durations)[int(len(self._durations) * 0.95)]
        for claim in self.out.values():
            run = self._plan.runs[claim.work.run_id]
            slow = now - claim.at > max(TAIL_FACTOR * usual, 0.5)
            if slow and not claim.doubled and not claim.arrived and claim.worker != worker and run.working:
                at = run.unanswered(claim.work.block, claim.work.at)
                if at and worker in able(run) and ready(claim.work.block):
                    claim.doubled = True
                    return msgspec.structs.replace(claim.work, at=at), claim.failures, claim.died_at
        return None

    def _lose(self, claim: Granted) -> bool:
        """Free a claim without a word of its worker, who may still be at it."""
        self._lost[claim.name] = claim
        if len(self._lost) > REMEMBERED:
            del self._lost[next(iter(self._lost))]
        return self._free(claim)

    def _free(self, claim: Granted) -> bool:
        self.out.pop(claim.name, None)
        work = self._open(claim)
        if claim.failures and work.at:
            self._mark(work, 1)
            self._again[work.run_id].appendleft(Piece(work, claim.failures, claim.died_at))
        return True

    def _open(self, claim: Granted) -> Work:
        """Put what is unanswered of a claim back into the pool, but for what a backup of it has."""
        covered = {
            place
            for other in self.out.values()
            if (other.work.run_id, other.work.block) == (claim.work.run_id, claim.work.block)
            for place in other.work.at
        }
        at = tuple(place for place in self._open_places(claim.work) if place not in covered)
        work = msgspec.structs.replace(claim.work, at=at)
        self._mark(work, 0)
        return work

    def _open_places(self, work: Work) -> tuple[int, ...]:
        return self._plan.runs[work.run_id].unanswered(work.block, work.at)

    def _enqueue(self, run: RunPlan) -> None:
        for number in range(self._queued.get(run.run_id, 0), len(run.names)):
            block = run.names[number]
            owner = owner_of(block, self._owners)
            self._queues.setdefault((run.run_id, owner), Queue()).blocks.append(block)
        self._queued[run.run_id] = len(run.names)

    def taken(self, run: RunPlan) -> bytearray:
        """Per position: whether it is granted, or answered when it was last looked at."""
        taken = self._taken.setdefault(run.run_id, bytearray())
        if len(taken) < len(run.answered):
            taken.extend(bytes(len(run.answered) - len(taken)))
        return taken

    def size(self, run: RunPlan, worker: str, card: Card, workers: int) -> int:
        """Rows for one claim: 1 to 2 seconds of this worker, towards the end an equal share for everybody, and
        never more than their answers have room for in an entry."""
        share = -(-run.left // max(1, workers))
        size = min(self._paces.size(worker, run.run_id), max(FIRST_BATCH, share), run.most_rows)
        return min(size, card.batch) if card.batch else size

    def _mark(self, work: Work, value: int) -> None:
        run = self._plan.runs[work.run_id]
        taken, start = self.taken(run), run.blocks[work.block][0]
        elsewhere = False  # a row of it stands in another block here
        if not run.aliases and work.at and work.at[-1] - work.at[0] + 1 == len(work.at):
            first = start + work.at[0]
            taken[first : first + len(work.at)] = bytes([value]) * len(work.at)
        else:
            for place in work.at:
                position = run.aliases.get(start + place, start + place)
                elsewhere |= position != start + place
                taken[position] = value
        if not value and work.at:
            self._reopen(work.run_id, run.names if elsewhere else [work.block])

    def _reopen(self, run_id: str, blocks: Iterable[Block]) -> None:
        for block in blocks:
            queue = self._queues.get((run_id, owner_of(block, self._owners)))
            if queue is not None:
                queue.reopen(block)


def _digest(run: RunPlan) -> str:
    return run.spec.model.digest if run.spec is not None else ""
