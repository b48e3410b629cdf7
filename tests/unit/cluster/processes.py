"""Real engine processes in tests: who belongs to a test, and that nobody is left of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for

MARK = "WINNOW_TEST_FOLDER"


def mark(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Every process started from now on, and by those, can be told by its environment."""
    monkeypatch.setenv(MARK, str(folder))


def belonging(folder: Path) -> list[psutil.Process]:
    """Living processes started under the mark, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def engines(folder: Path) -> list[psutil.Process]:
    """Living engine processes of a test."""
    found = []
    for process in belonging(folder):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[1:4] == ["-P", "-m", "engine"]:
                found.append(process)
    return found


def nobody_left(folder: Path) -> None:
    """Fail if a process of the test is still there after the time an orphan needs to notice; end it then."""
    try:
        wait_for(lambda: not belonging(folder), "the processes of the test to end", 30)
    except AssertionError:
        left = belonging(folder)
        names = [process.cmdline() for process in left]
        for process in left:
            process.kill()
        raise AssertionError(f"processes were left behind: {names}") from None
