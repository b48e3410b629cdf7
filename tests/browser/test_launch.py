"""Every way to start the studio: the command, the demo, make, and Streamlit itself. Real processes, real ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, START_WITHIN, free_port, settled
from tests.waiting import wait_for
from workspace import rows
from workspace.store import open_store


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """`start(command, folder)`: run it as a child in its own group; at the end Ctrl-C it and see it all end."""
    children: list[subprocess.Popen[bytes]] = []

    def run(command: list[str], folder: Path, port: int, **environment: str) -> None:
        log = tmp_path / "start.log"
        with log.open("ab") as out:
            child = subprocess.Popen(
                command,
                cwd=folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        children.append(child)

        def answers() -> bool:
            assert child.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as reply:
                    return bool(reply.status == 200)
            except OSError:
                return False

        wait_for(answers, "the studio to answer", START_WITHIN)

    yield run
    for child in children:
        family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
        os.killpg(child.pid, signal.SIGINT)
        _, left = psutil.wait_procs(family, timeout=30)
        child.wait(1)
        for process in left:
            process.kill()
        assert not left, f"still running after Ctrl-C: {left}"


def test_winnow_opens_the_workspace_of_the_folder(start: Callable[..., None], tmp_path: Path, page: Page) -> None:
    port = free_port()
    command = [sys.executable, "-m", "studio.cli", "--no-browser", "--port", str(port)]
    start(command, tmp_path, port)
    assert (tmp_path / "winnow.duckdb").is_file()
    page.goto(f"http://127.0.0.1:{port}")
    settled(page)
    expect(page.get_by_text("Nothing to label yet")).to_be_visible()


def test_make_studio_opens_the_sample_ready_to_label(
    start: Callable[..., None], tmp_path: Path, page: Page
) -> None:
    port = free_port()
    workspace = tmp_path / "demo.duckdb"
    arguments = f"ARGS=--no-browser --port {port} --workspace {workspace}"
    # This very environment stands in for .venv, which a first `make studio` would build.
    start(["make", "studio", arguments, f"BIN={Path(sys.executable).parent}"], ROOT, port)
    page.goto(f"http://127.0.0.1:{port}")
    settled(page)
    expect(page.get_by_text("500 rows in demo.duckdb")).to_be_visible()
    page.locator(".st-key-go_on button").click()
    expect(page.locator(".st-key-start_run button")).to_be_enabled()


def test_streamlit_run_from_the_repository_keeps_to_loopback(
    start: Callable[..., None], tmp_path: Path, page: Page
) -> None:
    port = free_port()
    workspace = tmp_path / "bare.duckdb"
    command = [sys.executable, "-m", "streamlit", "run", "studio/server.py", "--server.port", str(port)]
    start(command, ROOT, port, WINNOW_WORKSPACE=str(workspace))
    family = psutil.Process().children(recursive=True)
    doors: list[Any] = [
        c.laddr for p in family for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN
    ]
    listening = {door.ip for door in doors if door.port == port}
    assert listening == {"127.0.0.1"}
    page.goto(f"http://127.0.0.1:{port}")
    settled(page)
    expect(page.get_by_text("Nothing to label yet")).to_be_visible()


def test_the_command_line_goes_through_a_studio_that_has_the_workspace(
    start: Callable[..., None], tmp_path: Path
) -> None:
    port = free_port()
    start([sys.executable, "-m", "studio.cli", "--no-browser", "--port", str(port)], tmp_path, port)
    (tmp_path / "lines.txt").write_text("I love this day\nthis is a sad story\n")
    command = [sys.executable, "-m", "studio.cli"]
    label = [*command, "label", "lines.txt", "--task", "sentiment", "--out", "out.jsonl"]
    done = subprocess.run(label, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rows written" in done.stdout
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    told = subprocess.run([*command, "status"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "2 of 2 rows labeled" in told.stdout


def test_a_second_start_leads_to_the_first(start: Callable[..., None], tmp_path: Path) -> None:
    port = free_port()
    start([sys.executable, "-m", "studio.cli", "--no-browser", "--port", str(port)], tmp_path, port)
    second = [sys.executable, "-m", "studio.cli", "--no-browser", "--port", str(free_port())]
    done = subprocess.run(second, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"winnow.duckdb is already open at http://127.0.0.1:{port}" in done.stdout


def test_a_workspace_held_by_something_else_names_the_process(tmp_path: Path) -> None:
    store = open_store(tmp_path / "winnow.duckdb")
    try:
        command = [sys.executable, "-m", "studio.cli", "--no-browser"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    finally:
        store.close()
    assert done.returncode == 1
    assert f"winnow.duckdb is open in process {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_loaded_twice_is_loaded_once(tmp_path: Path) -> None:
    from studio.sample import open_sample

    for _ in range(2):
        store = open_store(tmp_path / "demo.duckdb")
        open_sample(store, "tweets")
        assert rows.count(store) == 500
        store.close()
