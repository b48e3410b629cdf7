"""How many rows a machine does in the 1 to 2 seconds a claim should take, learned from its answers."""

from __future__ import annotations

from engine.cluster.messages import Work

FIRST_BATCH = 8  # rows, before anything is known about the speed
LARGEST_BATCH = 512
GROWTH = 4  # a batch is at most this many times the one before: one odd measurement changes little
BATCH_SECONDS = 1.5
LONGEST_SECONDS = 20.0  # only a model so slow that FIRST_BATCH rows take longer gets smaller batches


class Paces:
    """Batch sizes by machine and run."""

    def __init__(self) -> None:
        self._size: dict[tuple[str, str], int] = {}
        self._seconds: dict[tuple[str, str], float] = {}  # per row, of the last batch

    def size(self, member: str, run_id: str) -> int:
        """Rows of the next batch."""
        return self._size.get((member, run_id), FIRST_BATCH)

    def seconds(self, member: str, work: Work) -> float | None:
        """Seconds this work should take there; None while unknown."""
        per_row = self._seconds.get((member, work.run_id))
        return None if per_row is None else per_row * len(work.at)

    def measure(self, member: str, run_id: str, rows: int, seconds: float) -> None:
        """A batch of `rows` took `seconds`."""
        key = (member, run_id)
        seconds = max(seconds, 1e-6)
        size, fitting = self._size.get(key, FIRST_BATCH), BATCH_SECONDS * rows / seconds
        # Few rows together are slow per row: a machine busy for a moment must not lead to batches of one.
        least = FIRST_BATCH if FIRST_BATCH * seconds / rows <= LONGEST_SECONDS else 1
        if fitting > size and rows * 2 >= size:
            # A leftover of a few rows says little about how fast many would be.
            size = min(LARGEST_BATCH, rows * GROWTH, int(fitting))
        elif fitting < rows:
            size = int((size + fitting) / 2)
        self._size[key] = max(least, size)
        self._seconds[key] = seconds / rows
