"""What every browser test stands on: a real server process with its own workspace, and a real Chromium.

A page that throws, or a request that leaves this machine, fails the test it happens in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=20_000)  # milliseconds, for a machine with other things to do
START_WITHIN = 60.0  # seconds
START = """
import sys
from pathlib import Path
from studio.server import serve
serve(Path(sys.argv[1]), int(sys.argv[2]), False)
"""


def free_port() -> int:
    """A port nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A studio in a process of its own on a workspace file."""

    def __init__(self, workspace: Path, port: int | None = None, script: str = START) -> None:
        self._script = script
        self.workspace = workspace
        self.port = port or free_port()
        self.log = workspace.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        # Into a file: a pipe nobody reads would stop the server once it is full.
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._script, str(self.workspace), str(self.port)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        wait_for(self._healthy, lambda: f"the server to answer\n{self.log.read_text()}", START_WITHIN)
        return self

    def kill(self) -> None:
        """As a power cut would: no chance to finish anything."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """As Ctrl-C does: the workspace is closed and can be read by the test."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _healthy(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended with {self._process.returncode}\n{self.log.read_text()}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer,
        ):
            return bool(answer.status == 200)
        return False


class Serve(Protocol):
    """Starts a studio on a workspace file; `script` is what its process does instead of the usual."""

    def __call__(self, workspace: Path, script: str = START) -> Server: ...


def _serving() -> Iterator[Serve]:
    started: list[Server] = []

    def start(workspace: Path, script: str = START) -> Server:
        server = Server(workspace, script=script)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(workspace)` starts a studio on a file; it is stopped after the test."""
    yield from _serving()


@pytest.fixture(scope="module")
def serve_module() -> Iterator[Serve]:
    """As `serve`, for a studio that all tests of a file share: starting one takes seconds."""
    yield from _serving()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of a run."""
    path = next((found for name in _names() if (found := shutil.which(name))), None)
    if path is None:
        reason = "no Chromium: install it or set WINNOW_CHROMIUM=/path/to/chrome"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def _names() -> list[str]:
    return [os.environ.get("WINNOW_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Contexts (separate visitors) whose pages may not throw and may not ask anything of other machines."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def note_request(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost"):
            problems.append(f"request to {url}")

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
        page.on("request", lambda request: note_request(request.url))
        page.on("websocket", lambda socket: note_request(socket.url))

    def make(**options: Any) -> BrowserContext:
        options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        context.on("page", watch)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()
    assert not problems, "\n".join(problems)


@pytest.fixture
def page(new_context: Callable[..., BrowserContext]) -> Page:
    """A fresh page of a fresh visitor, 1280 by 900, light."""
    return new_context().new_page()


def settled(page: Page) -> None:
    """Wait until Streamlit is connected and no script runs."""
    page.wait_for_selector('[data-testid="stApp"][data-test-connection-state="CONNECTED"]')
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
