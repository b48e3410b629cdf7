"""Runs that vote, decide in another's place or explain: what counts then, and what each of them said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest

from calibration.bias import correct_label_bias
from calibration.logprobs import log_softmax
from calibration.pooling import log_opinion_pool
from tests.seeding import add_rows, fact_of, ingest, spec_of, task_of
from workspace import calibrators, decisions, labels, links, runs, votes
from workspace.decisions import DecisionEvent
from workspace.errors import RunError
from workspace.facts import Fact, RunSpec
from workspace.labels import CurrentLabel
from workspace.links import Kind
from workspace.store import Connection, Store

ABC = ("a", "b", "c")
TASK = task_of(ABC, "feeling")
ROWS = 6
RNG = np.random.default_rng(7)
SCORES = {name: log_softmax(RNG.normal(0, 2, (ROWS, 3))) for name in ("first", "second", "third")}


def another(spec: RunSpec, name: str, **changes: object) -> RunSpec:
    model = msgspec.structs.replace(spec.model, name=name, digest=name)
    return msgspec.structs.replace(spec, run_id=name, model=model, **changes)


@pytest.fixture
def ids(store: Store) -> list[str]:
    return add_rows(store, [f"text {i}" for i in range(ROWS)])


@pytest.fixture
def spec(store: Store, ids: list[str]) -> RunSpec:
    """The run everything is about, answered by the model "first"."""
    spec = another(spec_of(store, TASK), "first")
    runs.create(store, spec)
    say(store, spec, ids, SCORES["first"])
    return spec


def say(store: Store, spec: RunSpec, ids: Sequence[str], scores: np.ndarray, **changes: object) -> None:
    """Plan these rows into a run and answer them."""
    runs.plan_rows(store, spec.run_id, ids)
    labels_here = spec.dimensions[0].labels
    ingest(
        store,
        [
            fact_of(
                spec.run_id,
                id,
                "feeling",
                labels_here,
                np.exp(row),
                **{"author": spec.run_id, "seq": seq, **changes},
            )
            for seq, (id, row) in enumerate(zip(ids, scores, strict=True))
        ],
    )


def linked(
    store: Store, spec: RunSpec, name: str, ids: Sequence[str], kind: Kind, weight: float = 1.0, **changes: object
) -> RunSpec:
    other = another(spec, name)
    runs.create(store, other)
    rows = range(len(ids))
    say(store, other, ids, SCORES[name][list(rows)], **changes)
    links.add(store, spec.run_id, other.run_id, kind, weight)
    return other


def current(store: Store, spec: RunSpec) -> Mapping[str, CurrentLabel]:
    return {row.row_id: row for row in labels.page(store, spec.run_id, "feeling")}


def probabilities(store: Store, spec: RunSpec, ids: Sequence[str]) -> np.ndarray:
    found = current(store, spec)
    return np.array([found[id].probabilities for id in ids])


def test_a_vote_is_the_pool_of_each_ones_corrected_answers(store: Store, spec: RunSpec, ids: list[str]) -> None:
    linked(store, spec, "second", ids, "vote", 2.0)
    linked(store, spec, "third", ids, "vote", 0.5)
    corrected = [correct_label_bias(SCORES[name]) for name in ("first", "second", "third")]
    pooled = log_opinion_pool(corrected, [1.0, 2.0, 0.5])
    np.testing.assert_allclose(probabilities(store, spec, ids), np.exp(pooled), atol=1e-9)
    shown = current(store, spec)[ids[0]]
    assert set(shown.labeler.split(" + ")) == {"first", "second", "third"}
    assert shown.label == ABC[int(pooled[0].argmax())]
    calibrators.save(store, spec.run_id, "feeling", "temperature", {"temperature": 2.0}, {})
    np.testing.assert_allclose(probabilities(store, spec, ids), np.exp(log_softmax(pooled / 2)), atol=1e-9)


def test_those_vote_who_have_an_answer(store: Store, spec: RunSpec, ids: list[str]) -> None:
    """A failure of one is no failure, and rows the run itself has not come to stay out of it."""
    (new,) = add_rows(store, ["new"], first=ROWS)
    linked(store, spec, "second", ids[:2], "vote")
    say(store, another(spec, "second"), [new], SCORES["second"][:1], author="elsewhere")
    found = current(store, spec)
    assert set(found) == set(ids)
    assert [found[id].labeler for id in ids] == ["first + second"] * 2 + ["first"] * 4
    runs.plan_rows(store, spec.run_id, [new])
    failed = fact_of(spec.run_id, new, "feeling", ABC, (1.0,), author="first", seq=ROWS)
    ingest(store, [msgspec.structs.replace(failed, kind="error", logprobs=(), error="no answer")])
    saved = current(store, spec)[new]
    assert (saved.labeler, saved.error, saved.label is not None) == ("second", "", True)
    assert decisions.counts(store, spec.run_id, "feeling").waiting == ROWS + 1


def test_who_decides_in_its_place_is_heard_instead_with_their_own_calibrator(
    store: Store, spec: RunSpec, ids: list[str]
) -> None:
    before = probabilities(store, spec, ids)
    linked(store, spec, "second", ids[:4], "arbitrate")
    linked(store, spec, "third", ids[:2], "arbitrate")  # newer, so it wins where both answered
    calibrators.save(store, "third", "feeling", "temperature", {"temperature": 3.0}, {})
    third = log_softmax(correct_label_bias(SCORES["third"][:2]) / 3)
    second = correct_label_bias(SCORES["second"][:4])
    found = probabilities(store, spec, ids)
    np.testing.assert_allclose(found[:2], np.exp(third), atol=1e-9)
    np.testing.assert_allclose(found[2:4], np.exp(second[2:4]), atol=1e-9)
    np.testing.assert_allclose(found[4:], before[4:], atol=1e-9)
    assert [current(store, spec)[id].labeler for id in ids] == ["third"] * 2 + ["second"] * 2 + ["first"] * 2
    links.remove(store, spec.run_id, "second", "arbitrate")
    links.remove(store, spec.run_id, "third", "arbitrate")
    np.testing.assert_allclose(probabilities(store, spec, ids), before, atol=1e-12)


def test_evidence_is_about_the_run_itself(store: Store, spec: RunSpec, ids: list[str]) -> None:
    add_gold(store, dict.fromkeys(ids, "a"))
    before = labels.evidence(store, spec.run_id, "feeling")
    linked(store, spec, "second", ids[:4], "arbitrate")
    np.testing.assert_allclose(labels.evidence(store, spec.run_id, "feeling").logprobs, before.logprobs)
    linked(store, spec, "third", ids, "vote")
    voted = labels.evidence(store, spec.run_id, "feeling")
    assert voted.row_ids == before.row_ids
    assert not np.allclose(voted.logprobs, before.logprobs)


def test_labels_in_another_order_are_the_same_labels(store: Store, spec: RunSpec, ids: list[str]) -> None:
    turned = msgspec.structs.replace(spec.dimensions[0], labels=("c", "a", "b"), words=("c", "a", "b"))
    other = another(spec, "turned", dimensions=(turned,))
    runs.create(store, other)
    say(store, other, ids, SCORES["second"][:, [2, 0, 1]])
    links.add(store, spec.run_id, other.run_id, "arbitrate")
    np.testing.assert_allclose(
        probabilities(store, spec, ids), np.exp(correct_label_bias(SCORES["second"])), atol=1e-9
    )


def test_other_labels_are_not_heard(store: Store, spec: RunSpec, ids: list[str]) -> None:
    before = probabilities(store, spec, ids)
    asked = msgspec.structs.replace(spec.dimensions[0], labels=("x", "y", "z"))
    for name, dimension in (("other", asked), ("absent", msgspec.structs.replace(asked, name="else"))):
        other = another(spec, name, dimensions=(dimension,))
        runs.create(store, other)
        say(store, other, ids, SCORES["second"])
        links.add(store, spec.run_id, other.run_id, "arbitrate")
        links.add(store, spec.run_id, other.run_id, "vote")
    np.testing.assert_allclose(probabilities(store, spec, ids), before, atol=1e-12)


def test_explanations_are_shown_and_change_nothing_else(store: Store, spec: RunSpec, ids: list[str]) -> None:
    before = current(store, spec)
    linked(store, spec, "second", ids[:1], "explain", explanation="because of the words")
    found = current(store, spec)
    assert found[ids[0]] == msgspec.structs.replace(before[ids[0]], explanation="because of the words")
    assert found[ids[1]] == before[ids[1]]


def test_every_answer_can_be_read(store: Store, spec: RunSpec, ids: list[str]) -> None:
    linked(store, spec, "second", ids, "arbitrate", node="far", explanation="so it seems")
    linked(store, spec, "third", ids, "vote")
    own, *others = labels.answers(store, spec.run_id, "feeling", ids[0])
    assert (own.kind, own.model, own.counts) == ("", "first", False)
    by_kind = {said.kind: said for said in others}
    arbiter = by_kind["arbitrate"]
    assert (arbiter.model, arbiter.node, arbiter.counts, arbiter.explanation) == (
        "second",
        "far",
        True,
        "so it seems",
    )
    np.testing.assert_allclose(arbiter.probabilities, np.exp(correct_label_bias(SCORES["second"])[0]), atol=1e-9)
    assert (by_kind["vote"].model, by_kind["vote"].counts) == ("third", False)
    links.remove(store, spec.run_id, "second", "arbitrate")
    assert [said.counts for said in labels.answers(store, spec.run_id, "feeling", ids[0])] == [True, True]
    event = DecisionEvent(0, ids[0], "modify", label="b", comment="surely")
    decisions.record(store, session="s", run_id=spec.run_id, dimension="feeling", reviewer="ada", events=[event])
    *models, person = labels.answers(store, spec.run_id, "feeling", ids[0])
    assert [said.counts for said in models] == [False, False]
    assert (person.labeler, person.reviewer, person.label, person.counts, person.comment) == (
        *("human", "ada", "b", True),
        "surely",
    )
    with pytest.raises(RunError):
        labels.answers(store, spec.run_id, "else", ids[0])


def test_rows_below_a_confidence_are_those_nobody_decided(store: Store, spec: RunSpec, ids: list[str]) -> None:
    confidence = {row.row_id: row.confidence or 0.0 for row in current(store, spec).values()}
    middle = sorted(confidence.values())[3]
    doubtful = {id for id, sure in confidence.items() if sure < middle}
    assert set(labels.below(store, spec.run_id, "feeling", middle)) == doubtful
    assert labels.below(store, spec.run_id, None, middle) == sorted(doubtful)
    first = min(doubtful)
    decisions.record(
        store,
        session="s",
        run_id=spec.run_id,
        dimension="feeling",
        reviewer="ada",
        events=[DecisionEvent(0, first, "reject")],
    )
    assert set(labels.below(store, spec.run_id, "feeling", middle)) == doubtful - {first}


def test_links_are_kept_once_and_make_sense(store: Store, spec: RunSpec, ids: list[str]) -> None:
    other = linked(store, spec, "second", ids, "vote")
    links.add(store, spec.run_id, other.run_id, "vote", 3.0)
    links.add(store, spec.run_id, other.run_id, "explain")
    assert [(link.kind, link.weight) for link in links.of(store, spec.run_id)] == [("explain", 1.0), ("vote", 3.0)]
    assert links.of(store, other.run_id) == []
    foreign = another(spec_of(store, task_of(ABC, "else")), "foreign")
    runs.create(store, foreign)
    for id, weight in (
        (spec.run_id, 1.0),
        ("nope", 1.0),
        ("foreign", 1.0),
        ("second", 0.0),
        ("second", float("nan")),
    ):
        with pytest.raises(RunError):
            links.add(store, spec.run_id, id, "vote", weight)


def test_chosen_rows_are_planned_once_in_their_order(store: Store, spec: RunSpec, ids: list[str]) -> None:
    other = another(spec, "second")
    runs.create(store, other)
    chosen = [ids[3], ids[0], ids[3]]
    assert runs.plan_rows(store, "second", [*chosen, "unknown"]) == 2
    assert runs.plan_rows(store, "second", [ids[5], ids[0]]) == 1
    assert runs.row_ids(store, "second") == [ids[3], ids[0], ids[5]]
    with pytest.raises(RunError):
        runs.plan_rows(store, "nope", ids)


def add_gold(store: Store, values: Mapping[str, str]) -> None:
    def work(con: Connection) -> None:
        con.executemany(
            "insert into gold values (?, 'feeling', ?, 'seed')", [[id, label] for id, label in values.items()]
        )

    store.write(work)


def sure_facts(run: str, ids: Sequence[str], said: Sequence[str], **changes: object) -> list[Fact]:
    return [
        fact_of(
            run,
            id,
            "feeling",
            ABC,
            [0.8 if label == name else 0.1 for name in ABC],
            **{"author": run, "seq": seq, **changes},
        )
        for seq, (id, label) in enumerate(zip(ids, said, strict=True))
    ]


def test_voices_are_worth_what_they_have_shown(store: Store) -> None:
    ids = add_rows(store, [f"text {i}" for i in range(60)])
    true = [ABC[i % 3] for i in range(60)]
    wrong = [ABC[(i + 1) % 3] for i in range(60)]
    spec = another(spec_of(store, TASK), "good")
    for name, right, seconds in (("good", 54, 0.1), ("poor", 30, 0.05)):
        runs.create(store, another(spec, name))
        runs.plan_rows(store, name, ids)
        said = true[:right] + wrong[right:]
        ingest(store, sure_facts(name, ids, said, seconds=seconds, node=f"node of {name}"))
    unknown = votes.weights(store, ["good", "poor"])
    assert [(fit.agreement, fit.checked) for fit in unknown] == [(None, 0), (None, 0)]
    assert unknown[0].weight < unknown[1].weight < 0.51  # the faster one, by a little
    add_gold(store, dict(zip(ids, true, strict=True)))
    good, poor = votes.weights(store, ["good", "poor"])
    assert (good.model, good.agreement, good.checked) == ("good", 0.9, 60)
    assert poor.agreement == 0.5
    assert [good.rows_per_s, poor.rows_per_s] == pytest.approx([10, 20])
    assert good.weight > 0.65
    assert good.weight + poor.weight == pytest.approx(1)
    (node,) = votes.per_node(store, "good")
    assert (node.node, node.model, node.rows, node.agreement, node.checked) == (
        "node of good",
        "good",
        60,
        0.9,
        60,
    )
    with pytest.raises(RunError):
        votes.weights(store, ["good", "nope"])
