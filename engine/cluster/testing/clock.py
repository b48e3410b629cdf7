"""Time: the queue of what happens next, and clocks of machines that are off and drift."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Step = tuple[Callable[..., None], tuple[Any, ...]]  # what to call with what


class Clock:
    """A machine's steady clock: it began somewhere, runs a little fast or slow, and may stand still in between."""

    def __init__(self, offset: float = 0.0, rate: float = 1.0) -> None:
        self.offset = offset
        self.rate = rate
        self.slept = 0.0  # true seconds it stood still

    def read(self, now: float) -> float:
        """What it shows at the true time `now`."""
        return self.offset + (now - self.slept) * self.rate


class Queue:
    """What happens when, in true time. Things of the same moment happen in the order they were put in."""

    def __init__(self) -> None:
        self.now = 0.0
        self._steps: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.count = 0  # of things that were to happen so far

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call it `seconds` from now."""
        self.count += 1
        heapq.heappush(self._steps, (self.now + seconds, self.count, call, arguments))

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let everything up to the true time `until` happen, or stop before."""
        steps = self._steps
        while steps and steps[0][0] <= until:
            self.now, _, call, arguments = heapq.heappop(steps)
            call(*arguments)
            if stop():
                return
        self.now = max(self.now, until)
