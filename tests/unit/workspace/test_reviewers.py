"""What several people said blind about the same rows, and the rows one of them has not seen yet."""

from __future__ import annotations

from typing import Any

from tests.unit.workspace.examples import labeled_run, texts
from tests.unit.workspace.test_disputes import say
from workspace import decisions, reviewers, runs
from workspace.facts import RunSpec
from workspace.store import Store

D = "sentiment"


def ids_of(store: Store, spec: RunSpec) -> list[str]:
    return sorted(row for row, _ in runs.planned(store, spec.run_id))


def unseen_by(store: Store, spec: RunSpec, who: str, **more: Any) -> list[str]:
    """The rows of a second opinion, and that as many are counted."""
    found = decisions.queue(store, spec.run_id, D, session="now", order="second", reviewer=who, blind=True, **more)
    assert all(item.suggestion is None and not item.probabilities for item in found)
    if not more:
        assert len(found) == reviewers.unseen(store, spec.run_id, D, who)
    return [item.row_id for item in found]


def test_only_blind_standing_opinions_of_several_people_are_told(store: Store) -> None:
    spec = labeled_run(store, texts(7))
    ids = ids_of(store, spec)
    assert reviewers.opinions(store, spec.run_id, D) == reviewers.Opinions((), (), (), (), ())
    say(store, spec, "ann", 0, ids[0], "modify", "neutral", blind=True)
    say(store, spec, "bob", 0, ids[0], "modify", "positive", blind=True)
    say(store, spec, "ann", 1, ids[1], "modify", "neutral", blind=True)  # nobody else
    say(store, spec, "ann", 2, ids[2], "modify", "neutral", blind=True)
    say(store, spec, "bob", 1, ids[2], "approve", "neutral")  # saw the suggestion
    say(store, spec, "bob", 2, ids[3], "reject", blind=True)
    say(store, spec, "ann", 3, ids[3], "modify", "negative", blind=True)
    say(store, spec, "eve", 0, ids[3], "modify", "negative", blind=True)
    say(store, spec, "ann", 4, ids[4], "modify", "neutral", blind=True)
    say(store, spec, "bob", 3, ids[4], "modify", "neutral", blind=True)
    say(store, spec, "bob", 4, ids[4], "undo", undoes=3)
    say(store, spec, "ann", 5, ids[5], "modify", "neutral", blind=True)
    say(store, spec, "Bob ", 5, ids[5], "modify", "positive", blind=True)
    say(store, spec, "ANN", 6, ids[5], "modify", "positive")  # settled: her first thought is told all the same
    say(store, spec, "ann", 7, ids[6], "skip", blind=True)
    found = reviewers.opinions(store, spec.run_id, D)
    assert found.row_ids == (ids[0], ids[3], ids[5])
    assert [name.lower() for name in found.people] == ["ann", "bob", "eve"]
    assert found.said == (
        ("neutral", "positive", None),
        ("negative", "", "negative"),
        ("neutral", "positive", None),
    )
    assert found.counts == ("positive", "negative", "positive")
    assert found.settled == (False, False, True)


def test_a_second_opinion_is_asked_of_those_who_have_not_said_anything_about_a_row(store: Store) -> None:
    spec = labeled_run(store, texts(6), domains=["x", "y"] * 3)
    ids = ids_of(store, spec)
    assert unseen_by(store, spec, "bob") == []
    say(store, spec, "ann", 0, ids[0], "modify", "neutral", blind=True)
    say(store, spec, "ann", 1, ids[1], "approve", "neutral")  # saw the suggestion: nothing to compare with
    say(store, spec, "ann", 2, ids[4], "reject", blind=True)
    say(store, spec, "ann", 3, ids[3], "modify", "positive", blind=True)
    say(store, spec, "ann", 4, ids[5], "skip", blind=True)
    assert unseen_by(store, spec, "bob") == [ids[0], ids[3], ids[4]]
    assert unseen_by(store, spec, " Ann ") == []
    say(store, spec, "bob", 0, ids[3], "approve", "positive")  # has seen it by now, and the suggestion as well
    say(store, spec, "bob", 1, ids[0], "modify", "positive", blind=True)
    assert unseen_by(store, spec, "BOB") == [ids[4]]
    say(store, spec, "bob", 2, ids[0], "undo", undoes=1)
    assert unseen_by(store, spec, "bob", exclude=[ids[4]]) == [ids[0]]
    assert set(unseen_by(store, spec, "bob", domain="x") + unseen_by(store, spec, "bob", domain="y")) == {
        ids[0],
        ids[4],
    }
