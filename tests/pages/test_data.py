from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from studio.runtime import Studio
from tests.pages.conftest import OpenPage, said
from tests.seeding import add_rows
from workspace import intake, rows

FILE = """id,text,feeling
1,what a day,positive
2,"so, so tired",negative
3,what a day,positive
4,one cell too few
5,the train is late,negative
"""


def load(app: AppTest, studio: Studio, path: Path) -> AppTest:
    app.text_input(key="load_path").set_value(str(path)).run()
    assert not app.exception
    app.button(key="load").click().run()
    job = studio.jobs.find("load")
    assert job is not None
    assert job.wait(60)
    app.run()
    assert not app.exception
    return app


def test_without_rows_the_form_to_load_a_file_is_open(open_page: OpenPage) -> None:
    app = open_page("data")
    assert app.text_input(key="load_path").value == ""


def test_a_missing_file_is_a_sentence(open_page: OpenPage, tmp_path: Path) -> None:
    app = open_page("data")
    app.text_input(key="load_path").set_value(str(tmp_path / "nowhere.csv")).run()
    assert not app.exception
    assert "There is no file at" in app.error[0].value


def test_a_file_is_looked_at_then_loaded_and_what_was_refused_is_shown(
    open_page: OpenPage, studio: Studio, tmp_path: Path
) -> None:
    path = tmp_path / "feelings.csv"
    path.write_text(FILE, encoding="utf-8")
    app = load(open_page("data"), studio, path)
    result = intake.imports(studio.store)[0]
    assert (result.added, result.repeated, result.rejected) == (3, 1, 1)
    assert app.success[0].value == "3 rows added, 1 repeated, 1 rejected"
    refused = app.dataframe[0].value
    assert refused["Line"].tolist() == [reject.line for reject in intake.rejects(studio.store, result.id)]
    assert rows.count(studio.store) == 3


def test_the_same_file_again_adds_nothing_and_says_so(open_page: OpenPage, studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "feelings.csv"
    path.write_text("text\none\ntwo\n", encoding="utf-8")
    load(open_page("data"), studio, path)
    studio.jobs.forget("load")
    app = open_page("data")
    app.session_state["data_tabs"] = "Load a file"
    app.run()
    load(app, studio, path)
    assert "already loaded, nothing was added" in app.success[0].value
    assert rows.count(studio.store) == 2


def test_an_upload_is_kept_on_disk_and_loaded(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("data")
    app.file_uploader[0].upload("mine.csv", b"text\nhello\nworld\n").run()
    assert not app.exception
    kept = Path(app.session_state["uploaded"])
    assert kept.name == "mine.csv"
    app.button(key="load").click().run()
    job = studio.jobs.find("load")
    assert job is not None
    assert job.wait(60)
    app.run()
    assert "2 rows added" in said(app)
    assert intake.imports(studio.store)[0].source == "mine.csv"
    assert not kept.exists()


def test_rows_are_searched_and_paged(open_page: OpenPage, studio: Studio) -> None:
    add_rows(studio.store, [f"text number {n}" for n in range(120)], ["a" if n % 2 else "b" for n in range(120)])
    app = open_page("data")
    assert app.dataframe[0].value["Row"].tolist() == list(range(1, 51))
    app.button(key="rows_next").click().run()
    app.button(key="rows_next").click().run()
    assert app.dataframe[0].value["Row"].tolist() == list(range(101, 121))
    assert app.button(key="rows_next").disabled
    app.button(key="rows_back").click().run()
    assert app.dataframe[0].value["Row"].tolist() == list(range(51, 101))
    app.selectbox(key="domain").set_value("a").run()
    assert app.dataframe[0].value["Row"].tolist() == list(range(2, 101, 2))
    app.text_input(key="search").set_value("number 11").run()
    assert app.dataframe[0].value["Row"].tolist() == [12, 112, 114, 116, 118, 120]
