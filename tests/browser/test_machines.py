"""The machines page in a real browser: the picture, the questions, and at the end two real machines that meet."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import ROOT, Serve, Server, settled
from tests.seeding import seeded_file
from tests.shown_machines import (
    ALONE,
    ATTIC,
    LAPTOP,
    NAS,
    OLD_PC,
    RIGHT_CODE,
    SHOWING,
    THREE,
    asked,
    cluster_of,
    show,
)
from tests.unit.cluster.processes import mark, nobody_left
from tests.waiting import wait_for
from workspace.machines import Cluster

replace = msgspec.structs.replace

# Both machines of the real test find each other on the loopback of this machine, and are told to nobody else.
ON_LOOPBACK = """
import sys
from pathlib import Path
from engine.cluster.options import EngineOptions
from studio import runtime
from studio.server import serve
runtime.engine_options = EngineOptions(name="laptop", find="127.0.0.1", listen="127.0.0.1:0")
serve(Path(sys.argv[1]), int(sys.argv[2]), False)
"""


@pytest.fixture(scope="module")
def server(serve_module: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace: Path = tmp_path_factory.mktemp("machines") / "words.duckdb"
    seeded_file(workspace, ["one text", "another"])
    show(workspace, THREE)
    found = serve_module(workspace, SHOWING)
    yield found
    log = found.log.read_text(encoding="utf-8").lower()
    assert "warning" not in log, log
    assert "traceback" not in log, log


def opened(page: Page, server: Server, cluster: Cluster) -> Page:
    show(server.workspace, cluster)
    server.workspace.with_suffix(".asked.jsonl").unlink(missing_ok=True)
    page.goto(f"{server.url}/machines")
    settled(page)
    return page


def drawn_anew(page: Page, server: Server, cluster: Cluster) -> None:
    """Show another cluster and wait until the page has drawn itself with it."""
    show(server.workspace, cluster)
    speed = page.locator(".st-key-total_rows_per_second [data-testid=stMetricValue]")
    total = sum(machine.rows_per_s for machine in cluster.machines)
    expect(speed).to_have_text(f"{round(total):,}")


def faster(cluster: Cluster) -> Cluster:
    return replace(
        cluster,
        machines=tuple(replace(machine, rows_per_s=machine.rows_per_s * 3) for machine in cluster.machines),
    )


def test_the_picture_moves_on_without_starting_over(
    new_context: Callable[..., BrowserContext], server: Server
) -> None:
    page = opened(new_context(reduced_motion="no-preference").new_page(), server, THREE)
    card = page.locator(f".machine[data-machine='{ATTIC.id}']")
    expect(card.locator(".line span")).to_have_text("35 rows/s")
    expect(page.locator(".machine.leads b")).to_have_text("laptop")
    expect(page.locator(".dots circle.out").first).to_be_attached()
    expect(page.locator(".dots circle.back").first).to_be_attached()
    card.evaluate("card => card.dataset.seen = 'before'")
    drawn_anew(page, server, faster(THREE))
    expect(card.locator(".line span")).to_have_text("104 rows/s")
    expect(card).to_have_attribute("data-seen", "before")
    silent = replace(ATTIC, alive=False, silent_for=9.0, rows_per_s=34.0)
    show(server.workspace, cluster_of(LAPTOP, silent, OLD_PC))
    expect(card).to_have_class(re.compile("silent"))
    expect(page.locator(".dots circle")).to_have_count(0)


def test_those_who_want_stillness_get_it(page: Page, server: Server) -> None:
    opened(page, server, THREE)
    expect(page.locator(".machine")).to_have_count(3)
    expect(page.locator(".legend")).to_contain_text("the thicker the line")
    drawn_anew(page, server, faster(THREE))
    expect(page.locator(".dots circle")).to_have_count(0)


@pytest.mark.parametrize(("machines", "width"), [(3, 1280), (10, 1280), (24, 1920), (7, 480)])
def test_no_machine_covers_another(
    new_context: Callable[..., BrowserContext], server: Server, machines: int, width: int
) -> None:
    many = [replace(ATTIC, id=f"{n:032x}", name=f"machine number {n}", rank=n) for n in range(2, machines + 1)]
    page = new_context(viewport={"width": width, "height": 900}).new_page()
    opened(page, server, cluster_of(LAPTOP, *many))
    expect(page.locator(".machine")).to_have_count(machines)
    covered = page.evaluate(
        """() => {
          const stage = document.querySelector('.st-key-picture').getBoundingClientRect()
          const hosts = [...document.querySelectorAll('.st-key-picture *')].filter((one) => one.shadowRoot)
          const cards = hosts.flatMap((host) => [...host.shadowRoot.querySelectorAll('.machine')])
          const boxes = cards.map((card) => card.getBoundingClientRect())
          const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top
          const inside = (box) => box.left >= stage.left && box.right <= stage.right && box.top >= stage.top
          const wrong = (a, i) => !inside(a) || boxes.some((b, j) => i < j && !apart(a, b))
          return [boxes.length, boxes.filter(wrong).length]
        }"""
    )
    assert covered == [machines, 0]


def test_a_card_leads_to_the_details_by_keyboard_too(page: Page, server: Server) -> None:
    opened(page, server, THREE)
    page.locator(f".machine[data-machine='{OLD_PC.id}']").focus()
    page.keyboard.press("Enter")
    expect(page.locator(f".st-key-change_{OLD_PC.id} button")).to_be_focused()
    expect(page.locator(f".st-key-machine_{OLD_PC.id}")).to_be_in_viewport()


def test_a_question_outlives_the_page_drawing_itself_anew(page: Page, server: Server) -> None:
    shown = replace(THREE, found=(NAS,))
    opened(page, server, shown)
    page.locator(f".st-key-add_{NAS.id} button").click()
    code = page.get_by_role("dialog").get_by_label("Code")
    code.fill("111111")
    drawn_anew(page, server, faster(shown))
    expect(code).to_have_value("111111")
    code.press("Enter")
    expect(page.get_by_role("dialog").get_by_text("The code is wrong.")).to_be_visible()
    code.fill("482913")
    code.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_for(lambda: asked(server.workspace)[-1:] == [["pair", NAS.address, RIGHT_CODE]], "the code to be asked")


def test_a_closed_question_stays_closed(page: Page, server: Server) -> None:
    opened(page, server, THREE)
    page.locator(f".st-key-change_{ATTIC.id} button").focus()
    page.keyboard.press("Enter")
    page.get_by_role("menuitem", name="Remove").press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("is removed for ever")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    drawn_anew(page, server, faster(THREE))
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert asked(server.workspace) == []


def test_an_open_menu_stays_open(page: Page, server: Server) -> None:
    opened(page, server, THREE)
    page.locator(f".st-key-change_{ATTIC.id} button").click()
    drawn_anew(page, server, faster(THREE))
    page.get_by_role("menuitem", name="Pause").click()
    wait_for(lambda: asked(server.workspace) == [["pause", ATTIC.id, True]], "the pause to be asked")


def test_one_machine_is_shown_the_command_to_copy(page: Page, server: Server) -> None:
    opened(page, server, ALONE)
    expect(page.get_by_text("One machine so far")).to_be_visible()
    expect(page.locator(".st-key-alone code").first).to_have_text("winnow helper")
    expect(page.locator(".machine")).to_have_count(0)


def test_two_real_machines_meet(page: Page, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark(monkeypatch, tmp_path)
    seeded_file(tmp_path / "words.duckdb", ["one text", "another"])
    log = tmp_path / "helper.log"
    command = [sys.executable, "-m", "studio.cli", "helper", f"--state={tmp_path / 'helper'}"]
    with log.open("wb") as out:
        helper = subprocess.Popen(
            [*command, "--name=attic", "--find=127.0.0.1", "--listen=127.0.0.1:0"],
            cwd=ROOT,
            stdout=out,
            stderr=out,
        )
    try:
        server = serve(tmp_path / "words.duckdb", ON_LOOPBACK)
        page.goto(f"{server.url}/machines")
        settled(page)
        expect(page.get_by_text("1 machine found on your network")).to_be_visible()  # by itself
        shown = subprocess.run([*command, "--code"], cwd=ROOT, capture_output=True, text=True, timeout=60)
        found = re.search(r"\d{3}-\d{3}", shown.stdout)
        assert found is not None, shown.stdout + shown.stderr
        expect(page.get_by_text("shows a code")).to_be_visible()
        page.get_by_role("button", name="Add attic").click()
        page.get_by_role("dialog").get_by_label("Code").fill(found[0])
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator(".machine")).to_have_count(2)
        expect(page.locator(".st-key-total_copies_of_every_label")).to_contain_text("2 of 2")
        wait_for(lambda: "Paired with laptop" in log.read_text(), lambda: log.read_text())
        server.stop()
    finally:
        helper.send_signal(signal.SIGTERM)
        helper.wait(60)
    assert "Traceback" not in log.read_text()
    nobody_left(tmp_path)
