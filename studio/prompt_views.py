"""What a model reads of a task: shared instructions once, the row, and how each answer is opened."""

from __future__ import annotations

import streamlit as st

from engine.prompt import LISTED, MARKER, prompt_for
from engine.text.preparing import prepare
from studio import ui
from studio.words import plural
from workspace.facts import DimensionSpec, Preparation
from workspace.task import Task

MOST_WORDS = 12  # of a dimension's answers that are written out
TALL = 420  # pixels; longer instructions scroll


def draw(task: Task, text: str) -> None:
    """The prompt of the task over this text."""
    with ui.guarded():
        prompt = prompt_for(task)
        if prompt.preparation != Preparation():
            text = prepare([text], prompt.preparation)[0].text
            st.caption("The row is shown as it is after its preparation; the Data page shows each step")
        groups: dict[tuple[str, str], list[DimensionSpec]] = {}
        for spec in prompt.dimensions:
            groups.setdefault((spec.system, spec.user), []).append(spec)
        for (system, user), asked in groups.items():
            if len(asked) > 1:
                st.caption(f"Once for all {plural(len(asked), 'dimension')}")
            else:
                st.caption(f"Dimension {asked[0].name}, answered with {answers(asked[0])}")
            if system:
                tall = system.count("\n") > 20
                st.code(system, language=None, wrap_lines=True, height=TALL if tall else "content")
            said = user.replace(LISTED, "the likeliest labels for this text").replace(MARKER, text)
            st.code(said, language=None, wrap_lines=True)
            if len(asked) > 1:
                st.caption("Then each answer is opened; the row is read only once")
                st.code("\n\n".join(opened(spec) for spec in asked), language=None, wrap_lines=True)


def answers(spec: DimensionSpec) -> str:
    """What the model may say."""
    if spec.kind == "multi":
        return f"yes or no for each of {plural(len(spec.labels), 'label')}"
    if spec.kind == "score":
        return f"a number from {spec.labels[0]} to {spec.labels[-1]}"
    shown = ", ".join(spec.words[:MOST_WORDS])
    more = len(spec.words) - MOST_WORDS
    return f"one of: {shown}" + (f" and {more} more" if more > 0 else "")


def opened(spec: DimensionSpec) -> str:
    """How the answer of a dimension asked together with others begins."""
    told = [f"{name}: (its answer)" for name in spec.after]
    many = f"one of {plural(len(spec.labels), 'label')}" if len(spec.labels) > 3 else answers(spec)
    return "\n".join([*told, f"{spec.cue} ... {many if spec.kind == 'single' else answers(spec)}"])
