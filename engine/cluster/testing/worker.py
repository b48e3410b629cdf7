"""The backend of one simulated machine: one claim after the other, at its own speed, with its own troubles."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from engine.cluster.effects import Claim
from engine.cluster.entries import About, Labeled, failed_places
from engine.cluster.messages import Reason, Work
from engine.labeler import Answer
from workspace.facts import RunSpec

if TYPE_CHECKING:
    from engine.cluster.testing.machine import Machine

POISON = "poison"  # a row with this text kills every backend that reads it
BITTER = "bitter"  # one with this text kills those of machines with little memory
SIGN_OF_LIFE = 0.5  # seconds between reports of progress
FAILED = Answer((), 3, 0, 0.01, (), "The row could not be read.")


class Talent(msgspec.Struct):
    """What a backend is like. People and faults change it."""

    seconds: float = 0.05  # per row
    load: float = 0.5  # seconds to load a model
    models: frozenset[str] = frozenset()  # digests of models that lie there
    small: bool = False  # little memory
    working: bool = True  # it takes work
    batch: int = 0  # most rows it takes in one claim, 0 for no wish
    errors: float = 0.0  # share of rows it answers with an error
    crashes: float = 0.0  # share of claims it dies with for no reason


def answers(chance: random.Random, labels: int) -> list[Answer]:
    """Some answers to choose from: a model says something else on every machine and every time."""
    found = []
    for _ in range(8):
        weights = [chance.random() + 0.01 for _ in range(labels)]
        logprobs = tuple(math.log(weight / sum(weights)) for weight in weights)
        found.append(Answer(logprobs, 20, 1, 0.01))
    return found


class Worker:
    """Claims wait here until those before are done. A life of the process has one worker."""

    def __init__(self, machine: Machine, talent: Talent) -> None:
        self.talent = talent
        self.waiting: deque[Claim] = deque()
        self.current: Claim | None = None
        self.stalled_until = 0.0
        self._machine = machine
        self._loaded = ""
        self._pools: dict[int, list[Answer]] = {}

    @property
    def claims(self) -> list[Claim]:
        """What it works on and what waits."""
        return [*([self.current] if self.current is not None else []), *self.waiting]

    def start(self, claim: Claim) -> None:
        """Take a claim; work begins when those before are done."""
        self.waiting.append(claim)
        if self.current is None:
            self._next()

    def abandon(self, claim: Claim) -> None:
        """Forget a claim that has not begun."""
        self.waiting = deque(waiting for waiting in self.waiting if waiting.key != claim.key)

    def _next(self) -> None:
        if self.current is not None or not self.waiting:
            return
        self.current = claim = self.waiting.popleft()
        machine, work, chance = self._machine, claim.work, self._machine.world.chance
        spec = self._spec(work.run_id)
        rows = machine.disk.rows(work.block, work.at)
        if spec is None or not rows:
            self._fail("unknown", "The rows are not here.")
        elif spec.model.digest not in self.talent.models:
            self._fail("model", "The model is not here.")
        else:
            seconds = len(rows) * self.talent.seconds * (0.7 + 0.6 * chance.random())
            if spec.model.digest != self._loaded:
                seconds += self.talent.load
                self._loaded = spec.model.digest
            poison = (POISON, BITTER) if self.talent.small else (POISON,)
            deadly = any(text in poison for _, text, _ in rows) or chance.random() < self.talent.crashes
            if deadly:
                seconds *= chance.random()
            self._go_on(claim, seconds, seconds, deadly)

    def _go_on(self, claim: Claim, left: float, seconds: float, deadly: bool) -> None:
        machine = self._machine
        now = machine.world.queue.now
        if now < self.stalled_until:  # nothing happens, and no sign of life
            machine.later(self.stalled_until - now, self._go_on, claim, left, seconds, deadly)
        elif left > SIGN_OF_LIFE:
            machine.later(SIGN_OF_LIFE, self._progress, claim, left - SIGN_OF_LIFE, seconds, deadly)
        elif deadly:
            machine.later(left, self._fail, "died", "The backend died.")
        else:
            machine.later(left, self._finish, claim, seconds)

    def _progress(self, claim: Claim, left: float, seconds: float, deadly: bool) -> None:
        self._machine.core.progressed(self._machine.now)
        self._go_on(claim, left, seconds, deadly)

    def _fail(self, reason: Reason, detail: str) -> None:
        claim, machine = self.current, self._machine
        assert claim is not None
        self.current = None
        if reason == "died":
            self._loaded = ""
        machine.failed(claim, reason, detail)
        self._next()

    def _finish(self, claim: Claim, seconds: float) -> None:
        machine = self._machine
        self.current = None
        spec = self._spec(claim.work.run_id)
        assert spec is not None
        given = [
            tuple(self._answer(len(dimension.labels)) for dimension in spec.dimensions) for _ in claim.work.at
        ]
        labeled = self._labeled(spec, claim.work, given, claim.name, claim.epoch.number, seconds)
        machine.world.watch.computed(labeled)
        machine.do(machine.core.finished(claim, labeled, machine.now))
        self._next()

    def give_up(self, work: Work) -> Labeled:
        """Errors for rows that end every backend."""
        spec = self._spec(work.run_id)
        assert spec is not None
        return self._labeled(spec, work, [(FAILED,) * len(spec.dimensions)] * len(work.at), "", 0, 0.0)

    def _spec(self, run_id: str) -> RunSpec | None:
        run = self._machine.core.plan.runs.get(run_id)
        return run.spec if run is not None else None

    def _answer(self, labels: int) -> Answer:
        chance = self._machine.world.chance
        if self.talent.errors and chance.random() < self.talent.errors:
            return FAILED
        if labels not in self._pools:
            self._pools[labels] = answers(chance, labels)
        return chance.choice(self._pools[labels])

    def _labeled(
        self,
        spec: RunSpec,
        work: Work,
        given: list[tuple[Answer, ...]],
        claim: str,
        epoch: int,
        seconds: float,
    ) -> Labeled:
        machine = self._machine
        return Labeled(
            run_id=work.run_id,
            block=work.block,
            at=work.at,
            failed=failed_places(work.at, given),
            seconds=seconds,
            rows=tuple(row for row, _, _ in machine.disk.rows(work.block, work.at)),
            answers=tuple(given),
            about=About(
                dimensions=tuple((one.name, one.kind, one.labels) for one in spec.dimensions),
                labeler=spec.model.name,
                model_digest=spec.model.digest,
                prompt_id=spec.prompt_id,
                node=machine.name,
                claim=claim,
                epoch=epoch,
                made_at=machine.world.queue.now,
            ),
        )
