from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from engine.text.preparing import prepare
from studio import text_views
from studio.runtime import Studio
from tests.pages.conftest import OpenPage, said
from tests.seeding import add_rows
from workspace import intake, rows, tasks
from workspace.facts import Preparation
from workspace.task import TextSteps

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


def preparation(open_page: OpenPage, task: str) -> AppTest:
    app = open_page("data")
    app.session_state["data_tabs"] = "Text preparation"
    app.run()
    app.selectbox(key="prepare_task").set_value(task).run()
    assert not app.exception
    return app


def shown(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def test_steps_are_shown_before_and_after_and_saved_into_the_task(open_page: OpenPage, studio: Studio) -> None:
    add_rows(studio.store, ["IMO <b>fine</b>", "plain", "I don't", "brb ❤️"])
    app = preparation(open_page, "sentiment")
    assert "0 rows of the first 4 change" in said(app)
    assert app.button(key="save_steps").disabled
    app.toggle(key="step_slang_sentiment").set_value(True).run()
    app.toggle(key="step_emoji_sentiment").set_value(True).run()
    app.text_area(key="step_expansions_sentiment").set_value("BRB = back soon\nnonsense").run()
    assert not app.exception
    assert "2 rows of the first 4 change" in said(app)
    assert "Not read: “nonsense”" in said(app)
    assert ">in my opinion</mark> &lt;b&gt;fine" in shown(app)
    assert ">back soon</mark>" in shown(app)
    assert "1 of 4 rows" in app.toggle(key="step_contractions_sentiment").label
    app.button(key="save_steps").click().run()
    assert not app.exception
    saved = tasks.newest_of(studio.store, "sentiment")
    assert saved is not None
    assert saved.task.text == TextSteps(slang=True, emoji=True, expansions={"BRB": "back soon"})
    assert app.button(key="save_steps").disabled
    assert "Runs started from now on read texts so" in said(app)


def test_of_conversations_what_was_said_is_counted(open_page: OpenPage, studio: Studio) -> None:
    add_rows(studio.store, ['[{"role": "user", "content": "Hello\\nIMO"}]', "plain"])
    app = preparation(open_page, "sentiment")
    assert "0 of 2 rows" in app.toggle(key="step_slang_sentiment").label
    app.toggle(key="step_conversation_sentiment").set_value(True).run()
    assert not app.exception
    assert "1 of 2 rows" in app.toggle(key="step_conversation_sentiment").label
    assert "1 of 2 rows" in app.toggle(key="step_slang_sentiment").label
    assert "User: " in shown(app)


def test_what_the_prefilter_catches_is_counted_with_examples(open_page: OpenPage, studio: Studio) -> None:
    add_rows(studio.store, ["Claim your prize now", "hello", "...", "You won a car"])
    app = preparation(open_page, "spam")
    assert "3 rows of the first 4 would never reach a model" in said(app)
    table = app.dataframe[0].value
    assert table["Rows"].tolist() == [2, 1]
    assert table["Then"].tolist() == ["spam: spam", "left out"]
    assert table["For example"].tolist() == ["Claim your prize now / You won a car", "..."]
    assert "no rules" in said(preparation(open_page, "sentiment"))


def test_changed_parts_are_marked_and_nothing_is_lost() -> None:
    found = prepare(
        ["I  DON'T\r\nknow İ 👋🏽", "same"], Preparation(whitespace=True, contractions=True, lowercase=True)
    )
    for text in found:
        before, after = text_views.marks(text)
        assert "".join(part for part, _ in before) == text.raw
        assert "".join(part for part, _ in after) == text.text
    assert text_views.marks(found[1]) == ([("same", False)], [("same", False)])
    _, after = text_views.marks(found[0])
    assert [part for part, changed in after if changed] == ["i", " ", "do not", "\n", "i̇"]
