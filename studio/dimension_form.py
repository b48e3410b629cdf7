"""One dimension of a task as a form: what is asked, the answers there are, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from studio.form_tables import joined, parted, table

KINDS = {
    "single": "One label",
    "boolean": "Yes or no",
    "multi": "Several labels",
    "score": "A number",
}
PHRASINGS = {
    "words": "Labels as answers in a chat",
    "plain": "Labels as a text goes on",
    "letters": "Letters that stand for labels",
}
EXAMPLES = "|"  # between examples in one cell


def draw(
    base: dict[str, Any], key: str, earlier: Sequence[str], remove: Callable[[], None] | None, folded: bool
) -> tuple[dict[str, Any], Any]:
    """The dimension as the form holds it now, and a place for what is wrong with it. `folded`: as one line that
    unfolds."""
    data = dict(base)
    card = (
        st.expander(_summary(base), key=f"dimension_{key}")
        if folded
        else st.container(border=True, key=f"dimension_{key}")
    )
    with card:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            data["name"] = st.text_input("Dimension", base.get("name", ""), key=f"{key}_name")
            data["kind"] = st.selectbox(
                "Answer",
                list(KINDS),
                index=list(KINDS).index(base.get("kind", "single")),
                format_func=KINDS.__getitem__,
                key=f"{key}_kind",
            )
            if remove is not None:
                st.button(
                    "Remove", key=f"{key}_remove", icon=":material/delete:", on_click=remove, type="tertiary"
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
        _asking(data, base, key, earlier)
    return data, st.container(key=f"{key}_problem")


def _summary(base: dict[str, Any]) -> str:
    kind, labels = base.get("kind", "single"), base.get("labels", [])
    if kind == "score":
        scale = f"a number from {base.get('minimum', 0)} to {base.get('maximum', 10)}"
        return f"**{base['name']}**: {scale}"
    many = f" of {len(labels)}" if labels and kind != "boolean" else ""
    return f"**{base['name']}**: {KINDS[kind].lower()}{many}"


def _labels(base: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    examples = [label.get("examples", []) for label in base]
    columns = {
        "name": st.column_config.TextColumn("Label", width=120),
        "description": st.column_config.TextColumn("What it means, for the model and for people", width=250),
        "examples": st.column_config.TextColumn(
            "Examples", width="medium", help=f"Short texts the label fits, with {EXAMPLES} between them"
        ),
    }
    cells = [{**label, "examples": joined(texts, EXAMPLES)} for label, texts in zip(base, examples, strict=True)]
    labels = table(cells, columns, key=f"{key}_labels", alt="Labels with what they mean")
    return [
        {"name": "", "description": "", **label}
        | ({"examples": parted(label["examples"], EXAMPLES, examples)} if "examples" in label else {})
        for label in labels
    ]


def _asking(data: dict[str, Any], base: dict[str, Any], key: str, earlier: Sequence[str]) -> None:
    told, ways = base.get("after", []), base.get("phrasings", [])
    with st.expander("How it is asked", icon=":material/tune:", key=f"{key}_asking"):
        options = list(dict.fromkeys([*earlier, *told]))
        data["after"] = (
            st.multiselect(
                "The model is told the answers to",
                options,
                told,
                key=f"{key}_after",
                placeholder="No other dimension",
                help="Only dimensions above this one. It helps where one answer narrows down another.",
            )
            if options
            else []
        )
        data["phrasings"] = st.multiselect(
            "Ways to put the question",
            list(PHRASINGS),
            ways,
            format_func=PHRASINGS.__getitem__,
            key=f"{key}_phrasings",
            placeholder="What proved best",
            help="Several are averaged: a little slower, often a little better.",
        )
    for name in ("after", "phrasings"):
        if not data[name]:
            data.pop(name)
