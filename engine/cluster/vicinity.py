"""The machines of the network around this one, as far as they show themselves, and when this one looks for them.

A machine alone looks only while somebody wants to see who is there; a paired one, or one that waits to be paired,
looks and shows itself all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from engine.cluster.adverts import Advert, Found, cluster_mark
from engine.cluster.discovery import Discovery
from workspace.machines import FoundMachine

LOOK_SECONDS = 60.0  # for which a look around goes on
ALONE = ""  # called out instead of a cluster by a machine that has none with others


class Vicinity:
    """`find` says where: "all" networks, "none", or addresses of this machine."""

    def __init__(
        self, me: str, find: str, is_member: Callable[[str], bool], on_change: Callable[[], None]
    ) -> None:
        interfaces = () if find in ("all", "none") else tuple(find.split(","))
        self._never = find == "none"
        self._discovery = Discovery(me, is_member, on_change, interfaces)
        self._looking = False
        self._wanted_until = float("-inf")

    @property
    def problem(self) -> str:
        """Why machines are not found by themselves; empty while they are."""
        return self._discovery.problem

    def look_around(self, now: float) -> None:
        """Somebody wants to see who is there."""
        self._wanted_until = now + LOOK_SECONDS

    async def keep(self, advert: Advert | None, now: float) -> None:
        """Show this machine, or with None only look while somebody wants to see who is there."""
        wanted = not self._never and (advert is not None or now < self._wanted_until)
        if wanted and not self._looking:
            self._looking = True
            await self._discovery.start(advert)
        elif wanted:
            await self._discovery.update(advert)
        elif self._looking:
            self._looking = False
            await self._discovery.close()

    async def close(self) -> None:
        """Be seen no more."""
        await self._discovery.close()

    def addresses(self, member: str) -> tuple[str, ...]:
        """Where a member was seen."""
        found = self._discovery.found.get(member)
        return found.addresses if found is not None else ()

    def strangers(self, cluster: str, members: Collection[str]) -> tuple[FoundMachine, ...]:
        """Those seen that are no members."""
        marks = (cluster_mark(ALONE), cluster_mark(cluster))
        return tuple(
            _shown(found, other_cluster=found.mark not in marks)
            for found in self._discovery.found.values()
            if found.id not in members
        )


def _shown(found: Found, other_cluster: bool) -> FoundMachine:
    places = found.pairing or found.addresses
    return FoundMachine(found.id, found.name, places[0] if places else "", bool(found.pairing), other_cluster)
