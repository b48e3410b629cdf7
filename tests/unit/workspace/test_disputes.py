"""Reviewers who differ are told so; who only changed their mind, or was taken back, does not differ."""

from __future__ import annotations

from typing import Any

from tests.unit.workspace.examples import labeled_run, texts
from workspace import decisions, disputes, runs
from workspace.decisions import DecisionEvent
from workspace.facts import RunSpec
from workspace.store import Store


def say(
    store: Store, spec: RunSpec, who: str, seq: int, row: str, action: Any, label: str = "", **more: Any
) -> None:
    event = DecisionEvent(seq, row, action, label, **more)
    decisions.record(
        store, session=f"of {who}", run_id=spec.run_id, dimension="sentiment", reviewer=who, events=[event]
    )


def test_only_standing_opinions_of_different_reviewers_are_a_dispute(store: Store) -> None:
    spec = labeled_run(store, texts(6))
    ids = [row for row, _ in runs.planned(store, spec.run_id)]
    say(store, spec, "ann", 0, ids[0], "modify", "neutral")
    say(store, spec, "bob", 0, ids[0], "modify", "positive")
    say(store, spec, "ann", 1, ids[1], "modify", "neutral")
    say(store, spec, "ann", 2, ids[1], "modify", "positive")  # changed her mind
    say(store, spec, "ann", 3, ids[2], "modify", "neutral")
    say(store, spec, "bob", 1, ids[2], "approve", "neutral")  # agrees
    say(store, spec, "ann", 4, ids[3], "reject")
    say(store, spec, "bob", 2, ids[3], "approve", "negative")
    say(store, spec, "bob", 3, ids[3], "undo", undoes=2)
    say(store, spec, "ann", 5, ids[4], "reject")
    say(store, spec, "bob", 4, ids[4], "approve", "negative")
    say(store, spec, "bob", 5, ids[5], "skip")
    found = disputes.disputes(store, spec.run_id, "sentiment")
    told = {one.row_id: [(opinion.reviewer, opinion.label) for opinion in one.opinions] for one in found}
    assert told == {
        ids[0]: [("bob", "positive"), ("ann", "neutral")],
        ids[4]: [("bob", "negative"), ("ann", "")],
    }
    assert [one.row_no for one in found] == [0, 4]
    assert len(disputes.disputes(store, spec.run_id, "sentiment", limit=1)) == 1
    say(store, spec, "Ann ", 6, ids[0], "modify", "positive")
    assert [one.row_id for one in disputes.disputes(store, spec.run_id, "sentiment")] == [ids[4]]
