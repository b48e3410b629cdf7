from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration import Bin, Estimate, Total, assess, fit_temperature, risk_curve
from calibration.plots import (
    DARK,
    FEW_ROWS,
    LIGHT,
    Palette,
    confidence_figure,
    describe,
    domains_figure,
    methods_figure,
    reliability_figure,
    risk_coverage_figure,
    rows_of,
    shares_figure,
    to_csv,
    to_html,
    translucent,
)
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


GENERATOR = np.random.default_rng(0)
CONFIDENCE = GENERATOR.beta(5, 2, 400)
WRONG = GENERATOR.random(400) > CONFIDENCE
CURVE = risk_curve(CONFIDENCE, np.arange(0, 400, 2), WRONG[::2])
COMMON = Total(0.7, Estimate(0.6, 0.5, 0.7), Estimate(0.62, 0.57, 0.66), 0.9, 410.0)
RARE_TOTAL = Total(0.3, Estimate(0.4, 0.3, 0.5), Estimate(0.38, 0.34, 0.43), 0.9, 410.0)
METHODS = [("none", Estimate(0.9, 0.8, 1.0)), ("temperature", Estimate(0.7, 0.65, 0.75))]


def every_figure(dark: bool) -> dict[str, Any]:
    return {
        "reliability": reliability_figure([RARE, SURE], [SURE], dark),
        "domains": domains_figure({"mail": [RARE, SURE], "news": [SURE], "none": [], "forum": [SURE]}, dark=dark),
        "confidence": confidence_figure(CONFIDENCE, threshold=0.8, dark=dark),
        "risk": risk_coverage_figure(CURVE, epsilon=0.1, accepted=int(CURVE.rows[3]), dark=dark),
        "shares": shares_figure(["spam", "<ham>"], [RARE_TOTAL, COMMON], dark=dark),
        "methods": methods_figure(METHODS, "temperature", dark=dark),
    }


@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_sits_on_any_ground(dark: bool) -> None:
    palette, other = (DARK, LIGHT) if dark else (LIGHT, DARK)
    for figure in every_figure(dark).values():
        layout = json.loads(figure.to_json())["layout"]
        assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
        assert layout["font"]["color"] == palette.text
        drawn_with = re.sub(r'"template": ?{.*', "", json.dumps(json.loads(figure.to_json())["data"]))
        assert all(colour not in drawn_with for colour in (other.accent, other.muted, other.text))


@pytest.mark.parametrize("name", every_figure(False))
def test_every_figure_leaves_as_a_file_with_its_data(name: str) -> None:
    figure = every_figure(True)[name]
    page = to_html(figure, "Spam & ham")
    assert page.startswith("<!doctype html>")
    assert "<h1>Spam &amp; ham</h1>" in page
    assert f"background:{DARK.surface}" in page
    assert "<script src=" not in page
    assert "<details>" in page
    assert "<td><ham></td>" not in page
    rows = rows_of(figure)
    read = list(csv.DictReader(to_csv(figure).splitlines()))
    assert len(read) == len(rows) > 0
    assert list(read[0]) == list(rows[0])
    assert [row[next(iter(rows[0]))] for row in read] == [str(row[next(iter(rows[0]))]) for row in rows]


def test_a_figure_without_data_has_none() -> None:
    empty = reliability_figure([])
    assert rows_of(empty) == []
    assert to_csv(empty) == ""
    assert "<details>" not in to_html(empty)


def test_every_domain_has_its_diagram_and_its_points_know_it() -> None:
    figure = every_figure(False)["domains"]
    points = [trace for trace in drawn(figure) if trace.get("customdata")]
    assert {trace["customdata"][0][0]: len(trace["x"]) for trace in points} == {"mail": 2, "news": 1, "forum": 1}
    assert len({(trace["xaxis"], trace["yaxis"]) for trace in points}) == 3
    assert points[0]["hovertext"][1] == f"mail: {describe(SURE)}"
    titles = [note["text"] for note in json.loads(figure.to_json())["layout"]["annotations"]]
    assert titles == ["mail  ·  177 rows", "news  ·  168 rows", "none  ·  0 rows", "forum  ·  168 rows"]
    assert len(domains_figure({}).data) == 0


def test_bars_of_confidence_hold_every_row_once() -> None:
    rows = rows_of(confidence_figure(CONFIDENCE, threshold=0.8))
    counted = {
        state: sum(int(row["rows"] or 0) for row in rows if row["state"] == state)
        for state in ("accepted", "to be looked at")
    }
    assert counted == {"accepted": (CONFIDENCE >= 0.8).sum(), "to be looked at": (CONFIDENCE < 0.8).sum()}
    edges = rows_of(confidence_figure([0.0, 0.05, 0.0501, 1.0]))
    assert [row["rows"] for row in edges] == [2, 1, *[0] * 17, 1]


def test_the_curve_marks_the_target_and_what_is_accepted() -> None:
    figure = risk_coverage_figure(CURVE, epsilon=0.05, accepted=int(CURVE.rows[3]))
    layout = json.loads(figure.to_json())["layout"]
    notes = [note["text"] for note in layout["annotations"]]
    assert notes == ["<b>5%</b><br>target", f"<b>{CURVE.rows[3]:,} rows accepted</b>"]
    assert any(shape.get("y0") == shape.get("y1") == 0.05 for shape in layout["shapes"])
    line = next(trace for trace in figure.data if trace.customdata is not None)
    assert list(line.customdata[3]) == [CURVE.threshold[3], CURVE.rows[3]]
    unkept = json.loads(risk_coverage_figure(CURVE, epsilon=0.05).to_json())["layout"]
    assert [note["text"] for note in unkept["annotations"]] == ["<b>5%</b><br>target"]


def test_the_target_always_lies_within_an_axis_that_does_not_move_with_it() -> None:
    few_wrong = replace(CURVE, risk=CURVE.risk / 20, bound=CURVE.bound / 20)
    for curve in (CURVE, few_wrong):
        figures = [risk_coverage_figure(curve, epsilon=percent / 100) for percent in (1, 5, 20)]
        assert len({tuple(figure.layout.yaxis.range) for figure in figures}) == 1
        for figure, percent in zip(figures, (1, 5, 20), strict=True):
            line, value = (
                [*figure.select_shapes({"name": "target"})],
                [*figure.select_annotations({"name": "target"})],
            )
            assert [line[0].y0, value[0].y] == [percent / 100] * 2
            assert 0 < line[0].y0 < figure.layout.yaxis.range[1]
    assert risk_coverage_figure(few_wrong, epsilon=0.6).layout.yaxis.range[1] > 0.6


def test_shares_are_drawn_in_three_ways_the_largest_on_top() -> None:
    figure = shares_figure(["spam", "ham"], [RARE_TOTAL, COMMON])
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces["corrected"].x) == [0.38, 0.62]
    assert list(traces["corrected"].error_x.array) == pytest.approx([0.05, 0.04])
    assert traces["corrected"].hovertext[1] == "ham: 62% [57–66%], corrected"
    assert list(traces["the model's count"].x) == [0.3, 0.7]
    assert [row["label"] for row in rows_of(figure)] == ["ham", "spam"]


def test_the_chosen_method_is_filled_and_the_first_on_top() -> None:
    figure = methods_figure(METHODS, "temperature")
    filled = {trace.name: (list(trace.y), trace.marker.color) for trace in figure.data}
    assert filled == {"others": ([1], LIGHT.surface), "chosen": ([0], LIGHT.accent)}
    assert list(figure.layout.yaxis.ticktext) == ["temperature", "none"]


def test_translucent() -> None:
    assert translucent("#2f6f4f", 0.5) == "rgba(47,111,79,0.5)"
