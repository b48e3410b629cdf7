"""The core of production under rules Hypothesis chooses: it finds short histories that break what must hold.

Messages lie in the air until a rule delivers, drops or doubles one; what is written lies in memory until a rule
syncs it; time passes when a rule says so. At the end everything is healed and the usual invariants are checked.
"""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.cluster.entries import Decided, StateSet
from engine.cluster.messages import AnyMessage
from engine.cluster.testing.cluster import LONGEST_END, Laws, World
from engine.cluster.testing.invariants import check
from engine.cluster.testing.machine import Machine
from engine.cluster.testing.mutants import MUTANTS
from engine.cluster.testing.profiles import Profile

NEVER = 1e9  # seconds until a sync that only a rule brings about
PROFILE = Profile(machines=3, horizon=NEVER, tick=0.2, sync=NEVER, runs=0, deeds=0.0, rows=(6, 12), block=(3, 6))

numbers = st.integers(0, 2)
places = st.integers(0, 1 << 16)


class Air(World):
    """A world whose messages lie in the air."""

    def __init__(self, laws: Laws) -> None:
        super().__init__(0, PROFILE, laws)
        self.air: list[tuple[str, Machine, AnyMessage]] = []
        self.calm = False

    def send(self, machine: Machine, to: str, message: AnyMessage) -> None:
        if self.calm:
            super().send(machine, to, message)
            return
        self.watch.sent(machine, to, message)
        receiver = self.by_id.get(to)
        if receiver is not None and self.network.reaches(machine.id, to):
            self.air.append((machine.id, receiver, message))

    def deliver(self, place: int) -> None:
        sender, receiver, message = self.air.pop(place % len(self.air))
        self._deliver(sender, receiver, message)


class ClusterMachine(RuleBasedStateMachine):
    """Three machines. `laws` may hold a known mistake."""

    laws = Laws()

    @initialize()
    def begin(self) -> None:
        self.world = Air(self.laws)
        for machine in self.world.machines:
            machine.start()
        self.now()

    def now(self) -> None:
        """Let happen what happens at once."""
        self.world.queue.run(self.world.queue.now)

    def machine(self, number: int) -> Machine:
        return self.world.machines[number]

    @rule(seconds=st.sampled_from([0.2, 0.5, 1.0, 3.5]))
    def pass_time(self, seconds: float) -> None:
        self.world.queue.run(self.world.queue.now + seconds)

    @precondition(lambda self: self.world.air)
    @rule(place=places)
    def deliver(self, place: int) -> None:
        self.world.deliver(place)
        self.now()

    @precondition(lambda self: self.world.air)
    @rule()
    def deliver_everything(self) -> None:
        for _ in range(len(self.world.air)):
            self.world.deliver(0)
        self.now()

    @precondition(lambda self: self.world.air)
    @rule(place=places)
    def drop(self, place: int) -> None:
        del self.world.air[place % len(self.world.air)]

    @precondition(lambda self: self.world.air)
    @rule(place=places)
    def double(self, place: int) -> None:
        self.world.air.append(self.world.air[place % len(self.world.air)])

    @rule(number=numbers)
    def sync(self, number: int) -> None:
        self.machine(number).sync_now()
        self.now()

    @rule()
    def sync_everything(self) -> None:
        for machine in self.world.machines:
            machine.sync_now()
        self.now()

    @rule(number=numbers, syncs=st.integers(0, 2))
    def crash(self, number: int, syncs: int) -> None:
        self.machine(number).crash(syncs)

    @rule(number=numbers)
    def start(self, number: int) -> None:
        if not self.machine(number).up:
            self.machine(number).start()
            self.now()

    @rule(number=numbers)
    def freeze(self, number: int) -> None:
        self.machine(number).freeze()

    @rule(number=numbers)
    def thaw(self, number: int) -> None:
        self.machine(number).thaw()
        self.now()

    @rule(number=numbers)
    def cut(self, number: int) -> None:
        self.world.network.cut([self.machine(number).id], self.world.by_id)

    @rule(one=numbers, other=numbers)
    def cut_one_way(self, one: int, other: int) -> None:
        self.world.network.cut_one_way(self.machine(one).id, self.machine(other).id)

    @rule()
    def mend(self) -> None:
        self.world.network.heal()

    @precondition(lambda self: len(self.world.people.specs) < 2)
    @rule(number=numbers)
    def open_run(self, number: int) -> None:
        if self.machine(number).running:
            people = self.world.people
            people.open_run(len(people.specs), self.machine(number))
            self.world.queue.run(self.world.queue.now + 2.0)

    @precondition(lambda self: self.world.people.specs)
    @rule(number=numbers, state=st.sampled_from(["running", "paused"]))
    def set_state(self, number: int, state: Literal["running", "paused"]) -> None:
        machine = self.machine(number)
        if machine.running:
            run_id = self.world.people.specs[0].run_id
            machine.append(StateSet(run_id, state, "", machine.core.next_clock()))

    @rule(number=numbers, label=st.sampled_from(["good", "bad", ""]), standing=st.booleans())
    def decide(self, number: int, label: str, standing: bool) -> None:
        machine = self.machine(number)
        if machine.running:
            clock = machine.core.next_clock()
            machine.append(Decided("task-0", "mood", "row-0-0", "run-0", label, standing, "{}", clock))

    @invariant()
    def nothing_is_broken(self) -> None:
        if hasattr(self, "world"):
            assert not self.world.watch.violations

    def teardown(self) -> None:
        if not hasattr(self, "world") or self.world.watch.violations:
            return
        world = self.world
        world.calm = True
        world.heal()
        for machine in world.machines:
            machine.rhythm.sync = 0.004
            machine.sync_now()
        world.queue.run(world.queue.now + LONGEST_END, world.is_over)
        assert not [*world.watch.violations, *check(world)]


def rules(machine: type[ClusterMachine], examples: int, *phases: Phase) -> None:
    asked = settings(
        max_examples=examples, stateful_step_count=40, phases=phases or tuple(Phase), report_multiple_bugs=False
    )
    run_state_machine_as_test(machine, settings=asked)


def test_no_short_history_breaks_what_must_hold() -> None:
    rules(ClusterMachine, 200)


@pytest.mark.parametrize("name", ["acknowledged-before-sync", "epoch-not-kept", "not-fenced"])
def test_known_mistakes_are_found_by_rules_as_well(name: str) -> None:
    mistaken = type("Mistaken", (ClusterMachine,), {"laws": MUTANTS[name].laws})
    with pytest.raises(AssertionError):
        rules(mistaken, 400, Phase.generate)
