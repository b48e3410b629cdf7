"""A few cores joined by hand: messages arrive at once, disks sync at once, models answer when a test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from engine.cluster import entries as log
from engine.cluster import messages as m
from engine.cluster.core import Core
from engine.cluster.effects import Abandon, AnyEffect, Claim, GiveUp, Send, Serve, Start, Write
from engine.cluster.entries import BlockFound, Entry
from engine.cluster.facts import error_answer, labeled
from engine.cluster.peers import Timers
from engine.cluster.replication import facts_of
from engine.labeler import Answer
from tests.unit.cluster.examples import spec as example_spec
from workspace.facts import RunProgress, RunSpec

CLUSTER = "c" * 32
SECONDS = 0.5


def name_of(number: int) -> str:
    """Id of the member of this number."""
    return f"{number:032x}"


class Cores:
    """Cores of members 0, 1, ... of one cluster. `now` is everybody's clock."""

    def __init__(self, count: int = 1, mode: Sequence[m.Mode] = (), batch: int = 0) -> None:
        self.now = 0.0
        self.ids = [name_of(number) for number in range(count)]
        self.cut: set[tuple[str, str]] = set()
        self.claims: dict[str, deque[Claim]] = {member: deque() for member in self.ids}
        self.disk: dict[str, list[Entry]] = {member: [] for member in self.ids}
        self.sent: list[tuple[str, str, m.AnyMessage]] = []
        self.down: set[str] = set()
        self.cores: dict[str, Core] = {}
        members = [
            log.MemberSet(log.Member(member, "k" * 40, f"machine {rank}", rank), 1)
            for rank, member in enumerate(self.ids)
        ]
        for number, member in enumerate(self.ids):
            core = Core(f"{member}.{'0' * 16}", f"boot{number}", CLUSTER, 0.0, (mode or ["auto"] * count)[number])
            digest = example_spec().model.digest
            core.describe(
                m.Card(f"boot{number}", core.election.mode, models=(digest,), loaded=digest, batch=batch)
            )
            self.cores[member] = core
        founder = self.cores[self.ids[0]]
        entries = [Entry(founder.author, seq, 1, log.encode(body)) for seq, body in enumerate(members)]
        for member, core in self.cores.items():
            core.load(entries, 0)
            self.disk[member] += entries

    @property
    def first(self) -> Core:
        return self.cores[self.ids[0]]

    def pass_time(self, seconds: float) -> None:
        """Let the clock run in ticks."""
        ticks = round(seconds / Timers().tick)
        for _ in range(ticks):
            self.now += Timers().tick
            for member, core in self.cores.items():
                if member not in self.down:
                    self.carry_out(member, core.tick(self.now))

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let the clock run until something holds."""
        end = self.now + seconds
        while not condition():
            assert self.now < end, "it never came to this"
            self.pass_time(Timers().tick)

    def carry_out(self, member: str, effects: list[AnyEffect]) -> None:
        """Do what a core asks for, and what follows from it."""
        todo = deque((member, effect) for effect in effects)
        while todo:
            at, effect = todo.popleft()
            core = self.cores[at]
            more: list[AnyEffect] = []
            match effect:
                case Send():
                    self.sent.append((at, effect.to, effect.message))
                    todo.extend(self._arrive(at, effect.to, effect.message))
                case Write():
                    self.disk[at] += effect.entries
                    found = [block_found(entry) for entry in effect.entries]
                    more = core.written(effect.number, [block for block in found if block], self.now)
                case Serve():
                    entries = [
                        entry
                        for entry in self.disk[at]
                        if entry.author == effect.author and entry.seq >= effect.first
                    ]
                    todo.extend(self._arrive(at, effect.to, facts_of(entries[:100], len(entries) > 100)))
                case Start():
                    self.claims[at].append(effect.claim)
                case Abandon():
                    if effect.claim in list(self.claims[at])[1:]:
                        self.claims[at].remove(effect.claim)
                case GiveUp():
                    run = core.plan.runs[effect.work.run_id].spec
                    assert run is not None
                    claim = Claim(core.epoch, 0, effect.work)
                    row = (error_answer(f"died {effect.deaths} times"),) * len(run.dimensions)
                    answers = [row] * len(effect.work.at)
                    more = core.append([self._labeled(run, claim, answers, 0.0)])
            todo.extend((at, item) for item in more)

    def open_run(self, run: RunSpec, rows: int, at: int = 0, per_block: int = log.BLOCK_ROWS) -> None:
        """A run with rows, running."""
        core = self.cores[self.ids[at]]
        blocks = [
            log.RowsPlanned(
                run.run_id, tuple((f"row {n}", "text", "") for n in range(start, min(rows, start + per_block)))
            )
            for start in range(0, rows, per_block)
        ]
        state = log.StateSet(run.run_id, "running", "", core.next_clock())
        self.carry_out(core.me, core.append([log.RunOpened(run), *blocks, state]))

    def answer(
        self, member: int = 0, seconds: float = SECONDS, failed: Callable[[int], bool] = lambda _: False
    ) -> Claim:
        """The model of a machine answers its next claim, after `seconds` of work."""
        at = self.ids[member]
        claim = self.claims[at].popleft()
        core = self.cores[at]
        run = core.plan.runs[claim.work.run_id].spec
        assert run is not None
        answers = [
            (error_answer("wrong") if failed(place) else Answer((-0.1, -2.35), 10, 1, seconds),)
            * len(run.dimensions)
            for place in claim.work.at
        ]
        self.carry_out(at, core.finished(claim, self._labeled(run, claim, answers, seconds), self.now))
        return claim

    def fail(self, member: int = 0, reason: m.Reason = "died", detail: str = "") -> Claim:
        """The next claim of a machine ends without an answer."""
        at = self.ids[member]
        claim = self.claims[at].popleft()
        self.carry_out(at, self.cores[at].failed(claim, reason, detail, self.now))
        return claim

    def progress(self, member: int = 0) -> RunProgress:
        """The only run, as a machine sees it."""
        (run,) = self.cores[self.ids[member]].progress(self.now)
        return run

    def _labeled(
        self, run: RunSpec, claim: Claim, answers: list[tuple[Answer, ...]], seconds: float
    ) -> log.Labeled:
        rows = [f"row {claim.work.block[1]}/{place}" for place in claim.work.at]
        return labeled(run, claim, rows, answers, "machine", seconds, 1.0)

    def _arrive(self, sender: str, to: str, message: m.AnyMessage) -> list[tuple[str, AnyEffect]]:
        if (sender, to) in self.cut or {sender, to} & self.down:
            return []
        arrived = m.decode(m.encode(message))
        return [(to, effect) for effect in self.cores[to].receive(sender, arrived, self.now)]


def block_found(entry: Entry) -> BlockFound | None:
    """What a ledger says of rows that were never planned before."""
    body = log.decode(entry.body)
    if not isinstance(body, log.RowsPlanned):
        return None
    return BlockFound(body.run_id, (entry.author, entry.seq), len(body.rows))


def with_digest(run: RunSpec, digest: str) -> RunSpec:
    """The same questions for another model."""
    model = msgspec.structs.replace(run.model, digest=digest)
    return msgspec.structs.replace(run, run_id=f"{run.run_id[:24]}{digest[:8]}", model=model)
