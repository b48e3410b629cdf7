"""Kinds of histories: which faults there are, how often they strike, and what the cluster is like.

Most histories are a swarm (Groce and others 2012): each has some kinds of faults, at rates of its own, and is
spared the others, since leaving whole kinds out lets the remaining ones go far. The other kinds aim at something.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from engine.cluster.messages import Mode
from engine.cluster.replication import IN_FLIGHT_BYTES, PUSHED_BYTES
from engine.cluster.testing.network import CALM, Weather

N = TypeVar("N", int, float)

SIZES = (1, 2, 2, 2, 3, 3, 3, 3, 4, 5, 6, 8)
MODELS = ("model-a", "model-b")


class Profile(msgspec.Struct, frozen=True):
    """One kind of history. Rates are faults per minute of the whole cluster."""

    machines: int = 3
    newcomers: int = 0  # machines that are paired on the way
    peaceful: bool = False  # nothing goes wrong and nobody interferes
    single: Literal["", "crash", "cut", "freeze"] = ""  # the one fault there is
    late: bool = False  # it strikes near the end of the work, not in the middle
    horizon: float = 30.0  # seconds until everything is healed
    tick: float = 0.1
    sync: float = 0.004
    serve: int = 40
    room: int = IN_FLIGHT_BYTES  # bytes of entries that wait for the disk
    push_room: int = PUSHED_BYTES  # and that wait for a peer's word
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
    opened: float = 0.6  # of the time until everything is healed, by which the last run is opened
    rows: tuple[int, int] = (10, 50)  # per run
    block: tuple[int, int] = (4, 20)
    dimensions: int = 2
    poison: float = 0.0  # share of rows
    deeds: float = 6.0  # what people do besides, per history
    removals: float = 0.0  # chance that a machine is removed
    crash: float = 0.0
    leave: float = 0.0  # processes that end in order
    restart: float = 12.0
    cut: float = 0.0
    one_way: float = 0.0
    mend: float = 8.0
    freeze: float = 0.0
    unaware: float = 0.0  # share of them that the machine's own clock does not notice
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
        peaceful=True,
        horizon=15.0,
        tick=chance.choice([0.1, 0.2]),
        sync=chance.choice([0.004, 0.004, 0.05]),
        weather=Weather(usual=chance.choice([0.002, 0.05]), double=chance.choice([0.0, 0.2])),
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

    def either(*choices: N) -> N:
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
        newcomers=either(0, 0, 0, 1, 2) if machines < 8 else 0,
        horizon=horizon,
        tick=either(0.1, 0.2, 0.25),
        sync=either(0.002, 0.01, 0.05),
        serve=chance.choice([1, 3, 40]),
        room=chance.choice([IN_FLIGHT_BYTES, IN_FLIGHT_BYTES, 1000]),
        push_room=chance.choice([PUSHED_BYTES, 1000]),
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
        modes=chance.choice(
            [("auto",), ("auto",), ("auto", "server"), ("auto", "client"), ("auto", "server", "client")]
        ),
        runs=chance.choice([1, 1, 2, 3]),
        rows=(6, chance.choice([20, 60])),
        dimensions=chance.choice([1, 2]),
        poison=either(0.0, 0.0, 0.0, 0.03),
        deeds=either(0.0, 4.0, 12.0),
        removals=either(0.0, 0.0, 0.6),
        crash=perhaps(8.0),
        leave=perhaps(4.0, 0.25),
        restart=either(4.0, 20.0),
        cut=perhaps(5.0),
        one_way=perhaps(4.0, 0.25),
        mend=either(3.0, 10.0),
        freeze=perhaps(5.0, 0.3),
        unaware=either(0.0, 0.5),
        thaw=either(4.0, 20.0),
        disk=perhaps(1.5, 0.2),
        backup=perhaps(1.5, 0.15),
        stall=perhaps(4.0, 0.2),
        die=perhaps(0.1, 0.2),
        slow_disk=perhaps(3.0, 0.25),
        flap=perhaps(5.0, 0.25),
        after_sync=perhaps(5.0, 0.25),
    )


def single(chance: random.Random) -> Profile:
    """One fault in the middle of much work: what may be computed twice for it is counted exactly."""
    return Profile(
        machines=chance.choice((2, 3, 3, 4)),
        single=chance.choice(("crash", "cut", "freeze")),
        late=chance.random() < 0.5,
        horizon=14.0,
        tick=0.1,
        pace=0.1,
        load=0.2,
        runs=1,
        opened=0.04,
        rows=(150, 320),
        block=(8, 12),
        dimensions=1,
        deeds=0.0,
    )


def lifes(chance: random.Random) -> Profile:
    """Processes that die and begin again all the time, often right before or after a sync."""
    return Profile(
        machines=chance.choice((1, 2, 2, 3)),
        horizon=25.0,
        sync=chance.choice((0.01, 0.1, 0.4)),
        weather=Weather(late=chance.choice((0.0, 0.2)), latest=2.0),
        rows=(20, 60),
        crash=20.0,
        leave=chance.choice((0.0, 10.0)),
        after_sync=20.0,
        restart=60.0,
        deeds=8.0,
        disk=chance.choice((0.0, 2.0)),
    )


def islands(chance: random.Random) -> Profile:
    """A cluster that falls apart and comes together again and again, each part with work and people of its own."""
    return Profile(
        machines=chance.choice((2, 3, 4, 5)),
        horizon=40.0,
        tick=0.2,
        weather=Weather(late=0.1, latest=2.0, double=0.1),
        rows=(20, 50),
        cut=15.0,
        one_way=5.0,
        mend=12.0,
        freeze=chance.choice((0.0, 8.0)),
        unaware=0.3,
        thaw=20.0,
        deeds=16.0,
    )


def people(chance: random.Random) -> Profile:
    """Few faults of machines, but people who pair, remove, decide, pause and export without pause."""
    return Profile(
        machines=chance.choice((2, 3, 3, 4)),
        newcomers=chance.choice((1, 2)),
        horizon=30.0,
        tick=0.2,
        trusting=True,
        sync=chance.choice((0.004, 0.05)),
        rows=(10, 40),
        deeds=40.0,
        removals=1.0,
        disk=chance.choice((0.0, 2.0)),
        backup=chance.choice((0.0, 2.0)),
        crash=chance.choice((0.0, 3.0)),
        cut=chance.choice((0.0, 3.0)),
        models=MODELS,
        poison=chance.choice((0.0, 0.02)),
    )


def slow(chance: random.Random) -> Profile:
    """Disks that take long, little room for what waits for them, and much to catch up on."""
    return Profile(
        machines=chance.choice((2, 3, 4)),
        newcomers=chance.choice((0, 1)),
        horizon=30.0,
        tick=0.2,
        sync=chance.choice((0.1, 0.3, 0.6)),
        serve=chance.choice((5, 40)),
        room=chance.choice((1000, 4000)),
        push_room=chance.choice((PUSHED_BYTES, 1000)),
        weather=Weather(loss=chance.choice((0.0, 0.1)), double=chance.choice((0.0, 0.2))),
        pace=0.02,
        rows=(40, 80),
        deeds=10.0,
        crash=chance.choice((0.0, 4.0)),
        cut=chance.choice((0.0, 4.0)),
        slow_disk=4.0,
    )


KINDS: dict[str, Callable[[random.Random], Profile]] = {
    "faultless": faultless,
    "single": single,
    "lifes": lifes,
    "islands": islands,
    "people": people,
    "slow": slow,
    "swarm": swarm,
}
SHARES = {
    "faultless": 0.08,
    "single": 0.08,
    "lifes": 0.08,
    "islands": 0.08,
    "people": 0.08,
    "slow": 0.06,
    "swarm": 1.0,
}


def kind_of(seed: int) -> str:
    """Which kind of history a seed is; most are a swarm."""
    at = _chance("kind", seed).random()
    for name, share in SHARES.items():
        if at < share:
            return name
        at -= share
    raise AssertionError


def profile_of(seed: int, kind: str = "") -> Profile:
    """The profile of a seed's history."""
    return KINDS[kind or kind_of(seed)](_chance("profile", seed))


def _chance(what: str, seed: int) -> random.Random:
    return random.Random(f"{what} {seed}")  # noqa: S311 - chance that can be repeated
