"""Becoming one cluster with another machine, after six digits were typed on one of the two."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Sequence

import msgspec

from engine.cluster import pairing_door
from engine.cluster.core import PROTOCOLS
from engine.cluster.driver import Driver
from engine.cluster.entries import AnyBody, Member, MemberSet
from engine.cluster.identity import Identity, key_words
from engine.cluster.ledger import Ledger
from engine.cluster.machines import Machines
from engine.cluster.pairing import Introduction
from engine.cluster.pairing_door import PairingDoor
from workspace.errors import EngineError
from workspace.machines import Pairing

log = logging.getLogger("engine")

REMOVED = EngineError(
    "This machine was removed from its cluster.", "Start it again: it begins anew and can be paired then."
)
FOREVER = "This machine was removed from the cluster. Started again there, it begins anew and can be paired."
TWO_CLUSTERS = "Both machines belong to clusters with other machines. A machine belongs to one cluster."


class Joining:
    """Both sides of pairing: the machine that shows the code, and the one where it is typed."""

    def __init__(self, driver: Driver, me: Identity, machines: Machines) -> None:
        self._driver = driver
        self._me = me
        self._machines = machines
        self._door = PairingDoor(self._introduction, self._accept)
        self._asked: tuple[str, str] = ("", "")
        self._asking: asyncio.Task[str] | None = None

    @property
    def pairing(self) -> Pairing | None:
        """The code shown at this moment."""
        return self._door.state

    async def open(self) -> Pairing:
        """Show a code; the same one while it is good."""
        if self._driver.core.removed:
            raise REMOVED
        await self._machines.listen()
        everywhere = "0.0.0.0"  # noqa: S104 - a person asked for a code that other machines can use
        shown = self._door.state
        return shown if shown is not None else await self._door.open(self._machines.host or everywhere)

    async def close(self) -> None:
        """Void the code, if one is shown."""
        await self._door.close()

    def pair(self, address: str, code: str) -> str:
        """Pair with the machine that shows this code. Returns its member id once that is done, "" before."""
        if self._asking is None or self._asked != (address, code):
            if self._asking is not None and not self._asking.done():
                raise EngineError("Another machine is being paired.", "Try again in a moment.")
            self._asked = (address, code)
            self._asking = asyncio.get_running_loop().create_task(self._pair(address, code))
        if not self._asking.done():
            return ""
        try:
            return self._asking.result()
        except BaseException:
            self._asking = None  # asked again, it is another try
            raise

    async def end(self) -> None:
        """Stop pairing, on both sides."""
        await self._door.close()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _pair(self, address: str, code: str) -> str:
        if self._driver.core.removed:
            raise REMOVED
        await self._machines.listen()
        mine = self._introduction()
        theirs = await pairing_door.pair(address, code, mine)
        why_not = await self._become_one(mine, theirs, theirs_shown=True)
        if why_not:
            raise EngineError("The machines were not paired.", why_not)
        return theirs.id

    async def _accept(self, theirs: Introduction) -> str:
        return await self._become_one(self._introduction(), theirs, theirs_shown=False)

    async def _become_one(self, mine: Introduction, theirs: Introduction, theirs_shown: bool) -> str:
        """Be members of one cluster; returns why not, if so. Done twice it leaves the same."""
        core = self._driver.core
        if theirs.id in core.membership.revoked:
            return FOREVER
        joins = who_joins(mine, theirs, theirs_shown)
        if joins == "nobody":
            return TWO_CLUSTERS
        entries: Sequence[AnyBody]
        if joins == "me":
            cluster = theirs.cluster

            def join(ledger: Ledger) -> None:
                ledger.join(cluster)

            await self._driver.move(join)
            core = self._driver.core
            myself = self._machines.card(self._machines.name, theirs.rank)
            # What the others say of that machine comes later, and counts before what this one knows by now.
            entries = [MemberSet(member(theirs, 0), 0), MemberSet(myself, core.next_clock())]
        else:
            known = core.members.get(theirs.id)
            card = known if known is not None else member(theirs, core.membership.next_rank())
            card = msgspec.structs.replace(card, addresses=theirs.addresses)
            entries = [] if card == known else [MemberSet(card, core.next_clock())]
        if entries:
            await self._driver.append(entries)
        log.info("paired with %s", key_words(theirs.id))
        return ""

    def _introduction(self) -> Introduction:
        core, machines = self._driver.core, self._machines
        return Introduction(
            key=self._me.keys.public,
            name=machines.name,
            cluster=core.cluster,
            rank=core.membership.next_rank(),
            port=machines.port,
            addresses=machines.addresses,
            protocols=PROTOCOLS,
            software=software(),
            members_known=len(core.members),
        )


def who_joins(mine: Introduction, theirs: Introduction, theirs_shown: bool) -> str:
    """Which of two machines gives up its cluster of one: "me", "them", or "nobody" may. Both sides decide alike.

    The machine that shows the code comes to the one where it is typed, unless only it has a cluster already.
    """
    if mine.cluster == theirs.cluster:
        return "them"  # nothing to give up
    alone, they_are_alone = mine.members_known < 2, theirs.members_known < 2
    if alone and they_are_alone:
        return "them" if theirs_shown else "me"
    if alone or they_are_alone:
        return "me" if alone else "them"
    return "nobody"


def member(machine: Introduction, rank: int) -> Member:
    """A machine as a member, by what it tells of itself."""
    return Member(machine.id, machine.key, machine.name, rank, machine.addresses)


def software() -> str:
    """Name and version of this program."""
    try:
        return f"Winnow {importlib.metadata.version('winnow-studio')}"
    except importlib.metadata.PackageNotFoundError:
        return "Winnow"
