"""What is offered to be accepted: how far its sample is, and the buttons to check it and to accept."""

from __future__ import annotations

import streamlit as st

from studio import calibrating, kept_views, promising, ui
from studio.promising import Offer
from studio.runtime import Studio
from studio.words import duration, number, plural
from workspace.draws import Standing


def accepting(offer: Offer, target: str) -> None:
    """How many rows can be accepted, and how many of the others nobody has looked at yet."""
    rows, left = len(offer.places), offer.to_look
    look = f"{number(left)} {'needs' if left == 1 else 'need'} a look"
    time = f", {roughly(offer.look_minutes)}" if left else ""
    st.subheader(
        f"{target}, :primary[{number(rows)} of {plural(offer.population, 'row')}] can be accepted, {look}{time}.",
        anchor=False,
    )


def progress(offer: Offer, standing: Standing, kind: str) -> None:
    """How far the sample is, and what is left out of it, in words."""
    if standing.drawn:
        done = standing.drawn - standing.waiting
        st.progress(done / standing.drawn, text=f"{number(done)} of {number(standing.drawn)} checked")
    notes = []
    if offer.label is not None:
        notes.append(
            f"Only about whether “{offer.label}” is rightly given or not. All labels of a row together, and "
            "every other label, have a promise of their own."
        )
    elif kind == "multi":
        notes.append("A row counts as right when all its labels are. Choose a label above to look at it alone.")
    if offer.checked == offer.population and offer.population > len(offer.places):
        notes.append(
            "The right label of every row is known already: what can be accepted only says how good the model is."
        )
    elif (decided := offer.population - len(offer.places) - offer.to_look) and offer.places.size:
        notes.append(f"{number(decided)} of the others {'is' if decided == 1 else 'are'} checked already.")
    if offer.skipped:
        one = offer.skipped == 1
        notes.append(
            f"{plural(offer.skipped, 'row')} of the sample {'was' if one else 'were'} skipped, and "
            f"{'counts' if one else 'count'} as wrong."
        )
    if offer.uncovered:
        notes.append(
            f"The sample says nothing yet of {plural(offer.uncovered, 'row')} that came later; the promise is not "
            "about them until more are drawn and checked."
        )
    if notes:
        st.caption("  \n".join(notes))


def buttons(studio: Studio, offer: Offer, standing: Standing) -> None:
    """To check what was drawn, and to accept what may be; nothing where there is neither."""
    if standing.waiting and st.button(
        f"Check {plural(standing.waiting, 'row')}",
        key="check_sample",
        icon=":material/visibility_off:",
        type="primary",
        help="The rows that were drawn and wait, without the suggestion.",
    ):
        to_review(offer.run_id, offer.dimension)
    if not offer.places.size or kept_views.same(offer.kept, offer):
        return
    applying = calibrating.applying(studio, offer.run_id, offer.dimension)
    reason = "First check the rows that were drawn." if standing.waiting else ""
    if applying is not None and applying.state == "running":
        reason = "The correction is still being applied."
    if st.button(
        "Accept these instead" if offer.kept else "Accept these rows",
        key="accept",
        icon=":material/verified:",
        type="secondary" if standing.waiting else "primary",
        disabled=bool(reason),
        help=reason or "They go out without another look. Exports say which they are; you can take it back.",
    ):
        promising.accept_promise(studio, offer)
        st.rerun()


def to_review(run_id: str, dimension: str) -> None:
    """To the rows that were drawn and wait to be checked."""
    ui.switch("review", run_id, dimension=dimension, order="Blind sample")


def roughly(minutes: float) -> str:
    """How long it takes, for people."""
    words = duration(60 * minutes)
    return words if words.startswith("a few") else f"about {words}"


def missing_words(labels: int) -> str:
    """ "1 more label is missing", "20 more labels are missing"."""
    return f"{plural(labels, 'more label')} {'is' if labels == 1 else 'are'} missing"
