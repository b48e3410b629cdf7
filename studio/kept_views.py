"""What was accepted, as the page of the promise shows it, and the way back."""

from __future__ import annotations

import streamlit as st

from studio import promising, ui
from studio.accepting import about, accepted_words, terms
from studio.promising import Offer
from studio.runtime import Studio
from studio.words import ago, plural
from workspace import promises
from workspace.promises import WHOLE, Kept


def draw(studio: Studio, promise: Offer) -> None:
    """The promise about what is looked at, and in a line each the others of this dimension."""
    kept, label = promise.kept, promise.label or WHOLE
    others = [
        one for one in promises.all_in_force(studio.store, promise.run_id, promise.dimension) if one.label != label
    ]
    if kept is None and not others:
        _still_read_so(studio, promise)
        return
    with st.container(border=True, key="kept", gap="small"):
        if kept is not None:
            st.markdown(
                f":green[:material/verified:] **{plural(kept.rows, 'row')} accepted{about(kept)}** "
                f"{ago(kept.kept_at)}: {terms(kept)}."
            )
            st.caption(
                "Labels go on being read as they were then: whatever is labeled later, these rows stay accepted."
            )
        if others:
            st.caption("  \n".join(f"Also: {accepted_words(one)}" for one in others))
        with st.container(horizontal=True, vertical_alignment="center"):
            if kept is not None and st.button("Withdraw", key="withdraw", icon=":material/undo:"):
                promising.withdraw_promise(studio, promise.run_id, promise.dimension, promise.label)
                st.rerun()
            ui.go_to("export", "Export the labels", query={"run": promise.run_id})


def _still_read_so(studio: Studio, promise: Offer) -> None:
    """What was accepted has ended by itself, because other models are heard by now."""
    if not promises.fixed_for_nothing(studio.store, promise.run_id, promise.dimension):
        return
    with st.container(border=True, key="still_read_so", gap="small"):
        st.caption(
            "Labels are still read as they were when rows were accepted, though that has ended: other models are "
            "heard now."
        )
        if st.button("Read them as of today", key="let_go", icon=":material/update:"):
            promises.let_go(studio.store, promise.run_id, promise.dimension)
            st.rerun()


def same(kept: Kept | None, offer: Offer) -> bool:
    """Whether just this was accepted already."""
    if kept is None or (kept.epsilon, kept.delta, kept.tolerance) != (offer.epsilon, offer.delta, offer.tolerance):
        return False
    before, now = ({(one.domain, one.rows, one.checked, one.wrong) for one in of.parts} for of in (kept, offer))
    return before == now
