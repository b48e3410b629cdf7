"""Reliability diagrams: one large with the counts beneath it, small ones for domains, and confidences alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from calibration.metrics import Bin
from calibration.plots.style import FEW_SHARES, SHARES, Palette, Row, colours_of, dress, span, translucent

# With fewer rows than this in a bin its share of right labels is mostly chance; it is drawn hollow and unjoined.
FEW_ROWS = 10
BEFORE, AFTER = "before", "after"


def describe(bin: Bin) -> str:
    """A bin in words: "said 80%, was right 71%, n = 168 [63–78%]"."""
    said, right = f"{bin.mean_confidence:.0%}", f"{bin.accuracy:.0%}"
    return f"said {said}, was right {right}, n = {bin.count:,} {span(bin.low_ci, bin.high_ci)}"


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
    colours = colours_of(dark, palette)
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
    figure.update_layout(barmode="overlay")
    dress(figure, colours, height, _rows(before, BEFORE) + _rows(after or (), AFTER))
    figure.update_xaxes(**SHARES)
    figure.update_yaxes(**SHARES, title_text="how often it was right", row=1, col=1)
    figure.update_yaxes(title_text="rows", rangemode="tozero", nticks=4, row=2, col=1)
    figure.update_xaxes(title_text="how sure the model was", row=2, col=1)
    return figure


def domains_figure(
    bins: Mapping[str, Sequence[Bin]],
    *,
    dark: bool = False,
    palette: Palette | None = None,
    columns: int = 3,
    height: int | None = None,
) -> go.Figure:
    """A small reliability diagram for every domain, in the order given; `customdata` = [domain, low, high].

    Points have their intervals as bars and areas by their share of the domain's rows.
    """
    colours = colours_of(dark, palette)
    names = list(bins)
    columns = max(1, min(columns, len(names)))
    lines = max(1, -(-len(names) // columns))
    titles = [f"{name}  ·  {sum(bin.count for bin in bins[name]):,} rows" for name in names]
    figure = make_subplots(
        rows=lines,
        cols=columns,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=titles or None,
        horizontal_spacing=0.04,
        vertical_spacing=min(0.2, 0.3 / lines),
    )
    for place, name in enumerate(names):
        row, column = place // columns + 1, place % columns + 1
        _diagonal(figure, colours, row=row, col=column, legend=False)
        _small(figure, name, bins[name], colours, row, column)
    dress(
        figure,
        colours,
        height or 70 + 250 * lines,
        [{"domain": name, **row} for name in names for row in _rows(bins[name], AFTER, False)],
    )
    figure.update_layout(showlegend=False)
    figure.update_annotations(font={"color": colours.text, "size": 13})
    figure.update_xaxes(**FEW_SHARES)
    figure.update_yaxes(**FEW_SHARES)
    for place in range(max(0, len(names) - columns), len(names)):  # the lowest of each column, also beside a gap
        figure.update_xaxes(showticklabels=True, row=place // columns + 1, col=place % columns + 1)
    return figure


def confidence_figure(
    confidence: npt.ArrayLike,
    *,
    threshold: float | None = None,
    bins: int = 20,
    dark: bool = False,
    palette: Palette | None = None,
    height: int = 260,
) -> go.Figure:
    """How sure the labels of all rows are; bars at or above `threshold` are filled, the others wait for a look.

    `customdata` = [low, high] of each bar, which holds (low, high], the first one its low end too.
    """
    colours = colours_of(dark, palette)
    values = np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], values, side="left")
    accepted = values >= (0.0 if threshold is None else threshold)
    figure = go.Figure()
    rows: list[Row] = []
    for taken, name, fill in ((True, "accepted", 0.6), (False, "to be looked at", 0.0)):
        counts = np.bincount(place[accepted == taken], minlength=bins)
        if threshold is None and not taken:
            continue
        colour = colours.accent if taken else colours.muted
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=0.92 / bins,
            marker={
                "color": translucent(colour, fill),
                "line": {"color": colour, "width": [0 if taken or not count else 1.5 for count in counts]},
            },
            customdata=[[float(edges[b]), float(edges[b + 1])] for b in range(bins)],
            hovertext=[f"{counts[b]:,} rows are {edges[b]:.0%} to {edges[b + 1]:.0%} sure" for b in range(bins)],
            hovertemplate="%{hovertext}<extra></extra>",
            name="rows" if threshold is None else name,
        )
        state = "" if threshold is None else name
        rows += [
            {"low": float(edges[b]), "high": float(edges[b + 1]), "rows": int(counts[b]), "state": state}
            for b in range(bins)
        ]
    dress(figure, colours, height, rows)
    figure.update_layout(barmode="stack", showlegend=threshold is not None)
    if threshold is not None:
        figure.add_vline(
            x=threshold,
            line={"color": colours.text, "width": 1, "dash": "dot"},
            annotation={"text": f"from {threshold:.1%} on", "font": {"color": colours.text}},
            annotation_position="top left",
        )
    figure.update_xaxes(**SHARES, title_text="how sure the label is")
    figure.update_yaxes(title_text="rows", rangemode="tozero", nticks=4)
    return figure


def _small(figure: go.Figure, name: str, bins: Sequence[Bin], colours: Palette, row: int, column: int) -> None:
    total = max(1, sum(bin.count for bin in bins))
    sizes = [6 + 14 * (bin.count / total) ** 0.5 for bin in bins]
    few = [bin.count < FEW_ROWS for bin in bins]
    figure.add_scatter(
        x=[bin.mean_confidence for bin in bins],
        y=[bin.accuracy for bin in bins],
        mode="markers",
        marker={
            "size": sizes,
            "color": [colours.surface if rare else colours.accent for rare in few],
            "opacity": 1,
            "line": {"color": colours.accent, "width": 1.5},
        },
        error_y=_bars(bins, translucent(colours.accent, 0.5)),
        cliponaxis=False,
        customdata=[[name, bin.low, bin.high] for bin in bins],
        hovertext=[f"{name}: {describe(bin)}" for bin in bins],
        hovertemplate="%{hovertext}<extra></extra>",
        name=name,
        row=row,
        col=column,
    )


def _bars(bins: Sequence[Bin], colour: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [bin.high_ci - bin.accuracy for bin in bins],
        "arrayminus": [bin.accuracy - bin.low_ci for bin in bins],
        "color": colour,
        "thickness": 1.5,
        "width": 0,
    }


def _rows(bins: Sequence[Bin], series: str, with_series: bool = True) -> list[Row]:
    named: Row = {"series": series} if with_series else {}
    return [
        {
            **named,
            "low": bin.low,
            "high": bin.high,
            "rows": bin.count,
            "said": bin.mean_confidence,
            "right": bin.accuracy,
            "right_low": bin.low_ci,
            "right_high": bin.high_ci,
        }
        for bin in bins
    ]


def _diagonal(figure: go.Figure, colours: Palette, row: int = 1, col: int = 1, legend: bool = True) -> None:
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"dash": "dash", "color": colours.text, "width": 1},
        opacity=0.45,
        hoverinfo="skip",
        name="as sure as right",
        showlegend=legend,
        row=row,
        col=col,
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
    figure.add_scatter(
        x=[bin.mean_confidence for bin in bins],
        y=[bin.accuracy for bin in bins],
        mode="lines+markers" if line else "markers",
        line=line,
        marker=marker,
        error_y=_bars(bins, bars) if bars else None,
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
