"""A task document as a form. Form and text are two views of one document: what the form holds is written out as
YAML and read back, so both report the same errors with the same lines."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
import yaml

KINDS = {
    "single": "One of the labels",
    "boolean": "Yes or no",
    "multi": "Any number of the labels",
    "score": "A number",
}
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


def to_document(data: dict[str, Any]) -> str:
    """Form contents as YAML, empty settings left out."""
    kept = {key: value for key, value in data.items() if value not in ("", [], {}, None)}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100)


def draw(base: dict[str, Any], key: str) -> dict[str, Any]:
    """The form, filled with `base` at first; returns what it holds now. `key` renews it when it changes."""
    data = dict(base)
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
    data["dimensions"] = [
        _dimension(dimension, f"{key}_{place}", place, len(base["dimensions"]) > 1)
        for place, dimension in enumerate(base["dimensions"])
    ]
    return data


def _dimension(base: dict[str, Any], key: str, place: int, removable: bool) -> dict[str, Any]:
    data = dict(base)
    with st.container(border=True, key=f"dimension_{key}"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            data["name"] = st.text_input("Dimension", base.get("name", ""), key=f"{key}_name")
            data["kind"] = st.selectbox(
                "Answer",
                list(KINDS),
                index=list(KINDS).index(base.get("kind", "single")),
                format_func=KINDS.__getitem__,
                key=f"{key}_kind",
            )
            if removable:
                st.button(
                    "Remove",
                    key=f"{key}_remove",
                    icon=":material/delete:",
                    on_click=_remove,
                    args=(place,),
                    type="tertiary",
                )
        data["question"] = st.text_area("Question", base.get("question", ""), key=f"{key}_question", height=80)
        if data["kind"] == "score":
            data.pop("labels", None)
            with st.container(horizontal=True):
                data["minimum"] = st.number_input("From", value=base.get("minimum", 0), key=f"{key}_min")
                data["maximum"] = st.number_input("To", value=base.get("maximum", 10), key=f"{key}_max")
        else:
            data.pop("minimum", None)
            data.pop("maximum", None)
            data["labels"] = _labels(base.get("labels", []), key)
    return data


def _labels(base: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    examples = {label["name"]: label["examples"] for label in base if label.get("examples")}
    frame = pd.DataFrame(
        {
            "name": pd.Series([label["name"] for label in base], dtype="string"),
            "description": pd.Series([label.get("description", "") for label in base], dtype="string"),
        }
    )
    edited = st.data_editor(
        frame,
        key=f"{key}_labels",
        num_rows="dynamic",
        hide_index=True,
        alt="Labels with what they mean",
        column_config={
            "name": st.column_config.TextColumn("Label", width="small"),
            "description": st.column_config.TextColumn(
                "What it means, for the model and for people", width="large"
            ),
        },
    )
    labels = []
    for name, meaning in zip(edited["name"], edited["description"], strict=True):
        words = "" if pd.isna(name) else str(name).strip()
        said = "" if pd.isna(meaning) else str(meaning).strip()
        if not words and not said:
            continue
        label: dict[str, Any] = {"name": words, "description": said}
        if words in examples:
            label["examples"] = examples[words]
        labels.append(label)
    return labels


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
