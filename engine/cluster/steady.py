"""The clock of a node: it never goes back, and it goes on while the machine sleeps.

A leader that slept with its lid closed has to see that time has passed before it does anything. Python's
`time.monotonic` does not tell on Linux and macOS, where it stands still during sleep.
"""

from __future__ import annotations

import sys
import time


def now() -> float:
    """Seconds since an unknown moment of this start of the machine."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    elif sys.platform == "darwin":  # noqa: RET505 - a chain is what the type checker takes as one choice
        return time.clock_gettime(time.CLOCK_MONOTONIC)  # there it is this one that counts sleep
    else:
        return time.monotonic()
