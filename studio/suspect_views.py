"""Labels people gave, or that came with the data, which are probably wrong."""

from __future__ import annotations

import streamlit as st

from studio import trust_views
from studio.calibrating import Fitted
from studio.runtime import Studio
from studio.suspects import suspects


def draw(studio: Studio, fitted: Fitted) -> None:
    """The section as a whole."""
    found, listed = suspects(studio, fitted)
    if not listed:
        st.caption(f"{found.why} None of the known labels looks wrong.")
        return
    st.caption(
        f"{found.why} Most suspicious first. Decide them again, blind: a corrected label makes all numbers above "
        "better."
    )
    several = any(one.name for one in listed) and fitted.label is None
    trust_views.review_table(
        [
            {
                "Text": one.text,
                **({"Label": one.name} if several else {}),
                "Known label": one.given,
                "Suggested": one.suggested,
                "Surer by": -100 * one.margin,
                "Known from": trust_views.SOURCES[one.source],
            }
            for one in listed
        ],
        [one.row_id for one in listed],
        fitted.run_id,
        fitted.dimension,
        key="suspects",
        alt="Rows whose known label is probably wrong",
        columns={"Surer by": st.column_config.NumberColumn(format="%.0f points", width=100)},
    )
