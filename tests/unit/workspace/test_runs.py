"""Runs grow and never shrink; facts come in once, in any overlap, without gaps."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seeding import SENTIMENT, add_rows, facts_for, ingest, spec_of, task_of
from tests.unit.workspace.examples import labeled_run, texts
from workspace import arrivals, rows, runs
from workspace.errors import RunError
from workspace.facts import Fact, RunSpec
from workspace.ids import row_id
from workspace.rows import scalar
from workspace.store import Store, open_store


@pytest.fixture
def spec(store: Store) -> RunSpec:
    add_rows(store, texts(20), ["x", "y"] * 10)
    return spec_of(store, task_of(SENTIMENT))


def planned_ids(store: Store, spec: RunSpec) -> list[str]:
    return [id for id, _ in runs.planned(store, spec.run_id)]


def all_facts(store: Store) -> list[tuple[object, ...]]:
    with store.read() as con:
        return con.execute(
            "select * replace (epoch_us(made_at) as made_at) from facts order by author, seq"
        ).fetchall()


def test_the_same_run_made_and_planned_twice_adds_nothing(store: Store, spec: RunSpec) -> None:
    runs.create(store, spec)
    runs.save_prompt(store, spec.prompt_id, spec.task_id, "{}")
    assert runs.spec(store, spec.run_id) == spec
    assert runs.plan(store, spec.run_id, limit=6) == 6
    assert runs.plan(store, spec.run_id, limit=6) == 0
    assert runs.plan(store, spec.run_id, limit=3) == 0
    assert runs.plan(store, spec.run_id, limit=8) == 2
    assert runs.plan(store, spec.run_id, limit=None) == 12
    assert runs.plan(store, spec.run_id, limit=None) == 0
    with store.read() as con:
        assert scalar(con, "select count(*) from runs") == 1
        assert scalar(con, "select count(*) from prompts") == 1


def test_first_takes_rows_in_loading_order_and_planning_order_is_kept(store: Store, spec: RunSpec) -> None:
    runs.plan(store, spec.run_id, limit=2, domain="y")
    runs.plan(store, spec.run_id, limit=5)
    expected = [row_id(f"text {number}") for number in (1, 3, 0, 2, 4)]
    assert planned_ids(store, spec) == expected
    assert runs.planned(store, spec.run_id, after=1, limit=2) == [(expected[1], "text 3"), (expected[2], "text 0")]
    assert runs.planned(store, spec.run_id, after=5) == []


def test_random_takes_the_smallest_ids_whatever_the_order_of_loading(store: Store, spec: RunSpec) -> None:
    runs.plan(store, spec.run_id, limit=4, sample="random")
    runs.plan(store, spec.run_id, limit=7, sample="random")
    assert planned_ids(store, spec) == sorted(map(row_id, texts(20)))[:7]


def test_a_limit_counts_the_rows_of_the_domain_or_import_it_is_for(store: Store, spec: RunSpec) -> None:
    again = [row_id(f"text {number}") for number in (2, 3)]
    store.write(
        lambda con: con.execute(
            "insert into repeats select unnest(?::varchar[]), 'second file', 1", [again]
        ).fetchall()
    )
    runs.plan(store, spec.run_id, limit=3)
    assert runs.plan(store, spec.run_id, limit=3, domain="y") == 2
    assert runs.plan(store, spec.run_id, limit=None, import_id="second file") == 0  # both are there by now
    assert runs.plan(store, spec.run_id, limit=None, import_id="no such file") == 0
    assert runs.plan(store, spec.run_id, limit=None, import_id="seed") == 15


def test_an_unknown_run_is_explained(store: Store) -> None:
    with pytest.raises(RunError, match="no such run"):
        runs.plan(store, "nope", limit=1)
    with pytest.raises(RunError, match="no such run"):
        runs.spec(store, "nope")


def test_every_field_of_a_fact_comes_back_as_it_went_in(store: Store, spec: RunSpec) -> None:
    (plain,) = facts_for(spec, [row_id("text 0")])
    fact = msgspec.structs.replace(
        plain,
        warnings=("truncated", "slow"),
        made_at=1_700_000_000.123456,
        epoch=2**40,
        slot=3,
        error="é\n",
        phrasings=((-0.5, -1.5), (-0.25, -2.0)),
        reply="{",
        explanation="it says so",
    )
    assert ingest(store, [fact]) == 1
    (found,) = all_facts(store)
    expected = msgspec.structs.asdict(fact) | {
        "made_at": 1_700_000_000_123_456,
        "logprobs": list(fact.logprobs),
        "warnings": list(fact.warnings),
        "phrasings": [list(numbers) for numbers in fact.phrasings],
    }
    assert list(found) == list(expected.values())


def test_overlaps_add_only_what_is_new_and_gaps_are_refused(store: Store, spec: RunSpec) -> None:
    facts = facts_for(spec, [row_id(text) for text in texts(10)], author="node")
    assert arrivals.cursors(store) == {}
    assert ingest(store, []) == 0
    assert ingest(store, facts[:4]) == 4
    assert ingest(store, facts[:4]) == 0
    assert ingest(store, facts[2:6]) == 2
    with pytest.raises(RunError, match="Entries 6 to 7 of node are missing"):
        ingest(store, facts[8:])
    assert arrivals.cursors(store) == {"node": 6}  # a refused delivery leaves nothing behind
    assert ingest(store, facts) == 4
    assert arrivals.cursors(store) == {"node": 10}
    assert [fact[1] for fact in all_facts(store)] == list(range(10))


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_delivery_of_overlapping_pieces_ends_in_the_same_facts(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = open_store(tmp_path_factory.mktemp("facts") / "w.duckdb")
    try:
        ids = add_rows(store, texts(5))
        spec = spec_of(store, task_of(SENTIMENT))
        logs = {name: facts_for(spec, ids, author=name) for name in ("a", "b")}
        new = 0
        for _ in range(data.draw(st.integers(0, 6))):
            piece: list[Fact] = []
            for name, log in logs.items():
                known = arrivals.cursors(store).get(name, 0)
                piece += log[data.draw(st.integers(0, known)) : data.draw(st.integers(0, len(log)))]
            random.Random(data.draw(st.integers())).shuffle(piece)
            new += ingest(store, piece)
        new += sum(ingest(store, log) for log in logs.values())
        assert new == 10
        assert [fact[:2] for fact in all_facts(store)] == [(name, seq) for name in "ab" for seq in range(5)]
    finally:
        store.close()


def test_the_list_of_runs_counts_rows_labeled_in_every_dimension(store: Store) -> None:
    ids = add_rows(store, texts(6))
    one = spec_of(store, task_of(SENTIMENT))
    two = msgspec.structs.replace(
        one, run_id="two", dimensions=(*one.dimensions, msgspec.structs.replace(one.dimensions[0], name="tone"))
    )
    runs.create(store, two)
    runs.plan(store, two.run_id, limit=5)
    facts = facts_for(two, ids[:4])  # two facts a row
    facts[1] = msgspec.structs.replace(facts[1], kind="error", logprobs=(), error="no answer")
    ingest(store, facts[:7])  # the fourth row has one answer only
    newest, oldest = runs.list_runs(store)
    assert (newest.id, newest.rows, newest.labeled_rows, newest.failed_rows) == ("two", 5, 2, 1)
    assert (oldest.id, oldest.rows, oldest.labeled_rows, oldest.failed_rows) == (one.run_id, 0, 0, 0)
    assert newest.task_title == "Sentiment"
    assert newest.created_at.tzinfo is not None


def test_rows_are_paged_searched_and_looked_up(store: Store) -> None:
    add_rows(store, ["Größe", "a% b", "plain", "GRÖSSE", "größe again"], ["x", "x", "", "y", "y"])
    store.write(lambda con: con.execute("insert into repeats values (?, 'i', 2)", [row_id("plain")]).fetchall())
    first = rows.page(store, limit=2)
    rest = rows.page(store, after=first[-1].row_no, limit=10)
    assert [row.text for row in first + rest] == ["Größe", "a% b", "plain", "GRÖSSE", "größe again"]
    assert [row.times for row in first + rest] == [1, 1, 3, 1, 1]
    assert [row.text for row in rows.page(store, search="größe")] == ["Größe", "größe again"]
    assert [row.text for row in rows.page(store, search="%")] == ["a% b"]
    assert [row.row_no for row in rows.page(store, domain="y")] == [3, 4]
    assert rows.count(store) == 5
    assert rows.count(store, "x") == 2
    assert rows.domains(store) == [("x", 2), ("y", 2)]
    found = rows.get(store, [row_id("plain"), "unknown"])
    assert {id: row.text for id, row in found.items()} == {row_id("plain"): "plain"}


def test_a_row_id_is_the_same_in_python_and_in_the_database(store: Store) -> None:
    for text in ("", "plain", "Größe 🌾", "a\0b"):
        with store.read() as con:
            assert con.execute("select substr(sha256(?), 1, 32)", [text]).fetchall() == [(row_id(text),)]


def test_a_labeled_run_is_complete(store: Store) -> None:
    spec = labeled_run(store, texts(3))
    (record,) = runs.list_runs(store)
    assert (record.id, record.labeled_rows) == (spec.run_id, 3)
