"""Which of two machines gives up its cluster of one: both have to come to the same answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster.joining import who_joins
from engine.cluster.pairing import Introduction


def machine(cluster: str, members: int) -> Introduction:
    return Introduction("k" * 40, "name", cluster, members, 0, (), (1, 1), "Winnow", members)


MACHINES = st.builds(machine, st.sampled_from(["one", "two"]), st.integers(1, 3))


@given(typed=MACHINES, shown=MACHINES)
def test_both_sides_decide_alike(typed: Introduction, shown: Introduction) -> None:
    here = who_joins(typed, shown, theirs_shown=True)
    there = who_joins(shown, typed, theirs_shown=False)
    if typed.cluster == shown.cluster:
        assert here == there == "them"  # nobody leaves anything
    else:
        assert {here, there} in ({"me", "them"}, {"nobody"})


@given(typed=MACHINES, shown=MACHINES)
def test_nobody_leaves_other_machines(typed: Introduction, shown: Introduction) -> None:
    if who_joins(typed, shown, theirs_shown=True) == "me":
        assert typed.members_known < 2
    if who_joins(shown, typed, theirs_shown=False) == "me":
        assert shown.members_known < 2


@pytest.mark.parametrize(
    ("typed", "shown", "joins"), [(1, 1, "them"), (2, 1, "them"), (1, 2, "me"), (2, 2, "nobody")]
)
def test_the_one_that_shows_the_code_comes_unless_only_it_has_a_cluster(
    typed: int, shown: int, joins: str
) -> None:
    assert who_joins(machine("one", typed), machine("two", shown), theirs_shown=True) == joins
