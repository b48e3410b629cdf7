"""Small things every page draws the same way: empty states, errors, links to pages, the workspace card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from studio.words import number, percent
from workspace.errors import WinnowError

ROOT = Path(__file__).resolve().parent.parent
STATIC = Path(__file__).resolve().parent / "static"
LOGO = str(STATIC / "logo.svg")
MARK = str(STATIC / "mark.svg")
ICON = str(STATIC / "icon.png")
MOST_BARS = 15  # more cannot be taken in at a glance


def page(name: str) -> Path:
    """The file of a page, as st.page_link and st.switch_page want it."""
    return ROOT / "pages" / f"{name}.py"


def heading(title: str, facts: str) -> None:
    """The top of every page: what it is, and one line of facts under it."""
    st.title(title, anchor=False)
    st.caption(facts)


def section(title: str) -> None:
    """A heading inside a page."""
    st.subheader(title, anchor=False)


@contextmanager
def empty_state(icon: str, title: str, sentence: str, *, key: str) -> Iterator[None]:
    """A card that says what is missing and, inside the block, offers the one way to get it.

    `icon` is a Material symbol name such as "table_rows", or MARK for our own.
    """
    with st.container(border=True, horizontal_alignment="center", gap="small", key=key):
        st.space("medium")
        if icon == MARK:
            st.image(MARK, width=64, alt="")
        else:
            st.title(f":primary[:material/{icon}:]", anchor=False, text_alignment="center")
        st.subheader(title, anchor=False, text_alignment="center")
        st.caption(sentence, text_alignment="center")
        yield
        st.space("medium")


def show_error(error: WinnowError) -> None:
    """What happened, what is safe and what to do; the raw text of a library only for those who ask."""
    body = f"**{error.title}**" + (f"  \n{error.advice}" if error.advice else "")
    st.error(body, icon=":material/error:")
    if error.details:
        with st.expander("Details"):
            st.code(error.details, language=None, wrap_lines=True)


@contextmanager
def guarded() -> Iterator[None]:
    """Errors meant for people become a box on the page; the rest of the block is skipped."""
    try:
        yield
    except WinnowError as error:
        show_error(error)


def tile(
    label: str, value: str, *, to: str, link: str, tip: str = "", query: dict[str, str] | None = None
) -> None:
    """A number with the link to the rows behind it. Call it inside `st.grid`."""
    with st.container(border=True, height="stretch", gap="xsmall", key=f"tile_{to}"):
        st.metric(label, value, help=tip or None)
        go_to(to, link, query=query)


def go_to(to: str, link: str, *, query: dict[str, str] | None = None) -> None:
    """A quiet link to another page."""
    st.page_link(page(to), label=link, icon=":material/arrow_forward:", icon_position="right", query_params=query)


def switch(to: str, run: str, **choices: str) -> None:
    """To another page on a run, with what its widgets of these keys shall show; it has to call `arrive` first.

    Not as query parameters: those this page has bound to widgets of its own cannot be set from here.
    """
    st.session_state["arriving"] = choices
    st.switch_page(page(to), query_params={"run": run})


def arrive() -> None:
    """Set widgets as the page a person comes from asked for, before they are drawn."""
    for key, value in st.session_state.pop("arriving", {}).items():
        st.session_state[key] = value


def workspace_card(name: str, labeled: int, rows: int) -> None:
    """The workspace and how far it is, for the bottom of the sidebar."""
    with st.container(border=True, gap="xsmall", key="workspace_card"):
        st.caption(f":material/database: {name}")
        if rows:
            st.progress(min(labeled / rows, 1.0), text=f"{number(labeled)} of {number(rows)} labeled")
        else:
            st.markdown("No rows yet")


def share_bars(shares: Sequence[tuple[str, int]], *, key: str) -> None:
    """Rows per label as horizontal bars in the order given, the numbers written beside the names.

    Of very many labels the most frequent ones; all of them in a table that unfolds.
    """
    total = sum(count for _, count in shares) or 1
    everything = shares
    if len(shares) > MOST_BARS:
        shares = sorted(shares, key=lambda share: -share[1])[:MOST_BARS]
    frame = pd.DataFrame(
        [
            {
                "label": f"{name}: {number(count)} ({percent(count / total)})",
                "rows": count,
                "share": count / total,
            }
            for name, count in shares
        ]
    )
    largest = max(count for _, count in shares) / total or 1
    chart = (
        alt.Chart(frame)
        .mark_bar(cornerRadiusEnd=4, height={"band": 0.6})
        .encode(
            y=alt.Y(
                "label:N",
                sort=None,
                title=None,
                axis=alt.Axis(labelLimit=320, labelFontSize=13, labelPadding=12, ticks=False, domain=False),
            ),
            x=alt.X("share:Q", title=None, axis=None, scale=alt.Scale(domain=[0, largest])),
            tooltip=[
                alt.Tooltip("label:N", title="Label"),
                alt.Tooltip("rows:Q", title="Rows", format=","),
                alt.Tooltip("share:Q", title="Share", format=".1%"),
            ],
        )
        .properties(height=max(len(frame) * 34, 68), padding={"left": 0, "right": 0, "top": 4, "bottom": 4})
    )
    st.altair_chart(chart, key=key, alt="Rows per label: " + ", ".join(f"{name} {n}" for name, n in shares))
    if len(everything) > MOST_BARS:
        with st.expander(f"All {len(everything)} labels", key=f"{key}_all"):
            counted = sorted(everything, key=lambda share: -share[1])
            table(
                [{"Label": name, "Rows": count, "Share": percent(count / total, 1)} for name, count in counted],
                key=f"{key}_table",
                alt_text="Rows per label",
            )


def table(
    rows: Sequence[dict[str, Any]],
    *,
    key: str,
    alt_text: str,
    columns: dict[str, Any] | None = None,
    pick: bool = False,
) -> list[int]:
    """Rows as a table without an index. Meant for one page of rows, never for all of them.

    With `pick` people can tick rows; the places of those are returned.
    """
    options: dict[str, Any] = {"hide_index": True, "key": key, "alt": alt_text, "column_config": columns or {}}
    if not pick:
        st.dataframe(pd.DataFrame(rows), **options)
        return []
    state = st.dataframe(pd.DataFrame(rows), on_select="rerun", selection_mode="multi-row", **options)
    return [place for place in state.selection.rows if place < len(rows)]
