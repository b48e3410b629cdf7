"""Words and progress in a terminal, or in the log file that stands in for one."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from workspace.errors import WinnowError

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

PLAIN_STEP = 0.1  # without a terminal, progress is a line every 10 %


def say(words: str) -> None:
    """A line on standard output."""
    _out.print(words, markup=False, soft_wrap=True)


def explain(words: str) -> None:
    """Words for the person, on standard error: standard output goes to a file or another program."""
    _err.print(words, markup=False, soft_wrap=True)


def complain(error: WinnowError) -> None:
    """What happened and what to do, on standard error."""
    _err.print(error.title, style="bold", markup=False, soft_wrap=True)
    if error.advice:
        _err.print(error.advice, markup=False, soft_wrap=True)


class Bar:
    """Progress on standard error: a moving bar in a terminal, elsewhere a line now and then. A context manager."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._told = 0.0
        columns = (SpinnerColumn(), BarColumn(bar_width=40), MofNCompleteColumn())
        words = TextColumn("{task.description}", markup=False)
        self._bar = Progress(*columns, words, console=_err, transient=True, disable=not _err.is_terminal)
        self._line = self._bar.add_task(title, total=None)

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, done: int, total: int, words: str = "") -> None:
        """`done` of `total` (0: not known yet), and what to say beside it."""
        self._bar.update(self._line, total=total or None, completed=done, description=words or self._title)
        share = done / total if total else 0.0
        if not _err.is_terminal and share >= self._told + PLAIN_STEP:
            self._told = share
            _err.print(f"{self._title}: {share:.0%} {words}".rstrip(), markup=False, soft_wrap=True)
