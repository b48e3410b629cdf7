"""The other machines: where they are reached, what people call them, and the picture of all of them."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection

import msgspec

from engine.cluster import addresses, steady
from engine.cluster import messages as m
from engine.cluster.adverts import Advert
from engine.cluster.driver import Driver
from engine.cluster.entries import AnyBody, Member, MemberRevoked, MemberSet
from engine.cluster.identity import Identity, key_words
from engine.cluster.ledger import Ledger
from engine.cluster.options import EngineOptions, host_port
from engine.cluster.vicinity import ALONE, Vicinity
from workspace.errors import EngineError
from workspace.machines import FoundMachine, Pairing

log = logging.getLogger("engine")

REFUSED_SECONDS = 5.0  # for which nobody lets this machine in before it says that it was removed
SILENT_SECONDS = 5.0  # without a word by an open way before it is opened anew
PORT = "port"  # name of the setting: where this machine listened last, so that others find it again
NAME = "name"  # and this: how it was told to be called; what people call it since then stays
TOLD_EVERY = 60.0  # seconds at least between two entries about this machine's addresses


class Machines:
    """Members of a driver's cluster as this machine reaches and shows them."""

    def __init__(
        self,
        driver: Driver,
        me: Identity,
        options: EngineOptions,
        name: str,
        ledger: Ledger,
    ) -> None:
        self.differs = ""  # what an audit found to differ from other machines, in words
        self.port = 0  # where this machine listens to others; 0: it does not
        self._driver = driver
        self._me = me
        self._options = options
        self._first_name = name
        self._remembered = {member: tuple(places) for member, places in ledger.addresses().items()}
        self._named = ledger.setting(NAME)
        self._last_port = int(ledger.setting(PORT) or 0)
        self._typed: dict[str, None] = dict.fromkeys(options.peers)
        self._resolved: dict[str, tuple[str, ...]] = {}
        self._told = float("-inf")
        self._opened: dict[str, float] = {}  # when the way to a member was opened last
        self._host = ""
        self._own: tuple[str, ...] = ()
        self._refused_since = float("inf")  # every member within reach refuses this machine
        self._seen = -1  # version of the membership the ways were made for
        self._vicinity = Vicinity(
            me.id, options.find, lambda member: member in driver.core.members, self._seen_somebody
        )

    @property
    def name(self) -> str:
        """What people call this machine."""
        mine = self._driver.core.members.get(self._me.id)
        return mine.name if mine is not None else self._first_name

    @property
    def addresses(self) -> tuple[str, ...]:
        """host:port where others can reach this machine."""
        return self._own

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with this machine's network, or with its copy of the labels, in words."""
        return tuple(problem for problem in (self._vicinity.problem, self.differs) if problem)

    @property
    def removed(self) -> bool:
        """This machine was removed, as far as it can tell: nobody tells a removed one anything."""
        refused = steady.now() - self._refused_since > REFUSED_SECONDS
        return self._driver.core.removed or refused

    @property
    def host(self) -> str:
        """The address this machine was told to listen at; empty for all of them."""
        return self._host

    # events

    async def start(self) -> None:
        """Be a member of the own cluster, and reachable if that makes sense."""
        core = self._driver.core
        if not core.removed and self._me.id not in core.members:
            await self._append(
                MemberSet(self.card(self._first_name, core.membership.next_rank()), core.next_clock())
            )
        elif self._options.name and self._options.name != self._named and not core.removed:
            await self.set_member(self._me.id, self._options.name, None)
        if self._options.name != self._named:
            self._driver.disk.tell(self._driver.disk.ledger.set_setting, NAME, self._options.name)
        if self._options.listen or self._options.stay or len(core.members) > 1:
            await self.listen()
        self.changed()

    async def close(self) -> None:
        """Be seen no more."""
        await self._vicinity.close()

    async def listen(self) -> None:
        """Let members in, from now on."""
        if self.port:
            return
        self._host, wanted = host_port(self._options.listen) if self._options.listen else ("", 0)
        try:
            self.port = self._driver.mesh.listen(self._host, wanted or self._last_port)
        except EngineError:
            if wanted:
                raise
            self.port = self._driver.mesh.listen(self._host, 0)  # somebody else took it meanwhile
        if self.port != self._last_port:
            self._driver.disk.tell(self._driver.disk.ledger.set_setting, PORT, str(self.port))
        self._look_at_interfaces()
        log.info("listening to other machines at %s", ", ".join(self._own) or self.port)

    def changed(self) -> None:
        """Entries have been applied: ways to new members, none to those who are gone."""
        core = self._driver.core
        core.addresses = self._own
        if self._seen == core.membership.version:
            return
        self._seen = core.membership.version
        if core.removed:
            log.warning("this machine was removed from its cluster")
            for member in core.members.values():
                self._driver.mesh.hang_up(member.key)
        self._dial()

    def greeted(self, sender: str, hello: m.Hello, ip: str) -> None:
        """A member says where it listens, and came from this address."""
        places = list(hello.addresses)
        if ip and hello.card.port:
            places.insert(0, str(addresses.HostPort(ip, hello.card.port)))
        if places:
            known = self._resolved.get(sender, ())
            self._resolved[sender] = tuple(dict.fromkeys([*places, *known]))[: addresses.MAX_TRIED]
            self._dial_one(sender)

    def up(self, member: str, address: str) -> None:
        """The way to a member works: this address is worth remembering."""
        self._opened[member] = steady.now()
        before = self._remembered.get(member, ())
        if address and before[:1] != (address,):
            self._remembered[member] = addresses.remember(before, address)
            self._driver.disk.tell(self._driver.disk.ledger.remember_address, member, address)

    async def look(self, pairing: Pairing | None) -> None:
        """About once a second: what changes by itself."""
        core = self._driver.core
        if self.port:
            self._look_at_interfaces()
        alone = len(core.members) < 2
        await self._vicinity.keep(self._advert(pairing, alone), steady.now())
        if core.removed:
            return
        self._look_at_refusals()
        await self._resolve()
        self._dial()
        await self._tell_addresses(alone)

    def within_reach(self) -> Collection[str]:
        """Members that are there."""
        core = self._driver.core
        return [
            member
            for member, known in core.members.items()
            if member != self._me.id and self._driver.mesh.linked(known.key)
        ]

    # what people want

    async def set_member(self, member: str, name: str | None, paused: bool | None) -> None:
        """Rename a machine, pause it or let it go on."""
        known = self._member(member)
        wanted = msgspec.structs.replace(
            known,
            name=known.name if name is None else clean_name(name),
            paused=known.paused if paused is None else paused,
        )
        if wanted != known:
            await self._append(MemberSet(wanted, self._driver.core.next_clock()))

    async def revoke(self, member: str) -> None:
        """Remove a machine from the cluster for ever."""
        if member in self._driver.core.membership.revoked:
            return
        known = self._member(member)
        if member == self._me.id:
            raise EngineError("A machine cannot remove itself.", "Remove it from another one of the cluster.")
        await self._append(MemberRevoked(member, known.name))
        log.info("%s was removed from the cluster", key_words(member))

    async def add_address(self, text: str) -> None:
        """Some member may be reached there."""
        self._typed[str(addresses.parse(text))] = None
        await self._resolve()
        self._dial()

    def strangers(self) -> tuple[FoundMachine, ...]:
        """Machines seen on the network that are no members."""
        return self._vicinity.strangers(self._driver.core.cluster, self._driver.core.members)

    def look_around(self) -> None:
        """Browse the network for a while."""
        self._vicinity.look_around(steady.now())

    # how it looks

    def card(self, name: str, rank: int) -> Member:
        """This machine as a member."""
        return Member(self._me.id, self._me.keys.public, name, rank, self._own)

    # inside

    def _look_at_refusals(self) -> None:
        mesh = self._driver.mesh
        others = {member.key for member in self._driver.core.members.values() if member.id != self._me.id}
        self._knock()
        if not others & mesh.refused or any(mesh.linked(key) for key in others):
            self._refused_since = float("inf")
        elif self._refused_since == float("inf"):
            self._refused_since = steady.now()

    def _knock(self) -> None:
        """A machine that answers nothing although the way to it is open may have removed this one: keys are looked
        at when a way is opened, so it is opened anew."""
        core, mesh, now = self._driver.core, self._driver.mesh, steady.now()
        for member, peer in core.peers.all.items():
            silent_since = max(peer.heard, self._opened.get(member, now))
            if mesh.linked(core.members[member].key) and now - silent_since > SILENT_SECONDS:
                mesh.hang_up(core.members[member].key)
                self._opened[member] = now

    def _seen_somebody(self) -> None:
        """Somebody came or moved on the network: members are tried there."""
        for member in self._driver.core.members:
            if found := self._vicinity.addresses(member):
                known = self._resolved.get(member, ())
                self._resolved[member] = tuple(dict.fromkeys([*found, *known]))[: addresses.MAX_TRIED]
        self._dial()

    async def _append(self, *bodies: AnyBody) -> None:
        await self._driver.append(bodies)

    def _member(self, member: str) -> Member:
        known = self._driver.core.members.get(member)
        if known is None:
            raise EngineError("No such machine belongs to the cluster.", "It may have been removed elsewhere.")
        return known

    async def _tell_addresses(self, alone: bool) -> None:
        """Where this machine is found, for those who have never met it."""
        core, now = self._driver.core, steady.now()
        mine = core.members.get(self._me.id)
        new = mine is not None and not set(self._own) <= set(mine.addresses)
        if mine is not None and new and not alone and now - self._told > TOLD_EVERY:
            self._told = now
            await self._append(MemberSet(msgspec.structs.replace(mine, addresses=self._own), core.next_clock()))

    async def _resolve(self) -> None:
        """Names of machines are looked up again and again: what they stand for changes."""
        core = self._driver.core
        for member in [member for member in core.members if member != self._me.id]:
            if not self._driver.mesh.linked(core.members[member].key):
                self._resolved[member] = tuple(await addresses.resolve(self.places(member)))

    def _advert(self, pairing: Pairing | None, alone: bool) -> Advert | None:
        if not self.port or self._driver.core.removed:
            return None
        core = self._driver.core
        cluster = ALONE if alone else core.cluster
        shown = pairing.port if pairing is not None else 0
        return Advert(self._me.id, self.name, cluster, core.card.boot, self.port, self._host, shown)

    def _dial(self) -> None:
        if not self._driver.core.removed:
            for member in self._driver.core.members:
                self._dial_one(member)

    def _dial_one(self, member: str) -> None:
        known = self._driver.core.members[member]
        if member != self._me.id:
            self._driver.mesh.dial(known.key, self._resolved.get(member) or self.places(member))

    def places(self, member: str) -> tuple[str, ...]:
        """Where a member may be reached, likeliest first."""
        known = self._driver.core.members.get(member)
        told = (*self._resolved.get(member, ()), *(known.addresses if known is not None else ()))
        found = self._vicinity.addresses(member)
        return tuple(addresses.to_try([*found, *told], self._remembered.get(member, ()), self._typed, self._own))

    def _look_at_interfaces(self) -> None:
        self._own = addresses.own(addresses.interfaces(), self.port, self._host)
        self._driver.core.addresses = self._own


def clean_name(name: str) -> str:
    """A name people can read, as they meant it. Raises EngineError."""
    clean = re.sub(r"\s+", " ", name).strip()[:80]
    if not clean or not clean.isprintable():
        raise EngineError("A machine needs a name.", "Letters, digits and spaces, at most 80 of them.")
    return clean
