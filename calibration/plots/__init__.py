"""Figures about confidence and what follows from it. Needs plotly, which the rest of the package does without.

The background is transparent and every colour is given for light and for dark ground, so a figure sits on whatever
page it is put on. Points carry `customdata`, so that a page can open the rows behind them. Each figure carries its
data: `rows_of` and `to_csv` give it, `to_html` makes a file of figure and data that needs no network.
"""

from calibration.plots.comparing import methods_figure, shares_figure
from calibration.plots.reliability import FEW_ROWS, confidence_figure, describe, domains_figure, reliability_figure
from calibration.plots.risk import risk_coverage_figure
from calibration.plots.style import DARK, LIGHT, Palette, rows_of, to_csv, to_html, translucent

__all__ = [
    "DARK",
    "FEW_ROWS",
    "LIGHT",
    "Palette",
    "confidence_figure",
    "describe",
    "domains_figure",
    "methods_figure",
    "reliability_figure",
    "risk_coverage_figure",
    "rows_of",
    "shares_figure",
    "to_csv",
    "to_html",
    "translucent",
]
