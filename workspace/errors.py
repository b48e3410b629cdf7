"""Errors a person can read: what happened, what is safe, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any


class WinnowError(Exception):
    """Base of every error shown to a person.

    `title` is one sentence saying what happened; `advice` says what is safe and what to do next;
    `details` may carry the raw text of a library for those who ask for it.
    """

    def __init__(self, title: str, advice: str = "", details: str = "") -> None:
        super().__init__(title)
        self.title = title
        self.advice = advice
        self.details = details

    def __str__(self) -> str:
        return f"{self.title} {self.advice}".strip()


class WorkspaceBusy(WinnowError):
    """Another process owns the workspace file; `pid` is that process, 0 when unknown."""

    def __init__(self, title: str, advice: str = "", details: str = "", pid: int = 0) -> None:
        super().__init__(title, advice, details)
        self.pid = pid


class WorkspaceDamaged(WinnowError):
    """The workspace file or its write-ahead log cannot be read."""


class IntakeError(WinnowError):
    """A file cannot be loaded as asked."""


class TaskError(WinnowError):
    """A task document is not valid; `line` is 1-based, 0 when the whole document is meant."""

    def __init__(self, title: str, advice: str = "", details: str = "", line: int = 0) -> None:
        super().__init__(title, advice, details)
        self.line = line


class RunError(WinnowError):
    """A run cannot be planned, started or continued."""


class ModelError(WinnowError):
    """A model cannot be loaded or does not do what is asked.

    `answered` are answers given before it happened, by the place of their row among those asked: they cost time
    and perhaps money, and whoever keeps answers may keep these.
    """

    answered: Mapping[int, Sequence[Any]] = MappingProxyType({})


class BudgetReached(ModelError):
    """The next request could cost more than is left of a run's budget; it was not made."""


class EngineError(WinnowError):
    """The engine process cannot be started or reached."""


class ExportError(WinnowError):
    """Labels cannot be written as asked."""
