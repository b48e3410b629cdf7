"""How many requests a server gets at a time, and what happens to those it turns down.

The number adapts by additive increase and multiplicative decrease, as TCP does (Chiu and Jain 1989): one more
after a window of replies that took little longer than the best window so far, half as many as soon as the server
says it is busy or does not reply in time. A server that works requests off one after another takes twice as long
for two, which ends the growth there; one that computes them together goes on. Where replies come to take much
longer, because of it or because texts are longer, there is one less, and with one at a time it starts afresh.
"""

from __future__ import annotations

import asyncio
import collections
import random
import time
from collections.abc import Awaitable, Callable

from engine.models.chat import Chat, Fault, Reply, Request
from engine.models.spending import Purse
from workspace.facts import Settings

MOST = 64  # requests at a time, unless the person says more
GROWS_BELOW = 1.75  # times the best window's seconds for a reply
SHRINKS_ABOVE = 2.5
WINDOW = 4  # replies at least before it is looked at
FIRST_PAUSE = 0.5  # seconds before the second try, doubled for each further one
LONGEST_PAUSE = 30.0
LONGEST_WAIT = 300.0  # seconds a server may ask for; more is as good as not answering

_UNTOLD = Reply("", -1, -1)  # one that does not tell how many tokens it took
_AGAIN = ("busy", "failed", "lost", "slow")  # faults that may pass


class Lanes:
    """The number of requests at a time. Not thread-safe: lives in one event loop."""

    def __init__(self, fixed: int = 0, first: int = 1, most: int = MOST) -> None:
        self._fixed = fixed > 0
        self.limit = fixed or max(1, min(first, most))
        self._most = max(most, self.limit)
        self._best = 0.0
        self._window: list[float] = []
        self._halved_at = 0  # requests started when it last was
        self.started = 0
        self.busy = 0
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    async def enter(self) -> int:
        """Wait for a free lane; returns the number of this request, for `leave`."""
        while self.busy >= self.limit:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._wake()  # this turn goes to the next
                raise
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)
        self.busy += 1
        self.started += 1
        return self.started

    def leave(self, number: int, seconds: float, *, overloaded: bool = False, measured: bool = True) -> None:
        """A request ended. Only one halving for all that were under way when the server became too busy."""
        self.busy -= 1
        if overloaded:
            if number > self._halved_at and not self._fixed:
                self.limit = max(1, self.limit // 2)
                self._halved_at = self.started
                self._window.clear()
        elif measured:
            self._window.append(seconds)
            if len(self._window) >= max(WINDOW, self.limit):
                self._look()
        self._wake()

    def _look(self) -> None:
        mean = sum(self._window) / len(self._window)
        self._window.clear()
        self._best = min(mean, self._best) if self._best and self.limit > 1 else mean
        if self._fixed:
            return
        if mean <= self._best * GROWS_BELOW:
            self.limit = min(self._most, self.limit + 1)
        elif mean > self._best * SHRINKS_ABOVE:
            self.limit -= 1

    def _wake(self) -> None:
        free = self.limit - self.busy
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


class Traffic:
    """Sends requests to `chat` through `lanes`, pays for them from `purse`, and tries again what may pass."""

    def __init__(
        self,
        chat: Chat,
        settings: Settings,
        lanes: Lanes,
        purse: Purse,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._chat = chat
        self._settings = settings
        self.lanes = lanes
        self._purse = purse
        self._pause = pause
        self._clock = clock
        self._draw = draw
        self._not_before = 0.0  # until then the server asked everybody to wait
        self.answered = 0  # replies so far

    async def send(self, request: Request) -> Reply:
        """The reply, after as many tries as the settings allow. Raises its last Fault, or BudgetReached."""
        answered = -1  # before the first try
        for attempt in range(self._settings.retries + 1):
            number = await self.lanes.enter()
            answered = self.answered if answered < 0 else answered
            seconds, fault = 0.0, None
            try:
                while (wait := self._not_before - self._clock()) > 0:
                    await self._pause(wait)
                most = await self._purse.reserve(request)
                began = self._clock()
                # A server that is late or not waited for has the work all the same, and may want to be paid.
                counted: Reply | None = _UNTOLD
                try:
                    reply, fault = await self._once(request)
                    counted = reply if fault is None or fault.kind != "slow" else _UNTOLD
                finally:
                    self._purse.settle(most, request, counted)
                seconds = self._clock() - began
            finally:
                overloaded = fault is not None and fault.kind in ("busy", "slow")
                self.lanes.leave(number, seconds, overloaded=overloaded, measured=fault is None and seconds > 0)
            if reply is not None:
                self.answered += 1
                return reply
            assert fault is not None
            told = fault.retry_after
            hopeless = fault.kind not in _AGAIN or (told is not None and told > LONGEST_WAIT)
            if hopeless or attempt == self._settings.retries:
                fault.alone = self.answered > answered
                raise fault
            if told is not None:
                self._not_before = max(self._not_before, self._clock() + told)
            await self._pause(self._backoff(attempt))
        raise AssertionError("unreachable: the last try returns or raises")

    async def _once(self, request: Request) -> tuple[Reply | None, Fault | None]:
        try:
            return await asyncio.wait_for(self._chat.say(request), self._settings.timeout), None
        except TimeoutError:
            return None, Fault("slow", f"There was no reply within {self._settings.timeout:g} seconds.")
        except Fault as fault:
            return None, fault

    def _backoff(self, attempt: int) -> float:
        """Doubling pauses, each shortened by up to a half at random so that tries do not come in step."""
        return min(FIRST_PAUSE * 2.0 ** min(attempt, 20), LONGEST_PAUSE) * (0.5 + 0.5 * self._draw())
