"""What all figures share: colours for light and dark ground, axes, and how figures leave the page as files."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

# A row of the data behind a figure.
Row = dict[str, str | float | int | None]


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours as #rrggbb. `accent` draws what is in force, `muted` what it is compared with."""

    accent: str
    muted: str
    text: str
    grid: str
    surface: str  # fills hollow points, so that lines do not show through them


LIGHT = Palette(accent="#2f6f4f", muted="#b06a1c", text="#24231f", grid="#e3dfd5", surface="#fbfaf7")
DARK = Palette(accent="#7fc7a1", muted="#e0a65a", text="#ece9e2", grid="#35322d", surface="#171614")


def colours_of(dark: bool, palette: Palette | None) -> Palette:
    """The palette given, or the one for the ground."""
    return palette or (DARK if dark else LIGHT)


def share(value: float) -> str:
    """0.954 -> "95%"; never rounds a part to nothing or to everything."""
    if 0 < value < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= value < 1 else f"{value:.0%}"


def span(low: float, high: float) -> str:
    """(0.684, 0.739) -> "[68–74%]"."""
    return f"[{100 * low:.0f}–{100 * high:.0f}%]"


# Ticks of an axis of shares; 100% is one of them, which an automatic axis leaves out where its word has no room.
SHARES = {"range": [0, 1], "tickmode": "array", "tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1], "tickformat": ".0%"}
FEW_SHARES = {**SHARES, "range": [-0.02, 1.03], "tickvals": [0, 0.5, 1]}


def translucent(colour: str, opacity: float) -> str:
    """("#2f6f4f", 0.5) -> "rgba(47,111,79,0.5)"."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def dress(figure: go.Figure, colours: Palette, height: int, rows: Sequence[Row] = ()) -> None:
    """Ground, words, grid and legend; `rows` is the data of the figure, which goes with it wherever it goes."""
    figure.update_layout(
        height=height,
        margin={"l": 64, "r": 28, "t": 20, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": colours.text, "family": "Inter, system-ui, sans-serif", "size": 13},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": colours.text}},
        hoverlabel={"bgcolor": colours.surface, "bordercolor": colours.grid, "font": {"color": colours.text}},
        dragmode=False,
        meta={"rows": list(rows), "surface": colours.surface, "text": colours.text},
    )
    words = {"color": colours.text}
    axis = {"gridcolor": colours.grid, "zeroline": False, "linecolor": colours.grid, "fixedrange": True}
    titles = {**words, "size": 13}  # left alone they would be larger than all other words
    figure.update_xaxes(**axis, tickfont=words, title_font=titles)
    figure.update_yaxes(**axis, tickfont=words, title_font=titles)


def rows_of(figure: go.Figure) -> list[Row]:
    """The data a figure of this package was drawn from, one row per point; [] for other figures."""
    meta: Any = figure.layout.meta
    return [dict(row) for row in meta["rows"]] if isinstance(meta, dict) and "rows" in meta else []


def to_csv(figure: go.Figure) -> str:
    """The data of a figure as CSV with a header line; "" where it has none."""
    rows = rows_of(figure)
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_html(figure: go.Figure, title: str = "") -> str:
    """A page of its own that needs no network: the figure, on the ground it was drawn for, and its data below."""
    meta: Any = figure.layout.meta
    ground, text = (meta["surface"], meta["text"]) if isinstance(meta, dict) else (LIGHT.surface, LIGHT.text)
    drawn = figure.to_html(
        include_plotlyjs=True, full_html=False, config={"displaylogo": False, "responsive": True}
    )
    style = (
        f"body{{margin:2rem auto;max-width:64rem;padding:0 1rem;background:{ground};color:{text};"
        "font:15px/1.5 Inter,system-ui,sans-serif}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
        "td,th{padding:.2rem .8rem .2rem 0;text-align:left}summary{cursor:pointer}h1{font-size:1.4rem}"
    )
    named = html.escape(title)
    head = f'<meta charset="utf-8"><title>{named or "Figure"}</title><style>{style}</style>'
    body = f"{f'<h1>{named}</h1>' if named else ''}{drawn}{_table(rows_of(figure))}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in names) + "</tr>" for row in rows
    )
    return f"<details><summary>Data</summary><table><tr>{head}</tr>{body}</table></details>"


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))
