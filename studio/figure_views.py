"""A figure on a page: drawn for the ground it stands on, with its data and itself to take away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from calibration.plots import to_csv, to_html


def is_dark() -> bool:
    """Whether the person looks at a dark page."""
    return bool(st.context.theme.type == "dark")


def show(
    figure: go.Figure,
    title: str,
    *,
    key: str,
    alt: str,
    tip: str = "",
    on_select: Callable[[], None] | None = None,
) -> None:
    """The figure under its title, beside which it can be downloaded as a page of its own and as a table.

    `alt` says what it shows to those who cannot see it. `on_select` is called when a point is clicked; the
    selection is then in the session state under `key`.
    """
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.markdown(f"**{title}**", help=tip or None, width="content")
        downloads(figure, title, key=key)
    options: dict[str, Any] = {}
    if on_select is not None:
        options = {"on_select": on_select, "selection_mode": "points"}
    st.plotly_chart(figure, key=key, theme=None, config={"displayModeBar": False}, alt=alt, **options)


def downloads(figure: go.Figure, title: str, *, key: str) -> None:
    """The figure as a standalone page and its data as a table; made only when asked for."""
    name = key.partition("_of_")[0]
    with st.popover(
        "Download", type="tertiary", icon=":material/download:", key=f"{key}_downloads", width="content"
    ):
        st.download_button(
            "Figure (HTML)",
            data=lambda: to_html(figure, title),
            file_name=f"{name}.html",
            mime="text/html",
            key=f"{key}_html",
            icon=":material/insert_chart:",
            on_click="ignore",
            width="stretch",
        )
        st.download_button(
            "Data (CSV)",
            data=lambda: to_csv(figure),
            file_name=f"{name}.csv",
            mime="text/csv",
            key=f"{key}_csv",
            icon=":material/table:",
            on_click="ignore",
            width="stretch",
        )
