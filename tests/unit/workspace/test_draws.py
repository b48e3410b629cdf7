"""Blind samples: drawn by chance, and worth what was checked of them, whatever is undone or added later."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seeding import add_rows, facts_for, ingest
from tests.unit.workspace.examples import labeled_run, texts
from workspace import calibrators, decisions, draws, labels, runs
from workspace.decisions import DecisionEvent
from workspace.errors import RunError
from workspace.facts import RunSpec
from workspace.store import Store, open_store

MOOD = "sentiment"


def decide(store: Store, spec: RunSpec, *events: DecisionEvent, session: str = "s") -> None:
    decisions.record(store, session=session, run_id=spec.run_id, dimension=MOOD, reviewer="ann", events=events)


def waiting(store: Store, spec: RunSpec) -> list[str]:
    found = decisions.queue(store, spec.run_id, MOOD, session="other", order="sample", limit=1000)
    assert all(item.suggestion is None and item.confidence is None for item in found)
    return [item.row_id for item in found]


@pytest.fixture
def spec(store: Store) -> RunSpec:
    return labeled_run(store, texts(50))


def test_a_sample_is_the_first_rows_by_id_and_is_checked_in_that_order(store: Store, spec: RunSpec) -> None:
    drawn = draws.draw(store, spec.run_id, MOOD, 10)
    first = sorted(runs.row_ids(store, spec.run_id))[:10]
    assert (drawn.number, list(drawn.row_ids)) == (1, first)
    assert waiting(store, spec) == first
    decide(store, spec, *(DecisionEvent(i, id, "modify", "neutral", blind=True) for i, id in enumerate(first[:4])))
    assert waiting(store, spec) == first[4:]
    assert draws.standing(store, spec.run_id, MOOD) == draws.Standing(1, 10, 6)
    found = draws.sample(store, spec.run_id, MOOD)
    assert [found.row_ids[place] for place in found.checked] == first[:4]
    np.testing.assert_allclose(found.inclusion, 4 / 50)
    said = [found.label[place] for place in found.checked]
    assert found.wrong.tolist() == [label != "neutral" for label in said]


def test_what_is_undone_waits_again_and_ends_the_sample_there(store: Store, spec: RunSpec) -> None:
    ids = draws.draw(store, spec.run_id, MOOD, 6).row_ids
    decide(store, spec, *(DecisionEvent(i, id, "modify", "neutral", blind=True) for i, id in enumerate(ids)))
    assert len(draws.sample(store, spec.run_id, MOOD).checked) == 6
    decide(store, spec, DecisionEvent(6, ids[2], "undo", undoes=2))
    assert waiting(store, spec) == [ids[2]]
    assert len(draws.sample(store, spec.run_id, MOOD).checked) == 2
    decide(store, spec, DecisionEvent(7, ids[2], "reject", blind=True))
    found = draws.sample(store, spec.run_id, MOOD)
    assert (len(found.checked), found.truth[2], bool(found.wrong[2])) == (6, None, True)


def test_a_row_decided_in_sight_of_the_suggestion_has_to_be_decided_blind(store: Store, spec: RunSpec) -> None:
    first = sorted(runs.row_ids(store, spec.run_id))[:3]
    decide(store, spec, DecisionEvent(0, first[1], "approve", "neutral"))
    draws.draw(store, spec.run_id, MOOD, 3)
    assert waiting(store, spec) == first


def test_a_skipped_row_counts_as_wrong_and_can_still_be_decided(store: Store, spec: RunSpec) -> None:
    ids = draws.draw(store, spec.run_id, MOOD, 3).row_ids
    decide(store, spec, DecisionEvent(0, ids[0], "skip"))
    decide(store, spec, *(DecisionEvent(i, ids[i], "modify", "neutral", blind=True) for i in (1, 2)))
    found = draws.sample(store, spec.run_id, MOOD)
    assert (len(found.checked), found.skipped, bool(found.wrong[0])) == (3, 1, True)
    assert draws.standing(store, spec.run_id, MOOD).waiting == 0
    assert waiting(store, spec) == [ids[0]]
    assert decisions.queue(store, spec.run_id, MOOD, session="s", order="sample") == []


def test_rows_that_are_known_already_cost_nothing(store: Store, spec: RunSpec) -> None:
    first = sorted(runs.row_ids(store, spec.run_id))
    gold = [first[0], first[2]]
    store.write(
        lambda con: con.execute(
            "insert into gold select unnest(?::varchar[]), 'sentiment', 'neutral', 'x'", [gold]
        ).fetchall()
    )
    ids = draws.draw(store, spec.run_id, MOOD, 3).row_ids
    assert list(ids) == [first[1], first[3], first[4]]
    decide(store, spec, *(DecisionEvent(i, id, "modify", "neutral", blind=True) for i, id in enumerate(ids)))
    found = draws.sample(store, spec.run_id, MOOD)
    assert [found.row_ids[place] for place in found.checked] == first[:5]


def test_gold_for_every_row_is_a_sample_of_everything(store: Store, spec: RunSpec) -> None:
    every = runs.row_ids(store, spec.run_id)
    store.write(
        lambda con: con.execute(
            "insert into gold select unnest(?::varchar[]), 'sentiment', 'neutral', 'x'", [every]
        ).fetchall()
    )
    found = draws.sample(store, spec.run_id, MOOD)
    assert (len(found.checked), found.inclusion.min()) == (50, 1.0)
    with pytest.raises(RunError, match="known already"):
        draws.draw(store, spec.run_id, MOOD, 1)


def test_rows_planned_later_are_a_stratum_with_a_sample_of_its_own(store: Store, spec: RunSpec) -> None:
    old = draws.draw(store, spec.run_id, MOOD, 10).row_ids
    decide(store, spec, *(DecisionEvent(i, id, "modify", "neutral", blind=True) for i, id in enumerate(old)))
    new = add_rows(store, [f"later {number}" for number in range(100)], first=50)
    runs.plan(store, spec.run_id, limit=None)
    ingest(store, facts_for(spec, new, author="later"))
    found = draws.sample(store, spec.run_id, MOOD)
    chance = dict(zip(found.row_ids, found.inclusion.tolist(), strict=True))
    assert {chance[id] for id in new} == {0.0}
    assert len(found.checked) == 10
    more = draws.draw(store, spec.run_id, MOOD, 15).row_ids
    assert set(more) == set(sorted(new)[:15])  # the old rows have a fifth already, and these nothing
    events = [DecisionEvent(i, id, "modify", "neutral", blind=True) for i, id in enumerate(more)]
    decide(store, spec, *events, session="t")
    found = draws.sample(store, spec.run_id, MOOD)
    chance = dict(zip(found.row_ids, found.inclusion.tolist(), strict=True))
    assert {round(chance[id], 9) for id in new} == {0.15}
    assert {round(chance[id], 9) for id in runs.row_ids(store, spec.run_id)[:50]} == {0.2}


def test_rows_that_failed_or_were_left_out_are_not_drawn(store: Store) -> None:
    spec = labeled_run(store, texts(20), labeled=10)
    left = runs.row_ids(store, spec.run_id)[10:]
    facts = [
        msgspec.structs.replace(fact, kind=kind, logprobs=(), error="no")
        for fact, kind in zip(facts_for(spec, left, author="z"), ["error", "drop"] * 5, strict=True)
    ]
    ingest(store, facts)
    assert len(draws.draw(store, spec.run_id, MOOD, 100).row_ids) == 10


@settings(max_examples=5, deadline=None)
@given(
    known=st.sets(st.integers(0, 29), max_size=20),
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    checked=st.integers(0, 24),
)
def test_what_is_checked_is_a_first_part_of_the_order_of_ids(
    tmp_path_factory: pytest.TempPathFactory, known: set[int], sizes: list[int], checked: int
) -> None:
    store = open_store(tmp_path_factory.mktemp("draws") / "w.duckdb")
    try:
        spec = labeled_run(store, texts(30))
        order = sorted(runs.row_ids(store, spec.run_id))
        decide(
            store,
            spec,
            *(DecisionEvent(i, order[at], "modify", "neutral", blind=True) for i, at in enumerate(sorted(known))),
            session="before",
        )
        for size in sizes:
            if draws.standing(store, spec.run_id, MOOD).drawn < 30 - len(known):
                draws.draw(store, spec.run_id, MOOD, size)
        drawn = waiting(store, spec)
        assert len(drawn) == min(sum(sizes), 30 - len(known))
        done = drawn[:checked]
        decide(store, spec, *(DecisionEvent(i, id, "modify", "neutral", blind=True) for i, id in enumerate(done)))
        found = draws.sample(store, spec.run_id, MOOD)
        part = [found.row_ids[place] for place in found.checked]
        assert part == order[: len(part)]
        assert set(part) <= {order[at] for at in known} | set(done)
        assert set(done) <= set(part)
        np.testing.assert_allclose(found.inclusion, len(part) / 30)
    finally:
        store.close()


def test_a_row_that_was_fitted_on_counts_as_a_fit_without_it_has_it(store: Store, spec: RunSpec) -> None:
    ids = draws.draw(store, spec.run_id, MOOD, 4).row_ids
    decide(store, spec, *(DecisionEvent(i, id, "modify", "neutral", blind=True) for i, id in enumerate(ids)))
    scores = {id: list(np.log([0.1, 0.2, 0.7])) for id in ids[:2]}
    calibrators.save(store, spec.run_id, MOOD, "temperature", {"temperature": 1.5}, {}, scores)
    found = draws.sample(store, spec.run_id, MOOD)
    shown = {row.row_id: row for row in labels.page(store, spec.run_id, MOOD, limit=100)}
    for place, id in enumerate(found.row_ids):
        if id in scores:
            np.testing.assert_allclose(found.probabilities[place], [0.1, 0.2, 0.7])
            assert (found.label[place], found.confidence[place]) == ("neutral", pytest.approx(0.7))
        else:
            np.testing.assert_allclose(found.probabilities[place], shown[id].probabilities)
    assert shown[ids[0]].probabilities != pytest.approx((0.1, 0.2, 0.7))
    calibrators.clear(store, spec.run_id, MOOD)
    with store.read() as con:
        assert con.execute("select count(*) from out_of_fold").fetchall() == [(0,)]
