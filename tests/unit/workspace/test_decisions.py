"""Decisions: kept once, undone by further events, queued by what is uncertain."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seeding import SENTIMENT, facts_for, ingest, task_of
from tests.unit.workspace.examples import labeled_run, texts
from workspace import decisions, labels, runs, tasks
from workspace.decisions import DecisionEvent
from workspace.errors import WinnowError
from workspace.facts import ModelSpec, RunSpec
from workspace.rows import scalar
from workspace.store import Store, open_store

D = "sentiment"


def record(store: Store, spec: RunSpec, *events: DecisionEvent, session: str = "s", reviewer: str = "ann") -> int:
    return decisions.record(
        store, session=session, run_id=spec.run_id, dimension=D, reviewer=reviewer, events=events
    )


def queued(store: Store, spec: RunSpec, session: str = "s", **options: object) -> list[int]:
    found = decisions.queue(store, spec.run_id, D, session=session, **options)  # type: ignore[arg-type]
    return [item.row_no for item in found]


def ids_of(store: Store, spec: RunSpec) -> list[str]:
    return [item.row_id for item in labels.page(store, spec.run_id, D, limit=1000)]


def saved(store: Store) -> int:
    with store.read() as con:
        return scalar(con, "select count(*) from decisions")


def test_events_sent_again_are_kept_once(store: Store) -> None:
    spec = labeled_run(store, texts(5))
    ids = ids_of(store, spec)
    events = [DecisionEvent(seq, ids[seq], "approve", "positive") for seq in range(5)]
    assert record(store, spec, *events[:3]) == 2
    assert record(store, spec, *events[1:4]) == 3
    assert record(store, spec, *events) == 4
    assert record(store, spec, *reversed(events)) == 4
    assert record(store, spec) == 4
    assert saved(store) == 5
    assert record(store, spec, events[0], session="other") == 0


def test_events_after_a_gap_are_kept_but_acknowledged_only_when_it_is_filled(store: Store) -> None:
    spec = labeled_run(store, texts(5))
    ids = ids_of(store, spec)
    events = [DecisionEvent(seq, ids[seq], "approve", "positive") for seq in range(5)]
    assert record(store, spec, *events[2:]) == -1
    assert record(store, spec, events[0]) == 0
    assert record(store, spec, events[1]) == 4
    assert saved(store) == 5


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=6))
def test_posts_at_once_keep_every_event_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]]
) -> None:
    store = open_store(tmp_path_factory.mktemp("posts") / "w.duckdb")
    try:
        spec = labeled_run(store, texts(3))
        ids = ids_of(store, spec)
        events = [DecisionEvent(seq, ids[seq % 3], "modify", "neutral") for seq in range(20)]
        pieces = [events[min(a, b) : max(a, b) + 1] for a, b in cuts] + [events]
        posts = [threading.Thread(target=record, args=(store, spec, *piece)) for piece in pieces]
        for post in posts:
            post.start()
        for post in posts:
            post.join()
        assert record(store, spec) == 19
        assert saved(store) == 20
    finally:
        store.close()


def test_fifty_undos_after_a_restart_bring_back_what_was(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = open_store(path)
    spec = labeled_run(store, texts(60))
    before = labels.page(store, spec.run_id, D, limit=100)
    ids = ids_of(store, spec)
    record(store, spec, *(DecisionEvent(seq, ids[seq], "modify", "neutral") for seq in range(50)))
    store.close()

    store = open_store(path)
    assert decisions.counts(store, spec.run_id, D).decided == 50
    for number in range(50):  # the way the history page does it: take back the newest that stands
        last = next(item for item in decisions.history(store, spec.run_id, D) if not item.undone)
        assert last.row_id == ids[49 - number]
        undo = DecisionEvent(number, last.row_id, "undo", undoes=last.seq, undoes_session=last.session)
        assert record(store, spec, undo, session="after restart") == number
    assert labels.page(store, spec.run_id, D, limit=100) == before
    assert decisions.counts(store, spec.run_id, D).waiting == 60
    assert saved(store) == 100  # nothing is ever taken out
    store.close()


def test_undo_brings_back_the_decision_before(store: Store) -> None:
    spec = labeled_run(store, texts(1))
    (id,) = ids_of(store, spec)

    def label() -> tuple[str | None, str]:
        (item,) = labels.page(store, spec.run_id, D)
        return item.label, item.decided_by

    first = label()
    record(store, spec, DecisionEvent(0, id, "modify", "neutral"))
    record(store, spec, DecisionEvent(1, id, "modify", "negative"))
    assert label() == ("negative", "ann")
    record(store, spec, DecisionEvent(2, id, "undo", undoes=1))
    assert label() == ("neutral", "ann")
    record(store, spec, DecisionEvent(0, id, "reject"), session="b", reviewer="bob")
    assert label() == (None, "bob")
    record(store, spec, DecisionEvent(1, id, "undo", undoes=0), session="b")
    record(store, spec, DecisionEvent(3, id, "undo", undoes=0))
    assert label() == first


def test_the_queue_starts_with_the_least_confident_and_leaves_out_what_is_decided(store: Store) -> None:
    spec = labeled_run(store, texts(12), labeled=10)
    ids = ids_of(store, spec)
    shown = decisions.queue(store, spec.run_id, D, session="s")
    confidences = [item.confidence for item in shown]
    assert confidences == sorted(confidences, key=lambda value: value or 0)
    assert sorted(item.row_id for item in shown) == sorted(ids)  # rows without an answer are not asked about
    by_id = {item.row_id: item for item in labels.page(store, spec.run_id, D)}
    assert all(item.suggestion == by_id[item.row_id].label for item in shown)
    assert all(item.probabilities == by_id[item.row_id].probabilities for item in shown)

    order = [item.row_no for item in shown]
    assert queued(store, spec, limit=3) == order[:3]
    assert queued(store, spec, exclude=[shown[0].row_id, shown[2].row_id]) == [order[1], *order[3:]]
    assert queued(store, spec, order="file") == list(range(10))
    assert queued(store, spec, order="confident") == order[::-1]
    assert queued(store, spec, order="random") == [
        int(item.row_no) for item in sorted(shown, key=lambda i: i.row_id)
    ]

    record(
        store,
        spec,
        DecisionEvent(0, shown[0].row_id, "reject"),
        DecisionEvent(1, shown[1].row_id, "approve", "neutral"),
    )
    assert queued(store, spec) == order[2:]
    assert queued(store, spec, session="of somebody else") == order[2:]


def test_skipped_rows_are_gone_for_the_session_and_last_in_the_next(store: Store) -> None:
    spec = labeled_run(store, texts(6))
    order = queued(store, spec)
    ids = ids_of(store, spec)
    record(store, spec, DecisionEvent(0, ids[order[0]], "skip"))
    assert queued(store, spec) == order[1:]
    assert queued(store, spec, session="next") == [*order[1:], order[0]]
    counts = decisions.counts(store, spec.run_id, D)
    assert (counts.waiting, counts.skipped, counts.decided) == (5, 1, 0)
    record(store, spec, DecisionEvent(1, ids[order[0]], "undo", undoes=0))
    assert queued(store, spec) == order


def test_a_queue_of_one_domain_and_a_blind_one(store: Store) -> None:
    spec = labeled_run(store, texts(6), domains=["x", "y"] * 3)
    assert queued(store, spec, domain="y", order="file") == [1, 3, 5]
    blind = decisions.queue(store, spec.run_id, D, session="s", blind=True)
    assert len(blind) == 6
    assert {(item.suggestion, item.confidence, item.probabilities) for item in blind} == {(None, None, ())}


def test_chosen_rows_are_asked_again_in_their_order_until_this_session_has_decided_them(store: Store) -> None:
    spec = labeled_run(store, texts(6))
    ids = ids_of(store, spec)
    record(store, spec, DecisionEvent(0, ids[4], "modify", "positive"), session="before")

    def chosen() -> list[str]:
        among = [ids[4], ids[1], ids[5]]
        found = decisions.queue(store, spec.run_id, "sentiment", session="now", order="chosen", among=among)
        return [item.row_id for item in found]

    assert chosen() == [ids[4], ids[1], ids[5]]
    record(store, spec, DecisionEvent(0, ids[4], "modify", "negative"), session="now")
    assert chosen() == [ids[1], ids[5]]
    record(store, spec, DecisionEvent(1, ids[4], "undo", undoes=0), session="now")
    assert chosen() == [ids[4], ids[1], ids[5]]


def test_history_and_counts_tell_what_happened(store: Store) -> None:
    spec = labeled_run(store, texts(8))
    ids = ids_of(store, spec)
    now = time.time()
    shown = {"suggestion": "positive", "confidence": 0.6, "probabilities": [0.6, 0.3, 0.1]}
    record(
        store,
        spec,
        DecisionEvent(0, ids[0], "approve", seconds=1.0, shown=shown, decided_at=now - 50),
        DecisionEvent(
            1, ids[1], "modify", "neutral", seconds=3.0, comment="ironic", blind=True, decided_at=now - 40
        ),
        DecisionEvent(2, ids[2], "reject", seconds=8.0, decided_at=now - 30),
        DecisionEvent(3, ids[3], "skip", decided_at=now - 20),
        DecisionEvent(4, ids[2], "undo", undoes=2, decided_at=now - 10),
    )
    counts = decisions.counts(store, spec.run_id, D)
    assert counts == decisions.Counts(5, 1, 1, 0, 1, 2, 1, 2.0)
    history = decisions.history(store, spec.run_id, D)
    assert [(item.seq, item.action, item.undone) for item in history] == [
        (3, "skip", False),
        (2, "reject", True),
        (1, "modify", False),
        (0, "approve", False),
    ]
    first = history[-1]
    assert (first.label, first.suggestion, first.confidence) == ("positive", "positive", 0.6)
    assert first.decided_at.timestamp() == pytest.approx(now - 50, abs=1e-3)
    assert history[-2].comment == "ironic"
    assert decisions.history(store, spec.run_id, D, reviewer="bob") == []
    assert len(decisions.history(store, spec.run_id, D, limit=2)) == 2
    with store.read() as con:
        assert con.execute("select shown->>'$.probabilities[1]' from decisions where seq = 0").fetchall() == [
            ("0.3",)
        ]


def test_decisions_stay_with_the_row_when_another_model_labels_it(store: Store) -> None:

    spec = labeled_run(store, texts(3))
    ids = ids_of(store, spec)
    record(store, spec, DecisionEvent(0, ids[0], "modify", "neutral"))
    task_id = tasks.save(store, task_of(SENTIMENT))
    other = RunSpec(
        "other run", task_id, spec.task_name, "p", ModelSpec("llama_cpp", "big", "", "x"), spec.dimensions
    )
    runs.create(store, other)
    runs.plan(store, other.run_id, limit=None)
    seen = labels.page(store, other.run_id, D)
    assert [(item.row_id, item.label, item.decided_by) for item in seen] == [(ids[0], "neutral", "ann")]
    ingest(store, facts_for(other, ids, author="other"))
    assert ids[0] not in {item.row_id for item in decisions.queue(store, other.run_id, D, session="n")}


def test_a_clock_that_runs_ahead_or_back_does_not_reorder_a_session(store: Store) -> None:
    spec = labeled_run(store, texts(1))
    (id,) = ids_of(store, spec)
    ahead = time.time() + 86_400
    record(store, spec, DecisionEvent(0, id, "modify", "neutral", decided_at=ahead))
    record(store, spec, DecisionEvent(1, id, "modify", "negative", decided_at=1_000.0))
    (item,) = labels.page(store, spec.run_id, D)
    assert item.label == "negative"
    record(store, spec, DecisionEvent(0, id, "modify", "positive"), session="later", reviewer="bob")
    (item,) = labels.page(store, spec.run_id, D)
    assert (item.label, item.decided_by) == ("positive", "bob")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (DecisionEvent(1, "x", "approve", "angry"), "'angry' is not one of the labels"),
        (DecisionEvent(1, "x", "approve"), "is not one of the labels"),
        (DecisionEvent(1, "x", "undo"), "which decision"),
        (DecisionEvent(-1, "x", "skip"), "not a decision"),
        (DecisionEvent(1, "x", "delete"), "not a decision"),  # type: ignore[arg-type]
    ],
)
def test_events_that_make_no_sense_are_refused_with_all_they_came_with(
    store: Store, event: DecisionEvent, message: str
) -> None:
    spec = labeled_run(store, texts(2))
    with pytest.raises(WinnowError, match=message):
        record(store, spec, DecisionEvent(0, ids_of(store, spec)[0], "skip"), event)
    assert saved(store) == 0


@pytest.mark.parametrize("name", ["model", " Human "])
def test_a_reviewer_may_not_be_taken_for_the_model(store: Store, name: str) -> None:
    spec = labeled_run(store, texts(1))
    with pytest.raises(WinnowError, match="reviewer"):
        record(store, spec, DecisionEvent(0, ids_of(store, spec)[0], "skip"), reviewer=name)
