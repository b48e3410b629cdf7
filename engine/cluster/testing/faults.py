"""What goes wrong: every kind of fault strikes at the rate the profile of the history gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.cluster.testing.cluster import World
    from engine.cluster.testing.machine import Machine

Strike = Callable[[], None]

LATE = 25  # answers left for each machine, when the work is near its end


class Faults:
    """Strikes at the rates of the profile until it is over."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.allowed: int | None = None  # answers that may be computed twice after the one fault there is
        self._on = True

    def plan(self) -> None:
        """Let every kind begin to strike."""
        profile = self.world.profile
        if profile.late:
            self.world.queue.after(3.0, self._when_late)
        elif profile.single:
            self.world.queue.after(profile.horizon * self.world.chance.uniform(0.2, 0.7), self._once)
        for rate, strike in (
            (profile.crash, self._crash),
            (profile.leave, self._leave),
            (profile.restart if profile.crash or profile.leave or profile.after_sync else 0.0, self._restart),
            (profile.cut, self._cut),
            (profile.one_way, self._one_way),
            (profile.mend if profile.cut or profile.one_way else 0.0, self._mend),
            (profile.freeze, self._freeze),
            (profile.thaw if profile.freeze else 0.0, self._thaw),
            (profile.disk, self._lose_disk),
            (profile.backup, self._bring_back),
            (profile.stall, self._stall),
            (profile.slow_disk, self._slow_disk),
            (profile.flap, self._flap),
            (profile.after_sync, self._after_sync),
        ):
            if rate:
                self._again(rate, strike)
        for machine in self.world.machines:
            machine.talent.crashes = profile.die

    def over(self) -> None:
        """Nothing goes wrong any more."""
        self._on = False
        for machine in self.world.machines:
            machine.on_disk = None
            machine.rhythm.sync = self.world.profile.sync
            machine.talent.crashes = 0.0
            if machine.lives:
                machine.worker.stalled_until = 0.0

    def _again(self, rate: float, strike: Strike) -> None:
        seconds = self.world.chance.expovariate(rate / 60.0)
        self.world.queue.after(seconds, self._strike, rate, strike)

    def _strike(self, rate: float, strike: Strike) -> None:
        if self._on:
            strike()
            self._again(rate, strike)

    def _any(self, up: bool = True) -> Machine | None:
        machines = [m for m in self.world.machines if m.lives and m.up == up]
        return self.world.chance.choice(machines) if machines else None

    def _when_late(self) -> None:
        """Wait until there is about as much left as is out."""
        world = self.world
        left = [run.left for machine in world.machines for run in machine.core.plan.working()]
        if left and min(left) < LATE * len(world.machines):
            self._once()
        elif world.queue.now < world.profile.horizon:
            world.queue.after(0.1, self._when_late)

    def _once(self) -> None:
        """The one fault of this history. What may be computed twice because of it: answers the others do not know
        of yet, and claims whose worker still works on them while they are granted to somebody else."""
        world, kind = self.world, self.world.profile.single
        leaders = [m for m in world.machines if m.core.is_leader]
        machine = world.chance.choice(leaders or world.machines if world.chance.random() < 0.5 else world.machines)
        world.tell("the fault", kind, machine.name)
        parted = {"crash": [], "freeze": [machine], "cut": world.machines}[kind]
        self.allowed = world.watch.unknown(world.machines) + world.watch.outstanding(parted, world.machines)
        if kind == "crash":
            machine.crash()
        elif kind == "freeze":
            machine.freeze()
        else:
            world.network.cut([machine.id], [m.id for m in world.machines])
        world.queue.after(world.chance.uniform(1.0, 6.0), self._once_over, machine)

    def _once_over(self, machine: Machine) -> None:
        world, kind = self.world, self.world.profile.single
        world.tell("the fault is over")
        # A part that has done its own share goes on with that of the others, as it should.
        if kind == "cut" and any(not world.watch.has_own_work(part, world.machines) for part in world.machines):
            self.allowed = None
        world.network.heal()
        machine.thaw()
        if not machine.up:
            machine.start()

    # the kinds

    def _crash(self) -> None:
        machine = self._any()
        if machine is not None:
            machine.crash(syncs=self.world.chance.choice([0, 0, 1, 2, 100]))

    def _leave(self) -> None:
        machine = self._any()
        if machine is not None and not machine.frozen:
            machine.leave()

    def _restart(self) -> None:
        machine = self._any(up=False)
        if machine is not None:
            machine.start()

    def _cut(self) -> None:
        world = self.world
        names = [machine.id for machine in world.machines]
        if len(names) > 1:
            side = world.chance.sample(names, world.chance.randint(1, len(names) - 1))
            world.tell("cut", *side)
            world.network.cut(side, names)

    def _one_way(self) -> None:
        world = self.world
        if len(world.machines) > 1:
            sender, receiver = world.chance.sample(world.machines, 2)
            world.tell("cut one way", sender.name, receiver.name)
            world.network.cut_one_way(sender.id, receiver.id)

    def _mend(self) -> None:
        self.world.tell("mend")
        self.world.network.heal()

    def _freeze(self) -> None:
        machine = self._any()
        if machine is not None:
            machine.freeze(aware=self.world.chance.random() >= self.world.profile.unaware)

    def _thaw(self) -> None:
        frozen = [machine for machine in self.world.machines if machine.frozen]
        if frozen:
            self.world.chance.choice(frozen).thaw(messages_first=self.world.chance.random() < 0.5)

    def _lose_disk(self) -> None:
        """A machine is reinstalled: the one thing it still has is its key. People have to pair it again."""
        world = self.world
        machine = self._any()
        if machine is not None and len(world.machines) > 2:
            machine.crash()
            world.tell("disk lost", machine.name)
            machine.new_disk(f"{machine.number:016x}{machine.logs:016x}")
            machine.start()
            world.people.pair_again(machine)

    def _bring_back(self) -> None:
        """A machine gets back what it had a while ago. Its ledger sees that and begins a new log."""
        world = self.world
        machine = self._any()
        if machine is not None and len(world.machines) > 2:
            machine.crash()
            world.tell("back to an old copy", machine.name)
            machine.old_disk(world.chance.random())
            machine.start()

    def _stall(self) -> None:
        machine = self._any()
        if machine is not None:
            seconds = self.world.chance.choice([1.0, 5.0, 40.0])
            self.world.tell("backend stands still", machine.name, seconds)
            machine.worker.stalled_until = self.world.queue.now + seconds

    def _slow_disk(self) -> None:
        machine = self._any()
        if machine is not None:
            slow = machine.rhythm.sync > self.world.profile.sync
            machine.rhythm.sync = self.world.profile.sync if slow else self.world.chance.choice([0.1, 0.5, 2.0])

    def _flap(self) -> None:
        machine = self._any()
        if machine is not None and machine.links and not machine.frozen:
            machine.unlink(self.world.chance.choice(sorted(machine.links)))

    def _after_sync(self) -> None:
        machine = self._any()
        if machine is not None:
            machine.on_disk = machine.crash
