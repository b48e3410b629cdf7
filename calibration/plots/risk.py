"""How many rows can be accepted at which error: the risk-coverage curve with the promise marked on it."""

from __future__ import annotations

import plotly.graph_objects as go

from calibration.plots.style import SHARES, Palette, Row, colours_of, dress, share, translucent
from calibration.risk import RiskCurve

LEAST_TOP = 0.225  # where the axis of errors ends at least: room for every target up to 20 %
VALUE_WIDTH = 68  # pixels on the right for the value of the target


def risk_coverage_figure(
    curve: RiskCurve,
    *,
    epsilon: float,
    accepted: int = 0,
    dark: bool = False,
    palette: Palette | None = None,
    height: int = 420,
) -> go.Figure:
    """Error among the accepted rows against the share accepted, with its upper bound and the target `epsilon`.

    `accepted`: how many rows the promise accepts; that point is marked, nothing is marked for 0. Every point's
    `customdata` = [threshold, rows]. Source of the curve: El-Yaniv, Wiener 2010; the bound is `curve.bound`.
    """
    colours = colours_of(dark, palette)
    points = range(len(curve.rows))
    rows: list[Row] = [
        {
            "accepted_share": float(curve.coverage[i]),
            "accepted_rows": int(curve.rows[i]),
            "threshold": float(curve.threshold[i]),
            "error": float(curve.risk[i]),
            "error_at_most": float(curve.bound[i]),
        }
        for i in points
    ]
    words = [
        f"{rows_:,} rows ({share(float(part))}) at least {float(sure):.1%} sure<br>"
        f"{float(error):.1%} wrong, at most {float(bound):.1%}"
        for part, rows_, sure, error, bound in zip(
            curve.coverage, curve.rows, curve.threshold, curve.risk, curve.bound, strict=True
        )
    ]
    figure = go.Figure()
    # At 100 % the bound of few checked rows would squeeze everything else to the bottom. The range does not follow
    # a target anybody would choose, so that the line alone moves when the target does.
    top = min(1.0, max(LEAST_TOP, 1.1 * epsilon, 1.25 * max((float(curve.risk[i]) for i in points), default=0.0)))
    figure.add_hrect(y0=0, y1=epsilon, fillcolor=translucent(colours.accent, 0.07), line_width=0, layer="below")
    figure.add_scatter(
        x=curve.coverage,
        y=curve.bound,
        mode="lines",
        line={"width": 1.5, "color": colours.accent, "dash": "dot"},
        hoverinfo="skip",
        name="at most, with confidence",
    )
    figure.add_scatter(
        x=curve.coverage,
        y=curve.risk,
        mode="lines+markers",
        line={"width": 2.5, "color": colours.accent},
        marker={"size": 5, "color": colours.accent},
        fill="tonexty",
        fillcolor=translucent(colours.accent, 0.12),
        customdata=[[float(curve.threshold[i]), int(curve.rows[i])] for i in points],
        hovertext=words,
        hovertemplate="%{hovertext}<extra></extra>",
        name="wrong among the checked ones",
    )
    _target(figure, epsilon, colours)
    at = [i for i in points if int(curve.rows[i]) == accepted]
    if at:
        _chosen(figure, float(curve.coverage[at[0]]), float(curve.risk[at[0]]), accepted, colours)
    dress(figure, colours, height, rows)
    figure.update_layout(margin_r=VALUE_WIDTH)
    figure.update_xaxes(**SHARES, title_text="rows accepted, the surest first")
    figure.update_yaxes(range=[0, top], tickformat=".0%", title_text="wrong among them")
    return figure


def _target(figure: go.Figure, epsilon: float, colours: Palette) -> None:
    """The line, and its value beside it, where no curve can run through it. Both are named "target"."""
    figure.add_hline(y=epsilon, name="target", line={"color": colours.muted, "width": 2, "dash": "dash"})
    figure.add_annotation(
        name="target",
        text=f"<b>{epsilon:.1%}</b><br>target".replace(".0%", "%"),
        font={"color": colours.muted},
        x=1,
        xref="paper",
        xanchor="left",
        xshift=4,
        y=epsilon,
        yanchor="middle",
        align="left",
        showarrow=False,
    )


def _chosen(figure: go.Figure, coverage: float, risk: float, accepted: int, colours: Palette) -> None:
    figure.add_vline(
        x=coverage,
        line={"color": colours.text, "width": 1, "dash": "dot"},
        annotation={"text": f"<b>{accepted:,} rows accepted</b>", "font": {"color": colours.text}},
        annotation_position="top left" if coverage > 0.5 else "top right",
    )
    figure.add_scatter(
        x=[coverage],
        y=[risk],
        mode="markers",
        marker={"size": 15, "color": colours.surface, "line": {"color": colours.accent, "width": 4}},
        hoverinfo="skip",
        cliponaxis=False,
        showlegend=False,
    )
