"""What people do at the machines: start runs, pause and resume them, decide, pair and remove machines, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from engine.cluster.entries import (
    Decided,
    Member,
    MemberRevoked,
    MemberSet,
    RowsPlanned,
    RunOpened,
    Sealed,
    StateSet,
    Vector,
)
from engine.cluster.testing.winners import RowKey, Winner
from engine.cluster.testing.worker import BITTER, POISON
from workspace.facts import DimensionSpec, ModelSpec, RunSpec

if TYPE_CHECKING:
    from engine.cluster.testing.cluster import World
    from engine.cluster.testing.machine import Machine

CLUSTER = f"{0:032x}"  # id of the cluster the history is about
LABELS = ("good", "bad", "mixed")
State = Literal["running", "paused", "cancelled"]

TIDY = 5.0  # seconds between looks at what only people can put in order
BUSY = 0.3  # seconds people take from one step to the next, about


class Export(msgspec.Struct, frozen=True):
    """What was written to a file when a run was sealed."""

    run_id: str
    vector: Vector
    labels: dict[RowKey, Winner]
    machine: str


class People:
    """Everybody who sits at one of the machines."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.specs: list[RunSpec] = []
        self.removed: dict[str, Machine] = {}  # asked to be removed
        self.exports: list[Export] = []
        self.content = False  # everything only people can do is done
        self._keepers: set[str] = set()  # machines at which others were removed
        self._rows: dict[str, list[tuple[str, str, str]]] = {}
        self._rounds = 0

    def plan(self) -> None:
        """Decide what will be done when."""
        world, profile, chance = self.world, self.world.profile, self.world.chance
        for machine in world.machines[profile.machines :]:
            machine.start()
            self._at(chance.uniform(1.0, profile.horizon * 0.7), self._pair, machine)
        for number in range(profile.runs):
            self._at(chance.uniform(0.2, profile.horizon * profile.opened), self._open_run, number)
        deeds = (
            [self._decide] * 4
            + [self._set_state] * 3
            + [self._seal] * 2
            + [self._rename, self._pause_machine, self._resume_machine, self._plan_more, self._plan_twice]
            + [self._models, self._rest, self._batch]
        )
        for _ in range(int(profile.deeds * 2 * chance.random())):
            self._at(chance.uniform(0.5, profile.horizon), chance.choice(deeds))
        if chance.random() < profile.removals:
            for _ in range(chance.choice([1, 1, 2])):
                self._at(chance.uniform(2.0, profile.horizon), self._remove)

    def pair_again(self, machine: Machine) -> None:
        """A machine that lost its disk shows a code again, some time later."""
        self._at(self.world.chance.uniform(1.0, 10.0), self._pair, machine)

    def valid(self) -> list[Machine]:
        """Machines that take part and that nobody removed."""
        return [machine for machine in self.world.machines if machine.lives and machine.id not in self.removed]

    def put_in_order(self) -> None:
        """After everything is healed: what machines cannot do for themselves, until nothing is left of it."""
        self._rounds += 1
        machines = self.valid()
        busy = False
        if all(machine.mode == "client" for machine in machines):
            machines[0].crash()
            machines[0].mode = "auto"
            machines[0].start()
        for gone in self.removed.values():
            if any(gone.id not in machine.core.membership.revoked for machine in machines):
                keeper = next(m for m in machines if m.id in self._keepers)
                if gone.id not in keeper.core.membership.revoked:
                    keeper.append(MemberRevoked(gone.id, gone.name))
                busy = True
        home = next((m for m in machines if m.id in self._keepers), None) or self._home(machines)
        for machine in machines:
            if not all(machine.id in m.core.members and m.id in machine.core.members for m in machines):
                busy = True
                if machine is not home and (
                    machine.id not in home.core.members or home.id not in machine.core.members
                ):
                    self._pair_with(home, machine)
        busy = self._let_work(home, machines) or busy
        self.content = not busy
        if busy and self._rounds < 30:
            self._at(TIDY, self.put_in_order)

    def _home(self, machines: list[Machine]) -> Machine:
        return next((m for m in machines if m.disk.cluster == CLUSTER), machines[0])

    def _let_work(self, home: Machine, machines: list[Machine]) -> bool:
        """Somebody has to be able to do every run, and those the engine paused go on."""
        busy = False
        for machine in machines:
            machine.worker.stalled_until = 0.0
            if self._rounds == 1:
                machine.talent.models = frozenset(self.world.profile.models)
                machine.talent.working = True
                machine.describe()
        for member in list(home.core.members.values()):
            if member.paused:
                fresh = msgspec.structs.replace(member, paused=False)
                home.append(MemberSet(fresh, home.core.next_clock()))
                busy = True
        if self._rounds < 6:
            for run in list(home.core.plan.runs.values()):
                if run.state == "paused" and run.note:
                    home.append(StateSet(run.run_id, "running", "", home.core.next_clock()))
                    busy = True
        return busy

    # single deeds

    def _at(self, seconds: float, deed: Callable[..., None], *arguments: object) -> None:
        self.world.queue.after(seconds, deed, *arguments)

    def _somebody(self, member: bool = True) -> Machine | None:
        """A machine somebody can sit at now."""
        there = [m for m in self.world.machines if m.running and (not member or m.disk.cluster == CLUSTER)]
        return self.world.chance.choice(there) if there else None

    def _open_run(self, number: int) -> None:
        machine = self._somebody(member=False)
        if machine is None:
            self._at(1.0, self._open_run, number)
        else:
            self.open_run(number, machine)

    def open_run(self, number: int, machine: Machine) -> None:
        """Somebody starts a run at this machine."""
        spec = self._spec(number)
        rows = [self._row(number, i) for i in range(self.world.chance.randint(*self.world.profile.rows))]
        self._rows[spec.run_id] = rows
        self.specs.append(spec)
        self._start_run(machine, spec, rows)

    def _start_run(self, machine: Machine, spec: RunSpec, rows: list[tuple[str, str, str]]) -> None:
        """The steps of starting a run at a machine; it may die in between, then it is started elsewhere."""
        chance, profile = self.world.chance, self.world.profile
        if not machine.append(RunOpened(spec)):
            other = self._somebody()
            if other is not None:
                self._start_run(other, spec, rows)
            return
        wait = BUSY * chance.random()
        start = 0
        while start < len(rows):
            size = chance.randint(*profile.block)
            self._at(wait, self._plan_rows, machine, spec.run_id, rows[start : start + size])
            start += size
            wait += BUSY * chance.random() * chance.random()
        self._at(wait + 0.1, self._run, spec, machine)

    def _plan_rows(self, machine: Machine, run_id: str, rows: list[tuple[str, str, str]]) -> None:
        new = machine.disk.unplanned(run_id, rows)
        if new:
            machine.append(RowsPlanned(run_id, tuple(new)))

    def _run(self, spec: RunSpec, machine: Machine | None = None) -> None:
        machine = machine if machine is not None and machine.running else self._somebody()
        if machine is None or not machine.append(StateSet(spec.run_id, "running", "", machine.core.next_clock())):
            self._at(1.0, self._run, spec)

    def _plan_more(self) -> None:
        machine = self._somebody()
        if machine is not None and self.specs:
            spec = self.world.chance.choice(self.specs)
            rows = self._rows[spec.run_id]
            number = self.specs.index(spec)
            new = [self._row(number, len(rows) + i) for i in range(self.world.chance.randint(1, 10))]
            rows += new
            self._plan_rows(machine, spec.run_id, new)

    def _plan_twice(self) -> None:
        """Two people plan the same rows at the same time."""
        if self.specs:
            spec = self.world.chance.choice(self.specs)
            rows = [self._row(self.specs.index(spec), 1000 + i) for i in range(self.world.chance.randint(1, 12))]
            for machine in self.world.machines:
                if machine.running and self.world.chance.random() < 0.6:
                    shuffled = self.world.chance.sample(rows, len(rows))
                    self._at(BUSY * self.world.chance.random(), self._plan_same, machine, spec, shuffled)

    def _plan_same(self, machine: Machine, spec: RunSpec, rows: list[tuple[str, str, str]]) -> None:
        if machine.append(RunOpened(spec)):
            if self.world.chance.random() < 0.3:  # by a program that does not look what is there
                machine.append(RowsPlanned(spec.run_id, (*rows, rows[0])))
            else:
                self._plan_rows(machine, spec.run_id, rows)

    def _set_state(self) -> None:
        machine, chance = self._somebody(), self.world.chance
        if machine is not None and self.specs:
            state: State = chance.choice(("running", "running", "running", "paused", "paused", "cancelled"))
            run_id = chance.choice(self.specs).run_id
            machine.append(StateSet(run_id, state, "", machine.core.next_clock()))
            if state == "paused" and chance.random() < 0.8:
                self._at(chance.uniform(0.5, 5.0), self._resume, run_id)

    def _resume(self, run_id: str) -> None:
        machine = self._somebody()
        if machine is not None:
            machine.append(StateSet(run_id, "running", "", machine.core.next_clock()))

    def _decide(self) -> None:
        machine, chance = self._somebody(), self.world.chance
        if machine is not None and self.specs:
            spec = chance.choice(self.specs)
            row = chance.choice(self._rows[spec.run_id][:8])[0]
            body = Decided(
                task_name=spec.task_name,
                dimension=chance.choice(spec.dimensions).name,
                row_id=row,
                run_id=spec.run_id,
                label=chance.choice((*LABELS, "")),
                standing=chance.random() < 0.85,
                event="{}",
                clock=machine.core.next_clock(),
            )
            machine.append(body)

    def _seal(self) -> None:
        machine = self._somebody()
        if machine is not None and self.specs:
            run_id = self.world.chance.choice(self.specs).run_id
            vector = dict(machine.core.vector)
            labels = self.world.export(machine, run_id, vector)
            if machine.append(Sealed(run_id, vector)):
                self.exports.append(Export(run_id, vector, labels, machine.name))

    def _rename(self) -> None:
        self._change(name=f"renamed {self.world.chance.randint(0, 99)}")

    def _pause_machine(self) -> None:
        self._change(paused=True)

    def _resume_machine(self) -> None:
        self._change(paused=False)

    def _change(self, **changes: object) -> None:
        machine = self._somebody()
        if machine is not None and machine.core.members:
            member = self.world.chance.choice(list(machine.core.members.values()))
            changed = msgspec.structs.replace(member, **changes)
            machine.append(MemberSet(changed, machine.core.next_clock()))

    def _models(self) -> None:
        """A model arrives at a machine, or is deleted there."""
        machine, chance = self._somebody(member=False), self.world.chance
        if machine is not None:
            model = {chance.choice(self.world.profile.models)}
            machine.talent.models = frozenset(machine.talent.models ^ model)
            machine.describe()

    def _rest(self) -> None:
        """A machine takes no work any more, or takes it again."""
        machine = self._somebody(member=False)
        if machine is not None:
            machine.talent.working = not machine.talent.working
            machine.describe()

    def _batch(self) -> None:
        machine = self._somebody(member=False)
        if machine is not None:
            machine.talent.batch = self.world.chance.choice((0, 1, 3))
            machine.describe()

    def _remove(self) -> None:
        chance = self.world.chance
        machines = [m for m in self.valid() if m.id not in self._keepers]
        keepers = [m for m in self.valid() if m.running and m.id not in self.removed]
        if len(machines) < 2 or not keepers:
            return
        gone = chance.choice(machines)
        keeper = chance.choice([m for m in keepers if m.id in self._keepers] or keepers)
        if gone is keeper or gone.id not in keeper.core.members or keeper.id not in keeper.core.members:
            return
        self._keepers.add(keeper.id)
        self.removed[gone.id] = gone
        keeper.append(MemberRevoked(gone.id, gone.name))

    def _pair(self, machine: Machine) -> None:
        """Somebody types the code this machine shows at another one."""
        inviter = self._somebody()
        if inviter is not None and inviter is not machine and machine.running:
            self._pair_with(inviter, machine)

    def _pair_with(self, inviter: Machine, machine: Machine) -> None:
        world = self.world
        known = inviter.core.members.get(machine.id)
        host = inviter.core.members.get(inviter.id)
        stands = world.network.connects(inviter.id, machine.id)
        if not stands or host is None or machine.id in inviter.core.membership.revoked or not machine.running:
            return
        world.tell("pair", inviter.name, machine.name)
        rank = known.rank if known else inviter.core.membership.next_rank()
        inviter.append(MemberSet(machine.member(rank), inviter.core.next_clock()))
        cluster = inviter.disk.cluster
        self._at(0.2 * world.chance.random(), self._join, machine, host, rank, cluster)

    def _join(self, machine: Machine, host: Member, rank: int, cluster: str) -> None:
        if machine.running:
            machine.join(cluster)
            clock = machine.core.next_clock
            machine.append(MemberSet(host, clock()), MemberSet(machine.member(rank), clock()))

    # what it is about

    def _spec(self, number: int) -> RunSpec:
        chance, profile = self.world.chance, self.world.profile
        names = ("mood", "topic")[: chance.randint(1, profile.dimensions)]
        digest = chance.choice(profile.models)
        return RunSpec(
            run_id=f"run-{number}",
            task_id=f"task-{number}",
            task_name=f"task-{number % 2}",
            prompt_id="prompt",
            model=ModelSpec("llama_cpp", digest, "", digest),
            dimensions=tuple(DimensionSpec(name, "single", LABELS, LABELS, "", "{text}") for name in names),
        )

    def _row(self, number: int, i: int) -> tuple[str, str, str]:
        chance, profile = self.world.chance, self.world.profile
        text = chance.choice((POISON, BITTER)) if chance.random() < profile.poison else "text"
        return f"row-{number % 2}-{i}", text, ""
