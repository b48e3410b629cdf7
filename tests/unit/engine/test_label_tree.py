"""Laws of the label tree, without a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.label_tree import Floats, LabelTree, label_tree
from workspace.errors import ModelError

END = 0
words = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple), min_size=2, max_size=12, unique=True
)


seeds = st.integers(0, 2**32 - 1)


def random_logits(tree: LabelTree, seed: int) -> dict[int, Floats]:
    random = np.random.default_rng(seed)
    return {index: random.normal(size=len(place.tokens)) * 5 for index, place in enumerate(tree.branchings)}


def best_first(tree: LabelTree, every: dict[int, Floats], bound: float) -> dict[int, Floats]:
    """What is known after looking only where it matters."""
    known: dict[int, Floats] = {}
    while wanted := tree.wanting(known, bound):
        assert not set(wanted) & set(known)
        known.update((index, every[index]) for index in wanted)
    return known


@given(words, seeds)
def test_probabilities_sum_to_one_whatever_the_tree(labels: list[tuple[int, ...]], seed: int) -> None:
    tree = label_tree(labels, END)
    result = tree.logprobs(random_logits(tree, seed))
    assert result.shape == (len(labels),)
    assert np.isclose(np.exp(result).sum(), 1.0, atol=1e-12)


@given(words, seeds)
def test_without_a_bound_every_branching_is_looked_at(labels: list[tuple[int, ...]], seed: int) -> None:
    tree = label_tree(labels, END)
    every = random_logits(tree, seed)
    assert best_first(tree, every, 0.0).keys() == every.keys()


@given(words, seeds, st.floats(1e-6, 0.9))
def test_what_is_not_looked_at_changes_no_probability_by_more_than_the_bound(
    labels: list[tuple[int, ...]], seed: int, bound: float
) -> None:
    tree = label_tree(labels, END)
    every = random_logits(tree, seed)
    exact = np.exp(tree.logprobs(every))
    quick = np.exp(tree.logprobs(best_first(tree, every, bound)))
    assert np.isclose(quick.sum(), 1.0, atol=1e-12)
    assert np.abs(exact - quick).max() <= bound + 1e-12


@given(words)
def test_every_label_has_its_own_way(labels: list[tuple[int, ...]]) -> None:
    """Two labels part at exactly one branching."""
    tree = label_tree(labels, END)
    for a in range(len(labels)):
        for b in range(a):
            way = [dict(zip(place.labels.tolist(), place.ways.tolist(), strict=True)) for place in tree.branchings]
            assert sum(a in ways and b in ways and ways[a] != ways[b] for ways in way) == 1


@given(words)
def test_branchings_follow_their_parents(labels: list[tuple[int, ...]]) -> None:
    tree = label_tree(labels, END)
    for index, place in enumerate(tree.branchings):
        assert -1 <= place.parent < index or index == 0
        if place.parent >= 0:
            above = tree.branchings[place.parent]
            assert tuple(place.path[: len(above.path)]) == tuple(above.path)
            assert set(place.labels.tolist()) < set(above.labels.tolist())


def test_a_label_that_begins_another_ends_there() -> None:
    tree = label_tree([(1,), (1, 2)], END)
    assert [(p.path.tolist(), p.tokens.tolist()) for p in tree.branchings] == [([1], [END, 2])]
    assert np.allclose(np.exp(tree.logprobs({0: np.log([0.25, 0.75])})), [0.25, 0.75])


def test_the_same_tokens_twice_are_refused() -> None:
    with pytest.raises(ModelError):
        label_tree([(1, 2), (1, 2)], END)
