from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from studio import task_problems
from studio.runtime import Studio
from tests.pages.conftest import OpenPage, press, said
from tests.seeding import add_rows, task_of
from workspace import tasks
from workspace.errors import TaskError
from workspace.task import parse_task, to_yaml


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
    app.selectbox(key="task").set_value("sentiment").run()
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


def test_a_score_has_a_scale_instead_of_labels(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value("sentiment").run()
    next(box for box in app.selectbox if box.label == "Answer").set_value("score").run()
    next(field for field in app.number_input if field.label == "To").set_value(5).run()
    assert not app.exception
    assert "answered with a number from 0 to 5" in said(app)
    app.button(key="save_task").click().run()
    dimension = tasks.newest(studio.store)[0].task.dimensions[0]
    assert (dimension.kind, dimension.minimum, dimension.maximum) == ("score", 0, 5)


@pytest.mark.parametrize("name", ["conversations", "sustainability", "support_tickets", "spam"])
def test_the_form_keeps_everything_a_task_says(open_page: OpenPage, studio: Studio, name: str) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value(name).run()
    app.button(key="save_task").click().run()
    assert not app.exception
    assert [saved.task for saved in tasks.newest(studio.store)] == [tasks.bundled()[name]]


def test_dimensions_asked_together_share_their_text(open_page: OpenPage) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value("support_tickets").run()
    codes = [code.value for code in app.code]
    assert sum("Answer these questions about the text" in code for code in codes) == 1
    (opened,) = [code for code in codes if "sentiment: ..." in code]
    assert "category: (its answer)\nneeds_human: ..." in opened


def test_the_row_is_shown_as_the_model_reads_it(open_page: OpenPage, studio: Studio) -> None:
    add_rows(studio.store, ["my   parcel\n\n\nis late"])
    app = open_page("task")
    app.selectbox(key="task").set_value("spam").run()
    assert any(code.value == "my parcel\nis late" for code in app.code)


def test_what_a_task_does_beside_asking_is_set_in_the_form(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value("support_tickets").run()
    next(toggle for toggle in app.toggle if toggle.label.startswith("Contractions")).set_value(True).run()
    told = next(box for box in app.multiselect if box.label == "The model is told the answers to")
    assert told.options == ["category"], "only dimensions before this one"
    ways = next(box for box in app.multiselect if box.label == "Ways to put the question")
    ways.set_value(["words", "letters"]).run()
    app.button(key="save_task").click().run()
    assert not app.exception
    task = tasks.newest(studio.store)[0].task
    assert task.text.contractions
    assert task.text.slang
    assert task.dimensions[0].phrasings == ("words", "letters")


def test_a_weight_makes_an_overall_score(open_page: OpenPage, studio: Studio) -> None:
    app = open_page("task")
    app.selectbox(key="task").set_value("support_tickets").run()
    next(field for field in app.number_input if field.label == "Weight of urgency").set_value(2).run()
    app.button(key="save_task").click().run()
    assert not app.exception
    assert tasks.newest(studio.store)[0].task.weights == {"urgency": 2}


def test_a_pattern_that_does_not_work_is_said_and_not_saved(open_page: OpenPage, studio: Studio) -> None:
    app = as_text(open_page("task"))
    app.selectbox(key="task").set_value("spam").run()
    app.text_area[0].set_value(document(app).replace("^[\\s", "^([\\s")).run()
    assert not app.exception
    assert "empty" in app.error[0].value
    assert app.button(key="save_task").disabled


@pytest.mark.parametrize(
    ("wrong", "said_of_it"),
    [("sentimend <> 'angry'", "no dimension 'sentimend'"), ("urgency + 1", "neither true nor false")],
)
def test_an_expression_that_does_not_work_is_said_beside_the_rules(
    open_page: OpenPage, studio: Studio, wrong: str, said_of_it: str
) -> None:
    app = as_text(open_page("task"))
    app.selectbox(key="task").set_value("support_tickets").run()
    right = "sentiment <> 'angry' or needs_human = 'yes'"
    assert right in document(app)
    app.text_area[0].set_value(document(app).replace(right, wrong)).run()
    press(app, "task_view", "Form")
    assert not app.exception
    assert said_of_it in app.error[0].value
    assert app.button(key="save_task").disabled


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        (("name: mood", "name: Mood"), "top"),
        (("- name: second", "- name: first"), "top"),
        (("[good, bad]", "[good]"), "dimensions.1"),
        (("cap: 3", "cap: high"), "overall"),
        (("drop: true", "drop: false"), "prefilter"),
        (("max_tokens: 100", "max_tokens: many"), "text"),
        (("message: Both", "massage: Both"), "rules"),
    ],
)
def test_a_mistake_is_shown_beside_the_part_it_is_in(changed: tuple[str, str], part: str) -> None:
    text = """name: mood
dimensions:
- name: first
  kind: score
  question: What is it?
- name: second
  question: What else is it?
  labels: [good, bad]
text:
  max_tokens: 100
prefilter:
- name: short
  pattern: ^.$
  drop: true
rules:
- expression: first > 3
  message: Both
weights: {first: 1}
gates:
- when: first < 2
  cap: 3
"""
    parse_task(text)
    wrong = text.replace(*changed)
    with pytest.raises(TaskError) as caught:
        parse_task(wrong)
    problem = task_problems.of_error(caught.value, wrong)
    assert problem.part == part
    assert "Line" not in problem.message
