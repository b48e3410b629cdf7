"""Starting a run: which task, which model, which rows, in which words."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from engine.models import addresses, catalog
from engine.prompt import default_instructions
from studio import run_settings, ui
from studio.estimates import estimate
from studio.run_settings import SERVERS
from studio.runtime import Studio
from studio.task_draft import known, titles
from studio.words import duration, number, plural
from workspace import rows
from workspace.facts import ModelSpec, Settings
from workspace.task import Task

AMOUNTS = {"60": 60, "500": 500, "All": None, "Other": 0}
SAMPLES: dict[str, Literal["first", "random"]] = {"First rows": "first", "Random sample": "random"}
OTHER_MODEL = "A GGUF file…"


def draw(studio: Studio) -> None:
    """The form; starting leads to the run."""
    choices = known(studio)
    models = {catalog.asked_as(model): model for model in catalog.available()}
    with st.container(horizontal=True, vertical_alignment="bottom", key="run_what"):
        name = st.selectbox("Task", list(choices), format_func=titles(choices).__getitem__, key="run_task")
        model = st.selectbox(
            "Model",
            [*models, OTHER_MODEL],
            format_func=lambda asked: models[asked].name if asked in models else asked,
            key="run_model",
        )
    if model == OTHER_MODEL:
        model = st.text_input(
            "Path of the GGUF file", key="run_model_path", placeholder="/models/qwen3-4b-q4.gguf"
        )
    task, chosen = choices[name], models.get(model)
    if chosen is not None and chosen.backend in SERVERS:
        st.caption(f":material/lan: {addresses.in_words(chosen.path)}")
    limit, sample, domain = _which_rows(studio)
    settings = run_settings.draw(chosen)
    instructions = _instructions(task)
    st.caption(_plan(studio, task, chosen, limit, domain, settings))
    pressed = st.button(
        "Start labeling", key="start_run", icon=":material/play_arrow:", type="primary", disabled=not model
    )
    if pressed:
        with ui.guarded(), st.spinner("Planning the run"):
            run_id = studio.start_run(
                studio.save_task(task),
                model,
                limit=limit,
                sample=sample,
                domain=domain,
                instructions=instructions,
                settings=settings,
            )
            st.session_state.update(next_run=run_id, starts=st.session_state.get("starts", 0) + 1)
            st.rerun()


def _which_rows(studio: Studio) -> tuple[int | None, Literal["first", "random"], str | None]:
    with st.container(horizontal=True, vertical_alignment="bottom", key="run_rows"):
        amount = st.segmented_control(
            "How many rows", list(AMOUNTS), default="60", required=True, key="run_amount"
        )
        limit = AMOUNTS[amount]
        if amount == "Other":
            limit = int(st.number_input("Rows", min_value=1, value=200, step=100, key="run_limit", width=140))
        sample = SAMPLES["First rows"]
        if limit is not None:
            chosen = st.segmented_control(
                "Which ones", list(SAMPLES), default="Random sample", required=True, key="run_sample"
            )
            sample = SAMPLES[chosen]
        domains = dict(rows.domains(studio.store))
        domain = None
        if domains:
            domain = st.selectbox(
                "Domain",
                list(domains),
                index=None,
                placeholder="All domains",
                format_func=lambda name: f"{name} ({number(domains[name])})",
                key="run_domain",
            )
    return limit, sample, domain


def _plan(
    studio: Studio, task: Task, model: ModelSpec | None, limit: int | None, domain: str | None, settings: Settings
) -> str:
    """What will be done, in words: tokens, time and money as far as they are known."""
    total = rows.count(studio.store, domain)
    count = total if limit is None else min(limit, total)
    words = f"{plural(count, 'row')} × {plural(len(task.dimensions), 'question')}"
    if model is None:
        return words + "; the first rows tell how long it takes"
    found = estimate(studio.store, task, model, count, settings)
    words += f", {model.name}: " + (f"{_range(found.tokens)} tokens" if found.tokens[1] else "no tokens")
    if found.seconds is None:
        words += "; the first rows tell how long it takes"
    else:
        low, high = map(duration, found.seconds)
        words += f", {low}" if low == high else f", {low} to {high}"
    if found.money is not None:
        words += f", costs {found.money[0]:.2f} to {found.money[1]:.2f}"
    return words + (f" (going by {found.basis})" if found.basis else "")


def _range(interval: tuple[float, float]) -> str:
    low, high = (number(round(value, -2) if value > 1000 else round(value)) for value in interval)
    return low if low == high else f"{low} to {high}"


def _instructions(task: Task) -> dict[str, str] | None:
    """The instructions per dimension where people changed them, None when they left all as they were."""
    changed = {}
    with st.expander("Instructions to the model", icon=":material/edit_note:", key="instructions"):
        st.caption("Other instructions make another run, so that their labels can be compared.")
        for dimension in task.dimensions:
            usual = default_instructions(dimension)
            words = st.text_area(
                dimension.name, value=usual, key=f"instructions_{task.name}_{dimension.name}", height=140
            )
            if words.strip() != usual.strip():
                changed[dimension.name] = words
    return changed or None
