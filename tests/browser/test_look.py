"""Every page in both colour schemes: it draws, nothing leaves this machine, the server log is clean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Serve, Server, settled
from tests.seeding import seeded_file
from tests.shown_machines import ALONE, CODE, NAS, PHONE, SHOWING, THREE, show

PAGES = ("Home", "Data", "Task", "Label", "Review", "Calibration", "Export", "Models", "Machines")


@pytest.fixture(scope="module")
def servers(serve_module: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    folder: Path = tmp_path_factory.mktemp("look")
    seeded_file(folder / "full.duckdb", [f"text number {n}" for n in range(60)])
    show(folder / "full.duckdb", msgspec.structs.replace(THREE, found=(NAS, PHONE), pairing=CODE))
    show(folder / "empty.duckdb", ALONE)
    found = {name: serve_module(folder / f"{name}.duckdb", SHOWING) for name in ("empty", "full")}
    yield found
    for server in found.values():
        log = server.log.read_text(encoding="utf-8").lower()
        assert "warning" not in log, log
        assert "traceback" not in log, log


@pytest.mark.parametrize("workspace", ["empty", "full"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_draws(
    new_context: Callable[..., BrowserContext], servers: dict[str, Server], workspace: str, scheme: str
) -> None:
    page = new_context(color_scheme=scheme).new_page()
    page.goto(servers[workspace].url)
    for name in PAGES:
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
        if name != "Home":
            expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        settled(page)
        expect(page.get_by_test_id("stException")).to_have_count(0)
    background = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    red = int(background.split("(")[1].split(",")[0])
    assert (red < 128) == (scheme == "dark")
