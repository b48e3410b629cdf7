from __future__ import annotations

import json
from typing import Any

import pytest

from calibration import Bin, assess, fit_temperature
from calibration.plots import DARK, FEW_ROWS, LIGHT, Palette, describe, reliability_figure, translucent
from tests.unit.calibration.examples import overconfident

SURE = Bin(0.7, 0.8, 168, 0.8, 0.71, 0.63, 0.78)
RARE = Bin(0.3, 0.4, FEW_ROWS - 1, 0.35, 0.5, 0.2, 0.8)


def drawn(figure: Any) -> list[dict[str, Any]]:
    """The traces as the browser gets them."""
    traces: list[dict[str, Any]] = json.loads(figure.to_json())["data"]
    return traces


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_bin_in_words() -> None:
    assert describe(SURE) == "said 80%, was right 71%, n = 168 [63–78%]"
    assert "n = 1,168" in describe(Bin(0.7, 0.8, 1168, 0.8, 0.71, 0.68, 0.74))


def test_points_hover_in_words_and_know_their_bin() -> None:
    points = [trace for trace in drawn(reliability_figure([SURE])) if "markers" in trace.get("mode", "")]
    assert [trace["hovertext"] for trace in points] == [[describe(SURE)]]
    assert points[0]["customdata"] == [["before", 0.7, 0.8]]


def test_bins_of_few_rows_are_hollow_and_not_joined() -> None:
    traces = drawn(reliability_figure([RARE, SURE]))
    hollow = [trace for trace in traces if trace.get("mode") == "markers"]
    assert [trace["x"] for trace in hollow] == [[0.35]]
    assert hollow[0]["marker"]["color"] == LIGHT.surface
    assert [trace["x"] for trace in traces if trace.get("mode") == "lines+markers"] == [[0.8]]


def test_the_band_runs_along_the_upper_ends_and_back_along_the_lower() -> None:
    band = [trace for trace in drawn(reliability_figure([RARE, SURE])) if trace.get("fill") == "toself"]
    assert [(trace["x"], trace["y"]) for trace in band] == [([0.8, 0.8], [0.78, 0.63])]


def test_before_and_after_are_told_apart() -> None:
    scores, truth = overconfident(500)
    before = assess(scores, truth, resamples=1).bins
    after = assess(fit_temperature(scores, truth).apply(scores), truth, resamples=1).bins
    traces = drawn(reliability_figure(before, after))
    series = {trace["customdata"][0][0] for trace in traces if trace.get("customdata")}
    assert series == {"before", "after"}
    counted = [sum(trace["y"]) for trace in traces if trace["type"] == "bar"]
    assert counted == [500, 500]


@pytest.mark.parametrize("bins", [[], [RARE], [SURE], [RARE, SURE]])
@pytest.mark.parametrize("dark", [False, True])
def test_any_bins_can_be_drawn_on_any_ground(bins: list[Bin], dark: bool) -> None:
    for after in (None, [], [SURE]):
        figure = json.loads(reliability_figure(bins, after, dark).to_json())
        assert figure["layout"]["paper_bgcolor"] == figure["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)"
        assert figure["layout"]["font"]["color"] == (DARK if dark else LIGHT).text


def test_a_palette_can_be_given() -> None:
    palette = Palette("#000001", "#000002", "#000003", "#000004", "#000005")
    assert (
        json.loads(reliability_figure([SURE], palette=palette).to_json())["layout"]["font"]["color"] == "#000003"
    )


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_stand_out_from_their_ground(palette: Palette) -> None:
    """At least 3 : 1 for drawings and 4.5 : 1 for text, as WCAG 2.2 asks (1.4.11, 1.4.3)."""
    for colour, wanted in ((palette.accent, 3), (palette.muted, 3), (palette.text, 4.5)):
        dark, light = sorted([luminance(colour), luminance(palette.surface)])
        assert (light + 0.05) / (dark + 0.05) >= wanted


def test_the_file_of_a_figure_needs_no_network() -> None:
    page = reliability_figure([RARE, SURE]).to_html(include_plotlyjs=True)
    assert "<script src=" not in page


def test_translucent() -> None:
    assert translucent("#2f6f4f", 0.5) == "rgba(47,111,79,0.5)"
