"""The promise as a page shows it: what can be accepted at which error, and what is missing for it."""

from __future__ import annotations

import streamlit as st

from calibration.plots import risk_coverage_figure
from studio import (
    domain_promises,
    domain_views,
    draw_views,
    drawing,
    figure_views,
    kept_views,
    offer_views,
    promising,
    ui,
)
from studio.components.target import draggable
from studio.drawing import Advice
from studio.offer_views import missing_words, roughly
from studio.promising import Asked, Promise
from studio.runtime import Studio
from studio.words import number, percent, plural
from workspace import decisions
from workspace.draws import Standing

LEAST_TARGET, MOST_TARGET = 1, 20  # percent
SURE = {"90%": 0.1, "95%": 0.05, "99%": 0.01}


def nothing_yet(studio: Studio, run_id: str, dimension: str) -> None:
    """What stands in place of the promise while nobody has checked anything, with the one way on."""
    rows = decisions.counts(studio.store, run_id, dimension).answered
    with (
        ui.empty_state(
            "verified",
            f"Nobody has checked yet how good the labels of these {plural(rows, 'row')} are",
            "Draw some by chance and decide them blind: they tell how many of the others you can rely on.",
            key="nothing_checked",
        ),
        ui.guarded(),
    ):
        advised = drawing.advice(studio, Asked(run_id, dimension))
        draw_views.button(studio, run_id, dimension, advised, primary=True)


@st.fragment
def card(studio: Studio, run_id: str, dimension: str, kind: str, label: str | None) -> None:
    """All about the promise; moving the target draws nothing but this anew."""
    with st.container(border=True, key="promise"), ui.guarded():
        words, picture = st.columns([4, 5], gap="large")
        with words:
            saying = st.container(key="promise_words")
            asked = _asked(run_id, dimension, kind, label)
            standing = promising.standing(studio, run_id, dimension)
            if domain_views.wanted(studio, run_id, dimension):
                by_domain = domain_promises.promise(studio, asked)
                domain_views.draw(studio, by_domain, standing, kind, words=saying, table=picture)
                return
            promise = promising.promise(studio, asked)
            advised = drawing.advice(studio, asked)
            with saying:
                _say(promise, advised)
            offer_views.progress(promise, standing, kind)
            _buttons(studio, promise, standing, advised)
            kept_views.draw(studio, promise)
        with picture:
            _picture(promise)


def _asked(run_id: str, dimension: str, kind: str, label: str | None) -> Asked:
    """What the person wants to be promised."""
    target = st.slider(
        "Error allowed among the accepted rows",
        LEAST_TARGET,
        MOST_TARGET,
        5,
        format="%d%%",
        key="target",
        persist_state="session",
        help="How many in a hundred accepted labels may be wrong. The more you allow, the fewer rows need a look.",
    )
    with st.container(horizontal=True, key="promise_terms"):
        sure = st.segmented_control(
            "Confidence",
            list(SURE),
            default="95%",
            required=True,
            key="sure",
            persist_state="session",
            help="How sure the promise is to hold: at 95%, in 19 of 20 workspaces such as this one, or more.",
        )
        tolerance = promising.TOLERANCE
        if kind == "score":
            tolerance = st.number_input(
                "A score may be off by",
                0.0,
                5.0,
                promising.TOLERANCE,
                0.5,
                format="%g",
                key="tolerance",
                persist_state="session",
                width=170,
                help="A score counts as wrong when it is further than this from what a person gave.",
            )
    return Asked(run_id, dimension, epsilon=target / 100, delta=SURE[sure], tolerance=tolerance, label=label)


def _say(promise: Promise, advised: Advice) -> None:
    found = promise.acceptance
    target = f"At {percent(promise.epsilon)} error"
    if found.threshold is not None:
        offer_views.accepting(promise, target)
        wrong = f"{number(found.wrong)} {'was' if found.wrong == 1 else 'were'} wrong"
        st.caption(
            f"Of the {number(found.checked)} checked among them {wrong}: with {_sure(promise)} confidence at most "
            f"{percent(found.bound, 1)} of them are. Their labels are at least {percent(found.threshold, 1)} sure."
        )
        return
    if promise.checked < drawing.FIRST and advised.count:
        checked = plural(promise.checked, "checked row") if promise.checked else "nothing checked yet"
        title = f"{target}, no row can be accepted yet: {checked} says too little."
        if promise.checked > 1:
            title = title.replace("says", "say")
        about = f"With about {number(advised.count)} more, decided blind, this can be judged."
    elif advised.needed:
        title = f"{target}, no row can be accepted yet: about {missing_words(advised.needed)}."
        time = f"That takes {roughly(advised.minutes)}."
        about = f"{plural(promise.checked, 'row')} {_are(promise.checked)} checked, by chance and blind. {time}"
    else:
        why = (
            "showing it would take more work than it saves"
            if found.more
            else "even the surest labels are wrong too often"
        )
        title = f"{target}, no row can be accepted: {why}."
        about = (
            "Allow more error, improve the labels (a correction below, another model, a second opinion), or look "
            "at all of them."
        )
    st.subheader(title, anchor=False)
    st.caption(about)


def _buttons(studio: Studio, promise: Promise, standing: Standing, advised: Advice) -> None:
    """The one thing to do next first."""
    with st.container(horizontal=True, key="promise_buttons"):
        offer_views.buttons(studio, promise, standing)
        if advised.count and not standing.waiting:
            draw_views.button(studio, promise.run_id, promise.dimension, advised, primary=not promise.places.size)


def _picture(promise: Promise) -> None:
    if promise.curve is None or not len(promise.curve.rows):
        st.markdown("**Error among the accepted rows**")
        st.caption("The curve appears with the first checked rows.")
        return
    found = promise.acceptance
    accepted = found.rows if found.threshold is not None else 0
    figure_views.show(
        risk_coverage_figure(
            promise.curve, epsilon=promise.epsilon, accepted=accepted, dark=figure_views.is_dark(), height=400
        ),
        "Error among the accepted rows",
        key="risk_coverage",
        alt=f"Error among the accepted rows against their share; {number(accepted)} rows are accepted",
        tip="From left to right more rows are accepted, the surest first. The line is the share of wrong labels "
        "among the checked ones of them, the dots what it is at most with the confidence chosen. A promise keeps "
        "the dots below the target. Drag the target to allow more or less.",
    )
    draggable("risk_coverage", "target", least=LEAST_TARGET, most=MOST_TARGET, target=round(100 * promise.epsilon))


def _sure(promise: Promise) -> str:
    return percent(1 - promise.delta)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
