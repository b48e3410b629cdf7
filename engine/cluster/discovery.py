"""Finding the other machines of a network by themselves: multicast DNS, by zeroconf.

It finds addresses and nothing else. That a machine is called out does not make it a member, and that it is called
out no longer does not make it gone: a killed one is called out for twenty minutes more. Where the network lets no
multicast through, `problem` says what is known of it and everything else goes on; addresses can always be typed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.cluster import addresses
from engine.cluster.adverts import TYPE, Advert, Found, host, instance, merged, properties, read

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

MAX_STRANGERS = 64  # machines kept that are no members
MAX_LOOKUPS = 64  # at a time
MAX_NAME = 255  # characters of a full name
LOOKUP_MS = 3000
INTERFACES_EVERY = 5.0  # seconds
ASK_EVERY = 60.0  # seconds; who came while a cable was out is asked for then
RETRY_AFTER = 15.0  # seconds


class Discovery:
    """Calls out this machine, hears of others, keeps up with the interfaces of this machine."""

    def __init__(
        self,
        me: str,
        is_member: Callable[[str], bool],
        on_change: Callable[[], None],
        interfaces: Sequence[str] = (),
        every: float = INTERFACES_EVERY,
    ) -> None:
        """`is_member` of a member id: those are always kept. `on_change` is called when `found` or `problem`
        changed. `interfaces`: addresses of this machine to use; none: all there are, as they come and go."""
        self.found: dict[str, Found] = {}
        self.problem = ""
        self._me = me
        self._is_member = is_member
        self._on_change = on_change
        self._interfaces = tuple(interfaces)
        self._every = every
        self._advert: Advert | None = None
        self._news = asyncio.Event()
        self._ask = False
        self._task: asyncio.Task[None] | None = None
        self._near: tuple[addresses.Interface, ...] = ()
        self._heard: dict[str, Found] = {}  # by full name
        self._lookups: dict[str, asyncio.Task[None]] = {}

    async def start(self, advert: Advert | None) -> None:
        """Begin to look and, with an advert, to call out. Returns at once; it takes about two seconds."""
        self._advert = advert
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def update(self, advert: Advert | None) -> None:
        """Call this out from now on; None: only look."""
        if advert != self._advert:
            self._advert = advert
            self._news.set()

    def look(self) -> None:
        """Ask the network again who is there."""
        self._ask = True
        self._news.set()

    async def close(self) -> None:
        """Say goodbye and stop. Strangers are forgotten, for nobody looks any more whether they are there."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            self._heard = {name: found for name, found in self._heard.items() if self._is_member(found.id)}
            self.found = merged(self._heard.values())

    async def _run(self) -> None:
        while True:
            session = _Session(self._interfaces, self._event)
            try:
                try:
                    await self._hold(session)
                finally:
                    for lookup in self._lookups.values():
                        lookup.cancel()
                    self._lookups.clear()
                    await session.close()
            except Exception as error:  # noqa: BLE001 - whatever ails it, the engine goes on without, and says so
                self._set_problem(f"Machines of this network are not found by themselves: {error or repr(error)}")
            await self._wait(RETRY_AFTER)

    async def _hold(self, session: _Session) -> None:
        """Keep what is called out and what is known up to date."""
        await session.open()
        self._near = session.near
        asked = asyncio.get_running_loop().time()
        while True:
            await session.call_out(self._advert)
            self._set_problem("")
            await self._wait(self._every)
            await session.follow_interfaces()
            self._near = session.near
            now = asyncio.get_running_loop().time()
            if self._ask or now - asked > ASK_EVERY:
                self._ask, asked = False, now
                await session.ask()
                for name in self._heard:
                    self._look_up(session.zeroconf, name)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    def _event(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if service_type != TYPE or not name.endswith(f".{TYPE}") or len(name) > MAX_NAME:
            return
        if state_change.name == "Removed":
            self._set_heard(name, None)
        else:
            self._look_up(zeroconf, name)

    def _look_up(self, zeroconf: Zeroconf, name: str) -> None:
        if name not in self._lookups and len(self._lookups) < MAX_LOOKUPS:
            task = self._lookups[name] = asyncio.create_task(self._asked(zeroconf, name))
            task.add_done_callback(lambda _: self._lookups.pop(name, None))

    async def _asked(self, zeroconf: Zeroconf, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        info = AsyncServiceInfo(TYPE, name)
        answered = await info.async_request(zeroconf, LOOKUP_MS)
        ips = addresses.likeliest(info.parsed_scoped_addresses(), self._near)
        self._set_heard(name, read(name, info.properties, ips, info.port) if answered else None)

    def _set_heard(self, name: str, found: Found | None) -> None:
        before = self._heard.get(name)
        if found is None and before is not None and self._is_member(before.id):
            return  # a member is where it was until something better is known
        if found is not None and found == before:
            return
        self._heard.pop(name, None)
        if found is not None and found.id != self._me and self._room(found):
            self._heard = {name: found, **self._heard}  # the latest first
        now = merged(self._heard.values())
        if now != self.found:
            self.found = now
            self._on_change()

    def _room(self, found: Found) -> bool:
        if self._is_member(found.id):
            return sum(other.id == found.id for other in self._heard.values()) < addresses.MAX_TRIED
        return sum(not self._is_member(other.id) for other in self._heard.values()) < MAX_STRANGERS

    def _set_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_change()


class _Session:
    """One life of zeroconf: its sockets, its browser, and what it calls out."""

    def __init__(
        self,
        interfaces: Sequence[str],
        event: Callable[[Zeroconf, str, str, ServiceStateChange], None],
    ) -> None:
        self._chosen = list(interfaces)
        self._event = event
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._called: tuple[Advert, tuple[str, ...]] | None = None
        self.near: tuple[addresses.Interface, ...] = ()

    @property
    def zeroconf(self) -> Zeroconf:
        assert self._zeroconf is not None
        return self._zeroconf.zeroconf

    async def open(self) -> None:
        from zeroconf import InterfaceChoice  # it takes a while, and who looks for nobody can do without
        from zeroconf.asyncio import AsyncZeroconf

        self.near = await self._look()
        self._zeroconf = AsyncZeroconf(interfaces=self._chosen or InterfaceChoice.All)
        await self.zeroconf.async_wait_for_start()
        await self.ask()

    async def close(self) -> None:
        if self._zeroconf is not None:
            if self._browser is not None:
                await self._browser.async_cancel()
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()

    async def ask(self) -> None:
        """Ask who is there; a new browser does, at once and again within the next seconds."""
        from zeroconf.asyncio import AsyncServiceBrowser

        if self._browser is not None:
            await self._browser.async_cancel()
        self._browser = AsyncServiceBrowser(self.zeroconf, TYPE, handlers=[self._event])

    async def follow_interfaces(self) -> None:
        """Use interfaces that appeared since, and no more those that are gone."""
        near = await self._look()
        if near != self.near:
            self.near = near
            assert self._zeroconf is not None
            await self._zeroconf.async_update_interfaces()
            await self.ask()

    async def call_out(self, advert: Advert | None) -> None:
        """Call out the advert with the addresses of now, unless that is what is called out already."""
        from zeroconf.asyncio import AsyncServiceInfo

        assert self._zeroconf is not None
        ips = self._ips(advert)
        wanted = (advert, ips) if advert is not None and ips and (advert.port or advert.pairing) else None
        if wanted == self._called:
            return
        before, self._called = self._called, wanted
        if self._info is not None and (wanted is None or before is None or wanted[0].name != before[0].name):
            await (await self._zeroconf.async_unregister_service(self._info))
            self._info = None
        if wanted is None:
            return
        info = AsyncServiceInfo(
            TYPE,
            self._info.name if self._info is not None else instance(wanted[0]),
            port=wanted[0].port or wanted[0].pairing,
            properties=properties(wanted[0]),
            server=host(wanted[0]),
            parsed_addresses=list(ips),
        )
        known, self._info = self._info is not None, info
        if known:
            await (await self._zeroconf.async_update_service(info))
        else:
            await (await self._zeroconf.async_register_service(info, allow_name_change=True))

    def _ips(self, advert: Advert | None) -> tuple[str, ...]:
        own = addresses.own(self.near, 1, advert.host if advert is not None else "")
        return tuple(addresses.parse(address).host for address in own)

    async def _look(self) -> tuple[addresses.Interface, ...]:
        all_of_them = await asyncio.to_thread(addresses.interfaces)
        return tuple(one for one in all_of_them if not self._chosen or one.ip in self._chosen)
