from __future__ import annotations

from streamlit.testing.v1 import AppTest

from studio.runtime import Studio
from tests.pages.conftest import OpenPage, press, said
from tests.seeding import task_of
from workspace import tasks
from workspace.task import to_yaml


def as_text(app: AppTest) -> AppTest:
    return press(app, "task_view", "Text")


def document(app: AppTest) -> str:
    return str(app.text_area[0].value)


def test_the_bundled_tasks_are_there_to_choose(open_page: OpenPage) -> None:
    app = open_page("task")
    assert {"Tweet sentiment", "Web search needed", "New task"} <= set(app.selectbox(key="task").options)
    assert "What the model reads" in said(app)


def test_a_bundled_task_is_saved_as_it_is(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value("sentiment").run()
    app.button(key="save_task").click().run()
    assert not app.exception
    assert [saved.task for saved in tasks.newest(studio.store)] == [tasks.bundled()["sentiment"]]
    assert app.button(key="save_task").disabled


def test_form_and_text_are_the_same_document(open_page: OpenPage) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value("sentiment").run()
    next(field for field in app.text_input if field.label == "Title").set_value("Moods").run()
    as_text(app)
    assert "title: Moods" in document(app)
    app.text_area[0].set_value(document(app).replace("Moods", "Feelings")).run()
    press(app, "task_view", "Form")
    assert next(field for field in app.text_input if field.label == "Title").value == "Feelings"


def test_a_mistake_is_shown_with_its_line_and_cannot_be_saved(open_page: OpenPage, studio: Studio) -> None:
    app = as_text(open_page("task"))
    wrong = document(app).replace("kind: single", "kind: sinlge")
    app.text_area[0].set_value(wrong).run()
    assert not app.exception
    line = wrong.splitlines().index(next(text for text in wrong.splitlines() if "sinlge" in text)) + 1
    assert f"Line {line}:" in app.error[0].value
    assert any(code.value.startswith(f"  {line - 2:5d}") or f"> {line:4d}" in code.value for code in app.code)
    assert app.button(key="save_task").disabled
    assert tasks.newest(studio.store) == []


def test_a_mistake_in_the_form_is_shown_too(open_page: OpenPage) -> None:
    app = open_page("task")
    next(field for field in app.text_input if field.label == "Name").set_value("Not A Name").run()
    assert not app.exception
    assert "lower case letters" in app.error[0].value


def test_dimensions_are_added_and_removed(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value("sentiment").run()
    app.button(key="add_dimension").click().run()
    names = [field.value for field in app.text_input if field.label == "Dimension"]
    assert len(names) == 2
    app.button(key="save_task").click().run()
    assert [d.name for d in tasks.newest(studio.store)[0].task.dimensions] == names
    next(button for button in app.button if button.label == "Remove").click().run()
    assert [field.value for field in app.text_input if field.label == "Dimension"] == names[1:]


def test_saving_a_change_makes_a_new_version(open_page: OpenPage, studio: Studio) -> None:
    tasks.save(studio.store, task_of(["good", "bad"], "mood"))
    app = as_text(open_page("task"))
    app.selectbox(key="task").set_value("mood").run()
    app.text_area[0].set_value(to_yaml(task_of(["good", "bad", "other"], "mood"))).run()
    app.button(key="save_task").click().run()
    assert not app.exception
    newest = tasks.newest_of(studio.store, "mood")
    assert newest is not None
    assert (newest.versions, newest.task.dimensions[0].label_names) == (2, ("good", "bad", "other"))


def test_a_kind_no_model_labels_yet_can_be_declared(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("task")
    next(box for box in app.selectbox if box.label == "Answer").set_value("score").run()
    assert not app.exception
    assert "cannot label it yet" in said(app)
    app.button(key="save_task").click().run()
    assert tasks.newest(studio.store)[0].task.dimensions[0].kind == "score"
