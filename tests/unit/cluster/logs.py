"""Logs of authors as machines write them, for tests of what keeps and reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.cluster.entries import (
    About,
    AnyBody,
    Decided,
    Entry,
    Labeled,
    RowsPlanned,
    RunOpened,
    count_of,
    encode,
)
from engine.labeler import Answer
from tests.unit.cluster.examples import spec
from workspace import carried
from workspace.decisions import Action
from workspace.facts import RunSpec

RUN = spec("mood")
ME, PEER, THIRD = "1" * 32, "2" * 32, "3" * 32


def author(member: str = ME, log: int = 0) -> str:
    return f"{member}.{log:016x}"


class Log:
    """One author's log under construction."""

    def __init__(self, name: str) -> None:
        self.author = name
        self.entries: list[Entry] = []

    @property
    def end(self) -> int:
        return self.entries[-1].end if self.entries else 0

    def add(self, body: AnyBody) -> Entry:
        entry = Entry(self.author, self.end, count_of(body), encode(body))
        self.entries.append(entry)
        return entry

    def open(self, run: RunSpec = RUN) -> Entry:
        return self.add(RunOpened(run, "name: moods"))

    def plan(self, rows: Sequence[tuple[str, str, str]], run_id: str = RUN.run_id) -> Entry:
        return self.add(RowsPlanned(run_id, tuple(rows)))

    def label(
        self,
        block: tuple[str, int],
        rows: Sequence[tuple[str, str, str]],
        at: Sequence[int],
        shares: float | Sequence[float | None] = 0.75,
        run: RunSpec = RUN,
        dimension: int = 0,
        made_at: float = 1000.0,
    ) -> Entry:
        """Answers of `share` for the first label to these places of a block with these rows; None is an error."""
        given = [shares] * len(at) if isinstance(shares, float) else list(shares)
        answers = tuple(
            (
                Answer((), 0, 0, 0.0, (), "It was too long.")
                if share is None
                else Answer((math.log(share), math.log(1 - share)), 10, 0, 0.5),
            )
            for share in given
        )
        part = run.dimensions[dimension]
        about = About(
            ((part.name, part.kind, part.labels),),
            *(run.model.name, run.model.digest, run.prompt_id, "desk", "1.a.1", 1, made_at),
        )
        failed = tuple(place for place, share in zip(at, given, strict=True) if share is None)
        ids = tuple(rows[place][0] for place in at)
        return self.add(Labeled(run.run_id, block, tuple(at), failed, 1.0, ids, answers, about))

    def decide(
        self,
        row_id: str,
        action: Action,
        label: str = "",
        *,
        event: tuple[str, int] = ("s", 0),
        clock: int = 1,
        reviewer: str = "ann",
        undoes: tuple[str, int] | None = None,
        run: RunSpec = RUN,
        dimension: int = 0,
    ) -> Entry:
        """A reviewer's event; `event` is its session and its number there."""
        name = run.dimensions[dimension].name
        said = carried.Event(
            session=event[0],
            seq=event[1],
            run_id=run.run_id,
            task_name=run.task_name,
            row_id=row_id,
            dimension=name,
            action=action,
            label=label,
            reviewer=reviewer,
            seconds=2.5,
            comment="",
            blind=False,
            shown="{}",
            undoes=undoes[1] if undoes else None,
            undoes_session=undoes[0] if undoes else None,
            decided_at=1_000_000_000,
            clock=clock,
        )
        judged = action in ("approve", "modify", "reject")
        return self.add(
            Decided(run.task_name, name, row_id, run.run_id, label, judged, carried.encode(said), clock)
        )


def some_rows(count: int, start: int = 0) -> list[tuple[str, str, str]]:
    return [(f"{i:032x}", f"text number {i}", "news" if i % 2 else "") for i in range(start, start + count)]
