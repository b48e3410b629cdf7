"""Laws of what branches off from what, without a model: a cache that remembers what led to each token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.models.forks import BASE, Fork, Forks
from engine.models.llama_native import Ints, NoRoom, Piece
from engine.models.suffixes import Branch, branches

PROMPT = 5
few_tokens = st.lists(st.integers(0, 3), max_size=9).map(lambda tokens: np.array(tokens, dtype=np.int32))
some_tokens = st.lists(st.integers(0, 3), min_size=1, max_size=30).map(lambda t: np.array(t, dtype=np.int32))


class Cache:
    """Cells that belong to sequences, as those of llama.cpp do; refuses what llama.cpp refuses."""

    def __init__(self, n_ctx: int, n_batch: int) -> None:
        self.n_ctx, self.n_batch = n_ctx, n_batch
        self.cells: list[tuple[int, int, set[int]]] = [(9, position, {BASE}) for position in range(PROMPT)]
        self.read: dict[int, list[int]] = {}  # by place, the tokens that led there
        self.computed = 0

    def decode(self, pieces: Sequence[Piece]) -> list[int]:
        assert 0 < sum(len(tokens) for _, _, tokens, _ in pieces) <= self.n_batch
        if len(self.cells) + sum(len(tokens) for _, _, tokens, _ in pieces) > self.n_ctx:
            raise NoRoom
        self.read.clear()
        places: list[int] = []
        for sequences, start, tokens, wanted in pieces:
            assert not isinstance(sequences, int)
            for offset, token in enumerate(tokens.tolist()):
                for sequence in sequences:
                    assert sum(sequence in owners for _, _, owners in self.cells) == start + offset
                self.cells.append((token, start + offset, set(sequences)))
                self.computed += 1
            if wanted:
                mine = [(position, token) for token, position, owners in self.cells if sequences[0] in owners]
                places.append(len(places))
                self.read[places[-1]] = [token for _, token in sorted(mine)]
        return places

    def fork(self, source: int, target: int) -> None:
        assert not any(target in owners for _, _, owners in self.cells)
        for _, _, owners in self.cells:
            if source in owners:
                owners.add(target)

    def forget(self, sequence: int) -> None:
        for _, _, owners in self.cells:
            owners.discard(sequence)
        self.cells = [cell for cell in self.cells if cell[2]]


@given(
    rows=st.lists(st.tuples(some_tokens, st.lists(some_tokens, max_size=8)), max_size=8),
    n_batch=st.integers(16, 64),
    n_ctx=st.integers(40, 400),
    at_once=st.booleans(),
)
def test_every_fork_is_read_after_what_it_branches_off_from_and_nothing_else(
    rows: list[tuple[Ints, list[Ints]]], n_batch: int, n_ctx: int, at_once: bool
) -> None:
    cache = Cache(n_ctx, n_batch)
    forks = Forks(cache, PROMPT, lambda: None, at_once=at_once)
    outcome: dict[int, str] = {}
    waiting = list(enumerate(rows))

    def begin(number: int, row: Ints, children: list[Ints]) -> bool:
        need = (len(row) + sum(map(len, children)), 1 + len(children))
        if not forks.begin(*need):
            return False
        held: list[Fork] = []
        left = len(children)

        def finish(how: str) -> None:
            for fork in reversed(held):
                forks.drop(fork)
            forks.end(*need)
            assert number not in outcome
            outcome[number] = how

        def heard(place: int, child: Ints | None) -> None:
            nonlocal left
            after = [] if child is None else child.tolist()
            assert cache.read[place] == [9] * PROMPT + row.tolist() + after
            left -= child is not None
            if not left:
                finish("read")

        def listen(child: Ints) -> None:
            held.append(forks.add(held[0], child, lambda place: heard(place, child), lambda: finish("failed")))

        alone = None if children else lambda place: heard(place, None)
        held.append(forks.add(None, row, alone, lambda: finish("failed")))
        for child in children:
            listen(child)
        return True

    def more(room: int) -> bool:
        if not waiting or not begin(waiting[0][0], *waiting[0][1]):
            return False
        waiting.pop(0)
        return True

    forks.run(more)
    assert not waiting
    assert len(outcome) == len(rows)
    assert len(cache.cells) == PROMPT
    for number, (row, children) in enumerate(rows):
        if PROMPT + len(row) + sum(map(len, children)) <= n_ctx:
            assert outcome[number] == "read"
    if set(outcome.values()) <= {"read"}:
        assert cache.computed == sum(len(row) + sum(map(len, children)) for row, children in rows)


@given(st.lists(few_tokens, max_size=12))
def test_shared_beginnings_lead_to_the_same_continuations(sequences: list[Ints]) -> None:
    found: dict[int, list[int]] = {}

    def walk(branch: Branch, before: list[int]) -> int:
        whole = before + branch.tokens.tolist()
        for index in branch.ends:
            assert index not in found
            found[index] = whole
        return len(branch.tokens) + sum(walk(below, whole) for below in branch.branches)

    computed = walk(branches(sequences), [])
    assert found == {index: sequence.tolist() for index, sequence in enumerate(sequences)}
    assert computed <= sum(map(len, sequences))
