"""Rules, overall scores and tiers of rows, against what the task says of them in Python."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.seeding import add_rows, fact_of, ingest, spec_of
from workspace import decisions, rules, runs, tasks
from workspace.decisions import DecisionEvent
from workspace.errors import RunError
from workspace.facts import Fact, RunSpec
from workspace.store import Store
from workspace.task import Dimension, Gate, Label, Rule, Task

INTENT = Dimension(
    name="intent",
    question="What is wanted?",
    labels=(Label(name="debug"), Label(name="build"), Label(name="chat")),
)
CONTEXT = Dimension(
    name="constraint", question="Under which conditions?", kind="multi", labels=(Label(name="a"), Label(name="b"))
)
IMPACT = Dimension(name="impact", question="How much does it do?", kind="score", maximum=4)
SAFETY = Dimension(name="safety", question="How safe is it?", kind="score", maximum=4)
TASK = Task(
    name="outcome",
    dimensions=(INTENT, CONTEXT, IMPACT, SAFETY),
    rules=(
        Rule(expression="intent <> 'debug' or list_contains(constraint, 'a')", message="Debugging needs an a."),
        Rule(expression="impact <= safety + 2", message="What does much is safe."),
    ),
    weights={"impact": 3, "safety": 1},
    gates=(Gate(when="safety < 1", cap=1),),
    tiers={"top": "overall >= 2.9 and intent <> 'chat'", "rest": "overall >= 0"},
)
Row = tuple[str | None, str, int | None, int]  # intent, constraint, impact, safety; None for a failure


def seeded(store: Store, rows: Sequence[Row]) -> tuple[RunSpec, list[str]]:
    ids = add_rows(store, [f"text {i}" for i in range(len(rows))])
    spec = spec_of(store, TASK)
    runs.plan(store, spec.run_id, limit=None)
    facts: list[Fact] = []
    for id, (intent, constraint, impact, safety) in zip(ids, rows, strict=True):
        for dimension, said in (
            ("intent", intent),
            ("constraint", constraint),
            ("impact", impact),
            ("safety", safety),
        ):
            labels = TASK.dimension(dimension).label_names
            chosen = str(said).split("|")
            sure = [0.999999 if label in chosen else 1e-6 for label in labels]
            # As a rule would have said it: no bias of the few rows around.
            changes = {"seq": len(facts), "warnings": ("rule:sure",)}
            if said is None:
                changes |= {"kind": "error", "logprobs": (), "error": "no answer", "warnings": ()}
            facts.append(fact_of(spec.run_id, id, dimension, labels, sure, **changes))
    ingest(store, facts)
    return spec, ids


def expected(row: Row) -> tuple[list[int], float | None, str | None]:
    intent, constraint, impact, safety = row
    breaks = [0] if intent == "debug" and "a" not in constraint.split("|") else []
    if impact is None:
        return breaks, None, None
    breaks += [1] if impact > safety + 2 else []
    overall = (3 * impact + safety) / 4
    overall = min(overall, 1.0) if safety < 1 else overall
    return breaks, overall, "top" if overall >= 2.9 and intent not in ("chat", None) else "rest"


EVERY_ROW: list[Row] = list(
    itertools.product(
        ("debug", "build", "chat", None), ("a", "b", "a|b", "(none)"), (None, 0, 1, 2, 3, 4), (0, 1, 2, 3, 4)
    )
)


def test_outcomes_follow_the_task_for_every_row_there_can_be(store: Store) -> None:
    spec, ids = seeded(store, EVERY_ROW)
    with store.read() as con:
        assert rules.prepare(con, spec.run_id) is not None
        found = {
            id: (sorted(broken), overall, tier)
            for id, broken, overall, tier in con.execute(
                "select row_id, broken, overall, tier from outcome"
            ).fetchall()
        }
    wanted = {id: expected(row) for id, row in zip(ids, EVERY_ROW, strict=True)}
    for id, (broken, overall, tier) in wanted.items():
        assert found[id] == (broken, pytest.approx(overall, abs=1e-4), tier)
    numbers = [sum(place in broken for broken, _, _ in wanted.values()) for place in range(2)]
    assert [rule.rows for rule in rules.broken(store, spec.run_id)] == numbers
    assert rules.flagged(store, spec.run_id) == sorted(id for id, (broken, _, _) in wanted.items() if broken)
    tiers = [tier for _, _, tier in wanted.values()]
    assert rules.tiers(store, spec.run_id) == [(tier, tiers.count(tier)) for tier in ("top", "rest", None)]


def test_tiers_of_known_rows_are_those_of_the_models_beside_the_true_ones(store: Store) -> None:
    said: list[Row] = [("build", "a", 4, 4), ("chat", "b", 4, 4), ("build", "a", 1, 1), (None, "a", 4, 4)]
    true: list[Row] = [("chat", "a", 4, 4), ("chat", "b", 4, 4), ("build", "a", 4, 3), ("build", "a", 4, 4)]
    spec, ids = seeded(store, [*said, ("build", "a", 4, 4)])
    assert rules.tiers_of_known(store, spec.run_id) == []
    for place, dimension in enumerate(spec.dimensions):
        # Nobody has said how safe the last row is, and of it therefore nothing is known.
        known = [*true, ("build", "a", 4, 4)] if dimension.name != "safety" else true
        events = [
            DecisionEvent(seq, ids[seq], "modify", str(row[place]), blind=True) for seq, row in enumerate(known)
        ]
        decisions.record(
            store,
            session=dimension.name,
            run_id=spec.run_id,
            dimension=dimension.name,
            reviewer="A",
            events=events,
        )
    wanted = {
        id: (expected(one)[2], expected(other)[2])
        for id, one, other in zip(ids[:3], said, true, strict=False)  # the fourth has no answer to one dimension
    }
    assert rules.tiers_of_known(store, spec.run_id) == [wanted[id] for id in sorted(wanted)]
    assert sorted(wanted.values()) == [("rest", "rest"), ("rest", "top"), ("top", "rest")]


ROWS: list[Row] = [("debug", "b", 4, 1), ("build", "a", 3, 3), ("debug", "a", 4, 0)]


def test_thresholds_change_without_labeling_again(store: Store) -> None:
    spec, ids = seeded(store, ROWS)
    assert rules.flagged(store, spec.run_id) == sorted([ids[0], ids[2]])
    changed = TASK.model_copy(
        update={
            "rules": (
                Rule(expression="impact < 3.9", message="Never."),
                Rule(expression="pace > 1", message="Soon."),
            ),
            "dimensions": (*TASK.dimensions, Dimension(name="pace", question="How fast?", kind="score")),
            "tiers": {"all": "true"},
        }
    )
    tasks.save(store, changed)
    never, soon = rules.broken(store, spec.run_id)
    assert (never.message, never.rows, set(never.examples)) == ("Never.", 2, {ids[0], ids[2]})
    assert (soon.rows, "pace" in soon.problem) == (0, True)  # this run was never asked
    assert rules.tiers(store, spec.run_id) == [("all", 3), (None, 0)]


def test_what_a_person_decides_counts(store: Store) -> None:
    spec, ids = seeded(store, ROWS)
    decisions.record(
        store,
        session="s",
        run_id=spec.run_id,
        dimension="constraint",
        reviewer="ada",
        events=[DecisionEvent(0, ids[0], "modify", label="b|a")],
    )
    decisions.record(
        store,
        session="t",
        run_id=spec.run_id,
        dimension="impact",
        reviewer="ada",
        events=[DecisionEvent(0, ids[0], "modify", label="2"), DecisionEvent(1, ids[2], "reject")],
    )
    assert rules.flagged(store, spec.run_id) == []


def test_the_queue_of_flagged_rows_says_what_they_break(store: Store) -> None:
    spec, ids = seeded(store, ROWS)
    found = decisions.queue(store, spec.run_id, "intent", session="s", order="flagged")
    assert {item.row_id: item.broken for item in found} == {
        ids[0]: ("Debugging needs an a.", "What does much is safe."),
        ids[2]: ("What does much is safe.",),
    }
    (first, _) = decisions.queue(store, spec.run_id, "impact", session="s", order="flagged", blind=True)
    assert (first.suggestion, first.value, first.broken) == (None, None, ())


def test_a_task_that_asks_for_nothing_has_no_outcome(store: Store) -> None:
    add_rows(store, ["a"])
    spec = spec_of(store, TASK.model_copy(update={"rules": (), "weights": {}, "gates": (), "tiers": {}}))
    assert (rules.broken(store, spec.run_id), rules.flagged(store, spec.run_id)) == ([], [])
    assert rules.tiers(store, spec.run_id) == []
    assert decisions.queue(store, spec.run_id, "intent", session="s", order="flagged") == []
    with pytest.raises(RunError):
        rules.broken(store, "nope")
