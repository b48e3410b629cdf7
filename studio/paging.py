"""Paging through a table by the place where the last page ended, so that page 1,000 is as fast as page 1."""

from __future__ import annotations

from typing import Any

import streamlit as st

from studio.words import number

PAGE_ROWS = 50


class Pages:
    """Where one person stands in one table. Going back needs the earlier places, which the browser session keeps;
    nothing is lost when it ends: the table starts at its top again.

    `start` is the place before the first row. A change of `filters` starts at the top.
    """

    def __init__(self, key: str, start: Any, filters: tuple[Any, ...] = ()) -> None:
        self._key = key
        state = st.session_state.get(f"{key}_places")
        if state is None or state["filters"] != filters:
            state = {"filters": filters, "places": [start]}
            st.session_state[f"{key}_places"] = state
        self._places: list[Any] = state["places"]

    @property
    def after(self) -> Any:
        """The place the rows to show come after."""
        return self._places[-1]

    def buttons(self, shown: int, last: Any, total: int | None = None) -> None:
        """The line under the table: `shown` rows are on screen, `last` is the place of the last of them."""
        first = (len(self._places) - 1) * PAGE_ROWS + 1
        end = first + shown - 1
        more = shown == PAGE_ROWS and (total is None or end < total)
        if len(self._places) == 1 and not more:
            st.caption(f"{number(shown)} shown" if total is None or total == shown else "")
            return
        with st.container(horizontal=True, vertical_alignment="center", key=f"{self._key}_pages"):
            words = f"Rows {number(first)} to {number(end)}" + (f" of {number(total)}" if total else "")
            st.caption(words, width="stretch")
            st.button(
                "Back",
                key=f"{self._key}_back",
                icon=":material/chevron_left:",
                disabled=len(self._places) == 1,
                on_click=self._places.pop,
            )
            st.button(
                "Next",
                key=f"{self._key}_next",
                icon=":material/chevron_right:",
                icon_position="right",
                disabled=not more,
                on_click=self._places.append,
                args=(last,),
            )
