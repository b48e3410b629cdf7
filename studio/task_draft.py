"""The task being edited on the Task page, until it is saved or another one is chosen."""

from __future__ import annotations

from typing import Any

import streamlit as st
import yaml

from studio import task_form
from studio.runtime import Studio
from studio.words import distinct
from workspace import tasks
from workspace.errors import TaskError
from workspace.task import Task, parse_task, to_yaml

NEW = "New task"


def known(studio: Studio) -> dict[str, Task]:
    """Tasks to choose from by name: saved ones first, last saved first, then bundled ones."""
    saved = {entry.name: entry.task for entry in tasks.newest(studio.store)}
    return saved | {name: task for name, task in tasks.bundled().items() if name not in saved}


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


def edit(draft: dict[str, Any], view: str) -> Task:
    """Draw the draft in one of its two views and return the task it means. Raises TaskError with the line."""
    if view == "Form":
        # Coming from the text or from another page the form starts from the document as it stands.
        if view != draft["view"] or f"task_{draft['turn']}_title" not in st.session_state:
            draft["base"] = _plain(parse_task(draft["document"]))
        _turn(draft, view)
        draft["document"] = task_form.to_document(task_form.draw(draft["base"], f"task_{draft['turn']}"))
    else:
        _turn(draft, view)
        draft["document"] = st.text_area(
            "Document",
            draft["document"],
            key=f"task_{draft['turn']}_document",
            height=460,
            label_visibility="collapsed",
        )
    return parse_task(draft["document"])


def _turn(draft: dict[str, Any], view: str) -> None:
    if view != draft["view"]:
        draft["view"] = view
        draft["turn"] += 1


def _plain(task: Task) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(to_yaml(task))
    return data


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
