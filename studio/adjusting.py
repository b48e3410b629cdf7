"""Calibrators at work in the background: every row gets its score, also rows that are answered later.

One job for each run and dimension. What is not done yet, or was not when the studio was killed, is found again by
looking; nothing has to be remembered.
"""

from __future__ import annotations

import threading
import time

from studio.jobs import Asked, Job, Jobs, Report
from workspace import adjusted, calibrators
from workspace.answers import dimension_of, shape_of
from workspace.errors import WinnowError
from workspace.runs import read_spec, spec
from workspace.store import Store

PATIENCE = 10.0  # a run that still grows is not gone through again before so many times as long as it took


class Adjusting:
    """Keeps the scores of one workspace up with its calibrators. Its methods may be called from any thread."""

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store = store
        self._jobs = jobs
        self._lock = threading.Lock()  # one at a time, so that no row is computed twice
        self._facts = -1  # facts there were when `look` last found nothing to do
        self._next = 0.0
        self._closed = False

    def start(self, run_id: str, dimension: str) -> Job[int]:
        """Adjust the rows of a run in the background; a job under way is returned instead of a second."""

        def work(report: Report, cancelled: Asked) -> int:
            return self.finish(run_id, dimension, report, cancelled)

        return self._jobs.start(_name(run_id, dimension), "Applying the calibration", work)

    def find(self, run_id: str, dimension: str) -> Job[int] | None:
        """The newest job of a run and dimension, running or ended."""
        return self._jobs.find(_name(run_id, dimension))

    def look(self) -> None:
        """Start what facts that came since the last look ask for; cheap where nothing did."""
        if self._closed or time.monotonic() < self._next:
            return
        facts = calibrators.facts_known(self._store)
        if facts == self._facts:
            return
        wanted = calibrators.adjusting(self._store)
        jobs = [self.find(*one) for one in wanted]
        if any(job is not None and job.state == "running" for job in jobs):
            return  # it may have begun before the newest facts came
        self._facts = facts
        for run_id, dimension in wanted:
            self.start(run_id, dimension)

    def close(self) -> None:
        """Start nothing any more."""
        self._closed = True

    def finish_run(self, run_id: str) -> None:
        """Adjust all that waits in a run, now. Raises RunError for an unknown run."""
        for asked in spec(self._store, run_id).dimensions:
            self.finish(run_id, asked.name)

    def finish(
        self,
        run_id: str,
        dimension: str,
        report: Report = lambda _: None,
        cancelled: Asked = lambda: False,
    ) -> int:
        """Adjust the rows of a run that wait for it, now; returns how many these were."""
        from studio import fitting  # what learns takes long to load, and most processes never need it

        with self._lock:
            started = time.monotonic()
            with self._store.read() as con:
                found = adjusted.in_force(con, run_id, dimension)
                asked = dimension_of(read_spec(con, run_id), dimension)
            if found is None:
                return 0
            try:
                compute = fitting.mapper(found[0], asked.labels, several=shape_of(asked) == "multi")
            except (ValueError, KeyError) as error:
                raise WinnowError(
                    "The calibration was fitted by another version of Winnow.",
                    "Fit it again; until then a temperature stands in for it.",
                    str(error),
                ) from error
            done = adjusted.apply(
                self._store,
                run_id,
                dimension,
                compute,
                texts=fitting.reads_texts(found[0]),
                progress=report,
                cancelled=cancelled,
            )
            self._next = time.monotonic() + PATIENCE * (time.monotonic() - started)
            return done


def _name(run_id: str, dimension: str) -> str:
    return f"adjust {run_id} {dimension}"
