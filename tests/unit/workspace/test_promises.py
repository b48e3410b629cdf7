"""Promises: which rows they accept and go on accepting, how they end, and what exports say of them."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from tests.seeded_kinds import kinds_run
from tests.seeding import SENTIMENT, add_rows, fact_of, facts_for, ingest, spec_of
from tests.unit.workspace.examples import labeled_run, texts
from workspace import accepted, calibrators, decisions, exports, fixing, labels, links, monitor, promises, runs
from workspace.decisions import DecisionEvent
from workspace.errors import RunError
from workspace.facts import Fact, RunSpec
from workspace.promises import Kept, Part
from workspace.scores import read_now
from workspace.store import Store
from workspace.task import Dimension, Label, Task

MOOD = "sentiment"
HOSTILE = ("x", 'quo"te', "a, b; c", "UP", "tab\there", "'; drop table rows; --", "größer")
KINDS = Task(
    name="kinds",
    dimensions=(
        Dimension(name="topic", question="What about?", labels=tuple(Label(name=name) for name in "abc")),
        Dimension(name="tags", kind="multi", question="Which?", labels=tuple(Label(name=name) for name in "uvw")),
        Dimension(name="mark", kind="score", question="How good?", minimum=0, maximum=5),
    ),
)
TAGS = Task(
    name="kinds",
    dimensions=(
        Dimension(
            name="tags", kind="multi", question="Which?", labels=tuple(Label(name=name) for name in HOSTILE)
        ),
        Dimension(name="tags_x", question="Is it?", kind="boolean"),
        Dimension(name="tags_up", question="Is it?", kind="boolean"),
    ),
)


@pytest.fixture
def spec(store: Store) -> RunSpec:
    return labeled_run(store, texts(50))


def promised(
    store: Store,
    spec: RunSpec,
    row_ids: list[str],
    *,
    dimension: str = MOOD,
    label: str = "",
    heard: str | None = None,
    parts: list[Part] | None = None,
) -> Kept:
    with store.read() as con:
        reading = read_now(con, spec.run_id, dimension)
    return promises.keep(
        store,
        spec.run_id,
        dimension,
        label=label,
        heard=promises.heard_with(store, spec.run_id, dimension) if heard is None else heard,
        epsilon=0.05,
        delta=0.05,
        tolerance=0.0,
        parts=parts or [Part(None, 0.8, len(row_ids), 2, 0, 0.04)],
        row_ids=row_ids,
        sentence="So many rows can be accepted.",
        reading=reading,
    )


def exported(store: Store, spec: RunSpec, folder: Path) -> dict[str, dict[str, Any]]:
    path = exports.export(store, spec.run_id, folder / "out.jsonl", "jsonl").path
    return {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}


def test_a_promise_marks_the_rows_it_accepted_in_exports(store: Store, spec: RunSpec, tmp_path: Path) -> None:
    assert "sentiment_accepted" not in next(iter(exported(store, spec, tmp_path).values()))
    shown = sorted(labels.page(store, spec.run_id, MOOD), key=lambda row: -(row.confidence or 0))
    sure = [row.row_id for row in shown[:20]]
    kept = promised(store, spec, sure)
    decisions.record(
        store,
        session="s",
        run_id=spec.run_id,
        dimension=MOOD,
        reviewer="ann",
        events=[
            DecisionEvent(0, shown[-1].row_id, "modify", SENTIMENT[0]),
            DecisionEvent(1, sure[0], "reject"),
        ],
    )
    # As sure as the surest, but it came later: nobody counted it.
    (new,) = add_rows(store, ["later"], first=50)
    runs.plan(store, spec.run_id, limit=None)
    ingest(store, facts_for(spec, [new], author="later"))
    found = {id for id, row in exported(store, spec, tmp_path).items() if row["sentiment_accepted"]}
    assert found == {*sure[1:], shown[-1].row_id}
    said = monitor.stats(store, spec.run_id)["calibration"][MOOD]["promise"]
    assert (said["sentence"], said["column"]) == (kept.sentence, "sentiment_accepted")
    assert (said["threshold"], said["rows"]) == (0.8, 20)

    promises.withdraw(store, spec.run_id, MOOD)
    assert "sentiment_accepted" not in next(iter(exported(store, spec, tmp_path).values()))
    assert monitor.stats(store, spec.run_id)["calibration"][MOOD]["promise"] is None
    with store.read() as con:
        assert con.execute("select * from accepted").fetchall() == []


def test_a_row_answered_after_the_promise_is_no_part_of_it(store: Store, tmp_path: Path) -> None:
    spec = labeled_run(store, texts(20), labeled=10)
    ids = [row.row_id for row in labels.page(store, spec.run_id, MOOD)]
    promised(store, spec, ids)
    ingest(store, facts_for(spec, runs.row_ids(store, spec.run_id)[10:], author="later"))
    rows = exported(store, spec, tmp_path)
    assert len(rows) == 20
    assert {id for id, row in rows.items() if row["sentiment_accepted"]} == set(ids)


def test_a_promise_of_an_earlier_layout_has_to_be_accepted_again(store: Store, spec: RunSpec) -> None:
    promised(store, spec, runs.row_ids(store, spec.run_id)[:3])
    store.write(lambda con: con.execute("delete from accepted").fetchall())  # it did not say which rows
    assert promises.in_force(store, spec.run_id, MOOD) is None


def test_a_promise_ends_with_the_calibrator_it_was_made_under(store: Store, spec: RunSpec) -> None:
    ids = runs.row_ids(store, spec.run_id)[:3]
    kept = promised(store, spec, ids)
    assert promises.in_force(store, spec.run_id, MOOD) == kept
    calibrators.save(store, spec.run_id, MOOD, "temperature", {"temperature": 2.0}, {})
    assert promises.in_force(store, spec.run_id, MOOD) is None
    with pytest.raises(RunError, match="calibrated again"):
        promised(store, spec, ids, heard="")
    again = promised(store, spec, ids)
    assert promises.in_force(store, spec.run_id, MOOD) == again
    assert monitor.stats(store, spec.run_id)["calibration"][MOOD]["calibrator"]["method"] == "temperature"
    calibrators.clear(store, spec.run_id, MOOD)
    assert promises.in_force(store, spec.run_id, MOOD) is None


def test_a_promise_ends_when_other_runs_are_heard_and_is_back_when_they_are_not(
    store: Store, spec: RunSpec
) -> None:
    other = msgspec.structs.replace(spec, run_id="other")
    runs.create(store, other)
    ids = runs.row_ids(store, spec.run_id)[:3]
    for kind in ("vote", "arbitrate"):
        kept = promised(store, spec, ids)
        links.add(store, spec.run_id, other.run_id, "explain")
        assert promises.in_force(store, spec.run_id, MOOD) == kept  # says why, and changes no label
        links.add(store, spec.run_id, other.run_id, kind)
        assert promises.in_force(store, spec.run_id, MOOD) is None
        links.remove(store, spec.run_id, other.run_id, kind)
        assert promises.in_force(store, spec.run_id, MOOD) == kept
    links.add(store, spec.run_id, other.run_id, "arbitrate")
    assert promises.fixed_for_nothing(store, spec.run_id, MOOD)
    promises.let_go(store, spec.run_id, MOOD)
    assert not promises.fixed_for_nothing(store, spec.run_id, MOOD)
    promised(store, spec, ids)
    assert not promises.fixed_for_nothing(store, other.run_id, MOOD)  # it decides for a run that needs it
    calibrators.save(store, other.run_id, MOOD, "temperature", {"temperature": 2.0}, {})
    assert promises.in_force(store, spec.run_id, MOOD) is None


def test_every_label_has_a_promise_of_its_own_whatever_its_name(store: Store, tmp_path: Path) -> None:
    spec = kinds_run(store, TAGS, add_rows(store, texts(12)))
    ids = runs.row_ids(store, spec.run_id)
    about = {label: ids[: place + 1] for place, label in enumerate(HOSTILE)}
    for label, row_ids in about.items():
        promised(store, spec, row_ids, dimension="tags", label=label)
    whole = promised(store, spec, ids[:8], dimension="tags")
    other = promised(store, spec, ids[:9], dimension="tags_x")
    promised(store, spec, ids[:10], dimension="tags_up")
    told = accepted.told(store, spec.run_id)
    assert [(one.kept.dimension, one.kept.label, one.column) for one in told] == [
        ("tags", "", "tags_accepted"),
        ("tags", "x", "tags_x_accepted_1"),
        ("tags", 'quo"te', 'tags_quo"te_accepted'),
        ("tags", "a, b; c", "tags_a, b; c_accepted"),
        ("tags", "UP", "tags_UP_accepted_1"),
        ("tags", "tab\there", "tags_tab here_accepted"),
        ("tags", "'; drop table rows; --", "tags_'; drop table rows; --_accepted"),
        ("tags", "größer", "tags_größer_accepted"),
        ("tags_x", "", "tags_x_accepted"),
        ("tags_up", "", "tags_up_accepted"),
    ]
    assert (told[0].kept, told[-2].kept) == (whole, other)
    for format in ("csv", "parquet"):
        exports.export(store, spec.run_id, tmp_path / f"out.{format}", format)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    with store.read() as con:
        table = con.sql(f"from '{tmp_path / 'out.parquet'}'").to_arrow_table().to_pylist()
    tables = (lines, table, list(exported(store, spec, tmp_path).values()))
    for one in told:
        expected = [place < one.kept.rows for place in range(len(ids))]
        for rows in tables:
            assert [row[one.column] in (True, "true") for row in rows] == expected, one.column
    said = monitor.stats(store, spec.run_id)["calibration"]["tags"]
    assert said["promise"]["rows"] == 8
    assert {label: said["promises_of_labels"][label]["rows"] for label in HOSTILE} == {
        label: len(row_ids) for label, row_ids in about.items()
    }

    promises.withdraw(store, spec.run_id, "tags", "x")
    left = [kept.label for kept in promises.all_in_force(store, spec.run_id, "tags")]
    assert left == ["", *HOSTILE[1:]]
    for wrong in ("nothing", "tags_x"):
        with pytest.raises(RunError, match="not asked about alone"):
            promised(store, spec, ids, dimension="tags", label=wrong)
    with pytest.raises(RunError, match="not asked about alone"):
        promised(store, spec, ids, dimension="tags_x", label="yes")


def test_every_domain_may_have_a_threshold_of_its_own(store: Store, spec: RunSpec) -> None:
    parts = [Part("mail", None, 0, 0, 0, 1.0), Part("news", 0.9, 2, 40, 1, 0.05)]
    kept = promised(store, spec, runs.row_ids(store, spec.run_id)[:2], parts=parts)
    assert kept.parts == tuple(parts)
    assert (kept.by_domain, kept.rows, kept.checked, kept.wrong, kept.bound) == (True, 2, 40, 1, 0.05)
    said = monitor.stats(store, spec.run_id)["calibration"][MOOD]["promise"]
    assert (said["rows"], said["bound"]) == (2, 0.05)
    assert said["domains"]["mail"] == {"threshold": None, "rows": 0, "checked": 0, "wrong": 0, "bound": 1.0}
    assert said["domains"]["news"]["threshold"] == 0.9
    again = promised(store, spec, runs.row_ids(store, spec.run_id)[:1])
    assert promises.all_in_force(store, spec.run_id, MOOD) == [again]
    assert not again.by_domain


@pytest.mark.parametrize("other", ["vote", "arbitrate"])
def test_what_was_accepted_stays_whatever_is_labeled_afterwards(
    store: Store, tmp_path: Path, other: Literal["vote", "arbitrate"]
) -> None:
    ids = add_rows(store, texts(60))
    spec = spec_of(store, KINDS)
    # The other model knows the labels in another order.
    theirs = msgspec.structs.replace(
        spec,
        run_id="other",
        dimensions=tuple(
            one if one.kind == "score" else msgspec.structs.replace(one, labels=one.labels[::-1])
            for one in spec.dimensions
        ),
    )
    runs.create(store, theirs)
    for one in (spec, theirs):
        runs.plan_rows(store, one.run_id, ids)
    rng = np.random.default_rng(5)

    def answer(one: RunSpec, rows: Sequence[str], leaning: float) -> None:
        """Answers that lean towards the first labels."""
        facts: list[Fact] = []
        for id, asked in itertools.product(rows, one.dimensions):
            lean = leaning * np.arange(len(asked.labels))[:: -1 if one is theirs else 1]
            scores = rng.normal(size=len(asked.labels)) - lean
            shares = 1 / (1 + np.exp(-scores)) if asked.kind == "multi" else np.exp(scores) / np.exp(scores).sum()
            author = f"{one.run_id} {leaning}"
            facts.append(
                fact_of(one.run_id, id, asked.name, asked.labels, shares.tolist(), author=author, seq=len(facts))
            )
        ingest(store, facts)

    first, later = ids[:20], ids[20:]
    answer(spec, first, 0.2)
    answer(theirs, first[::2], 0.1)
    fitted = calibrators.save(store, spec.run_id, "topic", "temperature", {"temperature": 1.7}, {"rows": 9})
    links.add(store, spec.run_id, theirs.run_id, other, 0.5)

    def shown(dimension: str) -> dict[str, tuple[str | None, tuple[float, ...]]]:
        page = labels.page(store, spec.run_id, dimension, limit=100)
        return {row.row_id: (row.label, row.probabilities) for row in page if row.row_id in first}

    def near(before: dict[str, Any], after: dict[str, Any]) -> bool:
        return all(np.allclose(before[id][1], after[id][1], atol=1e-9) for id in first)

    names = [asked.name for asked in spec.dimensions]
    before = {name: shown(name) for name in names}
    chosen = {name: sorted(first, key=lambda id: -max(before[name][id][1]))[:10] for name in names}
    for name in names:
        promised(store, spec, chosen[name], dimension=name)
        assert near(before[name], shown(name))  # that it is kept changes nothing
    active = calibrators.active(store, spec.run_id, "topic")
    assert active is not None
    assert (active.temperature, active.evidence, active.fitted_at) == (1.7, {"rows": 9}, fitted.fitted_at)
    assert calibrators.active(store, spec.run_id, "tags") is None  # nothing is corrected there
    answer(spec, later, 4.0)
    answer(theirs, later, 4.0)
    rows = exported(store, spec, tmp_path)
    assert len(rows) == 60
    for name in names:
        assert near(before[name], shown(name)), name
        assert {id for id, row in rows.items() if row[f"{name}_accepted"]} == set(chosen[name])
        assert {id: label for id, (label, _) in shown(name).items()} == {
            id: label for id, (label, _) in before[name].items()
        }
        promises.withdraw(store, spec.run_id, name)
        assert not near(before[name], shown(name)), name  # the bias is that of all answers again
        assert not promises.fixed_for_nothing(store, spec.run_id, name)
        with store.read() as con:
            assert not fixing.is_fixed(con, theirs.run_id, name)
