"""The whole path as a person walks it: the sample, a real model, the keyboard, the curve, a file.

With WINNOW_SCREENSHOT=path/of.png the review page is photographed on the way, for the README.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, settled
from workspace import decisions, labels, runs
from workspace.store import open_store

ROWS = 60
REVIEWED = 10
LABELED_WITHIN = 120_000  # milliseconds, for two busy cores


def test_from_the_sample_to_a_file(page: Page, serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(tmp_path / "sample.duckdb")
    page.goto(server.url)
    settled(page)

    # Load
    page.locator(".st-key-open_sample button").click()
    expect(page.get_by_text("500 rows in sample.duckdb")).to_be_visible()

    # Label
    page.locator(".st-key-go_on button").click()
    settled(page)
    expect(page.locator(".st-key-run_amount").get_by_text("60", exact=True)).to_be_visible()
    page.locator(".st-key-start_run button").click()
    card = page.locator(".st-key-run_card")
    expect(card.get_by_text("Done")).to_be_visible(timeout=LABELED_WITHIN)
    settled(page)

    # Review, by keyboard alone
    page.get_by_role("link", name="Review", exact=True).click()
    settled(page)
    deck = page.locator("[data-row]").first
    expect(deck).not_to_have_attribute("data-row", "")
    picture = os.environ.get("WINNOW_SCREENSHOT")
    if picture:
        page.mouse.move(0, 0)
        page.screenshot(path=picture)
    seen: list[tuple[str, str]] = []
    keys = {"1": "positive", "2": "negative", "3": "neutral"}
    for index in range(REVIEWED):
        row = deck.get_attribute("data-row")
        assert row
        key = "123"[index % 3]
        seen.append((row, keys[key]))
        page.keyboard.press(key)
        expect(deck).not_to_have_attribute("data-row", row)
    expect(page.locator('[data-unsaved="0"]').first).to_be_attached()

    # See the curve
    page.get_by_role("link", name="Calibration", exact=True).click()
    settled(page)
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    expect(page.get_by_text(re.compile("accuracy", re.IGNORECASE)).first).to_be_visible()
    expect(page.locator(".st-key-promise").get_by_text("At 5% error")).to_be_visible()
    expect(page.locator(".st-key-correction")).to_be_visible()
    settled(page)

    # Export
    page.get_by_role("link", name="Export", exact=True).click()
    settled(page)
    target = tmp_path / "out.csv"
    path = page.locator("[class*=st-key-path_] input")
    path.fill(str(target))
    path.press("Enter")
    settled(page)
    page.locator(".st-key-write button").click()
    expect(page.get_by_text(f"{ROWS} rows written")).to_be_visible()

    # What was seen, what is in the file and what is in the workspace are the same
    server.stop()
    with target.open(newline="", encoding="utf-8") as file:
        written = {line["id"]: line for line in csv.DictReader(file)}
    store = open_store(server.workspace, create=False)
    try:
        (run,) = runs.list_runs(store)
        assert (run.rows, run.labeled_rows, run.failed_rows) == (ROWS, ROWS, 0)
        current = labels.page(store, run.id, "sentiment", limit=1000)
        assert len(written) == len(current) == ROWS
        for label in current:
            line = written[label.row_id]
            assert (line["text"], line["sentiment"]) == (label.text, label.label)
            assert line["sentiment_decided_by"] == label.decided_by
            assert label.confidence is not None
            assert abs(float(line["sentiment_confidence"]) - label.confidence) < 1e-9
        kept = {item.row_id: item.label for item in decisions.history(store, run.id, "sentiment")}
        assert kept == dict(seen)
        assert len(kept) == REVIEWED
    finally:
        store.close()
