"""What the workspace hands to the engine: the rows of runs, page by page, and what people decided."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.homecoming import decided
from workspace import carried, runs, tasks, unfinished
from workspace.facts import RunSpec
from workspace.store import Store
from workspace.unfinished import Known

if TYPE_CHECKING:
    from engine.client import Engine

log = logging.getLogger(__name__)

PAGE = 10_000  # rows handed over at a time
DECISIONS = 500  # decisions at a time

Pages = Iterator[list[tuple[str, str, str]]]


@dataclass
class HandOver:
    """Rows of one run on their way to the engine; `wish` is what this makes come true, if anything."""

    spec: RunSpec
    task: str
    planned: int
    pages: Pages
    wish: Known | None
    handed: int = 0


class Handing:
    """The runs being handed over. Used by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._under_way: dict[str, HandOver] = {}

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def get(self, run_id: str) -> HandOver | None:
        """The hand-over of a run, if it is under way."""
        return self._under_way.get(run_id)

    def start(self, run_id: str, planned: int, wish: Known | None = None) -> None:
        """Begin, or begin again, with the rows of a run that have no answer yet."""
        self.stop(run_id)
        spec = runs.spec(self._store, run_id)
        pages = unfinished.missing(self._store, run_id, page=PAGE)
        document = tasks.document(self._store, spec.task_id)
        self._under_way[run_id] = HandOver(spec, document, planned, pages, wish)

    def stop(self, run_id: str) -> None:
        """Hand over no more rows of this run."""
        hand_over = self._under_way.pop(run_id, None)
        if hand_over is not None:
            # Generators hold a cursor; an iterator of another kind has nothing to release.
            close = getattr(hand_over.pages, "close", None)
            if close is not None:
                close()

    def stop_all(self) -> None:
        """Hand over nothing more."""
        for run_id in list(self._under_way):
            self.stop(run_id)

    def step(self, engine: Engine) -> dict[str, Known]:
        """Hand over the next page of every run; returns the wishes that the engine knows of by that."""
        heard = {}
        for run_id, hand_over in list(self._under_way.items()):
            page = next(hand_over.pages, [])
            # Also with no rows at all: then the engine learns of the run and that it should be running.
            if page or not hand_over.handed:
                engine.open_run(hand_over.spec, page, task=hand_over.task)
            if hand_over.wish is not None:
                heard[run_id] = hand_over.wish
            hand_over.handed += len(page)
            if len(page) < PAGE:
                self.stop(run_id)
        return heard


class Decisions:
    """What people decided, on its way to one engine. Used by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # Handed over and not read back yet. What for whatever reason never comes back is not handed over again
        # and again: that would fill the disks of all machines.
        self._handed: set[tuple[str, int]] = set()
        self._settled = -1  # decisions there were when all of them were in the logs

    def begin(self) -> None:
        """From now on it is another engine, or the same one after it was lost."""
        self._handed.clear()
        self._settled = -1

    def settled(self) -> bool:
        """Whether all decisions there are were in the logs when somebody looked last."""
        return carried.count(self._store) == self._settled

    def hand_over(self, engine: Engine, held: Mapping[str, int]) -> None:
        """Hand over the oldest decisions that are in none of the logs `held`.

        All of those logs have to be in the workspace: a decision counts as handed over when it was read back.
        """
        number = carried.count(self._store)
        waiting = carried.outgoing(self._store, held, DECISIONS + len(self._handed))
        self._handed &= {one.key for one in waiting}
        fresh = [one for one in waiting if one.key not in self._handed]
        if fresh:
            engine.decide([decided(one) for one in fresh])
            self._handed |= {one.key for one in fresh}
            return
        if waiting:
            log.error("%d decisions do not come back from the engine", len(waiting))
        self._settled = number
