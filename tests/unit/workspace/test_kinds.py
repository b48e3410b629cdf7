"""Every kind of answer: how it is read in Python, in SQL, and as people and files write it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from calibration.logprobs import FloatArray, log_softmax
from tests.seeding import add_rows, fact_of, ingest, spec_of
from workspace import calibrators, decisions, kinds, labels, runs
from workspace.answers import FIRM
from workspace.decisions import DecisionEvent
from workspace.errors import RunError, WinnowError
from workspace.facts import Fact, RunSpec
from workspace.store import Connection, Store, open_store
from workspace.task import NO_LABELS, Dimension, Label, Task, join_labels, split_labels
from workspace.truth import known_rows

TAGS = Dimension(
    name="tags",
    question="Which apply?",
    kind="multi",
    labels=(Label(name="a, b"), Label(name="c"), Label(name="d")),
)
MARK = Dimension(name="mark", question="How good?", kind="score", minimum=1, maximum=5)
TASK = Task(name="kinds", dimensions=(TAGS, MARK))
NAMES = TAGS.label_names

logprob = st.floats(-25, -1e-6)
three = st.tuples(logprob, logprob, logprob)
five = st.tuples(logprob, logprob, logprob, logprob, logprob)


def seeded(
    store: Store, tags: Sequence[Sequence[float]], marks: Sequence[Sequence[float]]
) -> tuple[RunSpec, list[str]]:
    ids = add_rows(store, [f"text {i}" for i in range(len(tags))])
    spec = spec_of(store, TASK)
    runs.plan(store, spec.run_id, limit=None)
    facts: list[Fact] = []
    for id, both in zip(ids, zip(tags, marks, strict=True), strict=True):
        for dimension, said in zip((TAGS, MARK), both, strict=True):
            fact = fact_of(
                spec.run_id, id, dimension.name, dimension.label_names, np.exp(said).tolist(), seq=len(facts)
            )
            facts.append(fact)
    ingest(store, facts)
    return spec, ids


def odds(logprobs: FloatArray) -> FloatArray:
    clipped: FloatArray = np.clip(logprobs - np.log1p(-np.exp(logprobs)), -FIRM, FIRM)
    return clipped


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(three, five), min_size=1, max_size=6), st.sampled_from([0.5, 1.0, 3.0]))
def test_sql_reads_every_kind_as_python_does(
    drawn: list[tuple[tuple[float, ...], tuple[float, ...]]], temperature: float
) -> None:
    tags = np.array([row[0] for row in drawn])
    marks = log_softmax(np.array([row[1] for row in drawn]))
    fair_odds = odds(tags) - np.maximum(odds(tags).mean(axis=0), 0.0)
    fair_marks = log_softmax((marks - 0.5 * marks.mean(axis=0)) / temperature)
    chances = 1 / (1 + np.exp(-fair_odds / temperature))
    means = np.array([kinds.score_of(MARK.label_names, row) for row in fair_marks])
    assume(
        (np.abs(fair_odds) > 1e-6).all() and (np.abs(means[:, 0] % 1 - 0.5) > 1e-6).all()
    )  # ties may go either way
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "w.duckdb")
        try:
            spec, ids = seeded(store, tags.tolist(), marks.tolist())
            for dimension in ("tags", "mark"):
                calibrators.save(store, spec.run_id, dimension, "temperature", {"temperature": temperature}, {})
            found_tags = {row.row_id: row for row in labels.page(store, spec.run_id, "tags")}
            found_marks = {row.row_id: row for row in labels.page(store, spec.run_id, "mark")}
        finally:
            store.close()
    for place, id in enumerate(ids):
        label, confidence = kinds.label_of("multi", NAMES, np.log(chances[place]))
        assert (found_tags[id].label, found_tags[id].value) == (label, None)
        assert found_tags[id].confidence == pytest.approx(confidence, abs=1e-7)
        assert found_tags[id].probabilities == pytest.approx(tuple(chances[place]), abs=1e-7)
        label, confidence = kinds.label_of("score", MARK.label_names, fair_marks[place])
        assert found_marks[id].label == label
        assert found_marks[id].confidence == pytest.approx(confidence, abs=1e-7)
        assert (found_marks[id].value, found_marks[id].spread) == pytest.approx(tuple(means[place]), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        ("multi", "c|d", "c|d"),
        ("multi", "d; C", "c|d"),
        ("multi", " D , c ", "c|d"),
        ("multi", "a, b", "a, b"),
        ("multi", "a, b|d", "a, b|d"),
        ("multi", "a, b; d", "a, b|d"),
        ("multi", '["d", "a, b"]', "a, b|d"),
        ("multi", "[]", NO_LABELS),
        ("multi", "", NO_LABELS),
        ("multi", "(None)", NO_LABELS),
        ("multi", "a", None),
        ("multi", "c, x", None),
        ("multi", "[1]", None),
        ("multi", "[" * 100_000, None),
        ("single", " C ", "c"),
        ("single", "c|d", None),
        ("single", "", None),
        ("score", "3", "3"),
        ("score", "3.0", "3"),
        ("score", " +3 ", "3"),
        ("score", "3.5", None),
        ("score", "nan", None),
        ("score", "1e400", None),
        ("score", "9", None),
    ],
)
def test_answers_are_read_as_people_and_files_write_them(kind: str, written: str, meant: str | None) -> None:
    known = MARK.label_names if kind == "score" else NAMES
    assert kinds.reader(kind, known)(written) == meant


@given(st.sets(st.sampled_from(NAMES)))
def test_a_multi_label_is_read_back_from_every_way_it_is_written(chosen: set[str]) -> None:
    read = kinds.reader("multi", NAMES)
    joined = join_labels(chosen, NAMES)
    assert set(split_labels(joined)) == chosen
    for written in (joined, json.dumps(sorted(chosen)), "; ".join(sorted(chosen, reverse=True))):
        assert read(written) == joined


def test_hierarchical_labels_are_summed_by_level() -> None:
    numbers = [("LOC:city", 3), ("LOC:country", 2), ("PER", 4), ("NUM:date:year", 1)]
    assert kinds.levels("NUM:date:year") == ("NUM", "date", "year")
    assert kinds.by_level(numbers) == [("LOC", 5), ("PER", 4), ("NUM", 1)]
    assert kinds.by_level(numbers, 2) == [("LOC:city", 3), ("LOC:country", 2), ("PER", 4), ("NUM:date", 1)]
    assert sum(number for _, number in kinds.by_level(numbers, 3)) == 10


YES, NO = math.log(0.9), math.log(0.1)
LOW = tuple(math.log(p) for p in (0.6, 0.1, 0.1, 0.1, 0.1))
HIGH = tuple(reversed(LOW))


@pytest.fixture
def two(store: Store) -> tuple[RunSpec, list[str]]:
    """Two rows whose answers mirror each other, so that no bias is left: tags "a, b|c" and "d", marks 2 and 4."""
    return seeded(store, [(YES, YES, NO), (NO, NO, YES)], [LOW, HIGH])


def test_shares_count_a_row_for_each_of_its_labels(store: Store, two: tuple[RunSpec, list[str]]) -> None:
    spec, _ = two
    assert labels.shares(store, spec.run_id, "tags") == [("a, b", 1), ("c", 1), ("d", 1), (NO_LABELS, 0)]
    assert [row.label for row in labels.page(store, spec.run_id, "tags", label="c")] == ["a, b|c"]
    assert dict(labels.shares(store, spec.run_id, "mark")) == {"1": 0, "2": 1, "3": 0, "4": 1, "5": 0}


def decide(store: Store, spec: RunSpec, dimension: str, row: str, label: str, *, blind: bool = False) -> None:
    event = DecisionEvent(0, row, "modify", label=label, blind=blind)
    session = f"{dimension}{row}{label}"
    decisions.record(
        store, session=session, run_id=spec.run_id, dimension=dimension, reviewer="ada", events=[event]
    )


def test_people_decide_on_every_kind(store: Store, two: tuple[RunSpec, list[str]]) -> None:
    spec, ids = two
    decide(store, spec, "tags", ids[0], "d|c")
    decide(store, spec, "tags", ids[1], NO_LABELS)
    decide(store, spec, "mark", ids[0], "5")
    shown = {row.row_id: row for row in labels.page(store, spec.run_id, "tags")}
    assert (shown[ids[0]].label, shown[ids[1]].label) == ("c|d", NO_LABELS)
    mark = next(row for row in labels.page(store, spec.run_id, "mark") if row.row_id == ids[0])
    assert (mark.label, mark.value, mark.spread, mark.confidence) == ("5", 5.0, 0.0, 1.0)
    assert dict(labels.shares(store, spec.run_id, "tags"))[NO_LABELS] == 1
    for dimension, label in (("tags", "c|x"), ("tags", ""), ("mark", "6"), ("mark", "1|2")):
        with pytest.raises(WinnowError, match="not one of the labels"):
            decide(store, spec, dimension, ids[0], label)


def add_gold(store: Store, *values: tuple[str, str, str]) -> None:
    def work(con: Connection) -> None:
        con.executemany("insert into gold values (?, ?, ?, 'seed')", values)

    store.write(work)


def test_evidence_of_a_multi_dimension_is_yes_or_no_for_each_label(
    store: Store, two: tuple[RunSpec, list[str]]
) -> None:
    spec, ids = two
    add_gold(store, (ids[0], "tags", '["c"]'), (ids[1], "tags", "no such label"), (ids[0], "mark", "2.0"))
    decide(store, spec, "tags", ids[1], "d", blind=True)
    found = labels.evidence(store, spec.run_id, "tags")
    assert (len(found.row_ids), found.rows, found.labels) == (6, 2, ("applies", "does not"))
    np.testing.assert_allclose(np.exp(found.logprobs).sum(axis=1), 1.0)
    truth = dict(zip(ids, ([1, 0, 1], [1, 1, 0]), strict=True))
    assert list(found.truth) == [place for id in sorted(ids) for place in truth[id]]
    said = dict(zip(ids, ([0.9, 0.9, 0.1], [0.1, 0.1, 0.9]), strict=True))
    np.testing.assert_allclose(np.exp(found.logprobs[:, 0]), [p for id in sorted(ids) for p in said[id]])
    assert sorted(found.source) == ["blind"] * 3 + ["gold"] * 3
    assert [known_rows(store, spec.run_id, name) for name in ("tags", "mark")] == [2, 1]
    alone = labels.evidence(store, spec.run_id, "tags", label="c")
    assert list(alone.truth) == [truth[id][1] for id in sorted(ids)]
    marks = labels.evidence(store, spec.run_id, "mark")
    assert (marks.row_ids, list(marks.truth)) == ([ids[0]], [1])
    for dimension, label in (("tags", "x"), ("mark", "1")):
        with pytest.raises(RunError):
            labels.evidence(store, spec.run_id, dimension, label=label)


def test_rows_left_out_by_a_rule_have_no_label_and_are_no_failure(
    store: Store, two: tuple[RunSpec, list[str]]
) -> None:
    spec, ids = two
    (extra,) = add_rows(store, ["buy now"], first=2)
    runs.plan(store, spec.run_id, limit=None)
    why = {"kind": "drop", "logprobs": (), "label": "", "warnings": ("rule:advert",)}
    ingest(
        store,
        [
            fact_of(
                spec.run_id, extra, dimension.name, dimension.label_names, (1.0,), seq=seq, author="other", **why
            )
            for seq, dimension in enumerate((TAGS, MARK))
        ],
    )
    row = labels.page(store, spec.run_id, "tags", after=1)[0]
    assert (row.label, row.confidence, row.dropped, row.error) == (None, None, "advert", "")
    (run,) = runs.list_runs(store)
    assert (run.rows, run.labeled_rows, run.failed_rows, run.dropped_rows, run.rows_left) == (3, 2, 0, 1, 0)
    assert {item.row_id for item in decisions.queue(store, spec.run_id, "tags", session="s")} == set(ids)
    assert decisions.counts(store, spec.run_id, "tags").waiting == 2
    assert labels.below(store, spec.run_id, None, 1.0) == sorted(ids)
    (said,) = labels.answers(store, spec.run_id, "tags", extra)
    assert (said.labeler, said.label, said.counts) == ("rule", None, False)


def test_labels_of_rules_neither_have_a_bias_nor_make_one(store: Store, two: tuple[RunSpec, list[str]]) -> None:
    spec, _ = two
    before = labels.page(store, spec.run_id, "mark")
    (extra,) = add_rows(store, ["!!!"], first=2)
    sure = tuple(1 - 4e-6 if place == 4 else 1e-6 for place in range(5))
    fact = fact_of(spec.run_id, extra, "mark", MARK.label_names, sure, author="other", warnings=("rule:loud",))
    ingest(store, [fact])
    *model, ruled = labels.page(store, spec.run_id, "mark")
    assert model == before
    assert (ruled.label, ruled.labeler) == ("5", "rule:loud")
    assert ruled.probabilities == pytest.approx(sure)
    assert {row.labeler for row in model} == {spec.model.name}
