"""How far a long piece of work is, and the wish to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import duckdb

from workspace.errors import IntakeError
from workspace.store import Connection

POLL_SECONDS = 0.1


class Meter:
    """Reports progress from 0 to 1, never backwards, and turns a cancel into an IntakeError."""

    def __init__(self, progress: Callable[[float], None] | None, cancelled: Callable[[], bool] | None) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._shown = 0.0
        self.started_at = datetime.now(UTC)

    @staticmethod
    def stopped() -> IntakeError:
        """What a cancelled load raises."""
        return IntakeError("Loading was stopped.", "Nothing was added.")

    def wants_stop(self) -> bool:
        """True once the person asked to stop."""
        return self._cancelled is not None and self._cancelled()

    def check(self) -> None:
        """Raise if the person asked to stop."""
        if self.wants_stop():
            raise self.stopped()

    def report(self, share: float) -> None:
        """Show that `share` of the whole is done."""
        if share > self._shown:
            self._shown = min(1.0, share)
            if self._progress is not None:
                self._progress(self._shown)

    def span(self, low: float, high: float) -> Callable[[float], None]:
        """A function taking 0 to 1 that reports between `low` and `high` and raises when asked to stop."""

        def tick(share: float) -> None:
            self.check()
            self.report(low + (high - low) * share)

        return tick

    @contextmanager
    def watch(self, con: Connection, low: float, high: float) -> Iterator[None]:
        """Report the progress of the statements run on `con` meanwhile, and interrupt them when asked to stop."""
        self.check()
        if self._progress is None and self._cancelled is None:
            yield
            return
        done = threading.Event()

        def poll() -> None:
            while not done.wait(POLL_SECONDS):
                if self.wants_stop():
                    con.interrupt()
                    continue
                share = con.query_progress()
                # Each statement starts again from zero: only ever go forward, -1 means unknown.
                if share > 0:
                    self.report(low + (high - low) * min(1.0, share / 100))

        con.execute("set enable_progress_bar = true")
        con.execute("set enable_progress_bar_print = false")
        thread = threading.Thread(target=poll, name="intake-progress", daemon=True)
        thread.start()
        try:
            yield
        except duckdb.InterruptException as error:
            raise self.stopped() from error
        finally:
            done.set()
            thread.join()
