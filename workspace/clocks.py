"""What orders the decisions on a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from workspace.store import Connection


class _Event(Protocol):
    @property
    def seq(self) -> int: ...

    @property
    def row_id(self) -> str: ...


class Clocks:
    """What orders the decisions on a row: the time, and after every decision on it that is known here.

    The clocks of two machines differ; who saw a decision and took another one must not lose to it. Within a
    session `seq` decides, in whatever order its events arrive.
    """

    def __init__(self, con: Connection, session: str, task: str, dimension: str, rows: Sequence[str]) -> None:
        found = con.execute(
            """select row_id, session = ?, seq, clock from decisions
               where task_name = ? and dimension = ? and row_id in (select unnest(?::varchar[]))""",
            [session, task, dimension, list(rows)],
        ).fetchall()
        self._known: dict[str, list[tuple[bool, int, int]]] = {}
        for row_id, mine, seq, clock in found:
            self._known.setdefault(row_id, []).append((mine, seq, clock))

    def of(self, event: _Event, now: int) -> int:
        known = self._known.setdefault(event.row_id, [])
        later = [clock for mine, seq, clock in known if mine and seq > event.seq]
        after = [clock + 1 for mine, seq, clock in known if not mine or seq < event.seq]
        clock = min([max([now, *after]), *later])
        known.append((True, event.seq, clock))
        return clock
