"""Many continuations of one prompt, computed in full batches: rows, and what branches off from them.

A `Fork` is a run of tokens after another fork. Forks that are ready are put together until a batch is full, a
fork and those that branch off from it in the same batch where there is room, and new work is asked for only when
nothing that was begun is waiting. So batches stay full, and few tokens are held in the cache at a time: every
token is compared with all of them.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from engine.models.llama_native import MAX_SEQUENCES, Ints, NoRoom, Piece

BASE = 0  # the sequence that holds the prompt
SPARE_SEQUENCES = 32  # kept free for forks that need one until the next batch only
SPARE_TOKENS = 64  # likewise
FULL = 16  # a batch with room for fewer tokens than this is full

Heard = Callable[[int], None]  # with the place of the logits after a fork's last token


class Context(Protocol):
    """What is needed of `engine.models.llama_native.NativeContext`."""

    n_ctx: int
    n_batch: int

    def decode(self, pieces: Sequence[Piece]) -> list[int]: ...
    def fork(self, source: int, target: int) -> None: ...
    def forget(self, sequence: int) -> None: ...


class Fork:
    """Tokens after those of `parent` (None: after the prompt). It holds its cells until it is dropped."""

    __slots__ = ("computed", "done", "dropped", "failed", "heard", "parent", "sequence", "start", "tokens")

    def __init__(
        self, parent: Fork | None, start: int, tokens: Ints, heard: Heard | None, failed: Callable[[], None]
    ) -> None:
        self.parent, self.start, self.tokens = parent, start, tokens
        self.heard, self.failed = heard, failed
        self.sequence, self.done = -1, 0
        self.computed = self.dropped = False


class Forks:
    """The forks of one prompt of `prompt` tokens, which lies in sequence `BASE` of an otherwise empty cache.

    `at_once` says whether a fork can be computed in the same call as the one it branches off from.
    """

    def __init__(self, context: Context, prompt: int, beat: Callable[[], object], *, at_once: bool = True) -> None:
        self._context, self._prompt, self._beat, self._at_once = context, prompt, beat, at_once
        self._free = list(range(MAX_SEQUENCES - 1, BASE, -1))
        self._ready: collections.deque[Fork] = collections.deque()
        self._used = prompt  # cells
        self._promised = [prompt, 0]  # cells and sequences of the work begun, at its most
        self._most = MAX_SEQUENCES  # forks in a batch; fewer after the cache proved full
        self.tokens = 0  # computed so far

    def begin(self, tokens: int, sequences: int) -> bool:
        """Whether work that takes up to so much at a time can begin; `end` it with the same numbers.

        What is begun first can have more than there is, and is then done bit by bit.
        """
        cells, taken = self._promised
        alone = taken == 0
        fits = (
            cells + tokens + SPARE_TOKENS <= self._context.n_ctx
            and taken + sequences + SPARE_SEQUENCES < MAX_SEQUENCES
        )
        if alone or fits:
            self._promised = [cells + tokens, taken + sequences]
        return alone or fits

    def end(self, tokens: int, sequences: int) -> None:
        """See `begin`."""
        self._promised[0] -= tokens
        self._promised[1] -= sequences

    def add(self, parent: Fork | None, tokens: Ints, heard: Heard | None, failed: Callable[[], None]) -> Fork:
        """A fork to be computed; without tokens it cannot have a `heard`. `failed` is called when there is no room
        for it. Both may add, extend and drop forks; a fork is dropped after those that branch off from it."""
        start = parent.start + len(parent.tokens) if parent else self._prompt
        fork = Fork(parent, start, tokens, heard, failed)
        self._ready.append(fork)
        return fork

    def extend(self, fork: Fork, token: int) -> None:
        """Let a computed fork go on with one more token, and call its `heard` again."""
        fork.tokens = np.append(fork.tokens, np.int32(token))
        fork.computed = False
        self._ready.append(fork)

    def drop(self, fork: Fork) -> None:
        """Give back what a fork holds, and do not compute what is left of it."""
        if fork.sequence >= 0:
            self._give_back(fork)
            self._used -= fork.done
        fork.dropped = True

    def run(self, more: Callable[[int], bool]) -> None:
        """Compute until nothing is left. `more` is asked to add work when a batch has room for that many tokens;
        it says whether it did."""
        while True:
            batch = self._fill(more)
            if batch:
                self._compute(batch)
                self._beat()
            elif self._ready:
                fork = self._ready.popleft()
                if not fork.dropped:
                    fork.failed()
            else:
                return

    def _fill(self, more: Callable[[int], bool]) -> list[tuple[Fork, int]]:
        """Forks and how many of their next tokens go into a batch, parents first."""
        batch: list[tuple[Fork, int]] = []
        inside: set[Fork] = set()
        later: list[Fork] = []
        room = min(self._context.n_batch, self._context.n_ctx - self._used)
        while room > 0 and len(batch) < self._most:
            if not self._ready:
                if room >= FULL and more(room):
                    continue
                break
            fork = self._ready.popleft()
            if fork.dropped:
                continue
            above = fork.parent
            if above is not None and not above.computed and not (self._at_once and above in inside):
                later.append(fork)
                continue
            if fork.sequence < 0:
                if not self._free:
                    later.append(fork)
                    break
                fork.sequence = self._free.pop()
            count = min(room, len(fork.tokens) - fork.done)
            batch.append((fork, count))
            inside.add(fork)
            room -= count
            self._used += count
        self._ready.extendleft(reversed(later))
        return batch

    def _compute(self, batch: list[tuple[Fork, int]]) -> None:
        # A fork's tokens belong to all that branches off from it in this batch, too.
        sequences = {fork: [fork.sequence] for fork, _ in batch}
        for fork, _ in reversed(batch):
            if fork.parent in sequences:
                sequences[fork.parent] += sequences[fork]
        pieces, heard = [], []
        for fork, count in batch:
            if fork.done == 0:
                self._context.fork(fork.parent.sequence if fork.parent else BASE, fork.sequence)
            last = fork.done + count == len(fork.tokens)
            if count:
                part = fork.tokens[fork.done : fork.done + count]
                pieces.append((sequences[fork], fork.start + fork.done, part, last and fork.heard is not None))
            if last and fork.heard is not None:
                heard.append(fork)
        try:
            places = self._context.decode(pieces) if pieces else []
        except NoRoom:
            self._take_back(batch)
            return
        self._most = min(MAX_SEQUENCES, 2 * self._most)
        for fork, count in batch:
            fork.done += count
            self.tokens += count
            fork.computed = fork.done == len(fork.tokens)
            if not fork.computed:
                self._ready.appendleft(fork)
        for fork, place in zip(heard, places, strict=True):
            if fork.heard is not None and not fork.dropped:
                fork.heard(place)

    def _take_back(self, batch: list[tuple[Fork, int]]) -> None:
        """The cache was full: the same again in smaller batches."""
        for fork, count in batch:
            self._used -= count
            if fork.done == 0:
                self._give_back(fork)
        self._most = max(1, len(batch) // 2)
        if len(batch) == 1:
            batch[0][0].failed()
        else:
            self._ready.extendleft(fork for fork, _ in reversed(batch))

    def _give_back(self, fork: Fork) -> None:
        self._context.forget(fork.sequence)
        self._free.append(fork.sequence)
        fork.sequence = -1
