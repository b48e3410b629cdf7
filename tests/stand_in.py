"""A stand-in for an engine: real entries in real logs, and everything it says is derived from them.

It has no process and no model: rows are answered when a test says so, and other machines' logs come in by `hear`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from engine.cluster.entries import (
    BLOCK_ROWS,
    About,
    AnyBody,
    Decided,
    Entry,
    Labeled,
    RowsPlanned,
    RunOpened,
    StateSet,
    count_of,
    decode,
    encode,
)
from engine.labeler import Answer
from workspace.errors import EngineError
from workspace.facts import EngineStatus, RunProgress, RunSpec, RunState
from workspace.machines import Cluster, Machine, Pairing

Row = tuple[str, str, str]  # id, text, domain


def author_of(number: int, log: int = 0) -> str:
    """The name of a log of machine `number`."""
    return f"{number:032x}.{log:016x}"


class Log:
    """One author's log under construction."""

    def __init__(self, author: str) -> None:
        self.author = author
        self.entries: list[Entry] = []

    @property
    def end(self) -> int:
        return self.entries[-1].end if self.entries else 0

    def add(self, body: AnyBody) -> Entry:
        entry = Entry(self.author, self.end, count_of(body), encode(body))
        self.entries.append(entry)
        return entry

    def plan(self, spec: RunSpec, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), BLOCK_ROWS):
            self.add(RowsPlanned(spec.run_id, tuple(rows[start : start + BLOCK_ROWS])))

    def label(self, spec: RunSpec, rows: Sequence[str], best: int = 0, error: str = "", size: int = 64) -> None:
        """Answers to every dimension for these row ids, in batches: sure of label number `best`, or an error."""
        given = []
        for dimension in spec.dimensions:
            others = math.log(0.2 / (len(dimension.labels) - 1))
            shares = tuple(math.log(0.8) if i == best else others for i in range(len(dimension.labels)))
            given.append(Answer((), 0, 0, 0.0, (), error) if error else Answer(shares, 20, 0, 0.01))
        about = About(
            tuple((one.name, one.kind, one.labels) for one in spec.dimensions),
            spec.model.name,
            spec.model.digest,
            spec.prompt_id,
            self.author[:4],
            "1.a",
            1,
            1.7e9,
        )
        for start in range(0, len(rows), size):
            part = tuple(rows[start : start + size])
            places = tuple(range(len(part)))
            failed = places if error else ()
            answers = (tuple(given),) * len(part)
            self.add(Labeled(spec.run_id, (self.author, 0), places, failed, 0.5, part, answers, about))


class StandIn:
    """Answers as an engine would."""

    def __init__(self, number: int = 1, log: int = 0) -> None:
        self.author = author_of(number, log)
        self.logs: dict[str, Log] = {self.author: Log(self.author)}
        self.members: dict[str, str] = {self.author[:32]: f"machine {number}"}
        self.calls: list[str] = []
        self.gone = False
        self.forget_decisions = False
        self.stopped = False

    @property
    def log(self) -> Log:
        return self.logs[self.author]

    def hear(self, *others: StandIn) -> None:
        """Have everything the others have, as after a while on the same network."""
        for other in others:
            self.members |= other.members
            for author, log in other.logs.items():
                mine = self.logs.setdefault(author, Log(author))
                mine.entries += log.entries[len(mine.entries) :]

    def work(self, run_id: str, count: int = 10_000, best: int = 0) -> None:
        """Answer so many of the rows of a run that have no answer yet."""
        answered = self._answered(run_id)
        todo = [row for row in self.rows(run_id) if row not in answered][:count]
        self.log.label(self.specs()[run_id], todo, best)

    # what the studio asks of an engine

    def open_run(self, spec: RunSpec, rows: Iterable[Row], progress: object = None, *, task: str = "") -> int:
        self._answer("open_run")
        if spec.run_id not in self.specs():
            self.log.add(RunOpened(spec, task))
        known = set(self.rows(spec.run_id))
        fresh = [row for row in rows if row[0] not in known]
        self.log.plan(spec, fresh)
        self._set(spec.run_id, "running")
        return len(known) + len(fresh)

    def set_state(self, run_id: str, state: RunState) -> None:
        self._answer("set_state")
        self._set(run_id, state)

    def decide(self, decisions: Sequence[Decided]) -> int:
        self._answer("decide")
        for one in [] if self.forget_decisions else decisions:
            self.log.add(one)
        return self.log.end

    def status(self) -> EngineStatus:
        self._answer("status")
        vector = {author: log.end for author, log in self.logs.items()}
        runs = tuple(self._progress(run_id) for run_id in self.specs())
        return EngineStatus(4242, "node", self.author, vector, 0, runs, self._cluster())

    def entries(self, author: str, first: int, limit: int = 2000) -> list[Entry]:
        self._answer("entries")
        return [entry for entry in self.logs[author].entries if entry.seq >= first][:limit]

    def look_around(self) -> None:
        self._answer("look_around")

    def pair(self, address: str, code: str) -> str:
        self._answer("pair")
        if code != "123-456":
            raise EngineError("The code is wrong.", "Two tries are left.")
        self.members["f" * 32] = address
        return "f" * 32

    def open_pairing(self) -> Pairing:
        self._answer("open_pairing")
        return Pairing("482-913", 4000, 120.0, 3)

    def close_pairing(self) -> None:
        self._answer("close_pairing")

    def set_member(self, member: str, *, name: str | None = None, paused: bool | None = None) -> None:
        self._answer(f"set_member {name} {paused}")
        if name is not None:
            self.members[member] = name

    def revoke(self, member: str) -> None:
        self._answer("revoke")
        del self.members[member]

    def start_over(self) -> None:
        self._answer("start_over")
        self.author = author_of(9)
        self.logs = {self.author: Log(self.author)}
        self.members = {self.author[:32]: "machine 9"}

    def add_address(self, host_port: str) -> None:
        self._answer(f"add_address {host_port}")

    def shutdown(self) -> None:
        self._answer("shutdown")
        self.stopped = True

    def close(self) -> None:
        pass

    # what follows from the entries

    def bodies(self) -> list[tuple[Entry, AnyBody]]:
        return [(entry, decode(entry.body)) for log in self.logs.values() for entry in log.entries]

    def specs(self) -> dict[str, RunSpec]:
        return {body.spec.run_id: body.spec for _, body in self.bodies() if isinstance(body, RunOpened)}

    def rows(self, run_id: str) -> list[str]:
        blocks = [body for _, body in self.bodies() if isinstance(body, RowsPlanned) and body.run_id == run_id]
        return list(dict.fromkeys(row[0] for block in blocks for row in block.rows))

    def state(self, run_id: str) -> RunState | None:
        """What the last StateSet says."""
        found = [
            (body.clock, entry.author, entry.seq, body.state)
            for entry, body in self.bodies()
            if isinstance(body, StateSet) and body.run_id == run_id
        ]
        return max(found)[3] if found else None

    def decided(self) -> list[Decided]:
        return [body for _, body in self.bodies() if isinstance(body, Decided)]

    def _set(self, run_id: str, state: RunState) -> None:
        assert state != "done"
        clocks = [b.clock for _, b in self.bodies() if isinstance(b, StateSet) and b.run_id == run_id]
        if self.state(run_id) != state:
            self.log.add(StateSet(run_id, state, "", max(clocks, default=0) + 1))

    def _answered(self, run_id: str) -> set[str]:
        labels = [body for _, body in self.bodies() if isinstance(body, Labeled) and body.run_id == run_id]
        return {row for body in labels for row in body.rows}

    def _progress(self, run_id: str) -> RunProgress:
        rows, answered = self.rows(run_id), self._answered(run_id)
        done = sum(row in answered for row in rows)
        state = self.state(run_id) or "paused"
        if state == "running" and done == len(rows):
            state = "done"
        return RunProgress(run_id, state, len(rows), done, 0, 1.0, None, "")

    def _cluster(self) -> Cluster:
        machines = tuple(
            Machine(
                id=id,
                name=name,
                key_words=id[:4] + "-" + id[4:8],
                me=id == self.author[:32],
                rank=rank,
                alive=True,
                silent_for=0.0,
                paused=False,
                mode="auto",
                leader=rank == 0,
                gpu="",
                cores=2,
                memory=8 << 30,
                memory_free=4 << 30,
                models=(),
                problems=(),
                rows_per_s=0.0,
                doing="",
                claims=0,
                facts_behind=0,
                addresses=(),
                software="0",
                agreement=None,
                compared=0,
                fitness=None,
            )
            for rank, (id, name) in enumerate(self.members.items())
        )
        return Cluster("c1" * 16, 1, "", 1, "", False, machines, (), None)

    def _answer(self, call: str) -> None:
        if self.gone:
            raise EngineError("The engine is gone.")
        self.calls.append(call)
