"""What the machines wrote into their logs, brought home from the local engine into the workspace."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import msgspec

from engine.cluster import entries, facts
from engine.cluster.entries import Entry
from engine.prompt import prompt_of
from workspace import arrivals, carried
from workspace.arrivals import Arrival, RowsCame, RunCame, StateCame
from workspace.errors import EngineError
from workspace.facts import EngineStatus
from workspace.store import Store

if TYPE_CHECKING:
    from engine.client import Engine

log = logging.getLogger(__name__)

PAGE = 4_000  # entries asked for at a time; the engine sends fewer when they are large


class Homecoming:
    """Reads every author's log on from where the workspace has it. Used by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursors = arrivals.cursors(store)

    @property
    def new(self) -> bool:
        """Whether no log was ever read."""
        return not self._cursors

    def bring(
        self, engine: Engine, status: EngineStatus, seconds: float, stopped: Callable[[], bool]
    ) -> tuple[bool, set[str]]:
        """Fetch what the engine held at `status`, for about so long; whether that was all, and runs that grew."""
        deadline = time.monotonic() + seconds
        grown: set[str] = set()
        # This machine's own log first: what was handed to the engine and is not read back would be handed again.
        for author in sorted(status.vector, key=lambda author: (author != status.author, author)):
            at = self._cursors.get(author, 0)
            writing: Future[int] | None = None
            while at < status.vector[author] and not stopped() and time.monotonic() <= deadline:
                page = engine.entries(author, at, PAGE)
                if not page:
                    break
                arrival = unpack(page)
                # The next page is fetched and unpacked while this one is written.
                self._written(author, at, writing)
                writing, at = arrivals.begin(self._store, arrival, cluster=status.cluster.id), arrival.end
                grown.update(came.run_id for came in arrival.rows)
            self._written(author, at, writing)
            if at < status.vector[author]:
                return False, grown
        return True, grown

    def _written(self, author: str, end: int, writing: Future[int] | None) -> None:
        """Wait until the log is in the workspace up to there. Raises what went wrong."""
        if writing is not None:
            writing.result()
            self._cursors[author] = end


def unpack(page: Sequence[Entry]) -> Arrival:
    """Entries of one author, without a gap, in the words of the workspace.

    Members, their removal and seals are the engines' own affair. Raises EngineError for an entry this version of
    Winnow does not know.
    """
    arrival = Arrival(page[0].author, page[0].seq, page[-1].end)
    for entry in page:
        try:
            body = entries.decode(entry.body)
        except msgspec.DecodeError as error:
            raise EngineError(
                "Another machine runs a newer version of Winnow.",
                "Update Winnow here to see what it did; nothing is lost.",
                f"{entry.author} {entry.seq}: {error}",
            ) from error
        match body:
            case entries.Labeled():
                _add_labels(arrival, entry, body)
            case entries.RowsPlanned():
                arrival.rows.append(RowsCame(entry.seq, body.run_id, body.rows))
            case entries.RunOpened():
                asked = prompt_of(body.spec.dimensions, body.spec.preparation, body.spec.rules)
                document = asked.document if asked.id == body.spec.prompt_id else ""
                arrival.runs.append(RunCame(entry.seq, body.spec, body.task, document))
            case entries.StateSet():
                arrival.states.append(StateCame(entry.seq, body.run_id, body.state, body.note, body.clock))
            case entries.Decided():
                _add_decision(arrival, entry, body)
            case _:
                pass
    return arrival


def _add_labels(arrival: Arrival, entry: Entry, body: entries.Labeled) -> None:
    try:
        arrival.facts += facts.expand(entry.author, entry.seq, body)
    except ValueError as error:
        log.warning("Labels %s %d do not fit together: %s", entry.author, entry.seq, error)


def _add_decision(arrival: Arrival, entry: Entry, body: entries.Decided) -> None:
    try:
        event = carried.decode(body.event)
        if (event.task_name, event.dimension, event.row_id) != (body.task_name, body.dimension, body.row_id):
            raise ValueError("it is about another row than its event")
    except (ValueError, msgspec.DecodeError) as error:
        log.warning("Decision %s %d cannot be read: %s", entry.author, entry.seq, error)
        return
    arrival.decisions.append(carried.Carried(entry.seq, event))


def decided(one: carried.Outgoing) -> entries.Decided:
    """A decision as it goes into the log."""
    event = one.event
    return entries.Decided(
        task_name=event.task_name,
        dimension=event.dimension,
        row_id=event.row_id,
        run_id=event.run_id,
        label=one.label,
        standing=one.standing,
        event=carried.encode(event),
        clock=event.clock,
    )
