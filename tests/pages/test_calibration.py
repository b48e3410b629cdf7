from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from studio.runtime import Studio
from tests.pages import checked_workspace as checked
from tests.pages.conftest import OpenPage
from workspace import calibrators, labels, runs, tasks
from workspace.store import Store
from workspace.task import parse_task


@pytest.fixture
def store(studio: Studio) -> Store:
    return studio.store


@pytest.fixture
def page(open_page: OpenPage) -> Callable[[], AppTest]:
    return lambda: open_page("calibration")


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.subheader, *app.warning))


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_without_labels_there_is_one_way_on(page: Callable[[], AppTest]) -> None:
    app = page()
    assert [button.label for button in app.button] == ["Label rows"]
    assert not app.metric


def test_without_truth_there_is_one_way_on(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    checked.fill(store, tmp_path, 5, gold=False)
    app = page()
    assert [button.label for button in app.button] == ["Review rows"]
    assert not app.metric


def test_the_numbers_are_those_of_the_evidence(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 300)
    checked.decide(store, run, range(20), blind=True)
    app = page()
    evidence = labels.evidence(store, run, "mood")
    right = (evidence.logprobs.argmax(axis=1) == evidence.truth).mean()
    assert metrics(app)["Accuracy"] == f"{right:.0%}"
    assert metrics(app)["Checked rows"] == "300"
    assert "280 gold, 20 blind" in [metric.delta for metric in app.metric]
    assert "can mislead" not in texts(app)


def test_fitting_puts_a_temperature_into_force_for_all_labels_and_removing_takes_it_out(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 300)
    shown = labels.page(store, run, "mood", limit=300)
    app = page()
    before = metrics(app)
    app.button(key="fit").click().run()
    assert not app.exception
    calibrator = calibrators.active(store, run, "mood")
    assert calibrator is not None
    assert calibrator.method == "temperature"
    assert calibrator.temperature > 1.5
    assert calibrator.evidence["rows"] == 300
    after = metrics(app)
    assert after["Accuracy"] == before["Accuracy"]
    assert float(after["Log loss"]) < float(before["Log loss"])
    assert f"{before['Log loss']} before" in [metric.delta for metric in app.metric]
    assert app.button(key="fit").disabled  # nothing new to fit on

    calmer = labels.page(store, run, "mood", limit=300)
    assert [row.label for row in calmer] == [row.label for row in shown]
    assert all((new.confidence or 0) < (old.confidence or 0) for new, old in zip(calmer, shown, strict=True))

    app.button(key="remove").click().run()
    assert not app.exception
    assert calibrators.active(store, run, "mood") is None
    assert metrics(app) == before


def test_the_temperature_is_judged_on_rows_left_out(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    checked.fill(store, tmp_path, 300)
    app = page()
    assert "can flatter" in texts(app)
    judged = app.dataframe[0].value
    assert [name.split(",")[-1].strip() for name in judged.iloc[:, 0]] == [
        "What the model said",
        "same rows",
        "T on rows left out",
    ]
    losses = [float(value) for value in judged["Log loss"]]
    assert losses[1] <= losses[2] < losses[0]


def test_few_rows_are_called_few(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 60, gold=False)
    checked.decide(store, run, range(12), blind=True)
    app = page()
    assert metrics(app)["Checked rows"] == "12"
    assert "**38 more**" in texts(app)


def test_one_checked_row_is_drawn_but_not_fitted(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 3, gold=False)
    checked.decide(store, run, range(1), blind=True)
    app = page()
    assert metrics(app)["Checked rows"] == "1"
    assert app.button(key="fit").disabled


def test_decisions_with_the_suggestion_in_sight_count_only_when_asked_for(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 60, gold=False)
    checked.decide(store, run, range(10), blind=True)
    checked.decide(store, run, range(10, 30), blind=False)
    app = page()
    assert metrics(app)["Checked rows"] == "10"
    assert not app.warning
    app.toggle(key="visible").set_value(True).run()
    assert metrics(app)["Checked rows"] == "30"
    assert "agree with a suggestion" in app.warning[0].value
    assert "10 blind, 20 with suggestion" in [metric.delta for metric in app.metric]


def test_visible_decisions_alone_are_no_evidence_but_can_be_asked_for(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 20, gold=False)
    checked.decide(store, run, range(5), blind=False)
    app = page()
    assert [button.label for button in app.button] == ["Review rows"]
    app.toggle(key="visible").set_value(True).run()
    assert metrics(app)["Checked rows"] == "5"


def test_a_bin_opens_its_rows_mistakes_first(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    checked.fill(store, tmp_path, 300)
    app = page()
    bins = next(box for box in app.selectbox if box.label == "Bin")
    assert bins.value is None
    assert bins.options[-1].startswith("90% to 100% sure: ")
    count = int(bins.options[-1].split(": ")[1].split()[0])
    bins.select_index(len(bins.options) - 1).run()
    assert not app.exception
    rows = app.dataframe[1].value
    assert len(rows) == min(count, 200)
    assert rows["Sure"].between(90, 100).all()
    right = rows["Right"].tolist()
    assert right == sorted(right)
    assert not right[0]
    assert ((rows["Model said"] == rows["Truth"]) == rows["Right"]).all()


def test_another_dimension_has_its_own_numbers(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 60)
    checked.decide(store, run, range(6), blind=True, dimension="joke")
    app = page()
    assert metrics(app)["Checked rows"] == "60"
    app.segmented_control(key="dimension").set_value("joke").run()
    assert not app.exception
    assert metrics(app)["Checked rows"] == "6"
    app.button(key="fit").click().run()
    assert calibrators.active(store, run, "joke") is not None
    assert calibrators.active(store, run, "mood") is None


def test_runs_without_labels_are_not_offered(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    checked.fill(store, tmp_path, 30)
    other = tasks.save(store, parse_task(checked.TASK.replace("name: mood\ntitle", "name: other\ntitle")))
    spec = runs.spec(store, runs.list_runs(store)[0].id)
    runs.create(store, msgspec.structs.replace(spec, run_id="f" * 32, task_id=other, task_name="other"))
    app = page()
    assert len(app.selectbox(key="run").options) == 1


def test_the_diagram_says_what_it_shows(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    checked.fill(store, tmp_path, 300)
    drawn = page().get("plotly_chart")[0].proto
    assert "calibration error" in drawn.alt
    assert "was right" in drawn.spec


def test_a_click_in_the_diagram_chooses_the_bin_and_a_click_beside_it_none() -> None:
    def script() -> None:
        import streamlit as st
        from streamlit.typing import PlotlyState

        from studio import calibration_views

        for name, points in (("hit", [{"customdata": ["after", 0.7, 0.8]}]), ("missed", [])):
            st.session_state[name] = PlotlyState(selection={"points": points})
            calibration_views.open_clicked(name)

    app = AppTest.from_function(script).run()
    assert not app.exception
    assert app.session_state["hit_bin"] == ("after", 0.7, 0.8)
    assert app.session_state["missed_bin"] is None
