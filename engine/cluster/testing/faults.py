"""What goes wrong: each history has some kinds of faults, at rates of its own, and is spared the others.

This is swarm testing (Groce and others 2012): leaving whole kinds of faults out lets the remaining ones go far.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from engine.cluster.messages import Mode
from engine.cluster.testing.network import CALM, Weather

if TYPE_CHECKING:
    from engine.cluster.testing.cluster import World
    from engine.cluster.testing.machine import Machine

SIZES = (1, 2, 2, 2, 3, 3, 3, 3, 4, 5, 6, 8)
MODELS = ("model-a", "model-b")

Strike = Callable[[], None]


class Profile(msgspec.Struct, frozen=True):
    """One kind of history. Rates are faults per minute of the whole cluster."""

    machines: int = 3
    newcomers: int = 0  # machines that are paired on the way
    horizon: float = 30.0  # seconds until everything is healed
    tick: float = 0.1
    sync: float = 0.004
    serve: int = 40
    weather: Weather = CALM
    offset: bool = True  # clocks show different times
    drift: float = 0.0  # and run differently fast, by this share at most
    encoded: bool = False  # messages are encoded and decoded on the way
    trusting: bool = False  # the transport lets strangers through, so that the core has to see to it
    pace: float = 0.05  # seconds per row
    uneven: bool = False
    load: float = 1.0
    models: tuple[str, ...] = MODELS[:1]
    lacking: bool = False  # some machines lack a model
    small: float = 0.0  # share of machines with little memory
    errors: float = 0.0
    modes: tuple[Mode, ...] = ("auto",)
    runs: int = 2
    rows: tuple[int, int] = (10, 50)  # per run
    block: tuple[int, int] = (4, 20)
    dimensions: int = 2
    poison: float = 0.0  # share of rows
    deeds: float = 6.0  # what people do besides, per history
    removals: float = 0.0  # chance that a machine is removed
    crash: float = 0.0
    restart: float = 12.0
    cut: float = 0.0
    one_way: float = 0.0
    mend: float = 8.0
    freeze: float = 0.0
    thaw: float = 12.0
    disk: float = 0.0  # disks lost
    backup: float = 0.0  # disks replaced by an older copy
    stall: float = 0.0  # backends that stand still
    die: float = 0.0  # chance that a backend dies with a claim
    slow_disk: float = 0.0
    flap: float = 0.0  # connections that break for a moment
    after_sync: float = 0.0  # crashes between a sync and the news of it


def faultless(chance: random.Random) -> Profile:
    """Nothing goes wrong, and nobody interferes with the work."""
    return Profile(
        machines=chance.choice(SIZES),
        horizon=15.0,
        tick=chance.choice([0.1, 0.2]),
        pace=chance.choice([0.02, 0.05, 0.1]),
        uneven=chance.random() < 0.5,
        dimensions=chance.choice([1, 2]),
        runs=chance.choice([1, 2, 3]),
        drift=chance.choice([0.0, 0.01]),
        deeds=0.0,
    )


def swarm(chance: random.Random) -> Profile:
    """Any mixture of faults."""

    def perhaps(rate: float, share: float = 0.4) -> float:
        return rate * (0.2 + chance.random()) if chance.random() < share else 0.0

    def either(*choices: float) -> float:
        return chance.choice(choices)

    machines = 12 if chance.random() < 0.01 else chance.choice(SIZES)
    horizon = chance.uniform(15.0, 40.0) * (1.0 if machines < 5 else 0.6)
    weather = Weather(
        loss=either(0.0, 0.0, 0.02, 0.15),
        double=either(0.0, 0.05, 0.2),
        late=either(0.0, 0.02, 0.1),
        latest=either(0.3, 2.0),
    )
    return Profile(
        machines=machines,
        newcomers=either(0, 0, 0, 1, 2) if machines < 8 else 0,  # type: ignore[arg-type]
        horizon=horizon,
        tick=either(0.1, 0.2, 0.25),
        sync=either(0.002, 0.01, 0.05),
        serve=chance.choice([1, 3, 40]),
        weather=weather,
        drift=either(0.0, 0.01, 0.05),
        encoded=chance.random() < 0.05,
        trusting=chance.random() < 0.5,
        pace=either(0.02, 0.05, 0.1, 0.2),
        uneven=chance.random() < 0.5,
        load=either(0.0, 1.0, 4.0),
        models=MODELS if chance.random() < 0.3 else MODELS[:1],
        lacking=chance.random() < 0.3,
        small=either(0.0, 0.0, 0.5),
        errors=either(0.0, 0.0, 0.1),
        modes=chance.choice([("auto",), ("auto",), ("auto", "server"), ("auto", "client"), ("auto", "server", "client")]),
        runs=chance.choice([1, 1, 2, 3]),
        rows=(6, chance.choice([20, 60])),
        dimensions=chance.choice([1, 2]),
        poison=either(0.0, 0.0, 0.0, 0.03),
        deeds=either(0.0, 4.0, 12.0),
        removals=either(0.0, 0.0, 0.6),
        crash=perhaps(8.0),
        restart=either(4.0, 20.0),
        cut=perhaps(5.0),
        one_way=perhaps(4.0, 0.25),
        mend=either(3.0, 10.0),
        freeze=perhaps(5.0, 0.3),
        thaw=either(4.0, 20.0),
        disk=perhaps(1.5, 0.2),
        backup=perhaps(1.5, 0.15),
        stall=perhaps(4.0, 0.2),
        die=perhaps(0.1, 0.2),
        slow_disk=perhaps(3.0, 0.25),
        flap=perhaps(5.0, 0.25),
        after_sync=perhaps(5.0, 0.25),
    )


class Faults:
    """Strikes at the rates of the profile until it is over."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.struck = 0
        self._on = True

    def plan(self) -> None:
        """Let every kind begin to strike."""
        profile = self.world.profile
        for rate, strike in (
            (profile.crash, self._crash),
            (profile.restart if profile.crash or profile.after_sync or profile.disk else 0.0, self._restart),
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
            self.struck += 1
            strike()
            self._again(rate, strike)

    def _any(self, up: bool = True) -> Machine | None:
        machines = [m for m in self.world.machines if m.lives and m.up == up]
        return self.world.chance.choice(machines) if machines else None

    # the kinds

    def _crash(self) -> None:
        machine = self._any()
        if machine is not None:
            machine.crash(syncs=self.world.chance.choice([0, 0, 1, 2, 100]))

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
            machine.freeze()

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
