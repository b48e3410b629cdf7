"""How many rows there are of each label: what the model counts, what people found, and both together."""

from __future__ import annotations

import streamlit as st

from calibration import Estimate, Total
from calibration.plots import shares_figure
from studio import figure_views, scorecard, ui
from studio.runtime import Studio
from studio.words import number, percent, plural

MOST_SHOWN = 20  # labels in the figure; all are in the table


def draw(studio: Studio, run_id: str, dimension: str) -> None:
    """The section as a whole."""
    found = scorecard.shares(studio, run_id, dimension)
    st.caption(
        f"Shares among {plural(found.rows, 'row')}. The model's own count is exact and may be wrong; the "
        f"{plural(found.checked, 'checked row')} are right and few. Corrected is both, with its 95% interval."
        + (" They were not drawn equally often: each counts as many as it stands for." if found.weighted else "")
    )
    if found.mean is not None:
        _mean(found.mean)
    order = sorted(range(len(found.names)), key=lambda place: -found.shares[place].corrected.value)
    first = order[:MOST_SHOWN]
    if found.mean is not None:
        order.sort()  # scores have an order of their own
    picture, table = st.columns([4, 5], gap="medium")
    with picture:
        figure_views.show(
            shares_figure(
                [found.names[place] for place in first],
                [found.shares[place] for place in first],
                dark=figure_views.is_dark(),
            ),
            "Share of each label" if len(first) == len(order) else f"The {len(first)} most frequent labels",
            key="shares",
            alt="Share of each label: "
            + ", ".join(f"{found.names[place]} {percent(found.shares[place].corrected.value)}" for place in first),
        )
    with table:
        ui.table(
            [
                {
                    "Label": found.names[place],
                    "Model": percent(found.shares[place].model, 1),
                    "Corrected": share(found.shares[place].corrected),
                    "Rows": about(found.shares[place].corrected, found.rows),
                }
                for place in order
            ],
            key="totals_table",
            alt_text="Share and number of rows of each label, as the model counts and corrected",
            columns={"Model": st.column_config.TextColumn(width=70)},
        )


def _mean(mean: Total) -> None:
    with st.grid(3, key="means"):
        for label, value, under, help in (
            ("Mean score, corrected", f"{mean.corrected.value:.2f}", _span(mean.corrected), "Both together."),
            ("As the model says", f"{mean.model:.2f}", "no interval", "The mean of all expected scores."),
            ("Checked rows alone", f"{mean.people.value:.2f}", _span(mean.people), "Of the sample only."),
        ):
            st.metric(label, value, under, delta_color="off", delta_arrow="off", border=True, help=help)


def share(found: Estimate) -> str:
    """ "53.1% (48.2 to 57.9)"."""
    return f"{percent(found.value, 1)} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def about(found: Estimate, rows: int) -> str:
    """How many rows that is: "965 to 1,158"."""
    return f"{number(round(found.low * rows))} to {number(round(found.high * rows))}"


def _span(found: Estimate) -> str:
    return f"{found.low:.2f} to {found.high:.2f}"
