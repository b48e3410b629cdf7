"""The button that draws rows to check, with how many, from where, and why."""

from __future__ import annotations

import streamlit as st

from studio import drawing, offer_views
from studio.drawing import Advice
from studio.runtime import Studio
from studio.words import number, plural

HELP = (
    "Rows are drawn by chance, and you decide them without seeing the suggestion: only such decisions can tell "
    "how good all the other labels are."
)
SUREST = (
    "Rows that are less sure will need a look in any case, so your time is best spent on those that may not. Each "
    "of these has the same chance to be drawn."
)
NEW = "A few are drawn from the rows that came since the last draw, too."
ONCE = "One large sample is worth more than several small ones: every further one makes the test stricter."


def button(studio: Studio, run_id: str, dimension: str, advised: Advice, *, primary: bool) -> None:
    """Draws what is advised and goes to the rows; disabled where nothing is."""
    where = f", from the {number(advised.surest)} surest" if advised.surest is not None else ""
    why = [HELP, SUREST if where else "", NEW if advised.new else "", ONCE]
    if st.button(
        f"Draw {plural(advised.count, 'row')} to check{where}",
        key="draw",
        icon=":material/casino:",
        type="primary" if primary else "secondary",
        disabled=not advised.count,
        help=" ".join(filter(None, why)),
    ):
        drawing.draw(studio, run_id, dimension, advised)
        offer_views.to_review(run_id, dimension)
