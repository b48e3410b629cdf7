from __future__ import annotations

from studio.runtime import Studio
from tests.pages.conftest import OpenPage, said
from tests.seeding import seed
from workspace import rows, samples, tasks


def test_an_empty_workspace_offers_the_sample_and_a_file(open_page: OpenPage) -> None:
    app = open_page("home")
    assert {button.label for button in app.button} == {"Open the sample", "Load a file"}
    assert not app.metric


def test_the_sample_opens_in_one_click(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("home")
    app.button(key="open_sample").click().run()
    assert not app.exception
    assert rows.count(studio.store) == 500
    assert [task.name for task in tasks.newest(studio.store)] == [samples.BUNDLED[0].task]
    assert {metric.label: metric.value for metric in app.metric}["Rows"] == "500"


def test_the_numbers_are_those_of_the_workspace(open_page: OpenPage, studio: Studio) -> None:
    seed(studio.store, [f"text {n}" for n in range(30)], labeled=20)
    app = open_page("home")
    numbers = {metric.label: metric.value for metric in app.metric}
    assert numbers == {"Rows": "30", "Labeled": "20", "Reviewed": "0", "Expected errors": "Unknown"}
    assert "Label the remaining 10 rows" in said(app)


def test_every_number_leads_to_its_rows(open_page: OpenPage, studio: Studio) -> None:
    seed(studio.store, ["one", "two"])
    app = open_page("home")
    places = {link.page for link in app.page_link}
    assert {"data", "label", "review", "calibration"} <= places


def test_going_on_leads_to_the_page_of_the_next_step(open_page: OpenPage, studio: Studio) -> None:
    seed(studio.store, [f"text {n}" for n in range(30)])
    app = open_page("home")
    app.button(key="go_on").click().run()
    assert not app.exception
    assert app.title[0].value == "Review"
