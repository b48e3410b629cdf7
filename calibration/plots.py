"""Figures about confidence: the reliability diagram with the histogram of confidence beneath it.

The background is transparent and every colour is given for light and for dark surroundings, so a figure sits on
the page it is put on. `figure.to_html(include_plotlyjs=True)` makes a file of it that needs no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from calibration.metrics import Bin

# With fewer rows than this in a bin its share of right labels is mostly chance; it is drawn hollow and unjoined.
FEW_ROWS = 10
BEFORE, AFTER = "before", "after"


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


def describe(bin: Bin) -> str:
    """A bin in words: "said 80%, was right 71%, n = 168 [63–78%]"."""
    interval = f"{100 * bin.low_ci:.0f}–{100 * bin.high_ci:.0f}%"
    return f"said {bin.mean_confidence:.0%}, was right {bin.accuracy:.0%}, n = {bin.count:,} [{interval}]"


def reliability_figure(
    before: Sequence[Bin],
    after: Sequence[Bin] | None = None,
    dark: bool = False,
    *,
    palette: Palette | None = None,
    names: tuple[str, str] = ("what the model said", "with the temperature"),
    height: int = 520,
) -> go.Figure:
    """How often labels were right against how sure they were, over the counts of rows per bin; shared x axis.

    `before` and `after` come from `reliability_bins`; either may be empty. Points on the dashed diagonal are
    perfectly calibrated, points below it are too sure. Every point carries `customdata` = [series, low, high]
    with series "before" or "after" and its bin's limits, which a click hands back, so a page can open its rows.
    Source of the diagram: DeGroot, Fienberg 1983; Guo et al. 2017, figure 1. The band is each bin's interval.
    """
    colours = palette or (DARK if dark else LIGHT)
    figure = make_subplots(rows=2, cols=1, row_heights=[0.76, 0.24], shared_xaxes=True, vertical_spacing=0.05)
    _diagonal(figure, colours)
    if after is None:
        _curve(figure, before, BEFORE, "what the model said", colours.accent, colours, band=True)
        _counts(figure, before, BEFORE, colours.accent)
    else:
        _curve(figure, before, BEFORE, names[0], colours.muted, colours, band=False, dash="dot")
        _curve(figure, after, AFTER, names[1], colours.accent, colours, band=True)
        _counts(figure, before, BEFORE, colours.muted, hollow=True)
        _counts(figure, after, AFTER, colours.accent)
    _layout(figure, colours, height)
    return figure


def _diagonal(figure: go.Figure, colours: Palette) -> None:
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"dash": "dash", "color": colours.text, "width": 1},
        opacity=0.45,
        hoverinfo="skip",
        name="as sure as right",
        row=1,
        col=1,
    )


def _curve(
    figure: go.Figure,
    bins: Sequence[Bin],
    series: str,
    name: str,
    colour: str,
    colours: Palette,
    *,
    band: bool,
    dash: str = "solid",
) -> None:
    solid = [bin for bin in bins if bin.count >= FEW_ROWS]
    hollow = [bin for bin in bins if bin.count < FEW_ROWS]
    if band and solid:
        there, back = solid, solid[::-1]
        figure.add_scatter(
            x=[bin.mean_confidence for bin in there] + [bin.mean_confidence for bin in back],
            y=[bin.high_ci for bin in there] + [bin.low_ci for bin in back],
            mode="lines",
            fill="toself",
            fillcolor=translucent(colour, 0.16),
            line={"width": 0},
            hoverinfo="skip",
            name="95% interval",
            row=1,
            col=1,
        )
    marker = {"color": colour, "size": 9, "line": {"color": colour, "width": 2}}
    _points(figure, solid, series, name, marker, line={"color": colour, "width": 2, "dash": dash})
    open_marker = {"color": colours.surface, "size": 9, "line": {"color": colour, "width": 2}}
    few = f"fewer than {FEW_ROWS} rows" if solid else name
    _points(figure, hollow, series, few, open_marker, bars=translucent(colour, 0.45), legend=band or not solid)


def _points(
    figure: go.Figure,
    bins: Sequence[Bin],
    series: str,
    name: str,
    marker: dict[str, Any],
    *,
    line: dict[str, Any] | None = None,
    bars: str = "",
    legend: bool = True,
) -> None:
    if not bins:
        return
    intervals = None
    if bars:
        intervals = {
            "type": "data",
            "symmetric": False,
            "array": [bin.high_ci - bin.accuracy for bin in bins],
            "arrayminus": [bin.accuracy - bin.low_ci for bin in bins],
            "color": bars,
            "thickness": 1.5,
            "width": 0,
        }
    figure.add_scatter(
        x=[bin.mean_confidence for bin in bins],
        y=[bin.accuracy for bin in bins],
        mode="lines+markers" if line else "markers",
        line=line,
        marker=marker,
        error_y=intervals,
        cliponaxis=False,
        customdata=[[series, bin.low, bin.high] for bin in bins],
        hovertext=[describe(bin) for bin in bins],
        hovertemplate="%{hovertext}<extra></extra>",
        name=name,
        showlegend=legend,
        row=1,
        col=1,
    )


def _counts(figure: go.Figure, bins: Sequence[Bin], series: str, colour: str, *, hollow: bool = False) -> None:
    """Rows per bin; hollow bars are drawn behind the filled ones, for comparison."""
    fill = translucent(colour, 0.0 if hollow else 0.55)
    figure.add_bar(
        x=[(bin.low + bin.high) / 2 for bin in bins],
        y=[bin.count for bin in bins],
        width=[0.92 * (bin.high - bin.low) for bin in bins],
        marker={"color": fill, "line": {"color": colour, "width": 1.5 if hollow else 0}},
        customdata=[[series, bin.low, bin.high] for bin in bins],
        hovertext=[f"{bin.count:,} rows said {bin.low:.0%} to {bin.high:.0%}" for bin in bins],
        hovertemplate="%{hovertext}<extra></extra>",
        name="rows",
        showlegend=False,
        row=2,
        col=1,
    )


def _layout(figure: go.Figure, colours: Palette, height: int) -> None:
    figure.update_layout(
        height=height,
        barmode="overlay",
        margin={"l": 64, "r": 16, "t": 44, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": colours.text},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": colours.text}},
        hoverlabel={"bgcolor": colours.surface, "bordercolor": colours.grid, "font": {"color": colours.text}},
        dragmode=False,
    )
    axis = {"gridcolor": colours.grid, "zeroline": False, "linecolor": colours.grid, "fixedrange": True}
    words = {"color": colours.text}
    figure.update_xaxes(**axis, range=[0, 1], tickformat=".0%", tickfont=words, title_font=words)
    figure.update_yaxes(**axis, tickfont=words, title_font=words)
    figure.update_yaxes(range=[0, 1], tickformat=".0%", title_text="how often it was right", row=1, col=1)
    figure.update_yaxes(title_text="rows", rangemode="tozero", nticks=4, row=2, col=1)
    figure.update_xaxes(title_text="how sure the model was", row=2, col=1)


def translucent(colour: str, opacity: float) -> str:
    """("#2f6f4f", 0.5) -> "rgba(47,111,79,0.5)"."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
