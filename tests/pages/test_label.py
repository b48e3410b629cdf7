from __future__ import annotations

from studio.runtime import Studio
from tests.pages.conftest import OpenPage, press, said
from tests.seeding import seed
from tests.waiting import wait_for
from workspace import labels, runs


def test_without_rows_there_is_one_way_on(open_page: OpenPage) -> None:
    app = open_page("label")
    assert [button.label for button in app.button] == ["Load a file"]


def test_a_run_shows_its_shares_and_its_labels(open_page: OpenPage, studio: Studio) -> None:
    spec = seed(studio.store, [f"text {n}" for n in range(90)], labeled=60)[0]
    app = open_page("label")
    assert "60 of 90 rows labeled (67%)" in said(app)
    table = app.dataframe[-1].value
    expected = labels.page(studio.store, spec.run_id, "sentiment", limit=50)
    assert table["Label"].tolist() == [item.label for item in expected]
    app.button(key="labels_next").click().run()
    assert app.dataframe[-1].value["Row"].tolist() == list(range(51, 61))


def test_labels_are_filtered_by_label_and_confidence(open_page: OpenPage, studio: Studio) -> None:
    spec = seed(studio.store, [f"text {n}" for n in range(60)])[0]
    app = open_page("label")
    app.selectbox(key="label_of_sentiment").set_value("negative").run()
    app.slider(key="confidence").set_range(0, 60).run()
    shown = app.dataframe[-1].value["Row"].tolist()
    expected = labels.page(studio.store, spec.run_id, "sentiment", label="negative", high=0.6, limit=50)
    assert shown == [item.row_no + 1 for item in expected]
    assert shown


def test_the_plan_is_said_in_words(open_page: OpenPage, studio: Studio) -> None:
    seed(studio.store, [f"text {n}" for n in range(40)])
    app = open_page("label")
    assert "40 rows × 1 question, SmolLM2-135M" in said(app)


def test_a_model_labels_eight_rows(open_page: OpenPage, studio: Studio) -> None:
    seed(studio.store, [f"the day number {n} was wonderful" for n in range(20)], labeled=0)
    app = open_page("label")
    app.selectbox(key="run_task").set_value("sentiment").run()
    press(app, "run_amount", "Other")
    app.number_input(key="run_limit").set_value(8).run()
    app.button(key="start_run").click().run()
    assert not app.exception
    wait_for(
        lambda: runs.list_runs(studio.store)[0].labeled_rows == 8, lambda: f"8 labels, {studio.engine_error}", 240
    )
    run = runs.list_runs(studio.store)[0]
    assert (run.rows, run.labeled_rows, run.failed_rows) == (8, 8, 0)
    app.run()
    assert not app.exception
    assert len(app.dataframe[-1].value) == 8
