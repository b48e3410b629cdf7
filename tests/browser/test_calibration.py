"""The promise as a person comes by it: draw, check blind, look at the target and at a bin, accept, withdraw.

With WINNOW_SCREENSHOT=path/of.png the calibration page is photographed on the way, for the README.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from playwright.sync_api import Locator, Page, expect

from calibration import log_softmax
from tests.browser.conftest import Serve, settled
from tests.seeding import SENTIMENT, add_rows, fact_of, ingest, spec_of, task_of
from tests.unit.calibration.examples import overconfident
from workspace import decisions, draws, promises, runs
from workspace.store import open_store

ROWS = 400
CHECKED = 198  # of a sample of 200: two are left for the person


def fill(path: Path) -> tuple[str, dict[str, str]]:
    """A run whose blind sample lacks two rows; its id and the true label of each row."""
    scores, truth = overconfident(ROWS)
    store = open_store(path)
    ids = add_rows(store, [f"Message {number}: the parcel came {number} days late" for number in range(ROWS)])
    spec = spec_of(store, task_of(SENTIMENT))
    runs.plan(store, spec.run_id, limit=None)
    shares = np.exp(log_softmax(scores))
    ingest(
        store,
        [
            fact_of(spec.run_id, id, "sentiment", SENTIMENT, shares[place].tolist(), seq=place)
            for place, id in enumerate(ids)
        ],
    )
    true = {id: SENTIMENT[label] for id, label in zip(ids, truth, strict=True)}
    drawn = draws.draw(store, spec.run_id, "sentiment", CHECKED)
    events = [
        decisions.DecisionEvent(seq, id, "modify", true[id], seconds=2, blind=True)
        for seq, id in enumerate(drawn.row_ids)
    ]
    decisions.record(
        store, session="before", run_id=spec.run_id, dimension="sentiment", reviewer="ann", events=events
    )
    draws.draw(store, spec.run_id, "sentiment", 2)
    store.close()
    return spec.run_id, true


def drag(page: Page, handle: Locator, down: float) -> None:
    """Take hold of the target and move it by so many pixels, a little aside as hands do; it is not let go."""
    place = handle.bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y + down, steps=3)


def test_from_a_blind_sample_to_a_promise_and_back(page: Page, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "promise.duckdb"
    run, true = fill(path)
    server = serve(path)
    page.goto(f"{server.url}/calibration?run={run}")
    words = page.locator(".st-key-promise")
    expect(words.get_by_text("198 of 200 checked")).to_be_visible()

    # Two rows, blind
    page.locator(".st-key-check_sample button").first.click()
    deck = page.locator("#deck")
    expect(deck).to_have_attribute("data-blind", "true")
    for _ in range(2):
        expect(deck).not_to_have_attribute("data-row", "")
        row = deck.get_attribute("data-row")
        assert row
        page.keyboard.press(str(1 + SENTIMENT.index(true[row])))
        expect(deck).not_to_have_attribute("data-row", row)
    expect(deck).to_have_attribute("data-unsaved", "0")
    page.locator(".st-key-review_done").get_by_role("link").first.click()

    # What it says, and at another target
    expect(words.get_by_text("200 of 200 checked")).to_be_visible()
    expect(words.get_by_text("At 5% error")).to_be_visible()
    handle, slider = page.locator(".winnow-target"), page.locator(".st-key-target input")
    slider.focus()
    slider.press("ArrowRight")
    expect(handle).to_have_text("6%")
    drag(page, handle, 2000)
    expect(handle).to_have_text("1%")
    page.keyboard.press("Escape")
    expect(handle).to_have_text("6%")
    page.mouse.up()
    drag(page, handle, -2000)
    page.mouse.up()
    expect(words.get_by_text(re.compile("^At 20% error"))).to_be_visible()
    expect(slider).to_have_value("20")
    expect(handle).to_have_text("20%")
    expect(page.locator(".st-key-accept button").first).to_be_enabled()

    # The rows behind a bar of the diagram
    page.locator("[class*=st-key-reliability_of] .barlayer .point path").last.click(force=True)
    expect(page.locator(".st-key-rows_behind_review button").first).to_be_visible()
    settled(page)
    if picture := os.environ.get("WINNOW_SCREENSHOT"):
        page.screenshot(path=picture)

    # Accepted, and taken back
    page.locator(".st-key-accept button").first.click()
    expect(page.locator(".st-key-kept").get_by_text("accepted").first).to_be_visible()
    page.locator(".st-key-withdraw button").click()
    expect(page.locator(".st-key-kept")).to_have_count(0)
    expect(page.locator(".st-key-accept button").first).to_be_enabled()

    # The rows of the bin once more, though they were decided before
    page.locator(".st-key-rows_behind_review button").first.click()
    expect(deck).to_have_attribute("data-blind", "true")
    expect(deck).to_have_attribute("data-state", "row")
    again = deck.get_attribute("data-row")
    assert again in true
    page.keyboard.press("1")
    expect(deck).not_to_have_attribute("data-row", again)
    expect(deck).to_have_attribute("data-unsaved", "0")
    server.stop()
    store = open_store(path, create=False)
    try:
        with store.read() as con:
            assert con.execute("select threshold is null from promises order by rowid").fetchall() == [
                (False,),
                (True,),
            ]
        assert promises.in_force(store, run, "sentiment") is None
        assert draws.standing(store, run, "sentiment").waiting == 0
        newest = decisions.history(store, run, "sentiment", limit=1)[0]
        assert (newest.row_id, newest.label, newest.blind) == (again, SENTIMENT[0], True)
    finally:
        store.close()
