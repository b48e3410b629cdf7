"""Laws of the label tree, without a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.label_tree import label_tree
from workspace.errors import ModelError

END = 0
words = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple), min_size=2, max_size=12, unique=True
)


@given(words, st.integers(0, 2**32 - 1))
def test_probabilities_sum_to_one_whatever_the_tree(labels: list[tuple[int, ...]], seed: int) -> None:
    tree = label_tree(labels, END)
    random = np.random.default_rng(seed)
    logits = [random.normal(size=len(place.tokens)) * 5 for place in tree.branchings]
    result = tree.logprobs(logits)
    assert result.shape == (len(labels),)
    assert np.isclose(np.exp(result).sum(), 1.0, atol=1e-12)


@given(words)
def test_every_label_has_its_own_way(labels: list[tuple[int, ...]]) -> None:
    """Two labels part at exactly one branching."""
    tree = label_tree(labels, END)
    for a in range(len(labels)):
        for b in range(a):
            parting = [
                place
                for place in tree.branchings
                if any(a in m for m in place.members)
                and any(b in m for m in place.members)
                and not any(a in m and b in m for m in place.members)
            ]
            assert len(parting) == 1


def test_a_label_that_begins_another_ends_there() -> None:
    tree = label_tree([(1,), (1, 2)], END)
    assert [(p.path, p.tokens) for p in tree.branchings] == [((1,), (END, 2))]
    assert np.allclose(np.exp(tree.logprobs([np.log([0.25, 0.75])])), [0.25, 0.75])


def test_the_same_tokens_twice_are_refused() -> None:
    with pytest.raises(ModelError):
        label_tree([(1, 2), (1, 2)], END)
