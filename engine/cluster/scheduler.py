"""Which rows are next: the decisions of a node about its runs, without a clock, a disk, a network or a process.

Time comes in as an argument (seconds of any steady clock), work goes out as batches, and what became of a batch
comes back in. The same calls in the same order always lead to the same decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from workspace.facts import RunProgress, RunState

FIRST_BATCH = 8  # rows, before anything is known about the speed
LARGEST_BATCH = 512
GROWTH = 4  # a batch is at most this many times the one before: one odd measurement changes little
BATCH_SECONDS = 1.5
LONGEST_SECONDS = 20.0  # only a model so slow that FIRST_BATCH rows take longer gets smaller batches
BLOCK = 512  # rows; a block is answered for every dimension before the next block starts
TURN = 8  # batches one run gets before another that wants the same model
TURN_LOADED = 40  # the same when a change of turns means loading another model
SPLIT_AFTER = 2  # failures of a whole batch before it is split
POISON_AFTER = 3  # failures, the last one alone, before a row is given up
GIVE_UP_ROWS = 5  # rows in a row given up before the run is paused: then it is not the rows
RATE_WINDOW = 60.0  # seconds of work over which rates are taken


class Batch(msgspec.Struct, frozen=True):
    """Rows of one run to be asked one dimension together. `failures` counts earlier deaths with these rows."""

    number: int
    run_id: str
    model: str
    dimension: int
    positions: tuple[int, ...]
    failures: int = 0


class _Piece(msgspec.Struct, frozen=True):
    dimension: int
    positions: tuple[int, ...]
    failures: int


class _Work:
    """One run inside the scheduler."""

    def __init__(self, run_id: str, model: str, dimensions: int) -> None:
        self.run_id = run_id
        self.model = model
        self.state: RunState = "paused"
        self.note = ""
        self.rows = 0
        self.answered = [bytearray() for _ in range(dimensions)]
        self.missing = bytearray()  # per row: dimensions still without an answer
        self.errors = bytearray()  # per row: 1 if any answer is an error
        self.left = 0  # answers still missing
        self.done = 0  # rows with every dimension answered
        self.failed = 0  # of them, rows with an error
        self.block = 0  # first block that may hold an unanswered row
        self.again: deque[_Piece] = deque()
        self.size = [FIRST_BATCH] * dimensions
        self.given_up = 0  # rows given up since the last success
        self.recent: deque[tuple[float, int]] = deque()  # (seconds, answers) of the last batches

    def grow(self, rows: int) -> None:
        more = rows - self.rows
        if more <= 0:
            return
        for answered in self.answered:
            answered.extend(bytes(more))
        self.missing.extend(bytes([len(self.answered)]) * more)
        self.left += more * len(self.answered)
        self.errors.extend(bytes(more))
        # The block under way may be the one that grows.
        self.block = min(self.block, self.rows // BLOCK)
        self.rows = rows

    def answer(self, dimension: int, position: int, failed: bool) -> None:
        if self.answered[dimension][position]:
            return
        self.answered[dimension][position] = 1
        self.missing[position] -= 1
        self.left -= 1
        if failed and not self.errors[position]:
            self.errors[position] = 1
        if not self.missing[position]:
            self.done += 1
            self.failed += self.errors[position]

    def measure(self, dimension: int, rows: int, seconds: float) -> None:
        """Learn the size of the next batch from one that took `seconds`."""
        size, fitting = self.size[dimension], BATCH_SECONDS * rows / seconds
        # Few rows together are slow per row: a machine busy for a moment must not lead to batches of one.
        least = FIRST_BATCH if FIRST_BATCH * seconds / rows <= LONGEST_SECONDS else 1
        if fitting > size and rows * 2 >= size:
            # A leftover of a few rows says little about how fast many would be.
            size = min(LARGEST_BATCH, rows * GROWTH, int(fitting))
        elif fitting < rows:
            size = int((size + fitting) / 2)
        self.size[dimension] = max(least, size)

    def take(self) -> _Piece | None:
        if self.again:
            return self.again.popleft()
        while self.block * BLOCK < self.rows:
            start, end = self.block * BLOCK, min(self.rows, (self.block + 1) * BLOCK)
            for dimension, answered in enumerate(self.answered):
                found: list[int] = []
                at = answered.find(0, start, end)
                while at >= 0 and len(found) < self.size[dimension]:
                    found.append(at)
                    at = answered.find(0, at + 1, end)
                if found:
                    return _Piece(dimension, tuple(found), 0)
            self.block += 1
        return None

    @property
    def rate(self) -> float:
        """Rows per second over the last minute of work, a row being all its dimensions."""
        seconds = sum(entry[0] for entry in self.recent)
        answers = sum(entry[1] for entry in self.recent)
        return answers / len(self.answered) / seconds if seconds > 0 else 0.0


class Scheduler:
    """Hands out one batch at a time: `next`, then `answered`, `failed` or `withdrawn` for it."""

    def __init__(self) -> None:
        self._runs: dict[str, _Work] = {}
        self._turn: str = ""
        self._turn_batches = 0
        self._numbers = 0
        self.outstanding: Batch | None = None

    # what is to be done

    def open(self, run_id: str, model: str, dimensions: int) -> None:
        """Know a run of `dimensions` (1 to 255) questions for a model, paused and without rows."""
        if run_id not in self._runs:
            self._runs[run_id] = _Work(run_id, model, dimensions)

    def grow(self, run_id: str, rows: int) -> None:
        """The run has `rows` planned rows now (never fewer than before)."""
        self._runs[run_id].grow(rows)

    def recall(self, run_id: str, dimension: int, answers: Iterable[tuple[int, int]]) -> None:
        """Answers the ledger holds from before: (position, 1 if an error)."""
        work = self._runs[run_id]
        for position, failed in answers:
            work.answer(dimension, position, bool(failed))

    def recall_done(self, run_id: str, errors: Iterable[int]) -> None:
        """The ledger says that the run was done: every row is answered, at `errors` with an error."""
        work = self._runs[run_id]
        work.answered = [bytearray(b"\1") * work.rows for _ in work.answered]
        work.missing = bytearray(work.rows)
        for position in errors:
            work.errors[position] = 1
        work.left, work.done, work.failed = 0, work.rows, sum(work.errors)

    def set_state(self, run_id: str, state: RunState, note: str = "") -> None:
        """Set where a run stands; a batch under way is not touched."""
        work = self._runs[run_id]
        if state == "running" and work.state != "running":
            work.given_up = 0
        work.state, work.note = state, note

    def state(self, run_id: str) -> RunState:
        """Where a run stands. Raises KeyError for an unknown run."""
        return self._runs[run_id].state

    def rows(self, run_id: str) -> int:
        """Rows planned into a run. Raises KeyError for an unknown run."""
        return self._runs[run_id].rows

    def remark(self, run_id: str, note: str) -> None:
        """Say what is being done for a run, in words."""
        self._runs[run_id].note = note

    def running(self) -> bool:
        """Whether any run wants work."""
        return any(work.state == "running" for work in self._runs.values())

    def finished(self) -> list[str]:
        """Running runs in which nothing is left to do."""
        busy = self.outstanding.run_id if self.outstanding else None
        return [
            work.run_id
            for work in self._runs.values()
            if work.state == "running" and work.done == work.rows and work.run_id != busy
        ]

    # the work

    def next(self) -> Batch | None:
        """The next batch, or None when no running run has an unanswered row. The one before must be settled."""
        if self.outstanding is not None:
            raise RuntimeError("the batch before is still out")
        for work in self._in_turn():
            piece = work.take()
            if piece is None:
                continue
            if work.run_id != self._turn:
                self._turn, self._turn_batches = work.run_id, 0
            self._turn_batches += 1
            self._numbers += 1
            self.outstanding = Batch(
                self._numbers, work.run_id, work.model, piece.dimension, piece.positions, piece.failures
            )
            return self.outstanding
        return None

    def answered(self, batch: Batch, failed: Iterable[int], seconds: float) -> None:
        """The batch's facts are durable; at the positions `failed` they are errors. It took `seconds` in all."""
        work = self._settle(batch)
        errors = set(failed)
        for position in batch.positions:
            work.answer(batch.dimension, position, position in errors)
        work.given_up = 0
        rows = len(batch.positions)
        seconds = max(seconds, 1e-6)
        work.recent.append((seconds, rows))
        while len(work.recent) > 1 and sum(entry[0] for entry in work.recent) - work.recent[0][0] >= RATE_WINDOW:
            work.recent.popleft()
        work.measure(batch.dimension, rows, seconds)

    def failed(self, batch: Batch) -> bool:
        """The worker died with the batch: it is tried once more as a whole, then in halves.

        True when that ends here, for a row that failed alone: then write its error fact and call `given_up`.
        """
        failures = batch.failures + 1
        rows = batch.positions
        if len(rows) == 1 and failures >= POISON_AFTER:
            return True
        work = self._settle(batch)
        half = len(rows) // 2
        pieces = [rows[:half], rows[half:]] if half and failures >= SPLIT_AFTER else [rows]
        work.again.extendleft(reversed([_Piece(batch.dimension, piece, failures) for piece in pieces]))
        return False

    def given_up(self, batch: Batch) -> bool:
        """The error fact of a row that killed the worker is durable. True when the run had better pause: so many
        rows in a row are not poison, the worker cannot work."""
        work = self._settle(batch)
        work.answer(batch.dimension, batch.positions[0], True)
        work.given_up += 1
        return work.given_up >= GIVE_UP_ROWS

    def withdrawn(self, batch: Batch) -> None:
        """The batch was not worked on (no model, the node stops): as if it had not been asked for."""
        work = self._settle(batch)
        if batch.failures:
            work.again.appendleft(_Piece(batch.dimension, batch.positions, batch.failures))

    # how it goes

    def progress(self) -> tuple[RunProgress, ...]:
        """Every run in the order it was opened."""
        return tuple(self._progress(work) for work in self._runs.values())

    def _progress(self, work: _Work) -> RunProgress:
        rate = work.rate
        left = work.left / len(work.answered) / rate if rate > 0 and work.state == "running" else None
        return RunProgress(
            work.run_id,
            work.state,
            work.rows,
            work.done,
            work.failed,
            round(rate, 3),
            None if left is None else round(left, 1),
            work.note,
        )

    def _in_turn(self) -> list[_Work]:
        """Running runs, the one whose turn it is first."""
        runs = [work for work in self._runs.values() if work.state == "running"]
        index = next((i for i, work in enumerate(runs) if work.run_id == self._turn), None)
        if index is None:
            return runs
        others = runs[index + 1 :] + runs[:index]
        # Loading another model costs more than a batch, so then turns are longer.
        turn = TURN if len({work.model for work in runs}) == 1 else TURN_LOADED
        return [runs[index], *others] if self._turn_batches < turn else [*others, runs[index]]

    def _settle(self, batch: Batch) -> _Work:
        if self.outstanding != batch:
            raise RuntimeError("this batch is not out")
        self.outstanding = None
        return self._runs[batch.run_id]
