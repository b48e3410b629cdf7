"""Blind samples: drawn by chance, and worth what was checked of them, whatever is undone or added later."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from random import Random

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


def blind(store: Store, spec: RunSpec, ids: Sequence[str], session: str) -> None:
    events = [DecisionEvent(seq, id, "modify", "neutral", blind=True) for seq, id in enumerate(ids)]
    decide(store, spec, *events, session=session)


def chances(found: draws.Sample) -> dict[str, float]:
    return dict(zip(found.row_ids, found.inclusion.tolist(), strict=True))


def test_a_draw_from_a_part_has_one_chance_inside_and_leaves_the_others_theirs(
    store: Store, spec: RunSpec
) -> None:
    order = sorted(runs.row_ids(store, spec.run_id))
    blind(store, spec, draws.draw(store, spec.run_id, MOOD, 10).row_ids, "first")
    inside = order[3::4] + order[:3]
    here, there = [id for id in order if id in inside], [id for id in order if id not in inside]
    more = draws.draw(store, spec.run_id, MOOD, 5, among=inside)
    assert list(more.row_ids) == [id for id in here if id not in order[:10]][:5]
    known = len(set(order[:10]) & set(inside))
    found = chances(draws.sample(store, spec.run_id, MOOD))
    assert {found[id] for id in here} == {known / len(here)}  # none of the five was checked yet
    assert {found[id] for id in there} == {(10 - known) / len(there)}
    assert waiting(store, spec) == list(more.row_ids)
    blind(store, spec, more.row_ids[:2], "second")
    found = chances(draws.sample(store, spec.run_id, MOOD))
    assert {found[id] for id in here} == {(known + 2) / len(here)}
    blind(store, spec, more.row_ids[3:], "third")  # the hard one in the middle is left out
    assert chances(draws.sample(store, spec.run_id, MOOD)) == found


def test_rows_nobody_could_draw_get_the_smallest_share_also_outside_of_a_frame(
    store: Store, spec: RunSpec
) -> None:
    old = sorted(runs.row_ids(store, spec.run_id))
    blind(store, spec, draws.draw(store, spec.run_id, MOOD, 10).row_ids, "first")
    new = sorted(add_rows(store, [f"later {number}" for number in range(30)], first=50))
    runs.plan(store, spec.run_id, limit=None)
    ingest(store, facts_for(spec, new, author="later"))
    inside = old[::2] + new[::3]
    drawn = draws.draw(store, spec.run_id, MOOD, 12, among=inside)
    assert len(drawn.row_ids) == 12
    assert set(drawn.row_ids) - set(inside) == set([id for id in new if id not in inside][:4])  # a fifth of 20
    blind(store, spec, drawn.row_ids, "second")
    found = draws.sample(store, spec.run_id, MOOD)
    assert found.inclusion.min() > 0
    assert len(found.checked) == 22
    assert len(set(found.stratum.tolist())) == 4


def test_a_frame_that_leaves_nothing_to_draw_leaves_no_trace(store: Store, spec: RunSpec) -> None:
    order = sorted(runs.row_ids(store, spec.run_id))
    blind(store, spec, draws.draw(store, spec.run_id, MOOD, 10).row_ids, "first")
    with pytest.raises(RunError, match="known already"):
        draws.draw(store, spec.run_id, MOOD, 5, among=order[:5])
    assert set(draws.sample(store, spec.run_id, MOOD).stratum.tolist()) == {0}
    assert draws.standing(store, spec.run_id, MOOD).draws == 1


Step = tuple[str, int, int]
STEPS = st.tuples(st.sampled_from(["draw", "frame", "nested", "check", "undo", "plan"]), *[st.integers(0, 99)] * 2)


@settings(max_examples=5, deadline=None)
@given(
    known=st.sets(st.integers(0, 29), max_size=9),
    steps=st.lists(STEPS, min_size=3, max_size=6),
    random=st.randoms(use_true_random=False),
)
def test_the_laws_of_samples(
    tmp_path_factory: pytest.TempPathFactory, known: set[int], steps: list[Step], random: Random
) -> None:
    """Whatever was known before, and whatever is drawn from whatever parts, checked, undone and planned."""
    store = open_store(tmp_path_factory.mktemp("draws") / "w.duckdb")
    try:
        spec = labeled_run(store, texts(30))
        surest = random.sample(runs.row_ids(store, spec.run_id), 30)  # the surer, the earlier
        blind(store, spec, [surest[at] for at in known], "before")
        free, inside, chain = {surest[at] for at in known}, list(surest), True
        for number, (what, first, second) in enumerate(steps):
            if what == "plan":
                chain = False
                new = add_rows(store, [f"{len(surest)} {n}" for n in range(1 + first % 8)], first=len(surest))
                runs.plan(store, spec.run_id, limit=None)
                ingest(store, facts_for(spec, new, author=f"{number}"))
                for id in new:
                    surest.insert(random.randrange(len(surest)), id)
            elif what == "check":
                blind(store, spec, waiting(store, spec)[: 1 + first % 20], f"{number}")
            elif what == "undo":
                undo = DecisionEvent(0, surest[0], "undo", undoes=second % 5, undoes_session=f"{first % 6}")
                decide(store, spec, undo, session=f"{number}")
            else:
                if what == "frame":  # calibrated again: the surest are others now
                    random.shuffle(surest)
                    inside, chain = surest[: 1 + len(surest) * first // 100], False
                elif what == "nested":
                    inside = inside[: 1 + len(inside) * first // 100]
                with suppress(RunError):
                    among = None if what == "draw" else inside
                    new = list(draws.draw(store, spec.run_id, MOOD, 1 + second % 9, among=among).row_ids)
                    assert not free & set(new)
                    free |= set(new)
                    check_laws(draws.sample(store, spec.run_id, MOOD), free)
        blind(store, spec, waiting(store, spec), "rest")
        found = draws.sample(store, spec.run_id, MOOD)
        check_laws(found, free)
        if chain:
            assert len(set(found.inclusion[np.isin(found.row_ids, inside)].tolist())) == 1
    finally:
        store.close()


def check_laws(found: draws.Sample, free: set[str]) -> None:
    assert found.inclusion.sum() == pytest.approx(len(found.checked))
    assert {found.row_ids[place] for place in found.checked} <= free
    for stratum in set(found.stratum.tolist()):
        places = np.flatnonzero(found.stratum == stratum)
        of_it = np.isin(places, found.checked)
        assert of_it[: of_it.sum()].all()  # the first ones by id
        np.testing.assert_allclose(found.inclusion[places], of_it.mean())


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
