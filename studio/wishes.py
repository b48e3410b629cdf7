"""Where each run stands: what a person here has just asked for, else what the engine says."""

from __future__ import annotations

import threading

from workspace import unfinished
from workspace.facts import EngineStatus, RunState
from workspace.store import Store
from workspace.unfinished import Known


class Wishes:
    """The book of all runs, durable at every change. Any thread may wish; one thread tells the engine."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._old: set[str] = set()  # runs with a wish from before this studio was opened

    def load(self) -> None:
        """Read what was known and wanted when the workspace was last open."""
        self._known = unfinished.known(self._store)
        self._old = {run_id for run_id, known in self._known.items() if known.wish}

    def all(self) -> dict[str, Known]:
        """Every run at this moment."""
        with self._lock:
            return dict(self._known)

    def ripe(self, run_id: str) -> bool:
        """Whether a run may be dealt with. An old wish may be overruled by something that was not read yet."""
        return run_id not in self._old

    def want(self, run_id: str, state: RunState) -> None:
        """A person wants this of a run from now on; durable when this returns."""
        unfinished.wish(self._store, run_id, state)
        with self._lock:
            self._known[run_id] = Known(state, wish=True)
            self._old.discard(run_id)

    def heard(self, run_id: str, wish: Known) -> None:
        """The engine knows of this wish. From now on it says how the run stands."""
        with self._lock:
            if self._known.get(run_id) is not wish:
                return  # somebody has just wished something else
            self._known[run_id] = Known(wish.state)
        unfinished.settle(self._store, run_id, wish.state)

    def settle(self, run_id: str, state: RunState) -> None:
        """The engine says so of a run, whoever made it so. A wish it has not heard of goes on."""
        with self._lock:
            mine = self._known.get(run_id, Known("paused"))
            if mine.wish or mine.state == state:
                return
            self._known[run_id] = Known(state)
        unfinished.settle(self._store, run_id, state)

    def settle_old(self, status: EngineStatus) -> None:
        """Old wishes hold unless somebody else has set something since. All the engine had at `status` is read."""
        theirs = {run.run_id: run.state for run in status.runs}
        for run_id in list(self._old):
            wish = self._known[run_id]
            state = theirs.get(run_id, wish.state)
            overruled = unfinished.overruled(self._store, run_id, wish.clock, status.author)
            with self._lock:
                if run_id not in self._old:
                    continue  # somebody has just wished something
                self._old.discard(run_id)
                if overruled:
                    self._known[run_id] = Known(state)
            if overruled:
                unfinished.settle(self._store, run_id, state, instead_of=wish)
