"""Numbers side by side with their intervals: class shares in three ways, and methods by their log loss."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from calibration.metrics import Estimate
from calibration.plots.style import Palette, Row, colours_of, dress, share, span
from calibration.totals import Total

_LINE = 46  # pixels a line of names takes


def shares_figure(
    names: Sequence[str],
    totals: Sequence[Total],
    *,
    dark: bool = False,
    palette: Palette | None = None,
    height: int | None = None,
) -> go.Figure:
    """The share of each label in three ways: what the model counts, people's sample alone, and both together.

    `names` and `totals` [k] belong together, largest shares are drawn on top; `customdata` = [name].
    """
    colours = colours_of(dark, palette)
    order = sorted(range(len(totals)), key=lambda i: totals[i].corrected.value)
    named = [(names[i], totals[i]) for i in order]
    figure = go.Figure()
    _dots(figure, [(name, total.people) for name, total in named], "people's sample alone", colours.muted, -0.17)
    _dots(figure, [(name, total.corrected) for name, total in named], "corrected", colours.accent, 0.17)
    figure.add_scatter(
        x=[total.model for _, total in named],
        y=list(range(len(named))),
        mode="markers",
        marker={"symbol": "x-thin", "size": 10, "line": {"color": colours.text, "width": 2}},
        customdata=[[name] for name, _ in named],
        hovertext=[f"{name}: the model says {share(total.model)}" for name, total in named],
        hovertemplate="%{hovertext}<extra></extra>",
        name="the model's count",
    )
    rows: list[Row] = [
        {
            "label": name,
            "model": total.model,
            "people": total.people.value,
            "people_low": total.people.low,
            "people_high": total.people.high,
            "corrected": total.corrected.value,
            "corrected_low": total.corrected.low,
            "corrected_high": total.corrected.high,
            "worth_labels": total.worth,
        }
        for name, total in reversed(named)
    ]
    dress(figure, colours, height or 130 + _LINE * max(1, len(named)), rows)
    _names(figure, [name for name, _ in named])
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", title_text="share of all rows")
    return figure


def methods_figure(
    methods: Sequence[tuple[str, Estimate]],
    chosen: str,
    *,
    dark: bool = False,
    palette: Palette | None = None,
    height: int | None = None,
    title: str = "log loss on rows left out, lower is better",
) -> go.Figure:
    """Methods [(name, estimate)] with intervals, the first on top; the `chosen` one is filled."""
    colours = colours_of(dark, palette)
    lines = list(reversed(methods))
    figure = go.Figure()
    for filled in (False, True):
        picked = [(place, name, found) for place, (name, found) in enumerate(lines) if (name == chosen) == filled]
        colour = colours.accent if filled else colours.muted
        figure.add_scatter(
            x=[found.value for _, _, found in picked],
            y=[place for place, _, _ in picked],
            error_x=_whiskers([found for _, _, found in picked], colour),
            mode="markers",
            marker={
                "size": 11,
                "color": colour if filled else colours.surface,
                "line": {"color": colour, "width": 2},
            },
            customdata=[[name] for _, name, _ in picked],
            hovertext=[
                f"{name}: {found.value:.3f} [{found.low:.3f}–{found.high:.3f}]" for _, name, found in picked
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            name="chosen" if filled else "others",
        )
    rows: list[Row] = [
        {
            "method": name,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "chosen": "yes" if name == chosen else "no",
        }
        for name, found in methods
    ]
    dress(figure, colours, height or 120 + 34 * max(1, len(lines)), rows)
    _names(figure, [name for name, _ in lines])
    figure.update_xaxes(title_text=title)
    return figure


def _dots(
    figure: go.Figure, named: Sequence[tuple[str, Estimate]], title: str, colour: str, offset: float
) -> None:
    figure.add_scatter(
        x=[found.value for _, found in named],
        y=[place + offset for place in range(len(named))],
        error_x=_whiskers([found for _, found in named], colour),
        mode="markers",
        marker={"size": 10, "color": colour},
        customdata=[[name] for name, _ in named],
        hovertext=[f"{name}: {share(e.value)} {span(e.low, e.high)}, {title}" for name, e in named],
        hovertemplate="%{hovertext}<extra></extra>",
        name=title,
    )


def _whiskers(estimates: Sequence[Estimate], colour: str) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [found.high - found.value for found in estimates],
        "arrayminus": [found.value - found.low for found in estimates],
        "color": colour,
        "thickness": 2.5,
        "width": 0,
    }


def _names(figure: go.Figure, names: Sequence[str]) -> None:
    """Names instead of numbers on the upright axis, cut where they would take the figure's room."""
    short = [name if len(name) <= 28 else name[:27] + "…" for name in names]
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=short,
        range=[-0.6, len(names) - 0.4],
        showgrid=False,
        automargin=True,
    )
    figure.update_layout(margin={"l": 16})
