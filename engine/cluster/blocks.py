"""Blocks of rows: whose they are, and which of their rows are free."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from engine.cluster.messages import Work
from engine.cluster.plan import Block, RunPlan


class Queue:
    """Blocks of one owner; those before `first` have nothing to grant."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.first = 0
        self._places: dict[Block, int] = {}

    def take(
        self,
        run: RunPlan,
        ready: Callable[[Block], bool],
        size: int,
        taken: bytearray,
    ) -> Work | None:
        """The next rows to grant, at most `size`; `taken` says which positions are not free, `ready` of a block
        whether it may be granted."""
        passing = True  # nothing was skipped so far: `first` may move on
        for number in range(self.first, len(self.blocks)):
            block = self.blocks[number]
            if not ready(block):
                passing = False
                continue
            at = free_places(run, taken, block, size)
            if at:
                return Work(run.run_id, block, at)
            if passing:
                self.first = number + 1
        return None

    def reopen(self, block: Block) -> None:
        """Rows of this block are free again."""
        if len(self._places) < len(self.blocks):
            for number in range(len(self._places), len(self.blocks)):
                self._places[self.blocks[number]] = number
        self.first = min(self.first, self._places.get(block, self.first))


def free_places(run: RunPlan, taken: bytearray, block: Block, size: int) -> tuple[int, ...]:
    """The first `size` places of a block that are neither answered nor granted."""
    start, count = run.blocks[block]
    end, answered = start + count, run.answered
    found: list[int] = []
    at = taken.find(0, start, end)
    while at >= 0 and len(found) < size:
        stop = taken.find(1, at, end)
        stop = min(end if stop < 0 else stop, at + size - len(found))
        if answered.count(0, at, stop) == stop - at:  # nearly always
            found.extend(range(at - start, stop - start))
        else:
            for position in range(at, stop):
                if answered[position]:
                    taken[position] = 1
                else:
                    found.append(position - start)
        at = taken.find(0, stop, end)
    return tuple(found)


def owner_of(block: Block, members: Iterable[str]) -> str:
    """The member with the highest hash for a block (rendezvous hashing; Thaler and Ravishankar 1998)."""
    name = f"{block[0]}/{block[1]}"
    return max(
        members,
        key=lambda member: hashlib.blake2b(f"{member}/{name}".encode(), digest_size=8).digest(),
        default="",
    )
