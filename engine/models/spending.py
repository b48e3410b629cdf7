"""What a run has cost on this machine, kept so that no crash forgets it and no request goes over the budget.

Each run has a file of one signed amount a line. Before a request the most it can cost is added; after it the
difference to what it did cost. Whatever dies in between, the sum is never less than what was spent.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
from pathlib import Path

from engine.models.chat import Reply, Request
from workspace.errors import BudgetReached, ModelError
from workspace.facts import Settings

_MILLION = 1_000_000.0
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_COMPACT_ABOVE = 1 << 16  # bytes of a file that is rewritten as one amount when it is opened


def spent(folder: Path, run_id: str) -> float:
    """What a run has cost on this machine so far, in the currency of its prices."""
    try:
        lines = _file(folder, run_id).read_text("ascii").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return 0.0
    amounts = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a line torn by a power failure
            amount = float(line)
            amounts += [amount] if math.isfinite(amount) else []
    return max(0.0, math.fsum(amounts))


def _file(folder: Path, run_id: str) -> Path:
    if not _NAME.fullmatch(run_id):
        raise ModelError("This run's name cannot be the name of a file.", "Start it again.", run_id)
    return folder / run_id


class Purse:
    """The money of one run. Lives in one event loop; one process at a time works on a run here.

    Raises ModelError when the costs cannot be written down: then no request is made.
    """

    def __init__(self, folder: Path, run_id: str, settings: Settings) -> None:
        self._settings = settings
        self._costs = settings.price_in > 0 or settings.price_out > 0
        self._held: float = 0.0  # the most that requests under way can cost
        self._change = asyncio.Event()
        self._descriptor = -1
        self._spent = 0.0  # without what is held
        if not self._costs:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = _file(folder, run_id)
            self._spent = spent(folder, run_id)
            if file.exists() and file.stat().st_size > _COMPACT_ABOVE:
                fresh = file.with_suffix(".new")
                fresh.write_text(f"{self._spent!r}\n", "ascii")
                os.replace(fresh, file)
            self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise _unwritable(error) from error

    @property
    def spent(self) -> float:
        """What the run has cost, with the most that requests under way can."""
        return self._spent + self._held

    async def reserve(self, request: Request) -> float:
        """Set aside the most this request can cost; returns it, for `settle`. Waits for requests under way where
        what they leave over may be enough. Raises BudgetReached when it is not."""
        if not self._costs:
            return 0.0
        most = self._cost(request.most_tokens(), request.max_tokens)
        budget = self._settings.budget
        while budget is not None and self._spent + self._held + most > budget:
            if self._held <= 0:
                raise BudgetReached(
                    f"The budget of {budget:g} is used up: {self._spent:.4g} was spent.",
                    "All labels so far are kept. Raise the budget to go on, or stop here.",
                    f"The next request could cost {most:.4g}.",
                )
            self._change.clear()
            await self._change.wait()
        self._held += most
        self._write(most)
        return most

    def settle(self, most: float, request: Request, reply: Reply | None) -> None:
        """A request ended. Without a reply nothing was delivered; without counts it cost the most it could."""
        if not self._costs:
            return
        cost = 0.0
        if reply is not None:
            told_in = reply.prompt_tokens if reply.prompt_tokens >= 0 else request.most_tokens()
            told_out = reply.completion_tokens if reply.completion_tokens >= 0 else request.max_tokens
            cost = self._cost(told_in, told_out)
        self._held = max(0.0, self._held - most)
        if self._held < 1e-12:
            self._held = 0.0
        self._spent += cost
        self._write(cost - most)
        self._change.set()

    def _cost(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self._settings.price_in + tokens_out * self._settings.price_out) / _MILLION

    def _write(self, amount: float) -> None:
        try:
            os.write(self._descriptor, f"{amount!r}\n".encode("ascii"))
            os.fsync(self._descriptor)
        except OSError as error:
            raise _unwritable(error) from error

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _unwritable(error: OSError) -> ModelError:
    return ModelError(
        "What the run costs cannot be written down, so nothing was asked.",
        "Is the disk full? All labels so far are kept.",
        str(error),
    )
