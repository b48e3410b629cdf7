"""Known mistakes, each put into the core by a few lines: the test of the tests.

Every one of them has to be found by the invariants within a bounded number of seeds; `tests/cluster` holds them
to it. Some are mistakes that were really made, here or in programs like this one.

One that is missing on purpose: an epoch without the id of the log. With it two lives of one machine could only
share an epoch if the number on disk went back, and then the log is a new one as well; no history shows that the
id is needed there. It stays for the reader of a log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.cluster import messages as m
from engine.cluster.core import Core
from engine.cluster.effects import AnyEffect, Send, Write
from engine.cluster.entries import AnyBody, BlockFound, Entry, Labeled, MemberRevoked, MemberSet, decode
from engine.cluster.messages import Epoch
from engine.cluster.replication import Accepted, facts_of
from engine.cluster.testing.cluster import Laws
from engine.cluster.testing.winners import Answered, Winners, answers_of, winners


class Mutant(msgspec.Struct, frozen=True):
    """A mistake, the kind of history that finds it best, within how many seeds, and by which invariants."""

    what: str
    laws: Laws
    found_by: tuple[str, ...]
    kind: str = "swarm"
    seeds: int = 100


MUTANTS: dict[str, Mutant] = {}


def _mutant(
    name: str, found_by: str, kind: str = "swarm", seeds: int = 100
) -> Callable[[Callable[[Core], None]], None]:
    """Register a change of the core; its docstring says what is wrong about it."""

    def register(change: Callable[[Core], None]) -> None:
        class Mutated(Core):
            def __init__(self, *words: Any, **named: Any) -> None:
                super().__init__(*words, **named)
                change(self)

        MUTANTS[name] = Mutant(change.__doc__ or "", Laws(core=Mutated), tuple(found_by.split()), kind, seeds)

    return register


def _put(part: object, name: str, function: Callable[..., Any]) -> None:
    """Let an object do something else under a name."""
    setattr(part, name, function)


def _while_leading(core: Core, name: str, function: Callable[..., Any]) -> None:
    """Let the leader's table of claims do something else under a name."""
    begin = core.leading.begin

    def began(*words: Any) -> None:
        begin(*words)
        _put(core.leading.claims, name, function)

    _put(core.leading, "begin", began)


# facts and their order


def _first_to_arrive(entries: list[Entry]) -> Winners:
    found = winners(entries)
    first: dict[tuple[str, str, str], Answered] = {}
    for entry in entries:
        body = decode(entry.body)
        if isinstance(body, Labeled):
            for row, answered in answers_of(entry.author, entry.seq, body):
                first.setdefault((body.run_id, row, answered.asked[0]), answered)
    return msgspec.structs.replace(found, answers=first)


def _models_first(entries: list[Entry]) -> Winners:
    found = winners(entries)
    answered = {(found.tasks.get(run, ""), row, dimension) for run, row, dimension in found.answers}
    kept = {key: judged for key, judged in found.decisions.items() if key not in answered}
    return msgspec.structs.replace(found, decisions=kept)


MUTANTS["first-arrival"] = Mutant(
    "The label that came first counts.", Laws(winners=_first_to_arrive), ("I2", "I12"), "islands"
)
MUTANTS["model-over-human"] = Mutant(
    "A model's label comes before what a person decided.", Laws(winners=_models_first), ("I10",), "people"
)
MUTANTS["seal-moves"] = Mutant(
    "An export is made of everything there is, not of what was sealed.",
    Laws(within=lambda *_: True),
    ("I12",),
    "people",
)
MUTANTS["log-used-again"] = Mutant(
    "A machine that lost its disk goes on under the name of its old log.",
    Laws(same_log=True),
    ("I2", "I5", "I8"),
    "people",
)


@_mutant("acknowledged-before-sync", "I1", "lifes")
def _acknowledged_before_sync(core: Core) -> None:
    """HAVE is said when facts come in, not when they are on disk."""
    receive = core.receive

    def at_once(sender: str, message: m.AnyMessage, now: float) -> list[AnyEffect]:
        effects = receive(sender, message, now)
        if isinstance(message, m.Facts):
            end = core.replication.received.get(message.author, 0)
            effects.append(Send(sender, m.Have(message.author, end)))
        return effects

    _put(core, "receive", at_once)


@_mutant("spoken-before-sync", "I1", "lifes")
def _spoken_before_sync(core: Core) -> None:
    """Own facts are sent before they are on disk."""
    append = core.append

    def at_once(bodies: Sequence[AnyBody]) -> list[AnyEffect]:
        effects = append(bodies)
        entries = [entry for effect in effects if isinstance(effect, Write) for entry in effect.entries]
        return [*effects, *(Send(member, facts_of(entries)) for member in core.peers.all)]

    _put(core, "append", at_once)


@_mutant("gaps", "I5 I0")
def _gaps(core: Core) -> None:
    """Facts are taken in though some before them are missing."""
    accept = core.replication.accept

    def anyhow(sender: str, message: m.Facts, now: float) -> tuple[list[Accepted], list[AnyEffect]]:
        if message.first > core.replication.received.get(message.author, 0):
            core.replication.received[message.author] = message.first
        return accept(sender, message, now)

    _put(core.replication, "accept", anyhow)


@_mutant("facts-fenced", "I2 I3 I8", "islands")
def _facts_fenced(core: Core) -> None:
    """Answers of an earlier leadership are refused, as commands are."""
    accept = core.replication.accept

    def fenced(sender: str, message: m.Facts, now: float) -> tuple[list[Accepted], list[AnyEffect]]:
        bodies = [decode(raw) for _, raw in message.entries]
        late = any(isinstance(body, Labeled) and body.about.epoch < core.epoch.number for body in bodies)
        return ([], []) if late else accept(sender, message, now)

    _put(core.replication, "accept", fenced)


@_mutant("rows-counted-twice", "I2 I3 I8", "people")
def _rows_counted_twice(core: Core) -> None:
    """Rows planned by two machines at the same time are two rows."""
    written, load = core.written, core.load

    def alone(block: BlockFound) -> BlockFound:
        return msgspec.structs.replace(block, elsewhere={})

    def forgetful(number: int, found: Sequence[BlockFound], now: float) -> list[AnyEffect]:
        return written(number, [alone(block) for block in found], now)

    _put(core, "written", forgetful)
    _put(
        core,
        "load",
        lambda found, epoch: load((alone(f) if isinstance(f, BlockFound) else f for f in found), epoch),
    )


@_mutant("clock-of-its-own", "I10", "people")
def _clock_of_its_own(core: Core) -> None:
    """What people say is numbered by each machine without regard to what it heard from others."""
    said = 0

    def own_clock() -> int:
        nonlocal said
        said += 1
        return said

    _put(core, "next_clock", own_clock)


# leadership


@_mutant("epoch-not-kept", "I6", "lifes")
def _epoch_not_kept(core: Core) -> None:
    """An epoch is spoken of though it is not on disk."""
    write = core._write

    def volatile(entries: tuple[tuple[Entry, AnyBody], ...], epoch: Epoch | None) -> Write:
        return msgspec.structs.replace(write(entries, epoch), epoch=None)

    _put(core, "_write", volatile)


@_mutant("own-epoch-again", "I6", "lifes")
def _own_epoch_again(core: Core) -> None:
    """A machine that hears of its own epoch of an earlier life leads on with it."""
    see = core._see

    def adopt(epoch: Epoch, sender: str, now: float) -> list[AnyEffect]:
        effects = see(epoch, sender, now)
        if epoch.author == core.author and epoch == core.epoch and not core.is_leader:
            core.election.won = epoch
            core.leading.begin(core.card.boot, (), now)
        return effects

    _put(core, "_see", adopt)


@_mutant("not-fenced", "I7", "islands", 400)
def _not_fenced(core: Core) -> None:
    """Work of a leader is begun though a higher one was heard of."""
    receive = core.receive

    def obey(sender: str, message: m.AnyMessage, now: float) -> list[AnyEffect]:
        effects = receive(sender, message, now)
        if isinstance(message, m.Grant) and message.epoch < core.epoch and sender in core.members:
            effects += core._from_worker(core.leases.granted(message, core._willing, now), now)
        return effects

    _put(core, "receive", obey)


# members


@_mutant("removal-ignored", "I11", "people")
def _removal_ignored(core: Core) -> None:
    """A removed machine stays among the members."""
    membership = core.membership

    def keep(author: str, seq: int, body: MemberSet | MemberRevoked) -> bool:
        if isinstance(body, MemberRevoked):
            membership.revoked[body.id] = body.name
            return True
        return type(membership).apply(membership, author, seq, body)

    _put(membership, "apply", keep)


@_mutant("removed-comes-back", "I11 I8", "people")
def _removed_comes_back(core: Core) -> None:
    """Whoever is added after a removal is a member again."""
    membership = core.membership

    def forgive(author: str, seq: int, body: MemberSet | MemberRevoked) -> bool:
        if isinstance(body, MemberSet):
            membership.revoked.pop(body.member.id, None)
        return type(membership).apply(membership, author, seq, body)

    _put(membership, "apply", forgive)


# work


@_mutant("leases-never-end", "I8 I3", "single")
def _leases_never_end(core: Core) -> None:
    """A leader waits for ever for what it granted, and has no second try at the end."""
    _while_leading(core, "_take_slow", lambda *_: None)
    _while_leading(core, "expire", lambda *_: False)
    _while_leading(core, "heard", lambda *_: False)


@_mutant("claims-kept", "I13", "single")
def _claims_kept(core: Core) -> None:
    """A claim stays in the leader's table when it is answered."""
    _while_leading(core, "settled", lambda *_: None)


@_mutant("poison-never-given-up", "I8 I3", "swarm", 200)
def _poison_never_given_up(core: Core) -> None:
    """A row that ends every model process is tried for ever."""

    def again(name: str, *_: object) -> None:
        assert core.leading.claims is not None
        core.leading.claims.release(name)

    _while_leading(core, "died", again)


@_mutant("claims-not-taken-over", "I9", "single", 400)
def _claims_not_taken_over(core: Core) -> None:
    """A new leader does not ask what is being worked on already."""
    _while_leading(core, "adopt", lambda *_: None)


@_mutant("first-come-first-served", "I9", "single", 400)
def _first_come_first_served(core: Core) -> None:
    """Blocks are granted in their order, whoever's share they are: both sides of a cut do the same ones."""
    _put(core.leading, "_owners", lambda: [""])


@_mutant("nobody-is-dead", "I13", "islands")
def _nobody_is_dead(core: Core) -> None:
    """Facts are sent to machines that have been silent for long."""
    push, peers = core.replication.push, core.peers

    def to_all(entries: tuple[Entry, ...], now: float) -> list[AnyEffect]:
        mine = [entry for entry in entries if entry.author == core.author]
        silent = [member for member in peers.all if not peers.alive(member, now)]
        return [*push(entries, now), *(Send(member, facts_of(mine)) for member in silent if mine)]

    _put(core.replication, "push", to_all)


@_mutant("no-room-is-room", "I13", "slow")
def _no_room_is_room(core: Core) -> None:
    """Facts are taken in however slow the disk is."""
    accept = core.replication.accept

    def all_of_it(sender: str, message: m.Facts, now: float) -> tuple[list[Accepted], list[AnyEffect]]:
        core.replication.room = 1 << 40
        return accept(sender, message, now)

    _put(core.replication, "accept", all_of_it)
