"""What is to be done and what is done: runs, their blocks of rows, and which of them are answered.

A pure function of the entries applied, whatever their order between authors: what refers to something that is not
known yet waits until it is.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

import msgspec

from engine.cluster.entries import (
    BLOCK_ROWS,
    ENTRY_BYTES,
    Asked,
    BlockFound,
    Labeled,
    Outline,
    RunOpened,
    StateSet,
)
from engine.cluster.fitness import FitnessBook
from engine.cluster.membership import Order
from workspace.facts import RunProgress, RunSpec, RunState

RATE_WINDOW = 60.0  # seconds of a machine's work over which its rate is taken
STALE_AFTER = (
    20.0  # seconds without answers, beyond those of three claims, after which its rate is no longer added
)
LABEL, ERROR = 1, 2

Block = tuple[str, int]
Waiting = BlockFound | tuple[str, float | None, Labeled | Outline]


class Answered(msgspec.Struct, frozen=True):
    """What one entry of answers changed: rows answered for the first time, and those answered before."""

    first: int
    again: int


class Rate:
    """Rows per second of one machine's work on one run."""

    def __init__(self) -> None:
        self.recent: deque[tuple[float, int]] = deque()  # (seconds, rows)
        self.seconds = 0.0
        self.rows = 0
        self.at = 0.0  # when the last ones came

    def add(self, rows: int, seconds: float, now: float) -> None:
        self.recent.append((seconds, rows))
        self.seconds += seconds
        self.rows += rows
        self.at = now
        while len(self.recent) > 1 and self.seconds - self.recent[0][0] >= RATE_WINDOW:
            old, fewer = self.recent.popleft()
            self.seconds -= old
            self.rows -= fewer

    def per_second(self, now: float) -> float:
        last = self.recent[-1][0] if self.recent else 0.0
        if self.seconds <= 0 or now - self.at > STALE_AFTER + 3 * last:
            return 0.0
        return self.rows / self.seconds


class RunPlan:
    """One run. Rows have positions in the order their blocks came to this machine; positions are its own."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.spec: RunSpec | None = None
        self.task = ""
        self.state: RunState = "paused"
        self.note = ""
        self.remark = ""  # what this machine is doing for it, in words; never replicated
        self.blocks: dict[Block, tuple[int, int]] = {}  # first position, rows
        self.names: list[Block] = []  # in the order of positions
        self.aliases: dict[int, int] = {}  # position of a row planned twice: the position that stands for it
        self.answered = bytearray()  # per position: 0, LABEL or ERROR
        self.left = 0  # rows without answers
        self.failed = 0  # rows with an error in every answer so far
        self.most_rows = BLOCK_ROWS  # of one claim, so that its answers fit an entry
        self._asked: tuple[Asked, ...] = ()
        self.rates: dict[str, Rate] = defaultdict(Rate)  # by machine
        self._order: Order = (-1, "", -1)
        self._early: dict[Block, list[Waiting]] = {}  # waiting for this block

    @property
    def rows(self) -> int:
        """Distinct rows planned."""
        return len(self.answered) - len(self.aliases)

    @property
    def done(self) -> int:
        """Rows that are answered, if only with an error."""
        return self.rows - self.left

    @property
    def early(self) -> int:
        """Entries that wait for another one."""
        return sum(len(waiting) for waiting in self._early.values())

    @property
    def complete(self) -> bool:
        """Every row is answered."""
        return self.spec is not None and self.left == 0

    @property
    def working(self) -> bool:
        """It should go on and there is something to do."""
        return self.state == "running" and self.spec is not None and self.left > 0

    @property
    def shown_state(self) -> RunState:
        """`state`, or done when it is running and nothing is left."""
        return "done" if self.state == "running" and self.complete else self.state

    def set_state(self, author: str, seq: int, body: StateSet) -> bool:
        """The latest by (clock, author, seq) counts, in whatever order they come."""
        order = (body.clock, author, seq)
        if order <= self._order:
            return False
        self._order, self.state, self.note = order, body.state, body.note
        return True

    def open(self, body: RunOpened) -> None:
        """The run's questions; the first to come stays, they are equal but for what is each machine's own."""
        self.task = self.task or body.task
        if self.spec is None:
            self.spec = body.spec
            self.most_rows = most_rows(body.spec)
            self._asked = tuple((one.name, one.kind, one.labels) for one in body.spec.dimensions)
            for waiting in self._early.pop(("", 0), []):
                self._again(waiting)

    def add_block(self, found: BlockFound) -> None:
        """Rows planned into the run."""
        if found.block in self.blocks:
            return
        if self.spec is None:
            self._wait(("", 0), found)
            return
        for other, _ in found.elsewhere.values():
            if other != found.block and other not in self.blocks:
                self._wait(other, found)
                return
        start, twice = len(self.answered), found.elsewhere
        self.blocks[found.block] = (start, found.count)
        self.names.append(found.block)
        self.answered.extend(bytes(found.count))
        for place, (other, there) in twice.items():
            position = self.blocks[other][0] + there
            self.aliases[start + place] = self.aliases.get(position, position)
            self.answered[start + place] = LABEL  # nothing to do for it under this position
        self.left += found.count - len(twice)
        for waiting in self._early.pop(found.block, []):
            self._again(waiting)

    def answer(self, member: str, now: float | None, body: Labeled | Outline) -> Answered:
        """Answers of a machine. `now` is None for those read back from the ledger."""
        place = None if self.spec is None else self.blocks.get(body.block)
        if place is None:
            self._wait(("", 0) if self.spec is None else body.block, (member, now, body))
            return Answered(0, 0)
        start, count = place
        if body.about.dimensions != self._asked:
            return Answered(0, 0)  # answers to something else
        if now is not None:
            self.rates[member].add(len(body.at), max(body.seconds, 1e-6), now)
        if not body.failed and self._fresh(start, count, body.at):
            first_place, rows = start + body.at[0], len(body.at)
            self.answered[first_place : first_place + rows] = bytes([LABEL]) * rows
            self.left -= rows
            return Answered(len(body.at), 0)
        first = again = 0
        failed = set(body.failed)
        for at in body.at:
            if at < count:
                if self._mark(start + at, ERROR if at in failed else LABEL):
                    first += 1
                else:
                    again += 1
        return Answered(first, again)

    def unanswered(self, block: Block, at: Sequence[int]) -> tuple[int, ...]:
        """Those of the places that have no answer yet."""
        start, count = self.blocks[block]
        answered = self.answered
        if self._fresh(start, count, at):
            return tuple(at)
        return tuple(
            place for place in at if place < count and not answered[self.aliases.get(start + place, start + place)]
        )

    def progress(self, now: float) -> RunProgress:
        """Where it stands."""
        rate = sum(rate.per_second(now) for rate in self.rates.values())
        state = self.shown_state
        left = self.left / rate if rate > 0 and state == "running" else None
        return RunProgress(
            self.run_id,
            state,
            self.rows,
            self.done,
            self.failed,
            round(rate, 3),
            None if left is None else round(left, 1),
            (self.remark if state == "running" else "") or ("" if state == "done" else self.note),
        )

    def _fresh(self, start: int, count: int, at: Sequence[int]) -> bool:
        """Whether these places follow on each other and none is answered: nearly always, and told at once."""
        if self.aliases or not at or at[-1] >= count or at[-1] - at[0] + 1 != len(at):
            return False
        return self.answered.count(0, start + at[0], start + at[-1] + 1) == len(at)

    def _mark(self, position: int, value: int) -> bool:
        """Whether this is the first answer to the row."""
        position = self.aliases.get(position, position)
        before = self.answered[position]
        if before in (LABEL, value):
            return False
        self.answered[position] = value
        self.failed += 1 if value == ERROR else -(before == ERROR)  # a label comes before an error
        self.left -= not before
        return not before

    def _wait(self, block: Block, waiting: Waiting) -> None:
        self._early.setdefault(block, []).append(waiting)

    def _again(self, waiting: Waiting) -> None:
        if isinstance(waiting, BlockFound):
            self.add_block(waiting)
        else:
            self.answer(*waiting)


def row_bytes(spec: RunSpec) -> int:
    """Bytes that the probabilities of one row's answers take in an entry: nine for each in MessagePack."""
    return sum(
        9 * len(one.labels) * (1 + (len(one.phrasings) if len(one.phrasings) > 1 else 0))
        for one in spec.dimensions
    )


def most_rows(spec: RunSpec) -> int:
    """Rows of one claim, so that an entry of its answers stays well below the limits of a message."""
    return max(1, min(BLOCK_ROWS, ENTRY_BYTES // max(1, row_bytes(spec))))


class Plan:
    """All runs, in the order this machine learned of them, and how fit the machines are that answer."""

    def __init__(self) -> None:
        self.runs: dict[str, RunPlan] = {}
        self.fitness = FitnessBook()

    def run(self, run_id: str) -> RunPlan:
        """The run of this id, made when it is new."""
        if run_id not in self.runs:
            self.runs[run_id] = RunPlan(run_id)
        return self.runs[run_id]

    def answer(self, member: str, now: float | None, body: Labeled | Outline) -> None:
        """Answers of a machine. `now` is None for those read back from the ledger."""
        self.run(body.run_id).answer(member, now, body)
        self.fitness.hear(member, body)

    def working(self) -> Iterator[RunPlan]:
        """Runs that should go on and have something to do."""
        return (run for run in self.runs.values() if run.working)

    def knows(self, run_id: str, block: Block) -> bool:
        """Whether rows of this block can be worked on here."""
        run = self.runs.get(run_id)
        return run is not None and block in run.blocks
