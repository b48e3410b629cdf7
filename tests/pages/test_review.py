"""The review page around its component: what can be chosen, and what is said when there is nothing to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from studio import activity, runtime
from tests.seeding import add_rows, facts_for, ingest, seed, spec_of, task_of
from workspace import decisions, rows, runs
from workspace.decisions import DecisionEvent
from workspace.store import Store, open_store

APP = Path(__file__).resolve().parents[2] / "studio" / "app.py"
TEXTS = [f"text number {number}" for number in range(6)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "w.duckdb")
    studio = runtime.Studio(store)
    runtime.use(studio)
    yield store
    studio.close()
    runtime.use(None)


def review_page(**query: str) -> AppTest:
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.switch_page("../pages/review.py")
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def sent(at: AppTest) -> dict[str, Any]:
    """What the component was given."""
    return dict(json.loads(at.get("bidi_component")[0].proto.json))


def decide_all(store: Store, run_id: str) -> None:
    events = [
        DecisionEvent(seq=seq, row_id=row.id, action="modify", label="positive", blind=True)
        for seq, row in enumerate(rows.page(store))
    ]
    decisions.record(store, session="s" * 8, run_id=run_id, dimension="sentiment", reviewer="ana", events=events)


def test_an_empty_workspace_offers_to_load_a_file(store: Store) -> None:
    at = review_page()
    assert [button.label for button in at.main.button] == ["Load a file"]
    assert not at.get("bidi_component")


def test_rows_without_labels_offer_to_label_them(store: Store) -> None:
    add_rows(store, TEXTS)
    at = review_page()
    assert [button.label for button in at.main.button] == ["Label rows"]


def test_one_run_leaves_little_to_choose(store: Store) -> None:
    spec = seed(store, TEXTS)[0]
    at = review_page()
    assert [box.label for box in at.selectbox] == ["Order"]
    data = sent(at)
    assert (data["run"], data["dimension"], data["order"], data["blind"]) == (
        spec.run_id,
        "sentiment",
        "uncertain",
        False,
    )
    assert data["labels"][0] == {"name": "positive", "description": "texts that are positive"}
    assert data["reviewer"]


def test_a_random_sample_is_blind(store: Store) -> None:
    seed(store, TEXTS)
    at = review_page()
    at.selectbox(key="order").select("Random sample").run()
    assert (sent(at)["order"], sent(at)["blind"]) == ("random", True)


def test_runs_and_domains_can_be_chosen_when_there_are_several(store: Store) -> None:
    ids = add_rows(store, TEXTS, domains=["tweets", "mail"] * 3)
    specs = [spec_of(store, task_of(["good", "bad"], name)) for name in ("first", "second")]
    for spec in specs:
        runs.plan(store, spec.run_id, limit=None)
        ingest(store, facts_for(spec, ids, author=spec.task_name))
    at = review_page(run=specs[0].run_id)
    assert [box.label for box in at.selectbox] == ["Run", "Order", "Domain"]
    at.selectbox(key="domain").select("mail").run()
    assert (sent(at)["run"], sent(at)["domain"]) == (specs[0].run_id, "mail")


def test_a_name_that_means_something_else_is_refused(store: Store) -> None:
    seed(store, TEXTS)
    at = review_page()
    at.text_input(key="reviewer").input("Model").run()
    assert "choose another name" in at.error[0].value
    assert not at.get("bidi_component")


def test_a_finished_run_leads_on(store: Store) -> None:
    spec = seed(store, TEXTS)[0]
    decide_all(store, spec.run_id)
    at = review_page()
    said = " ".join(markdown.value for markdown in at.main.markdown)
    assert "6 rows decided, 6 of them blind" in said
    assert sent(at)["reviewer"] == "ana"
    assert at.get("bidi_component"), "the last decisions can still be taken back"


def test_reviewers_who_differ_are_told_so(store: Store) -> None:
    spec = seed(store, TEXTS)[0]
    at = review_page()
    assert not at.expander
    row = rows.page(store, limit=1)[0].id
    for who, label in (("ana", "neutral"), ("ben", "positive")):
        decisions.record(
            store,
            session=f"session of {who}",
            run_id=spec.run_id,
            dimension="sentiment",
            reviewer=who,
            events=[DecisionEvent(0, row, "modify", label)],
        )
    at = review_page()
    (box,) = at.expander
    assert box.label == "Reviewers differ on 1 row"
    (table,) = box.dataframe
    assert table.value[["Row", "Counts", "Against"]].values.tolist() == [[1, "positive (ben)", "neutral (ana)"]]
    (event,) = [event for event in activity.recent(store) if event.page == "review"]
    assert event.sentence == "Reviewers differ on 1 row of sentiment"


def test_rows_others_decided_blind_are_offered_to_decide_once_more(store: Store) -> None:
    run = seed(store, TEXTS)[0].run_id
    decide_all(store, run)
    assert "Decided by others" not in review_page(run=run).selectbox(key="order").options
    at = review_page(run=run, reviewer="ben", order="Decided by others")
    assert (sent(at)["order"], sent(at)["blind"], sent(at)["reviewer"]) == ("second", True, "ben")
    assert not at.main.markdown
    events = [
        DecisionEvent(seq=seq, row_id=row.id, action="modify", label="neutral", blind=True)
        for seq, row in enumerate(rows.page(store))
    ]
    decisions.record(store, session="t" * 8, run_id=run, dimension="sentiment", reviewer="ben", events=events)
    at.run()
    assert not at.exception
    assert sent(at)["order"] == "second"
    assert "You have decided all rows that others decided blind." in at.main.markdown[0].value
