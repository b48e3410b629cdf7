"""Decisions on their way between machines: those the logs do not hold yet, and those that came with a log.

A decision is (session, seq), whoever wrote it down wherever and as often as you like: it is kept once. It counts
as handed over when it was read back from a log, so there is no second account of it that could disagree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import pyarrow as pa
from msgspec import Meta

from workspace.current import JUDGEMENTS
from workspace.decisions import Action
from workspace.store import Connection, Store

MAX_EVENT = (1 << 18) - 1024  # characters of an event; what was on screen is left out of a longer one
MAX_REVIEWER = 200  # characters of a name
MAX_COMMENT = 10_000  # characters of the comment of one that is still too long

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Reviewer = Annotated[str, Meta(min_length=1, max_length=MAX_REVIEWER)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Event(msgspec.Struct, frozen=True):
    """A reviewer's event as it travels: a row of `decisions`. Times are microseconds since 1970-01-01 UTC."""

    session: Name
    seq: Count
    run_id: str
    task_name: Name
    row_id: Name
    dimension: Name
    action: Action
    label: str
    reviewer: Reviewer
    seconds: float
    comment: str
    blind: bool
    shown: str  # JSON
    undoes: Count | None
    undoes_session: str | None
    decided_at: Annotated[int, Meta(ge=0, le=4_102_444_800_000_000)]  # to the year 2100
    clock: Annotated[int, Meta(ge=0, le=1 << 62)]  # there is always a larger one


class Carried(msgspec.Struct, frozen=True):
    """An event that came with a log; `entry` is its number there."""

    entry: int
    event: Event


class Outgoing(msgspec.Struct, frozen=True):
    """An event no log holds yet, with how its row stands after it: not at all, with a label, or rejected ("")."""

    event: Event
    standing: bool
    label: str

    @property
    def key(self) -> tuple[str, int]:
        """Session and seq: what tells it from every other."""
        return self.event.session, self.event.seq


def encode(event: Event) -> str:
    """The event as JSON that fits an entry and can be decoded: what is longer than that is cut."""
    event = msgspec.structs.replace(
        event,
        reviewer=event.reviewer[:MAX_REVIEWER],
        seconds=event.seconds if math.isfinite(event.seconds) else 0.0,
    )
    text = msgspec.json.encode(event).decode()
    if len(text) > MAX_EVENT:
        shorter = msgspec.structs.replace(event, shown="{}", comment=event.comment[:MAX_COMMENT])
        text = msgspec.json.encode(shorter).decode()
    return text


def decode(text: str) -> Event:
    """An event of another machine. Raises ValueError when it is none."""
    event = msgspec.json.decode(text, type=Event)
    if not isinstance(json.loads(event.shown), dict):
        raise ValueError("what was shown is not an object")
    return event


def outgoing(store: Store, held: Mapping[str, int], limit: int) -> list[Outgoing]:
    """Events not in any of the logs that are `held` up to that number, oldest first.

    After an undo or a skip the row stands as the newest event before it left it.
    """
    names = ", ".join(f"w.{name}" for name in Event.__struct_fields__ if name not in ("decided_at", "clock"))
    with store.read() as con:
        found = con.execute(
            f"""with held as (select unnest($authors::varchar[]) as author, unnest($ends::bigint[]) as until),
            safe as (
                select session, seq from carried c join held h on h.author = c.author and c.entry < h.until
            ),
            waiting as materialized (
                select *, rowid as place from decisions d
                anti join safe s on s.session = d.session and s.seq = d.seq order by d.rowid limit $limit
            ),
            about as (from decisions semi join waiting using (task_name, dimension, row_id)),
            undone as (
                select coalesce(undoes_session, session) as session, undoes as seq, (clock, session, seq) as at
                from about where action = 'undo'
            ),
            stood as (
                select w.place, a.action, a.label,
                    row_number() over
                        (partition by w.place order by a.clock desc, a.session desc, a.seq desc) as nth
                from waiting w join about a on a.task_name = w.task_name and a.dimension = w.dimension
                    and a.row_id = w.row_id and (a.clock, a.session, a.seq) <= (w.clock, w.session, w.seq)
                where a.action in {JUDGEMENTS} and not exists (
                    from undone u where u.session = a.session and u.seq = a.seq
                                    and u.at <= (w.clock, w.session, w.seq))
            )
            select {names}, epoch_us(w.decided_at), w.clock,
                   s.place is not null, case when s.action <> 'reject' then s.label else '' end
            from waiting w left join (from stood where nth = 1) s on s.place = w.place order by w.place""",
            {"authors": list(held), "ends": list(held.values()), "limit": limit},
        ).fetchall()
    return [Outgoing(Event(*values), standing, label or "") for *values, standing, label in found]


def count(store: Store) -> int:
    """All events there are; cheap, to see whether there are new ones."""
    with store.read() as con:
        found = con.execute("select count(*) from decisions").fetchall()
    return int(found[0][0])


def keep_decisions(con: Connection, author: str, came: Sequence[Carried]) -> None:
    """Keep events of a log, each (session, seq) once, and where they stand; for those who write already."""
    if not came:
        return
    names = Event.__struct_fields__
    values = zip(*(msgspec.structs.astuple(one.event) for one in came), strict=True)
    columns = dict(zip(names, values, strict=True))
    con.register(
        "incoming_decisions",
        pa.table(
            {
                "entry": [one.entry for one in came],
                **{name: pa.array(columns[name], type=_TYPES.get(name, pa.string())) for name in names},
            }
        ),
    )
    try:
        con.execute(
            "insert into carried by name select session, seq, $author as author, entry from incoming_decisions",
            {"author": author},
        ).fetchall()
        con.execute(
            """insert into decisions by name
               select * exclude (entry), now() as saved_at from (
                   from incoming_decisions qualify row_number() over (partition by session, seq order by entry) = 1
               ) i anti join decisions d on d.session = i.session and d.seq = i.seq order by i.entry"""
        ).fetchall()
    finally:
        con.unregister("incoming_decisions")


_TYPES: dict[str, pa.DataType] = {
    "seq": pa.int64(),
    "seconds": pa.float64(),
    "blind": pa.bool_(),
    "undoes": pa.int64(),
    "decided_at": pa.timestamp("us", tz="UTC"),
    "clock": pa.int64(),
}
