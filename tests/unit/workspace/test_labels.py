"""Current labels are a pure function of the set of facts and decisions: the SQL against plain Python."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.bias import correct_label_bias
from tests.seeding import SENTIMENT, add_rows, facts_for, ingest, spec_of, task_of
from tests.unit.workspace.examples import labeled_run, texts
from workspace import calibrators, decisions, labels, runs
from workspace.decisions import Action, DecisionEvent
from workspace.errors import RunError
from workspace.facts import Fact, RunSpec
from workspace.store import Connection, Store, open_store

TEXTS = texts(6)
ABC = ("a", "b", "c")
DIMENSION = "feeling"

Expected = dict[str, tuple[str | None, float | None, str]]


class Press(msgspec.Struct, frozen=True):
    """A decision as the test draws it; an undo points at an earlier press of its own or the other session."""

    session: str
    row: int
    action: Action
    label: str
    blind: bool
    at: float
    undoes: int
    elsewhere: bool


logprob = st.floats(-30, 0, allow_nan=False) | st.just(-math.inf)
answers = st.tuples(
    st.sampled_from(["node1", "node2"]),
    st.integers(0, len(TEXTS) - 1),
    st.sampled_from(["label", "label", "label", "error"]),
    st.tuples(logprob, logprob, logprob),
)
presses = st.builds(
    Press,
    session=st.sampled_from(["s1", "s2"]),
    row=st.integers(0, len(TEXTS) - 1),
    action=st.sampled_from(["approve", "modify", "reject", "skip", "undo"]),
    label=st.sampled_from(ABC),
    blind=st.booleans(),
    at=st.integers(1_000, 1_010).map(float),
    undoes=st.integers(0, 5),
    elsewhere=st.booleans(),
)


def facts_from(
    spec: RunSpec, ids: Sequence[str], drawn: Sequence[tuple[str, int, str, tuple[float, ...]]]
) -> list[Fact]:
    seqs = {"node1": 0, "node2": 0}
    pattern = facts_for(spec, ids[:1])[0]
    facts = []
    for author, row, kind, scores in drawn:
        facts.append(
            msgspec.structs.replace(
                pattern,
                author=author,
                seq=seqs[author],
                row_id=ids[row],
                kind=kind,
                logprobs=scores if kind == "label" else (),
                error="" if kind == "label" else "no answer",
            )
        )
        seqs[author] += 1
    return facts


def by_session(drawn: Sequence[Press], ids: Sequence[str]) -> dict[str, list[DecisionEvent]]:
    events: dict[str, list[DecisionEvent]] = {"s1": [], "s2": []}
    for press in drawn:
        other = "s2" if press.session == "s1" else "s1"
        events[press.session].append(
            DecisionEvent(
                seq=len(events[press.session]),
                row_id=ids[press.row],
                action=press.action,
                label=press.label,
                blind=press.blind,
                undoes=press.undoes if press.action == "undo" else None,
                undoes_session=other if press.action == "undo" and press.elsewhere else None,
                decided_at=press.at,
            )
        )
    return events


def expected_labels(facts: Sequence[Fact], events: dict[str, list[DecisionEvent]], temperature: float) -> Expected:
    """The rules of workspace/current.py, written down once more."""
    answers: dict[str, Fact] = {}
    for fact in sorted(facts, key=lambda fact: (fact.kind != "label", fact.author, fact.seq)):
        answers.setdefault(fact.row_id, fact)
    labeled = {id: fact.logprobs for id, fact in answers.items() if fact.kind == "label"}
    result: Expected = dict.fromkeys(answers, (None, None, "model"))
    if labeled:
        raw = np.array(list(labeled.values()))
        for id, corrected in zip(labeled, correct_label_bias(raw, 0.5), strict=True):
            top = corrected.max()
            weights = np.exp((corrected - top) / temperature)
            result[id] = (ABC[int(corrected.argmax())], float(weights.max() / weights.sum()), "model")

    undone = {
        (event.undoes_session or session, event.undoes)
        for session, log in events.items()
        for event in log
        if event.action == "undo"
    }
    judged: dict[str, tuple[float, str, int, DecisionEvent]] = {}
    for session, log in events.items():
        latest = 0.0
        for event in log:
            latest = max(latest, event.decided_at)
            if event.action in ("undo", "skip") or (session, event.seq) in undone:
                continue
            entry = (latest, session, event.seq, event)
            if event.row_id not in judged or entry[:3] > judged[event.row_id][:3]:
                judged[event.row_id] = entry
    for id, (_, _, _, event) in judged.items():
        result[id] = (None, None, "ann") if event.action == "reject" else (event.label, 1.0, "ann")
    return result


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    drawn=st.lists(answers, max_size=12),
    pressed=st.lists(presses, max_size=10),
    order=st.randoms(use_true_random=False),
    temperature=st.sampled_from([1.0, 0.4, 2.5]),
)
def test_current_labels_follow_the_written_rules_in_any_order_of_arrival(
    drawn: list[tuple[str, int, str, tuple[float, ...]]], pressed: list[Press], order: object, temperature: float
) -> None:
    shuffle = order.shuffle  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "w.duckdb")
        try:
            ids = add_rows(store, TEXTS)
            spec = spec_of(store, task_of(ABC, DIMENSION))
            runs.plan(store, spec.run_id, limit=None)
            facts = facts_from(spec, ids, drawn)
            events = by_session(pressed, ids)
            if temperature != 1.0:
                calibrators.save(store, spec.run_id, DIMENSION, "temperature", {"temperature": temperature}, {})

            # Authors in any order, each log in pieces that overlap, pieces repeated.
            authors = ["node1", "node2"]
            shuffle(authors)
            for author in authors:
                log = [fact for fact in facts if fact.author == author]
                for end in range(0, len(log) + 3, 3):
                    piece = log[max(0, end - 5) : end]
                    shuffle(piece)
                    ingest(store, piece)
                ingest(store, log)
            assert ingest(store, facts) == 0
            sessions = list(events)
            shuffle(sessions)
            for session in sessions:
                for end in range(len(events[session]) + 1):
                    acknowledged = decisions.record(
                        store,
                        session=session,
                        run_id=spec.run_id,
                        dimension=DIMENSION,
                        reviewer="ann",
                        events=events[session][max(0, end - 2) : end],
                    )
                    assert acknowledged == end - 1

            shown = labels.page(store, spec.run_id, DIMENSION, limit=100)
            expected = expected_labels(facts, events, temperature)
            assert {item.row_id for item in shown} == set(expected)
            for item in shown:
                label, confidence, by = expected[item.row_id]
                assert item.decided_by == by
                assert item.confidence == pytest.approx(confidence, abs=1e-9)
                if by == "model" and label is not None and item.label != label:
                    # Two labels exactly as probable but for rounding.
                    best = sorted(item.probabilities)[-2:]
                    assert best[0] == pytest.approx(best[1], abs=1e-9)
                else:
                    assert item.label == label
                if item.probabilities:
                    assert sum(item.probabilities) == pytest.approx(1)
            numbers = dict(labels.shares(store, spec.run_id, DIMENSION))
            assert sum(numbers.values()) == sum(label is not None for label, _, _ in expected.values())
        finally:
            store.close()


def decide(store: Store, spec: RunSpec, *events: DecisionEvent, session: str = "s") -> int:
    return decisions.record(
        store, session=session, run_id=spec.run_id, dimension="sentiment", reviewer="ann", events=events
    )


def add_gold(store: Store, gold: dict[str, str]) -> None:
    def work(con: Connection) -> None:
        for id, label in gold.items():
            con.execute("insert into gold values (?, 'sentiment', ?, 'seed')", [id, label])

    store.write(work)


def test_pages_go_on_where_the_last_one_ended_and_filter(store: Store) -> None:
    spec = labeled_run(store, texts(25), labeled=20)
    every = labels.page(store, spec.run_id, "sentiment", limit=100)
    assert [item.row_no for item in every] == list(range(20))
    first = labels.page(store, spec.run_id, "sentiment", limit=7)
    rest = labels.page(store, spec.run_id, "sentiment", after=first[-1].row_no, limit=100)
    assert first + rest == every

    chosen = every[3]
    decide(
        store,
        spec,
        DecisionEvent(0, chosen.row_id, "modify", "neutral"),
        DecisionEvent(1, every[4].row_id, "reject"),
    )
    for by in ("human", "ann"):
        humans = labels.page(store, spec.run_id, "sentiment", decided_by=by)
        assert [(item.row_no, item.label, item.confidence) for item in humans] == [
            (3, "neutral", 1.0),
            (4, None, None),
        ]
    assert len(labels.page(store, spec.run_id, "sentiment", decided_by="model")) == 18
    assert {item.label for item in labels.page(store, spec.run_id, "sentiment", label="positive")} == {"positive"}
    sure = labels.page(store, spec.run_id, "sentiment", low=0.9)
    assert all(item.confidence is not None and item.confidence >= 0.9 for item in sure)
    assert chosen.row_id in {item.row_id for item in sure}
    unsure = labels.page(store, spec.run_id, "sentiment", high=0.5)
    assert every[4].row_id in {item.row_id for item in unsure}  # rejected: no confidence at all


def test_evidence_takes_blind_decisions_over_gold_and_visible_ones_only_when_asked(store: Store) -> None:
    spec = labeled_run(store, texts(8), labeled=7)
    ids = [item.row_id for item in labels.page(store, spec.run_id, "sentiment")]
    add_gold(store, {ids[0]: "Positive", ids[1]: " NEGATIVE ", ids[2]: "no label of ours", ids[3]: "neutral"})
    decide(
        store,
        spec,
        DecisionEvent(0, ids[3], "approve", "positive", blind=True),
        DecisionEvent(1, ids[4], "approve", "negative"),
        DecisionEvent(2, ids[5], "modify", "neutral", blind=True),
        DecisionEvent(3, ids[5], "undo", undoes=2),
        DecisionEvent(4, ids[6], "reject", blind=True),
    )
    found = labels.evidence(store, spec.run_id, "sentiment")
    by_id = dict(zip(found.row_ids, zip(found.truth.tolist(), found.source, strict=True), strict=True))
    assert by_id == {ids[0]: (0, "gold"), ids[1]: (1, "gold"), ids[3]: (0, "blind")}
    assert found.row_ids == sorted(found.row_ids)
    assert found.labels == SENTIMENT
    with_visible = labels.evidence(store, spec.run_id, "sentiment", include_visible=True)
    assert dict(zip(with_visible.row_ids, with_visible.source, strict=True))[ids[4]] == "visible"


def test_evidence_is_corrected_over_the_whole_run_and_not_calibrated(store: Store) -> None:
    spec = labeled_run(store, texts(9))
    facts = facts_for(spec, [item.row_id for item in labels.page(store, spec.run_id, "sentiment")])
    add_gold(store, {fact.row_id: fact.label for fact in facts[:4]})
    calibrators.save(store, spec.run_id, "sentiment", "temperature", {"temperature": 3.0}, {})
    found = labels.evidence(store, spec.run_id, "sentiment")
    corrected = correct_label_bias([fact.logprobs for fact in facts])
    expected = {fact.row_id: row for fact, row in zip(facts, corrected, strict=True)}
    for id, row in zip(found.row_ids, found.logprobs, strict=True):
        np.testing.assert_allclose(row, expected[id], atol=1e-9)
    assert found.logprobs.dtype == np.float64
    assert found.truth.dtype == np.int64


def test_no_evidence_is_empty_arrays_of_the_right_shape(store: Store) -> None:
    spec = labeled_run(store, ["a", "b"])
    found = labels.evidence(store, spec.run_id, "sentiment")
    assert found.logprobs.shape == (0, 3)
    assert found.truth.shape == (0,)


def test_a_calibrator_changes_confidence_until_it_is_cleared(store: Store) -> None:
    spec = labeled_run(store, texts(6))

    def confidences() -> list[float]:
        return [item.confidence or 0 for item in labels.page(store, spec.run_id, "sentiment")]

    plain = confidences()
    assert calibrators.active(store, spec.run_id, "sentiment") is None
    saved = calibrators.save(store, spec.run_id, "sentiment", "temperature", {"temperature": 2.0}, {"rows": 5})
    assert calibrators.active(store, spec.run_id, "sentiment") == saved
    assert saved.evidence == {"rows": 5}
    assert all(after < before for after, before in zip(confidences(), plain, strict=True))
    calibrators.save(store, spec.run_id, "sentiment", "temperature", {"temperature": 0.5}, {})
    assert all(after > before for after, before in zip(confidences(), plain, strict=True))
    calibrators.clear(store, spec.run_id, "sentiment")
    assert calibrators.active(store, spec.run_id, "sentiment") is None
    assert confidences() == plain


@pytest.mark.parametrize("scores", [(math.nan, -1.0, -1.0), (math.inf, -1.0, -1.0), (-1.0, -1.0)])
def test_answers_that_are_no_probabilities_count_as_failures(store: Store, scores: tuple[float, ...]) -> None:
    ids = add_rows(store, ["one", "two"])
    spec = spec_of(store, task_of(SENTIMENT))
    runs.plan(store, spec.run_id, limit=None)
    good, bad = facts_for(spec, ids)
    ingest(store, [good, msgspec.structs.replace(bad, logprobs=scores)])
    shown = {item.row_id: item.label for item in labels.page(store, spec.run_id, "sentiment")}
    assert shown == {ids[0]: good.label, ids[1]: None}


def test_an_unknown_run_or_dimension_is_explained(store: Store) -> None:
    spec = labeled_run(store, ["a"])
    with pytest.raises(RunError, match="no such run"):
        labels.page(store, "nope", "sentiment")
    with pytest.raises(RunError, match="does not label 'mood'"):
        labels.shares(store, spec.run_id, "mood")
