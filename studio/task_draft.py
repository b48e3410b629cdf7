"""The task being edited on the Task page, until it is saved or another one is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
import yaml

from studio import task_form, task_problems
from studio.runtime import Studio
from studio.task_problems import Problem
from studio.words import distinct
from workspace import tasks
from workspace.errors import TaskError
from workspace.task import Task, parse_task, to_yaml

NEW = "New task"


def known(studio: Studio) -> dict[str, Task]:
    """Tasks to choose from by name: saved ones first, last saved first, then bundled ones, the simplest first."""
    saved = {entry.name: entry.task for entry in tasks.newest(studio.store)}
    bundled = sorted(tasks.bundled().items(), key=lambda found: _size(found[1]))
    return saved | {name: task for name, task in bundled if name not in saved}


def _size(task: Task) -> tuple[int, int]:
    return len(task.dimensions), sum(len(dimension.label_names) for dimension in task.dimensions)


def titles(choices: dict[str, Task]) -> dict[str, str]:
    """What to call each task where people choose one."""
    return distinct({name: task.shown_title for name, task in choices.items()})


def choose(name: str, choices: dict[str, Task]) -> dict[str, Any]:
    """The draft of the chosen task, begun anew when another one was chosen before.

    A draft has `document` (the YAML as it stands), `base` (what the form was last filled with) and `turn`,
    which is part of every widget's key: raising it fills the widgets anew.
    """
    draft: dict[str, Any] | None = st.session_state.get("draft")
    if draft is None or draft["of"] != name:
        task = choices.get(name)
        document = to_yaml(task) if task else task_form.to_document(task_form.NEW_TASK)
        turn = draft["turn"] + 1 if draft else 0
        draft = {"of": name, "document": document, "base": yaml.safe_load(document), "view": "Form", "turn": turn}
        st.session_state["draft"] = draft
    return draft


def edit(draft: dict[str, Any], view: str) -> Task | None:
    """Draw the draft in one of its two views and return the task it means; None, with what is wrong, if none."""
    if view == "Form":
        # Coming from the text or from another page the form starts from the document as it stands.
        try:
            if view != draft["view"]:
                draft["base"] = yaml.safe_load(to_yaml(parse_task(draft["document"])))
            elif f"task_{draft['turn']}_title" not in st.session_state:
                draft["base"] = yaml.safe_load(draft["document"])
        except TaskError as error:
            show_task_error(error, draft["document"])
            return None
        _turn(draft, view)
        form = task_form.draw(draft["base"], f"task_{draft['turn']}")
        draft["document"] = task_form.to_document(form.data)
        places = form.places
    else:
        _turn(draft, view)
        draft["document"] = st.text_area(
            "Document",
            draft["document"],
            key=f"task_{draft['turn']}_document",
            height=460,
            label_visibility="collapsed",
        )
        places = {}
    try:
        task = parse_task(draft["document"])
    except TaskError as error:
        if view == "Form":
            _show([task_problems.of_error(error, draft["document"])], places)
        else:
            show_task_error(error, draft["document"])
        return None
    problems = task_problems.of_task(task)
    _show(problems, places)
    return None if problems else task


def _show(problems: Sequence[Problem], places: Mapping[str, Any]) -> None:
    """Each problem beside the part of the form it is about."""
    for problem in problems:
        (places.get(problem.part) or places.get("top") or st).error(problem.message, icon=":material/error:")


def _turn(draft: dict[str, Any], view: str) -> None:
    if view != draft["view"]:
        draft["view"] = view
        draft["turn"] += 1


def show_task_error(error: TaskError, document: str) -> None:
    """The error and the line it is about, with its neighbours."""
    st.error(f"**{error.title}**" + (f"  \n{error.advice}" if error.advice else ""), icon=":material/error:")
    lines = document.splitlines()
    if error.line and lines:
        start = max(error.line - 3, 0)
        shown = [
            f"{'>' if place == error.line else ' '} {place:4d}  {text}"
            for place, text in enumerate(lines[start : error.line + 2], start=start + 1)
        ]
        st.code("\n".join(shown), language=None)
