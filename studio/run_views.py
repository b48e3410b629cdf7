"""How a run looks: its progress while it works, the buttons that steer it, its state in a word."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from typing import Literal

import streamlit as st

from studio import ui
from studio.runtime import Studio
from studio.words import distinct, number, percent, plural, time_left
from workspace import decisions, disputes, labels, monitor
from workspace.facts import RunProgress
from workspace.runs import RunRecord
from workspace.store import Store

FAILURES_SHOWN = 200
Color = Literal["primary", "orange", "gray", "green"]
BADGES: dict[str, tuple[str, str, Color]] = {
    "running": ("Running", ":material/play_circle:", "primary"),
    "paused": ("Paused", ":material/pause_circle:", "orange"),
    "cancelled": ("Cancelled", ":material/cancel:", "gray"),
    "done": ("Done", ":material/check_circle:", "green"),
    "waiting": ("Not finished", ":material/pending:", "gray"),
}


def name_of(run: RunRecord) -> str:
    """A run as lists and choices name it."""
    return f"{run.task_title}, {run.model_name}" + (" (second opinion)" if run.part_of else "")


def choose_run(found: Mapping[str, RunRecord]) -> str:
    """Let a person choose one of these runs; the address of the page names it, so links can lead to it.

    Not a bound widget: those put the words of the choice into the address, and ids are what other pages know.
    """
    names = distinct(
        {id: f"{name_of(run)}, {run.created_at.astimezone():%d %b %H:%M}" for id, run in found.items()}
    )
    asked = st.query_params.get("run", "")
    if asked in found and asked != st.session_state.get("run_in_address"):
        st.session_state["run"] = asked
    chosen = st.selectbox("Run", list(found), format_func=names.__getitem__, key="run")
    st.query_params["run"] = st.session_state["run_in_address"] = chosen
    return chosen


def state_of(run: RunRecord, progress: RunProgress | None) -> str:
    """running, paused, cancelled or done as the engine says it, else what the workspace can tell."""
    if progress is not None:
        return progress.state
    return "done" if run.labeled_rows + run.failed_rows + run.dropped_rows >= run.rows else "waiting"


def badge(state: str) -> None:
    """The state of a run in a word."""
    label, icon, color = BADGES[state]
    st.badge(label, icon=icon, color=color)


def progress_words(progress: RunProgress) -> str:
    """How far, how fast, how long: "120 of 500 rows, 34 rows/s, about 10 seconds left".

    Before the first rows it is what the engine is busy with.
    """
    if progress.done == 0 and progress.note and progress.state == "running":
        return progress.note
    parts = [f"{number(progress.done)} of {plural(progress.rows, 'row')}"]
    if progress.state == "running" and progress.rows_per_s:
        parts += [f"{number(progress.rows_per_s)} rows/s", time_left(progress.seconds_left)]
    if progress.failed:
        parts.append(f"{number(progress.failed)} failed")
    return ", ".join(part for part in parts if part)


def progress_bar(progress: RunProgress) -> None:
    """The bar of one run."""
    st.progress(progress.done / progress.rows if progress.rows else 0.0, text=progress_words(progress))


def steering(studio: Studio, run_id: str, state: str) -> None:
    """Pause, resume and cancel, whichever make sense now."""
    verbs = []
    if state == "running":
        verbs.append(("Pause", "pause", studio.pause))
    elif state != "done":
        verbs.append(("Resume", "play_arrow", studio.resume))
    if state in ("running", "paused", "waiting"):
        verbs.append(("Cancel", "close", studio.cancel))
    with st.container(horizontal=True, key="run_buttons"):
        for label, icon, verb in verbs:
            if st.button(label, key=f"run_{label.lower()}", icon=f":material/{icon}:"):
                with ui.guarded():
                    verb(run_id)
                    st.rerun()


def failures(studio: Studio, run: RunRecord, dimension: str) -> None:
    """The rows a model could not answer, with its reasons."""
    with st.expander(f"{plural(run.failed_rows, 'row')} failed", icon=":material/error:", key="failures"):
        found = labels.page(studio.store, run.id, dimension, high=0.0, limit=FAILURES_SHOWN)
        ui.table(
            [{"Row": item.row_no + 1, "Reason": item.error, "Text": item.text} for item in found if item.error],
            key="failures_table",
            alt_text="Rows that failed, with the reason",
        )


def disputed(studio: Studio, run_id: str, dimension: str) -> None:
    """The rows on which reviewers differ, on this machine or another; nothing where they do not."""
    found = disputes.disputes(studio.store, run_id, dimension)
    if not found:
        return
    title = f"Reviewers differ on {plural(len(found), 'row')}"
    with st.expander(title, icon=":material/call_split:", key="disputes"):
        st.caption("The newest decision counts. Decide again to settle it; all of them are kept.")
        ui.table(
            [
                {
                    "Row": item.row_no + 1,
                    "Counts": said_by(item.opinions[0]),
                    "Against": ", ".join(map(said_by, item.opinions[1:])),
                    "Text": item.text,
                }
                for item in found
            ],
            key="disputes_table",
            alt_text="Rows reviewers decided differently, with what each said",
        )


def reviewer(store: Store, run_id: str, dimension: str) -> str:
    """Who reviews here: the name that was typed, at first who decided last, or whose machine this is."""
    if "known_reviewer" not in st.session_state:
        newest = decisions.history(store, run_id, dimension, limit=1)
        st.session_state["known_reviewer"] = newest[0].reviewer if newest else getpass.getuser()
    asked_for = st.query_params.get("reviewer", st.session_state["known_reviewer"])
    return str(st.session_state.get("reviewer", asked_for))


def said_by(opinion: disputes.Opinion) -> str:
    """One reviewer's word: "positive (ann)"."""
    return f"{opinion.label or 'rejected'} ({opinion.reviewer})"


def summary_line(run: RunRecord) -> str:
    """What a run has done so far, in words."""
    share = percent(run.labeled_rows / run.rows) if run.rows else "0%"
    words = f"{number(run.labeled_rows)} of {plural(run.rows, 'row')} labeled ({share})"
    words += f", {number(run.dropped_rows)} left out by rules" if run.dropped_rows else ""
    return words + (f", {number(run.failed_rows)} failed" if run.failed_rows else "")


def totals_line(studio: Studio, run_id: str) -> str:
    """What a run has taken so far, in words."""
    found = monitor.totals(studio.store, run_id)
    words = f"{number(found.tokens)} tokens"
    words += f", {number(found.cached)} answers from the cache" if found.cached else ""
    return words + (f", cost {found.cost:.2f}" if found.cost is not None else "")


def label_table(found: Sequence[labels.CurrentLabel]) -> None:
    """Rows with their current label; a column that says nothing about any of these rows is left out."""
    gold = any(item.gold for item in found)
    scores = any(item.value is not None for item in found)
    reasons = any(item.explanation for item in found)
    labelers = len({item.labeler for item in found if item.labeler}) > 1
    ui.table(
        [
            {
                "Row": item.row_no + 1,
                "Text": item.text,
                "Label": item.label or _no_label(item),
                **({"Score": _score(item)} if scores else {}),
                "Confidence": None if item.confidence is None else 100 * item.confidence,
                "Decided by": item.decided_by,
                **({"Answered by": item.labeler} if labelers else {}),
                **({"Gold": item.gold} if gold else {}),
                **({"Why": item.explanation} if reasons else {}),
            }
            for item in found
        ],
        key="labels_table",
        alt_text="Rows with their current label",
        columns={
            "Row": st.column_config.NumberColumn(width=70, format="localized"),
            "Text": st.column_config.TextColumn(width=390),
            "Confidence": st.column_config.ProgressColumn(width=130, format="%.0f%%", min_value=0, max_value=100),
        },
    )


def _no_label(item: labels.CurrentLabel) -> str:
    if item.dropped:
        return f"left out ({item.dropped})"
    return "failed" if item.error else "rejected"


def _score(item: labels.CurrentLabel) -> str | None:
    if item.value is None:
        return None
    return f"{item.value:.1f} ± {item.spread:.1f}" if item.spread else f"{item.value:.1f}"
