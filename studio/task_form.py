"""A task document as a form. Form and text are two views of one document: what the form holds is written out as
YAML and read back, so both report the same errors."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import streamlit as st
import yaml

from studio import dimension_form, rules_form

NEW_DIMENSION: dict[str, Any] = {
    "name": "new_dimension",
    "kind": "single",
    "question": "What is the text about?",
    "labels": [{"name": "one", "description": ""}, {"name": "other", "description": ""}],
}
NEW_TASK: dict[str, Any] = {
    "name": "my_task",
    "title": "My task",
    "description": "",
    "dimensions": [{**NEW_DIMENSION, "name": "topic"}],
}
OPEN = 3  # dimensions that are shown unfolded


class Form(NamedTuple):
    """What the form holds, and where the problems of each part, as `task_problems` names them, are shown."""

    data: dict[str, Any]
    places: dict[str, Any]


def to_document(data: dict[str, Any]) -> str:
    """Form contents as YAML, empty settings left out."""
    kept = {key: value for key, value in data.items() if value not in ("", [], {}, None)}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100)


def draw(base: dict[str, Any], key: str) -> Form:
    """The form, filled with `base` at first. `key` renews it when it changes."""
    data = dict(base)
    places: dict[str, Any] = {}
    with st.container(horizontal=True):
        data["title"] = st.text_input("Title", base.get("title", ""), key=f"{key}_title")
        data["name"] = st.text_input(
            "Name",
            base.get("name", ""),
            key=f"{key}_name",
            help="Lower case letters, digits and underscores. Another name makes another task.",
        )
    data["description"] = st.text_area(
        "Description", base.get("description", ""), key=f"{key}_description", height=80
    )
    places["top"] = st.container(key=f"{key}_top_problem")
    data["dimensions"] = []
    for place, dimension in enumerate(base["dimensions"]):
        earlier = [other["name"] for other in data["dimensions"]]
        remove = partial(_remove, place) if len(base["dimensions"]) > 1 else None
        drawn, places[f"dimensions.{place}"] = dimension_form.draw(
            dimension, f"{key}_{place}", earlier, remove, folded=len(base["dimensions"]) > OPEN
        )
        data["dimensions"].append(drawn)
    st.button("Add a dimension", key="add_dimension", icon=":material/add:", on_click=add_dimension)
    dimensions = data["dimensions"]
    data["text"] = rules_form.text_steps(base.get("text", {}), key)
    places["text"] = st.container(key=f"{key}_text_problem")
    data["prefilter"] = rules_form.prefilter(base.get("prefilter", []), key, dimensions)
    places["prefilter"] = st.container(key=f"{key}_prefilter_problem")
    data["rules"] = rules_form.between(base.get("rules", []), key)
    places["rules"] = st.container(key=f"{key}_rules_problem")
    scores = [dimension["name"] for dimension in dimensions if dimension["kind"] == "score"]
    data |= rules_form.overall(base, key, scores)
    places["overall"] = st.container(key=f"{key}_overall_problem")
    return Form(data, places)


def _remove(place: int) -> None:
    dimensions = _current()["dimensions"]
    _fill([dimension for other, dimension in enumerate(dimensions) if other != place])


def add_dimension() -> None:
    """Button callback: one more dimension at the end of the form."""
    dimensions = _current()["dimensions"]
    _fill([*dimensions, {**NEW_DIMENSION, "name": f"dimension_{len(dimensions) + 1}"}])


def _current() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(st.session_state["draft"]["document"])
    return data


def _fill(dimensions: list[dict[str, Any]]) -> None:
    draft = st.session_state["draft"]
    draft["base"] = {**_current(), "dimensions": dimensions}
    draft["document"] = to_document(draft["base"])
    draft["turn"] += 1
