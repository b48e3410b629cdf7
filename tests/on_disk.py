"""A stand-in for an engine whose logs lie in a real ledger, so that it can be killed and goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.cluster.entries import Decided, Entry, member_of
from engine.cluster.ledger import Ledger
from tests.stand_in import Log, Row, StandIn, author_of
from workspace.facts import EngineStatus, RunSpec, RunState


class OnDisk(StandIn):
    """Every entry is on the disk before anybody hears of it. Threads may use it at the same time."""

    def __init__(self, path: Path, number: int = 1) -> None:
        super().__init__(number)
        self._lock = threading.RLock()
        self._ledger = Ledger(path, member_of(author_of(number)))
        self.author = self._ledger.author
        self.logs = {self.author: Log(self.author)}
        for author, end in self._ledger.vector().items():
            log = self.logs.setdefault(author, Log(author))
            while log.end < end:
                log.entries += self._ledger.read(author, log.end, 1 << 24)

    def save(self) -> None:
        """Write down what is new, in one transaction."""
        held = self._ledger.vector()
        new = [e for log in self.logs.values() for e in log.entries if e.seq >= held.get(log.author, 0)]
        self._ledger.write(new)

    def hear_labels(self, number: int, spec: RunSpec, rows: Sequence[str]) -> None:
        """Another machine's answers came in."""
        with self._lock:
            author = author_of(number)
            self.logs.setdefault(author, Log(author)).label(spec, rows)
            self.save()

    def open_run(self, spec: RunSpec, rows: Iterable[Row], progress: object = None, *, task: str = "") -> int:
        with self._lock:
            planned = super().open_run(spec, rows, progress, task=task)
            self.save()
            return planned

    def set_state(self, run_id: str, state: RunState) -> None:
        with self._lock:
            super().set_state(run_id, state)
            self.save()

    def decide(self, decisions: Sequence[Decided]) -> int:
        with self._lock:
            end = super().decide(decisions)
            self.save()
            return end

    def status(self) -> EngineStatus:
        with self._lock:
            return super().status()

    def entries(self, author: str, first: int, limit: int = 2000) -> list[Entry]:
        with self._lock:
            return super().entries(author, first, limit)
