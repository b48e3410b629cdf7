"""Waiting for something to become true, the one place where tests let time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_EVERY = 0.02  # seconds


def wait_for(condition: Callable[[], T], what: str | Callable[[], str], within: float = 60.0) -> T:
    """The first true value of `condition`, asked again and again; fails naming `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        if value := condition():
            return value
        named = what if isinstance(what, str) else what()
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {named}"
        time.sleep(LOOK_EVERY)
