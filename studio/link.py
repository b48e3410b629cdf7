"""The studio's side of the engine: one thread that hands rows over, passes on wishes, and brings facts home.

All talk with the engine happens on this thread. The verbs of the studio only note, durably, what is wanted
of a run and wake it; the thread then makes the engine agree. So a click never waits for the engine, and what
was wanted survives an engine that is gone, a studio that is gone, or both.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from workspace import runs, unfinished
from workspace.errors import EngineError, WinnowError
from workspace.facts import EngineStatus, RunProgress, RunSpec, RunState
from workspace.store import Store

if TYPE_CHECKING:
    from engine.client import Engine

log = logging.getLogger(__name__)

BUSY_PAUSE = 0.4  # seconds between looks while a run runs: progress bars move, and the engine is left in peace
IDLE_PAUSE = 3.0  # with an engine that has nothing to do
LONGEST_PAUSE = 30.0  # of the growing pauses after errors
PAGE = 10_000  # rows handed over at a time
FACTS = 2_000  # facts brought home at a time
TIME_PER_LOOK = 2.0  # seconds of facts after which progress is published, though more facts wait

Ensure = Callable[[Path, bool], "Engine"]


@dataclass
class HandOver:
    """Rows of one run on their way to the engine."""

    spec: RunSpec
    planned: int
    pages: Iterator[list[tuple[str, str]]]
    handed: int = 0


@dataclass
class _Picture:
    """What the pages see; replaced as a whole, so that readers need no lock."""

    progress: dict[str, RunProgress] = field(default_factory=dict)
    error: WinnowError | None = None
    engine_pid: int = 0


def _ensure(state_dir: Path, start: bool) -> Engine:
    # Imported late: it brings ZeroMQ, which a studio that labels nothing today does not need at its start.
    from engine.client import Engine

    return Engine.ensure(state_dir, start=start)


class EngineLink:
    """Owns the connection to the engine of one workspace. `start`, then `close`; everything else any time."""

    def __init__(self, store: Store, state_dir: Path, ensure: Ensure = _ensure) -> None:
        self._store = store
        self._state_dir = state_dir
        self._ensure = ensure
        self._engine: Engine | None = None
        self._wanted: dict[str, RunState] = {}
        # Runs whose plan grew and whose new rows the engine does not have yet; a number for each time one grew.
        self._fresh: dict[str, int] = {}
        self._growths = 0
        self._compared: set[str] = set()  # runs whose plan was compared with this engine's
        self._unsettled = False  # something wanted that no engine has heard of, or facts nobody has fetched
        self._handing: dict[str, HandOver] = {}
        self._counts: dict[str, int] = {}  # planned rows per run
        self._picture = _Picture()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # What the rest of the studio uses

    @property
    def progress(self) -> dict[str, RunProgress]:
        """Where each run stands. A run just asked for is running, whatever the engine last said of it."""
        shown = dict(self._picture.progress)
        with self._lock:
            fresh = list(self._fresh)
        for run_id in fresh:
            known = shown.get(run_id) or RunProgress(run_id, "running", 0, 0, 0, 0.0, None, "")
            shown[run_id] = msgspec.structs.replace(
                known, state="running", rows=self._planned(run_id), seconds_left=None, note="Handing over rows"
            )
        return shown

    @property
    def error(self) -> WinnowError | None:
        """What keeps the engine from working right now; None when nothing does."""
        return self._picture.error

    @property
    def engine_pid(self) -> int:
        """0 while there is no engine."""
        return self._picture.engine_pid

    def start(self) -> None:
        """Read what was wanted when the workspace was last open, and go on from there."""
        self._wanted = unfinished.states(self._store)
        # A paused run's last facts may still lie in the ledger of an engine that is gone.
        unfetched = any(state != "done" for state in self._wanted.values())
        self._unsettled = unfetched and (self._state_dir / "ledger.sqlite").exists()
        self._thread = threading.Thread(target=self._run, name="engine-link", daemon=True)
        self._thread.start()

    def want(self, run_id: str, state: RunState, *, rows_added: bool = False) -> None:
        """Note what a run should do from now on; durable when this returns."""
        unfinished.set_state(self._store, run_id, state)
        with self._lock:
            self._wanted[run_id] = state
            self._unsettled = True
            if rows_added:
                self._growths += 1
                self._fresh[run_id] = self._growths
                self._counts.pop(run_id, None)
            else:
                self._fresh.pop(run_id, None)
        self._wake.set()

    def close(self, *, stop_engine: bool) -> None:
        """Stop the thread; with `stop_engine` the engine finishes its batch and exits too."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        for hand_over in self._handing.values():
            _close(hand_over.pages)
        self._handing.clear()
        if self._engine is not None:
            try:
                if stop_engine:
                    self._engine.shutdown()
                self._engine.close()
            except EngineError as error:
                log.warning("The engine did not answer while stopping: %s", error)
            self._engine = None

    # The thread

    def _run(self) -> None:
        pause = 0.5
        while not self._stop.is_set():
            self._wake.clear()
            try:
                wait = self._look()
                pause = 0.5
            except WinnowError as error:
                self._lost(error)
                wait, pause = pause, min(LONGEST_PAUSE, pause * 2)
            except Exception as error:
                log.exception("Unexpected trouble with the engine")
                self._lost(
                    EngineError("The engine could not be used.", "It is tried again by itself.", repr(error))
                )
                wait, pause = pause, min(LONGEST_PAUSE, pause * 2)
            if not self._stop.is_set():
                self._wake.wait(wait)

    def _look(self) -> float | None:
        """One round: agree, hand over, bring home, publish. Returns how long to wait (None: until woken)."""
        with self._lock:
            wanted, fresh, unsettled = dict(self._wanted), dict(self._fresh), self._unsettled
            self._unsettled = False
        if self._engine is None:
            if "running" not in wanted.values() and not unsettled:
                self._picture = _Picture(progress={**self._picture.progress, **self._still(wanted)})
                return None
            self._publish_waiting(wanted, "Starting the engine")
            self._engine = self._ensure(self._state_dir, True)
            self._compared.clear()
        engine = self._engine
        status = engine.status()
        self._agree(engine, status, wanted, fresh)
        self._hand_over_page(engine)
        status, caught_up = self._bring_home(engine)
        self._publish(status, wanted, caught_up)
        with self._lock:
            self._fresh = {run: number for run, number in self._fresh.items() if fresh.get(run) != number}
        if self._handing or not caught_up:
            return 0.0
        return BUSY_PAUSE if "running" in self._wanted.values() else IDLE_PAUSE

    def _agree(
        self, engine: Engine, status: EngineStatus, wanted: dict[str, RunState], fresh: dict[str, int]
    ) -> None:
        """Make the engine's runs do what is wanted of them, and find rows it does not have."""
        known = {run.run_id: run for run in status.runs}
        for run_id, state in wanted.items():
            theirs = known.get(run_id)
            if state == "running":
                if run_id in fresh or run_id not in self._compared:
                    self._compared.add(run_id)
                    self._start_handing(run_id, theirs, grown=run_id in fresh)
                    if theirs and theirs.state in ("paused", "cancelled") and run_id not in self._handing:
                        engine.set_state(run_id, "running")
                elif run_id not in self._handing and theirs is None:
                    self._start_handing(run_id, theirs, grown=True)
                elif run_id not in self._handing and theirs and theirs.state == "paused":
                    self._gave_up(run_id)
                continue
            self._stop_handing(run_id)
            if theirs and theirs.state == "running" and state in ("paused", "cancelled"):
                engine.set_state(run_id, state)

    def _gave_up(self, run_id: str) -> None:
        """The engine itself paused a run that had been going on, and says why in its note: a person must look."""
        with self._lock:
            if self._wanted.get(run_id) != "running" or run_id in self._fresh:
                return  # somebody has just asked for it again
            self._wanted[run_id] = "paused"
        unfinished.set_state(self._store, run_id, "paused")

    def _start_handing(self, run_id: str, theirs: RunProgress | None, *, grown: bool) -> None:
        self._stop_handing(run_id)
        planned = self._planned(run_id)
        if not grown and theirs is not None and theirs.rows >= planned:
            return
        spec = runs.spec(self._store, run_id)
        pages = unfinished.missing(self._store, run_id, len(spec.dimensions), page=PAGE)
        self._handing[run_id] = HandOver(spec, planned, pages)

    def _stop_handing(self, run_id: str) -> None:
        hand_over = self._handing.pop(run_id, None)
        if hand_over is not None:
            _close(hand_over.pages)

    def _hand_over_page(self, engine: Engine) -> None:
        for run_id, hand_over in list(self._handing.items()):
            page = next(hand_over.pages, [])
            # Also with no rows at all: then the engine learns of the run and that it should be running.
            if page or not hand_over.handed:
                engine.open_run(hand_over.spec, page)
            hand_over.handed += len(page)
            if len(page) < PAGE:
                self._stop_handing(run_id)

    def _bring_home(self, engine: Engine) -> tuple[EngineStatus, bool]:
        """Facts until there are no more, or until it is time to show something. Status first: see `_publish`."""
        status = engine.status()
        here = runs.next_seq(self._store, status.author)
        for _ in range(int(TIME_PER_LOOK / BUSY_PAUSE) + 1):
            if here >= status.next_seq or self._stop.is_set():
                break
            facts = engine.facts(here, FACTS)
            if not facts:
                break
            runs.ingest(self._store, facts)
            here = facts[-1].seq + 1
        return status, here >= status.next_seq

    # What people see

    def _publish(self, status: EngineStatus, wanted: dict[str, RunState], caught_up: bool) -> None:
        """A run is shown as done only when every fact of it is in the workspace."""
        shown = self._still(wanted)
        for run in status.runs:
            hand_over = self._handing.get(run.run_id)
            planned = max(run.rows, self._planned(run.run_id))
            earlier = 0 if hand_over else planned - run.rows  # answered before this engine's ledger began
            state, note = run.state, run.note
            if hand_over is not None:
                state, note = "running", f"Handing over rows: {hand_over.handed:,} of {hand_over.planned:,}"
            elif state == "done" and not caught_up:
                state, note = "running", "Saving the last labels"
            elif state == "done" and wanted.get(run.run_id) == "running":
                self._finished(run.run_id)
            shown[run.run_id] = msgspec.structs.replace(
                run, rows=planned, done=run.done + earlier, state=state, note=note
            )
        self._picture = _Picture(shown, None, status.pid)

    def _finished(self, run_id: str) -> None:
        with self._lock:
            if self._wanted.get(run_id) != "running" or run_id in self._fresh:
                return  # it was asked for more meanwhile
            self._wanted[run_id] = "done"
        unfinished.set_state(self._store, run_id, "done")

    def _publish_waiting(self, wanted: dict[str, RunState], note: str) -> None:
        shown = {**self._picture.progress, **self._still(wanted)}
        for run_id, state in wanted.items():
            if state == "running":
                known = shown.get(run_id)
                rows, done = (known.rows, known.done) if known else (self._planned(run_id), 0)
                failed = known.failed if known else 0
                shown[run_id] = RunProgress(run_id, "running", rows, done, failed, 0.0, None, note)
        self._picture = _Picture(shown, self._picture.error, 0)

    def _still(self, wanted: dict[str, RunState]) -> dict[str, RunProgress]:
        """Runs that should not be running, as they were last seen."""
        shown = {}
        for run_id, known in self._picture.progress.items():
            state = wanted.get(run_id, known.state)
            if state != "running":
                shown[run_id] = msgspec.structs.replace(
                    known, state=state, rows_per_s=0.0, note="", seconds_left=None
                )
        return shown

    def _lost(self, error: WinnowError) -> None:
        """The engine does not answer: forget it, say so, and let the next round look for it or start it anew."""
        engine, self._engine = self._engine, None
        if engine is not None:
            try:
                engine.close()
            except EngineError:
                log.debug("Closing a lost engine", exc_info=True)
        for run_id in list(self._handing):
            self._stop_handing(run_id)
        with self._lock:
            wanted = dict(self._wanted)
            self._unsettled = True
        self._publish_waiting(wanted, "Waiting for the engine")
        self._picture = _Picture(self._picture.progress, error, 0)

    def _planned(self, run_id: str) -> int:
        if run_id not in self._counts:
            self._counts[run_id] = unfinished.planned_rows(self._store, run_id)
        return self._counts[run_id]


def _close(pages: Iterator[list[tuple[str, str]]]) -> None:
    # Generators hold a cursor; an iterator of another kind has nothing to release.
    close = getattr(pages, "close", None)
    if close is not None:
        close()
