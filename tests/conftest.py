"""Rules for every test: the same examples each time, two lanes when run side by side, and nothing left running."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from hypothesis import settings

# Laws are checked on the same examples every time, however slow or busy the machine is.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

# An answer computed by an earlier test or on an earlier day must never stand for work that is not done.
os.environ["WINNOW_ANSWERS"] = "off"

# The exact weights, the same on every machine, without timing which form is the fastest.
os.environ.setdefault("WINNOW_WEIGHTS", "f32")

# What starts processes and waits for them is never run beside its like, only beside what just computes.
WAITING = (
    "tests/unit/cluster/",
    "tests/unit/cli/",
    "tests/unit/test_readme.py",
    "tests/cluster/",
    "tests/crash/",
    "tests/browser/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `pytest -n 2` one process takes all that waits, file by file, and the other one everything else."""
    from xdist.scheduler import LoadScopeScheduling

    lanes = LoadScopeScheduling(config, log)
    lanes._split_scope = _lane
    return lanes


def _lane(nodeid: str) -> str:
    return "what waits" if nodeid.startswith(WAITING) else nodeid.partition("::")[0]


GRACE = 20.0  # seconds a process that was told to stop may take for it


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process the tests started, engines in sessions of their own included, is gone at the end.

    They are known by the folders they work in: all are below this session's temporary folder.
    """
    yield
    folder = str(tmp_path_factory.getbasetemp())
    left = _working_in(folder)
    deadline = time.monotonic() + GRACE
    while left and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=1)
        left = _working_in(folder)
    named = [f"{process.pid}: {' '.join(process.cmdline())[:200]}" for process in left]
    for process in left:
        process.kill()
    assert not named, "left running:\n" + "\n".join(named)


def _working_in(folder: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd()]
        except psutil.Error:
            continue
        if any(folder in word for word in words):
            found.append(process)
    return found
