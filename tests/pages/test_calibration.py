from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from studio import calibrating, domain_promises, drawing, promising, scorecard, ui
from studio.promising import Asked
from studio.runtime import Studio
from tests.pages import checked_workspace as checked
from tests.pages.conftest import OpenPage, press, said
from tests.seeded_kinds import kinds_run
from tests.seeding import add_rows
from tests.unit.calibration.examples import overconfident
from workspace import calibrators, decisions, draws, labels, promises, runs, tasks, truth
from workspace.facts import RunSpec
from workspace.ids import row_id
from workspace.store import Store
from workspace.task import Dimension, Label, Task, join_labels, parse_task

TAGS = ("money", "delivery", "account")
KINDS = Task(
    name="kinds",
    dimensions=(
        Dimension(name="tags", kind="multi", question="Which?", labels=tuple(Label(name=tag) for tag in TAGS)),
        Dimension(name="urgency", kind="score", question="How urgent is it?"),
    ),
    tiers={"urgent": "urgency >= 5"},
)


@pytest.fixture
def store(studio: Studio) -> Store:
    return studio.store


@pytest.fixture
def page(open_page: OpenPage) -> Callable[[], AppTest]:
    return lambda: open_page("calibration")


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def buttons(app: AppTest) -> set[str]:
    return {str(button.key) for button in app.button}


def wait_for_the_correction(studio: Studio, run: str) -> None:
    job = calibrating.applying(studio, run, "mood")
    assert job is not None
    assert job.wait(30)


def check_sample(studio: Studio, run: str, rows: int, number: int = 0) -> None:
    """Draw rows and decide all of them blind, as they truly are."""
    drawn = draws.draw(studio.store, run, "mood", rows)
    true = {row_id(checked.text(i)): i for i in range(1000)}
    _, answers = overconfident(1000)
    events = [
        decisions.DecisionEvent(seq, id, "modify", checked.MOODS[answers[true[id]]], blind=True)
        for seq, id in enumerate(drawn.row_ids)
    ]
    session = f"sample-{number}"
    decisions.record(studio.store, session=session, run_id=run, dimension="mood", reviewer="Ada", events=events)


def decide_kinds(store: Store) -> RunSpec:
    """A run with a dimension of several labels and a score, in which every other row is decided blind."""
    ids = add_rows(store, [f"Ticket {number}: nobody answers" for number in range(60)])
    spec = kinds_run(store, KINDS, ids)
    for dimension in spec.dimensions:
        said = {one.row_id: one.label for one in labels.page(store, spec.run_id, dimension.name, limit=100)}
        other = join_labels((), TAGS) if dimension.kind == "multi" else "5"
        events = [
            decisions.DecisionEvent(seq, id, "modify", said[id] or other if seq % 5 else other, blind=True)
            for seq, id in enumerate(sorted(ids)[:30])
        ]
        decisions.record(
            store,
            session=dimension.name,
            run_id=spec.run_id,
            dimension=dimension.name,
            reviewer="A",
            events=events,
        )
    return spec


def test_without_labels_there_is_one_way_on(page: Callable[[], AppTest]) -> None:
    app = page()
    assert [button.label for button in app.button] == ["Label rows"]
    assert not app.metric


def test_without_truth_there_is_one_way_on(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    checked.fill(store, tmp_path, 300, gold=False)
    app = page()
    assert [button.label for button in app.button] == ["Draw 100 rows to check"]
    assert "Nobody has checked yet how good the labels of these 300 rows are" in said(app)
    assert not app.metric


def test_drawing_leads_to_the_rows_and_back_to_how_far_they_are(
    page: Callable[[], AppTest], studio: Studio, store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 300, gold=False)
    app = page().button(key="draw").click().run()
    assert not app.exception
    assert app.title[0].value == "Review"
    assert app.selectbox(key="order").value == "Blind sample"
    waiting = decisions.queue(store, run, "mood", session="s", order="sample", limit=500)
    assert promising.standing(studio, run, "mood").waiting == len(waiting) == 100
    events = [
        decisions.DecisionEvent(seq, item.row_id, "modify", "neutral", blind=True)
        for seq, item in enumerate(waiting[:23])
    ]
    decisions.record(store, session="s", run_id=run, dimension="mood", reviewer="Ada", events=events)
    app = page()
    assert "23 of 100 checked" in [bar.text for bar in app.get("progress")]
    assert app.button(key="check_sample").label == "Check 77 rows"
    assert "draw" not in buttons(app)


def test_after_the_first_rows_those_are_drawn_that_would_help_most(
    page: Callable[[], AppTest], studio: Studio, store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 600, gold=False)
    check_sample(studio, run, 100)
    app = page()
    assert "draw" not in buttons(app)  # at 5 % it would be more work than it saves
    for target in (18, 20):
        app.slider(key="target").set_value(target).run()
        advised = drawing.advice(studio, Asked(run, "mood", epsilon=target / 100))
        where = f"Draw {advised.count} rows to check, from the {advised.surest} surest"
        assert app.button(key="draw").label == where
        assert "the same chance to be drawn" in app.button(key="draw").help
        assert f"about {advised.needed} more labels are missing" in app.subheader[0].value
    app.button(key="draw").click().run()
    assert not app.exception
    assert app.title[0].value == "Review"
    waiting = {item.row_id for item in decisions.queue(store, run, "mood", session="s", order="sample", limit=500)}
    assert len(waiting) == advised.count
    assert waiting <= set(advised.among or ())
    found = promising.sample(studio, run, "mood")
    inside = np.isin(found.row_ids, list(advised.among or ()))
    assert len(set(found.inclusion[inside].tolist())) == 1


def test_what_is_promised_follows_the_target_and_can_be_accepted_and_withdrawn(
    page: Callable[[], AppTest], studio: Studio, store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 600, gold=False)
    check_sample(studio, run, 200)
    app = page()
    assert "At 5% error" in app.subheader[0].value
    app.slider(key="target").set_value(20).run()
    assert not app.exception
    promise = promising.promise(studio, Asked(run, "mood", epsilon=0.2))
    rows = promise.acceptance.rows
    assert 0 < rows < 600
    sentence = app.subheader[0].value
    assert sentence.startswith(
        f"At 20% error, :primary[{rows} of 600 rows] can be accepted, {promise.to_look} need a look"
    )
    decided = 200 - promise.acceptance.checked
    assert promise.to_look == 600 - rows - decided
    assert f"{decided} of the others are checked already." in said(app)
    assert "about" in sentence
    app.button(key="accept").click().run()
    assert not app.exception
    kept = promises.in_force(store, run, "mood")
    assert kept is not None
    assert (kept.rows, kept.epsilon) == (rows, 0.2)
    assert f"{rows} rows accepted" in said(app)
    assert "accept" not in buttons(app)  # just this is accepted already
    app.switch_page(str(ui.page("export"))).run()
    assert f"{rows} rows are accepted" in said(app)
    app.switch_page(str(ui.page("calibration"))).run()
    app.button(key="withdraw").click().run()
    assert promises.in_force(store, run, "mood") is None
    assert "withdraw" not in buttons(app)


def test_another_confidence_is_another_promise(
    page: Callable[[], AppTest], studio: Studio, store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 600, gold=False)
    check_sample(studio, run, 200)
    app = page()
    app.slider(key="target").set_value(20).run()
    press(app, "sure", "99%")
    found = promising.promise(studio, Asked(run, "mood", epsilon=0.2, delta=0.01)).acceptance
    assert found.threshold is not None
    assert f"[{found.rows} of 600 rows]" in app.subheader[0].value
    assert "with 99% confidence at most" in said(app)


def test_the_numbers_are_those_of_the_evidence(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 300)
    checked.decide(store, run, range(20), blind=True)
    app = page()
    evidence = truth.evidence(store, run, "mood")
    right = (evidence.logprobs.argmax(axis=1) == evidence.truth).mean()
    assert metrics(app)["Accuracy"] == f"{right:.0%}"
    assert metrics(app)["Checked rows"] == "300"
    assert "280 gold, 20 blind" in [metric.delta for metric in app.metric]
    assert "can mislead" not in said(app)


def test_a_correction_is_used_for_all_labels_and_taken_out_again(
    page: Callable[[], AppTest], studio: Studio, store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 300)
    shown = {row.row_id: row.confidence or 0 for row in labels.page(store, run, "mood", limit=300)}
    app = page()
    before = metrics(app)
    assert f"{before['Log loss']} before" not in [metric.delta for metric in app.metric]
    assert "A correction is at hand" in said(app)
    app.button(key="use_at_hand").click().run()
    assert not app.exception
    wait_for_the_correction(studio, run)
    calibrator = calibrators.active(store, run, "mood")
    assert calibrator is not None
    assert calibrator.evidence["rows"] == 300
    app.run()
    after = metrics(app)
    assert float(after["Log loss"]) < float(before["Log loss"])
    assert f"{before['Log loss']} before" in [metric.delta for metric in app.metric]
    assert not {"use", "use_at_hand"} & buttons(app)  # nothing better is known
    calmer = {row.row_id: row.confidence or 0 for row in labels.page(store, run, "mood", limit=300)}
    assert sum(calmer.values()) < sum(shown.values())

    app.button(key="take_out").click().run()
    assert not app.exception
    assert calibrators.active(store, run, "mood") is None
    assert metrics(app) == before

    app.button(key="use_at_hand").click().run()
    wait_for_the_correction(studio, run)
    # One row is seen otherwise: there is something to learn, by the same method.
    other = checked.MOODS[(overconfident(1)[1][0] + 1) % len(checked.MOODS)]
    event = decisions.DecisionEvent(0, row_id(checked.text(0)), "modify", other, blind=True)
    decisions.record(store, session="again", run_id=run, dimension="mood", reviewer="Ada", events=[event])
    app.run()
    assert "Fitted anew it learns from 300 checked rows." in said(app)
    assert app.button(key="use").label == "Fit anew"
    assert "use_at_hand" not in buttons(app)


def test_why_a_method_was_chosen_is_said_and_every_number_comes_when_asked_for(
    page: Callable[[], AppTest], studio: Studio, store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 300)
    app = page()
    fitted = calibrating.fit(studio, run, "mood")
    assert fitted.why in said(app)
    assert "The right label of every row is known already" in said(app)
    assert " need a look" not in said(app)
    assert all("Brier score" not in table.value.to_string() for table in app.dataframe)
    app.session_state["every_number"] = True
    app.run()
    table = next(table.value for table in app.dataframe if "Brier score" in table.value.to_string())
    assert table.columns.tolist() == ["", "Before", "With the correction", "Good is", "What it is"]
    assert f"{fitted.before.brier:.3f} [" in str(table.set_index("").loc["Brier score", "Before"])


def test_few_rows_are_called_few(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 60, gold=False)
    checked.decide(store, run, range(12), blind=True)
    app = page()
    assert metrics(app)["Checked rows"] == "12"
    assert "About 38 more, decided blind" in said(app)


def test_one_checked_row_is_shown(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 3, gold=False)
    checked.decide(store, run, range(1), blind=True)
    app = page()
    assert metrics(app)["Checked rows"] == "1"
    assert "use" not in buttons(app)


def test_one_label_only_and_all_of_it_right(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 60, gold=False)
    # The model says "no" to every joke, and so do people.
    checked.decide(store, run, range(60), blind=True, dimension="joke")
    app = page()
    press(app, "dimension", "joke")
    assert metrics(app)["Accuracy"] == "100%"
    assert "Every checked label is right" in said(app)
    app.session_state["every_number"] = True
    app.run()
    assert not app.exception
    table = next(table.value for table in app.dataframe if "AUROC" in table.value.to_string()).set_index("")
    assert table.loc["AUROC", "Before"] == "undefined"
    assert str(table.loc["AUROC", "What it is"]).endswith(".")


def test_decisions_with_the_suggestion_in_sight_count_only_when_asked_for(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    run = checked.fill(store, tmp_path, 60, gold=False)
    checked.decide(store, run, range(10), blind=True)
    checked.decide(store, run, range(10, 30), blind=False)
    app = page()
    assert metrics(app)["Checked rows"] == "10"
    assert "Left out: 20 decided with the suggestion in sight." in said(app)
    assert not app.warning
    app.toggle(key="visible").set_value(True).run()
    assert metrics(app)["Checked rows"] == "30"
    assert "agree with a suggestion" in app.warning[0].value
    assert "10 blind, 20 with suggestion" in [metric.delta for metric in app.metric]


def test_a_bin_opens_its_rows_mistakes_first_and_they_can_be_decided_again(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    checked.fill(store, tmp_path, 120)
    app = page()
    bins = next(box for box in app.selectbox if box.label == "Rows of a bin")
    assert bins.value is None
    place = next(
        i for i, words in enumerate(bins.options) if words.startswith("90% to 100% sure, as the model said")
    )
    count = int(bins.options[place].split(": ")[1].split()[0])
    bins.select_index(place).run()
    assert not app.exception
    rows = next(table.value for table in app.dataframe if "Truth" in table.value.columns)
    assert len(rows) == min(count, 200)
    assert rows["Sure"].between(90, 100).all()
    right = rows["Right"].tolist()
    assert right == sorted(right)
    assert not right[0]
    assert ((rows["Model said"] == rows["Truth"]) == rows["Right"]).all()
    app.button(key="rows_behind_review").click().run()
    assert not app.exception
    assert app.selectbox(key="order").value == "Chosen rows"
    assert len(app.session_state["chosen_rows"][2]) == len(rows)


def test_another_dimension_has_its_own_numbers(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    run = checked.fill(store, tmp_path, 60)
    checked.decide(store, run, range(6), blind=True, dimension="joke")
    app = page()
    assert metrics(app)["Checked rows"] == "60"
    press(app, "dimension", "joke")
    assert metrics(app)["Checked rows"] == "6"


def test_several_labels_are_shown_together_and_one_by_one(page: Callable[[], AppTest], store: Store) -> None:
    decide_kinds(store)
    app = page()
    assert metrics(app)["Checked rows"] == "30"
    assert "Every label of a row counts as a question of its own" in said(app)
    app.selectbox(key="label_of_tags").select("delivery").run()
    assert not app.exception
    assert "Only about whether “delivery”" in said(app)
    assert metrics(app)["Checked rows"] == "30"


def test_each_label_can_be_accepted_beside_all_of_them(
    page: Callable[[], AppTest], studio: Studio, store: Store
) -> None:
    spec = decide_kinds(store)
    app = page()
    app.slider(key="target").set_value(20).run()
    first, second = "money", "account"
    for label in (first, second):
        app.selectbox(key="label_of_tags").select(label).run()
        app.button(key="accept").click().run()
        assert not app.exception
        assert f"accepted for “{label}”" in said(app)
    assert f"accepted for “{first}”" in said(app)  # and is still told
    assert [one.label for one in promises.all_in_force(store, spec.run_id, "tags")] == [first, second]
    app.button(key="withdraw").click().run()
    assert [one.label for one in promises.all_in_force(store, spec.run_id, "tags")] == [first]
    app.switch_page(str(ui.page("export"))).run()
    assert f"The column tags_{first}_accepted says which." in said(app)


def test_every_domain_can_have_a_promise_of_its_own(
    page: Callable[[], AppTest], studio: Studio, store: Store
) -> None:
    domains = [("mail", "news")[number % 2] for number in range(400)]
    add_rows(store, [checked.text(number) for number in range(400)], domains)
    scores, _ = overconfident(400)
    run = checked.label(store, 400, scores)
    check_sample(studio, run, 250)
    app = page()
    assert "Every domain by itself" not in said(app)
    app.toggle(key="by_domain").set_value(True)
    app.slider(key="target").set_value(20).run()
    assert not app.exception
    found = domain_promises.promise(studio, Asked(run, "mood", epsilon=0.2))
    rows = len(found.places)
    assert 0 < rows < 400
    assert app.subheader[0].value.startswith(
        f"At 20% error in every domain, :primary[{rows} of 400 rows] can be accepted, {found.to_look} need a look"
    )
    table = next(table.value for table in app.dataframe if "Accepted" in table.value.columns)
    assert table["Domain"].tolist() == ["mail", "news"]
    assert table["Accepted"].tolist() == [one.acceptance.rows for one in found.domains.values()]
    app.button(key="accept").click().run()
    assert not app.exception
    assert f"{rows} rows accepted" in said(app)
    assert "are wrong in every domain" in said(app)
    assert "accept" not in buttons(app)
    app.toggle(key="by_domain").set_value(False).run()
    assert "are wrong in every domain" in said(app)  # though it is not looked at
    app.button(key="withdraw").click().run()
    assert promises.in_force(store, run, "mood") is None


def test_a_score_is_judged_in_its_points_and_tiers(
    page: Callable[[], AppTest], studio: Studio, store: Store
) -> None:
    spec = decide_kinds(store)
    app = page()
    press(app, "dimension", "urgency")
    assert {"Off by", "Mean score, corrected"} <= metrics(app).keys()
    assert app.number_input(key="tolerance").value == promising.TOLERANCE
    app.number_input(key="tolerance").set_value(3.0).run()
    assert not app.exception
    app.session_state["every_number"] = True
    app.run()
    right = scorecard.tier_accuracy(studio, spec.run_id)
    assert right is not None
    assert right.estimate is not None
    assert f"Tier accuracy, as labels are read now: {right.estimate.value:.3f} [" in said(app)


def test_runs_without_labels_are_not_offered(page: Callable[[], AppTest], store: Store, tmp_path: Path) -> None:
    checked.fill(store, tmp_path, 30)
    other = tasks.save(store, parse_task(checked.TASK.replace("name: mood\ntitle", "name: other\ntitle")))
    spec = runs.spec(store, runs.list_runs(store)[0].id)
    runs.create(store, msgspec.structs.replace(spec, run_id="f" * 32, task_id=other, task_name="other"))
    app = page()
    assert len(app.selectbox(key="run").options) == 1


def test_figures_say_what_they_show_and_can_be_taken_away(
    page: Callable[[], AppTest], store: Store, tmp_path: Path
) -> None:
    checked.fill(store, tmp_path, 120)
    app = page()
    drawn = [chart.proto for chart in app.get("plotly_chart")]
    assert all(chart.alt for chart in drawn)
    assert any("calibration error" in chart.alt and "was right" in chart.spec for chart in drawn)
    offered = [str(button.proto.label) for button in app.get("download_button")]
    assert offered.count("Figure (HTML)") == offered.count("Data (CSV)") == len(drawn)


def test_a_click_in_the_diagram_chooses_the_bin_and_a_click_beside_it_none() -> None:
    def script() -> None:
        import streamlit as st
        from streamlit.typing import PlotlyState

        from studio import trust_views

        for name, points in (("hit", [{"customdata": ["after", 0.7, 0.8]}]), ("missed", [])):
            st.session_state[name] = PlotlyState(selection={"points": points})
            trust_views.open_clicked(name)

    app = AppTest.from_function(script).run()
    assert not app.exception
    assert app.session_state["hit_bin"] == ("after", 0.7, 0.8)
    assert app.session_state["missed_bin"] is None
