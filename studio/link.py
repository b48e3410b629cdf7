"""The studio's side of the engine: one thread that hands rows and decisions over, passes on wishes, and brings
home what all machines wrote.

All talk with the engine about runs happens on this thread. The verbs of the studio only note, durably, what a
person wants of a run and wake it; the thread then makes the engine agree. So a click never waits for the engine,
and what was wanted survives an engine that is gone, a studio that is gone, or both. Once the engine has heard a
wish, the engines say how the run stands: it may have been paused on another machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from studio.handing import Decisions, Handing
from studio.homecoming import Homecoming
from studio.wishes import Wishes
from workspace import company, unfinished
from workspace.errors import EngineError, WinnowError
from workspace.facts import EngineStatus, RunProgress, RunState
from workspace.store import Store
from workspace.unfinished import Known

if TYPE_CHECKING:
    from engine.client import Engine, EngineOptions

log = logging.getLogger(__name__)

BUSY_PAUSE = 0.4  # seconds between looks while a run runs: progress bars move, and the engine is left in peace
IDLE_PAUSE = 3.0  # with an engine that has nothing to do
LONGEST_PAUSE = 30.0  # of the growing pauses after errors
TIME_PER_LOOK = 2.0  # seconds of facts after which progress is published, though more facts wait
WATCHED = 10.0  # seconds a page that shows the machines is taken to be looked at
LOOK_AROUND = 20.0  # seconds between asking the engine to look for machines while somebody watches
FAREWELL = 5.0  # seconds for what is left to read and to hand over when the studio closes

Ensure = Callable[[Path, bool], "Engine"]


@dataclass
class _Picture:
    """What the pages see; replaced as a whole, so that readers need no lock."""

    progress: dict[str, RunProgress] = field(default_factory=dict)
    error: WinnowError | None = None
    status: EngineStatus | None = None


def ensure_engine(state_dir: Path, start: bool, options: EngineOptions | None = None) -> Engine:
    """The engine of a state folder, started if need be. Raises EngineError."""
    # Imported late: it brings ZeroMQ, which a studio that labels nothing today does not need at its start.
    from engine.client import Engine

    return Engine.ensure(state_dir, start=start, options=options)


class EngineLink:
    """Owns the connection to the engine of one workspace. `start`, then `close`; everything else any time.

    With `stays` the engine is a helper's: it is used from the beginning, and left running at the end. `came_home`
    is called on the thread whenever facts may have come, and has to return at once.
    """

    def __init__(
        self,
        store: Store,
        state_dir: Path,
        ensure: Ensure = ensure_engine,
        *,
        stays: bool = False,
        came_home: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._state_dir = state_dir
        self._ensure = ensure
        self._stays = stays
        self._came_home = came_home
        self._engine: Engine | None = None
        self._home = Homecoming(store)
        self._handing = Handing(store)
        self._wishes = Wishes(store)
        self._compared: dict[str, int] = {}  # rows each run had when its plan was compared with this engine's
        self._counts: dict[str, int] = {}  # planned rows per run
        self._growths = 0  # how often a plan has grown
        self._unsettled = False  # something wanted that no engine has heard of, or facts nobody has fetched
        self._kept = stays  # there has to be an engine, also with nothing to do
        self._others = 0  # machines in the cluster besides this one
        self._author = ""  # of the ledger that was spoken with last
        self._decisions = Decisions(store)
        self._watched = self._looked = float("-inf")
        self._first_look = threading.Event()  # all the engine had was read once, or it could not be
        self._picture = _Picture()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # What the rest of the studio uses

    @property
    def progress(self) -> dict[str, RunProgress]:
        """Where each run stands. What a person has just asked for shows at once, whatever the engine last said."""
        shown = dict(self._picture.progress)
        wishes = {run_id: known.state for run_id, known in self._wishes.all().items() if known.wish}
        for run_id, state in wishes.items():
            if state == "running":
                known = shown.get(run_id) or RunProgress(run_id, "running", 0, 0, 0, 0.0, None, "")
                note = "" if self._engine is None else "Handing over rows"
                shown[run_id] = msgspec.structs.replace(
                    known,
                    state="running",
                    rows=self._planned(run_id),
                    seconds_left=None,
                    note=note or known.note or "Starting the engine",
                )
            elif run_id in shown:
                shown[run_id] = _resting(shown[run_id], state)
        return shown

    @property
    def error(self) -> WinnowError | None:
        """What keeps the engine from working right now; None when nothing does."""
        return self._picture.error

    @property
    def status(self) -> EngineStatus | None:
        """The engine when it was last asked; None while there is none."""
        return self._picture.status

    def start(self) -> None:
        """Read what was wanted when the workspace was last open, and go on from there."""
        self._wishes.load()
        self._others = company.others(self._store)
        # A paused run's last facts may still lie in the ledger of an engine that is gone. And a workspace that has
        # never read any log is new, or takes the place of one that was lost.
        unfetched = any(known.state != "done" for known in self._wishes.all().values()) or self._home.new
        self._unsettled = unfetched and (self._state_dir / "ledger.sqlite").exists()
        self._thread = threading.Thread(target=self._run, name="engine-link", daemon=True)
        self._thread.start()

    def want(self, run_id: str, state: RunState) -> None:
        """Note what a person wants of a run from now on; durable when this returns. Also if its plan has grown."""
        self._wishes.want(run_id, state)
        self._grew(run_id)
        self._wake.set()

    def catch_up(self, seconds: float) -> None:
        """Wait until what other machines did is in the workspace, if there are any; not longer than that."""
        if self._stays or self._others:
            self._first_look.wait(seconds)

    def nudge(self) -> None:
        """There are new decisions: hand them over soon, if there is an engine."""
        self._wake.set()

    def watch(self) -> None:
        """Somebody looks at the machines: have an engine from now on, and let it look around for a while."""
        self._kept = True
        self._watched = time.monotonic()
        if self._engine is None or self._watched - self._looked > LOOK_AROUND:
            self._wake.set()

    def close(self, *, stop_engine: bool) -> None:
        """Stop the thread; with `stop_engine` the engine finishes its batch and exits too, unless it stays."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._handing.stop_all()
        if self._engine is not None:
            try:
                self._hand_decisions(self._engine, FAREWELL)
                if stop_engine and not self._stays:
                    self._engine.shutdown()
                self._engine.close()
            except WinnowError as error:
                log.warning("The engine did not answer while stopping: %s", error)
            self._engine = None

    # The thread

    def _run(self) -> None:
        pause = 0.5
        while not self._stop.is_set():
            self._wake.clear()
            try:
                wait = self._look()
                self._came_home()
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
        known = self._wishes.all()
        if self._engine is None:
            if not self._needed(known):
                self._picture = _Picture(self._still(known))
                return None
            self._publish_waiting(known, "Starting the engine")
            self._engine = self._ensure(self._state_dir, True)
            self._author = ""
            self._looked = float("-inf")
        engine = self._engine
        status = engine.status()
        if status.author != self._author:
            # A ledger this studio has not spoken with: it may lack rows and decisions another one had.
            self._author = status.author
            self._compared.clear()
            self._decisions.begin()
        self._agree(engine, status, known)
        for run_id, wish in self._handing.step(engine).items():
            self._wishes.heard(run_id, wish)
        if time.monotonic() - self._watched < WATCHED and time.monotonic() - self._looked > LOOK_AROUND:
            engine.look_around()
            self._looked = time.monotonic()
        status = engine.status()
        caught_up = self._bring_home(engine, status, TIME_PER_LOOK)
        if caught_up:
            self._wishes.settle_old(status)
            caught_up = self._hand_decisions(engine, TIME_PER_LOOK)
            self._unsettled = False
        self._settle(status, caught_up)
        self._publish(status, caught_up)
        if caught_up:
            self._first_look.set()
        if self._handing or not caught_up:
            return 0.0
        busy = any(run.state == "running" for run in status.runs) or time.monotonic() - self._watched < WATCHED
        return BUSY_PAUSE if busy else IDLE_PAUSE

    def _needed(self, known: dict[str, Known]) -> bool:
        """Whether there has to be an engine now."""
        wanted = any(one.state == "running" or one.wish for one in known.values())
        return wanted or self._unsettled or self._kept or self._others > 0

    def _agree(self, engine: Engine, status: EngineStatus, known: dict[str, Known]) -> None:
        """Make the engine's runs do what people here want of them, and find rows it does not have."""
        theirs = {run.run_id: run for run in status.runs}
        for run_id, mine in known.items():
            if not self._wishes.ripe(run_id):
                continue
            there = theirs.get(run_id)
            if mine.wish:
                self._pass_on(engine, run_id, mine, there)
            elif there is None or there.state in ("running", "done"):
                if mine.state == "running":
                    self._compare(run_id, there)
            else:
                self._handing.stop(run_id)

    def _pass_on(self, engine: Engine, run_id: str, wish: Known, theirs: RunProgress | None) -> None:
        if wish.state == "running":
            under_way = self._handing.get(run_id)
            if under_way is None or under_way.wish is not wish:
                self._compared[run_id] = self._planned(run_id)
                self._handing.start(run_id, self._planned(run_id), wish)
            return
        self._handing.stop(run_id)
        if theirs is not None and theirs.state not in (wish.state, "done") and wish.state != "done":
            engine.set_state(run_id, wish.state)
        self._wishes.heard(run_id, wish)

    def _compare(self, run_id: str, theirs: RunProgress | None) -> None:
        """Hand over again if this engine has fewer rows of a run than were planned: one look for each plan."""
        planned = self._planned(run_id)
        if self._handing.get(run_id) is None and self._compared.get(run_id) != planned:
            self._compared[run_id] = planned
            if theirs is None or theirs.rows < planned:
                self._handing.start(run_id, planned)

    def _bring_home(self, engine: Engine, status: EngineStatus, seconds: float) -> bool:
        caught_up, grown = self._home.bring(engine, status, seconds, self._stop.is_set)
        for run_id in grown:
            self._grew(run_id)
        return caught_up

    def _hand_decisions(self, engine: Engine, seconds: float) -> bool:
        """Hand over what people decided, and read it back; whether all of it is in the logs."""
        deadline = time.monotonic() + seconds
        while not self._decisions.settled():
            status = engine.status()
            caught_up, _ = self._home.bring(engine, status, deadline - time.monotonic(), lambda: False)
            if not caught_up:
                return False
            self._decisions.hand_over(engine, status.vector)
        return True

    def _settle(self, status: EngineStatus, caught_up: bool) -> None:
        """Note how runs stand, whoever made them so. A run is done only when every fact of it is here."""
        for run in status.runs:
            if not self._handing.get(run.run_id) and (caught_up or run.state != "done"):
                self._wishes.settle(run.run_id, run.state)
        others = sum(not machine.me for machine in status.cluster.machines)
        others = 0 if status.cluster.removed else others
        if others != self._others:
            self._others = others
            company.note(self._store, status.cluster.id, others)

    # What people see

    def _publish(self, status: EngineStatus, caught_up: bool) -> None:
        """A run is shown as done only when every fact of it is in the workspace."""
        shown = self._still(self._wishes.all())
        for run in status.runs:
            hand_over = self._handing.get(run.run_id)
            planned = max(run.rows, self._planned(run.run_id))
            earlier = 0 if hand_over else self._earlier(run, planned - run.rows)
            state, note = run.state, run.note
            if hand_over is not None:
                state, note = "running", f"Handing over rows: {hand_over.handed:,} of {hand_over.planned:,}"
            elif state == "done" and not caught_up:
                state, note = "running", "Saving the last labels"
            shown[run.run_id] = msgspec.structs.replace(
                run, rows=planned, done=run.done + earlier, state=state, note=note
            )
        self._picture = _Picture(shown, None, status)

    def _earlier(self, run: RunProgress, absent: int) -> int:
        """Of the rows this engine does not have, those answered before its ledger began."""
        if absent == 0 or run.state not in ("paused", "cancelled"):
            return absent  # all that had no answer was handed over
        return max(0, min(absent, unfinished.answered_rows(self._store, run.run_id) - run.done))

    def _publish_waiting(self, known: dict[str, Known], note: str) -> None:
        shown = {**self._picture.progress, **self._still(known)}
        for run_id, one in known.items():
            if one.state == "running":
                last = shown.get(run_id)
                rows, done, failed = (last.rows, last.done, last.failed) if last else (self._planned(run_id), 0, 0)
                shown[run_id] = RunProgress(run_id, "running", rows, done, failed, 0.0, None, note)
        self._picture = _Picture(shown, self._picture.error)

    def _still(self, known: dict[str, Known]) -> dict[str, RunProgress]:
        """Runs that should not be running, as they were last seen."""
        shown = {}
        for run_id, last in self._picture.progress.items():
            one = known.get(run_id)
            state = one.state if one else last.state
            if state != "running":
                shown[run_id] = _resting(last, state)
        return shown

    def _lost(self, error: WinnowError) -> None:
        """The engine does not answer: forget it, say so, and let the next round look for it or start it anew."""
        engine, self._engine = self._engine, None
        if engine is not None:
            try:
                engine.close()
            except EngineError:
                log.debug("Closing a lost engine", exc_info=True)
        self._handing.stop_all()
        self._unsettled = True
        self._publish_waiting(self._wishes.all(), "Waiting for the engine")
        self._picture = _Picture(self._picture.progress, error)
        self._first_look.set()

    def _planned(self, run_id: str) -> int:
        number = self._counts.get(run_id)
        if number is None:
            growths = self._growths
            number = unfinished.planned_rows(self._store, run_id)
            if growths == self._growths:  # else it may have been counted before the plan grew
                self._counts[run_id] = number
        return number

    def _grew(self, run_id: str) -> None:
        self._growths += 1
        self._counts.pop(run_id, None)


def _resting(progress: RunProgress, state: RunState) -> RunProgress:
    return msgspec.structs.replace(progress, state=state, rows_per_s=0.0, note="", seconds_left=None)
