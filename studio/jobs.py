"""Long work started from a page: it goes on while people look at other pages or close the tab.

A job runs in a thread of its own that knows nothing of Streamlit; pages ask for its state and draw it.
Jobs live as long as the studio process, not longer: what must survive belongs in the workspace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from workspace.errors import WinnowError

T = TypeVar("T")
JobState = Literal["running", "done", "failed", "cancelled"]
Report = Callable[[float], None]
Asked = Callable[[], bool]


class Job(Generic[T]):
    """One piece of work. Its attributes may be read from any thread at any time.

    `fraction` is the share done, 0 to 1. `result` is what the work returned once `state` is "done";
    `error` is set once it is "failed" or "cancelled".
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.state: JobState = "running"
        self.fraction = 0.0
        self.result: T | None = None
        self.error: WinnowError | None = None
        self.announced = False  # whether a page has already told the person that it ended
        self._cancel = threading.Event()
        self._ended = threading.Event()
        self._started_at = time.monotonic()
        self._afterwards: list[Callable[[], None]] = []
        self._closing = False
        self._lock = threading.Lock()

    def report(self, fraction: float) -> None:
        """Called by the work now and then."""
        self.fraction = min(max(fraction, 0.0), 1.0)

    def cancel(self) -> None:
        """Ask the work to stop; it stops at the next place where nothing is half done."""
        self._cancel.set()

    def cancelled(self) -> bool:
        """Asked by the work: whether a person has pressed cancel."""
        return self._cancel.is_set()

    def wait(self, timeout: float) -> bool:
        """Block until the job has ended, at most `timeout` seconds; returns whether it has."""
        return self._ended.wait(timeout)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Have `work` done once the job has ended, however it ended; at once if it already has."""
        with self._lock:
            if not self._closing:
                self._afterwards.append(work)
                return
        work()

    @property
    def seconds_left(self) -> float | None:
        """From the pace so far; None until enough is done to say."""
        spent = time.monotonic() - self._started_at
        if self.fraction < 0.02 or spent < 1:
            return None
        return spent * (1 - self.fraction) / self.fraction

    def run(self, work: Callable[[Report, Asked], T]) -> None:
        """Do the work on this thread; whatever it raises becomes `error`."""
        try:
            self.result = work(self.report, self.cancelled)
            self.fraction = 1.0
            self.state = "done"
        except WinnowError as error:
            self.error = error
            self.state = "cancelled" if self.cancelled() else "failed"
        except Exception as error:  # noqa: BLE001 - a thread has no caller to raise to; the page shows it
            self.error = WinnowError(
                f"{self.title} stopped unexpectedly.", "Nothing half done was kept.", repr(error)
            )
            self.state = "failed"
        finally:
            with self._lock:
                self._closing = True
            for step in self._afterwards:
                step()
            self._ended.set()


class Jobs:
    """The jobs of one studio, at most one running under each name."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job[Any]] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, name: str, title: str, work: Callable[[Report, Asked], T]) -> Job[T]:
        """Start `work(report, cancelled)`; a job of that name still running is returned instead of a second."""
        with self._lock:
            running = self._jobs.get(name)
            if running is not None and running.state == "running":
                return running
            job: Job[T] = Job(title)
            self._jobs[name] = job
            thread = threading.Thread(target=job.run, args=(work,), name=f"job-{name}", daemon=True)
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            thread.start()
        return job

    def find(self, name: str) -> Job[Any] | None:
        """The newest job of that name, running or ended."""
        return self._jobs.get(name)

    def forget(self, name: str) -> None:
        """Drop an ended job, so that pages no longer show its result."""
        with self._lock:
            job = self._jobs.get(name)
            if job is not None and job.state != "running":
                del self._jobs[name]

    def close(self) -> None:
        """Ask every running job to stop and wait until it has."""
        with self._lock:
            for job in self._jobs.values():
                job.cancel()
            threads, self._threads = self._threads, []
        for thread in threads:
            thread.join()
