"""Where machines can be reached: host:port as people and machines write it, and which of them to try.

There are three sources, none of them believed further than "try it", for the key decides who is there: what was
found on the network just now, what worked before, and what a person typed.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

import msgspec
import psutil

from workspace.errors import EngineError

MAX_TRIED = 16  # addresses of one machine tried at the same time
MAX_REMEMBERED = 8  # addresses of one machine that worked, newest first
SURE = 4  # of the remembered and of the typed ones, tried even if many were found
LOOKUP_SECONDS = 2.0  # for which a name is waited for
KNOWN_SECONDS = 10.0  # for which what a name stands for is not asked again
MAX_LOOKUPS = 16  # names looked up at the same time
MAX_KNOWN = 256  # names of which the answer is kept
MAX_HOST = 253  # characters of a name in the DNS

# Interfaces that lead to containers and virtual machines of this machine; told last, they rarely lead back here.
INNER = ("docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "vethernet", "lxc", "lxd", "podman", "cni")

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,32}")

_lookups: dict[str, Future[tuple[str, ...]]] = {}  # under way
_answers: dict[str, tuple[float, tuple[str, ...]]] = {}  # when they came, and the last ones

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class HostPort(msgspec.Struct, frozen=True):
    """An address in its one way to be written: numbers in their shortest form, names in small letters."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> IP | None:
        """The address in numbers; None when the host is a name."""
        return _ip(self.host)


class Interface(msgspec.Struct, frozen=True, order=True):
    """One address of an interface of this machine."""

    name: str
    ip: str
    network: str = ""  # 192.168.1.0/24; empty when the system does not say

    @property
    def inner(self) -> bool:
        """It leads to containers and virtual machines of this machine."""
        return self.name.lower().startswith(INNER)


def parse(text: str) -> HostPort:
    """An address of the form host:port or [IPv6 address]:port. Raises EngineError saying what is wrong."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host:
        raise _wrong(text, "the port is missing")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise _wrong(text, "a port is a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        if (ip := _ip(host[1:-1])) is None or ip.version == 4:
            raise _wrong(text, "what stands in brackets has to be an IPv6 address")
        return HostPort(str(ip), int(port))
    if ":" in host:
        raise _wrong(text, "an IPv6 address stands in brackets, as in [fe80::1]:5870")
    if (ip := _ip(host)) is not None:
        return HostPort(str(ip), int(port))
    name = host.lower().removesuffix(".")
    # Numbers and dots alone are a mistyped address; some systems would make another one of it.
    if len(name) > MAX_HOST or not _NAME.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
        raise _wrong(text, "that is neither a name nor a number of a machine")
    return HostPort(name, int(port))


def valid(addresses: Iterable[str]) -> list[HostPort]:
    """Those that are addresses, each once, in order: for what comes from other machines."""
    found: dict[HostPort, None] = {}
    for address in addresses:
        try:
            found[parse(address)] = None
        except EngineError:
            continue
    return list(found)


async def resolve(addresses: Iterable[str]) -> list[str]:
    """The same addresses in numbers, names looked up at the system; names nobody knows are left out.

    What is dialed has to be a number: ZeroMQ looks names up in the thread that moves all messages, and a name
    server that does not answer would hold them all.
    """
    places = valid(addresses)
    found = await asyncio.gather(*(_numbers(place.host) for place in places))
    return list(
        dict.fromkeys(
            str(HostPort(ip, place.port)) for place, ips in zip(places, found, strict=True) for ip in ips
        )
    )


async def _numbers(host: str) -> tuple[str, ...]:
    """The addresses a name stands for; none if it takes too long, until it is asked for again.

    A thread of its own for each name, that may be left behind: the system may take half a minute for one.
    """
    if _ip(host) is not None:
        return (host,)
    asked, ips = _answers.get(host, (-KNOWN_SECONDS, ()))
    if time.monotonic() - asked < KNOWN_SECONDS:
        return ips
    answer = _lookups.get(host)
    if answer is None:
        if len(_lookups) >= MAX_LOOKUPS:
            return ips
        answer = _lookups[host] = Future()
        threading.Thread(target=_look_up, args=(host, answer), daemon=True).start()
    await asyncio.wait([asyncio.wrap_future(answer)], timeout=LOOKUP_SECONDS)
    if not answer.done():
        return ips
    _lookups.pop(host, None)
    _answers[host] = time.monotonic(), answer.result()
    while len(_answers) > MAX_KNOWN:
        del _answers[next(iter(_answers))]
    return answer.result()


def _look_up(host: str, answer: Future[tuple[str, ...]]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    answer.set_result(tuple(dict.fromkeys(str(place[0]) for *_, place in found))[:MAX_TRIED])


def to_try(
    found: Iterable[str], remembered: Iterable[str], typed: Iterable[str], own: Iterable[str] = ()
) -> list[str]:
    """The addresses to try for one machine, likeliest first, without this machine's `own`.

    Typed ones belong to no machine in particular, so they are tried for each: whoever is there shows by its key.
    However many are found, which anybody can bring about, some of the remembered and typed ones are among them.
    """
    mine = set(valid(own))
    kinds = [[one for one in valid(kind) if one not in mine] for kind in (found, remembered, typed)]
    sure = [*kinds[1][:SURE], *kinds[2][:SURE]]
    order = dict.fromkeys([*kinds[0][: MAX_TRIED - len(sure)], *sure, *kinds[1], *kinds[2]])
    return [str(one) for one in order][:MAX_TRIED]


def remember(before: Sequence[str], worked: str) -> tuple[str, ...]:
    """The remembered addresses of a machine after one of them worked (again)."""
    return (worked, *(address for address in before if address != worked))[:MAX_REMEMBERED]


def likeliest(ips: Iterable[str], interfaces: Sequence[Interface]) -> list[str]:
    """The addresses of another machine, those first that this one probably reaches: of networks it is in, then
    of others, then of the networks of its own containers, and its own last, for many machines have the same."""
    mine = {interface.ip for interface in interfaces}
    outer = [_network(interface.network) for interface in interfaces if not interface.inner]
    inner = [_network(interface.network) for interface in interfaces if interface.inner]

    def distance(text: str) -> int:
        ip = _ip(text)
        if text in mine:
            return 3
        if ip is None or any(network is not None and ip in network for network in inner):
            return 2
        return 0 if any(network is not None and ip in network for network in outer) else 1

    return sorted(ips, key=distance)


def own(interfaces: Iterable[Interface], port: int, host: str = "") -> tuple[str, ...]:
    """What to tell others of this machine: where it listens on `port` of `host` (empty, "*", "0.0.0.0" or "::"
    for all interfaces). Loopback only if there is nothing else."""
    if (bound := _ip(host)) is not None and not bound.is_unspecified:
        return (str(HostPort(str(bound), port)),)
    usable: list[str] = []
    inner: list[str] = []
    loopback: list[str] = []
    for interface in interfaces:
        ip = _ip(interface.ip)
        if ip is None or ip.is_unspecified or ip.is_multicast:
            continue
        if ip.version == 6 and (ip.is_link_local or host == "0.0.0.0"):  # noqa: S104 - compared, not bound
            continue  # such an address means another machine on each network; or nobody listens there
        sort = loopback if ip.is_loopback else inner if interface.inner else usable
        sort.append(str(HostPort(str(ip), port)))
    return tuple(dict.fromkeys([*usable, *inner] or loopback))[:MAX_TRIED]


def interfaces() -> tuple[Interface, ...]:
    """What this machine is connected by now, in a steady order: no interface that is down or has no cable."""
    states = psutil.net_if_stats()
    return tuple(
        sorted(
            Interface(name, one.address, _network_of(one.address, one.netmask))
            for name, several in psutil.net_if_addrs().items()
            for one in several
            if one.family in (socket.AF_INET, socket.AF_INET6) and name in states and states[name].isup
        )
    )


@functools.lru_cache(maxsize=1024)
def plain_ip(text: str) -> str:
    """An IP address without its IPv6 wrapping: "::ffff:10.0.0.1" is "10.0.0.1"."""
    ip = _ip(text)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or text)


def _ip(text: str) -> IP | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None and not _ZONE.fullmatch(ip.scope_id):
        return None
    return ip


def _network_of(address: str, netmask: str | None) -> str:
    ip, mask = _ip(address.partition("%")[0]), _ip(netmask or "")
    if ip is None or mask is None or ip.version != mask.version:
        return ""
    return str(ipaddress.ip_network(f"{ip}/{int(mask).bit_count()}", strict=False))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    return ipaddress.ip_network(text) if text else None


def _wrong(text: str, why: str) -> EngineError:
    return EngineError(
        f"{text.strip()[:100]!r} is no address of a machine: {why}.",
        "Write it as host:port, such as 192.168.1.20:5870 or study-pc.local:5870.",
    )
