"""What a machine calls out on its network, and what it makes of what others call.

Anybody on the network can call anything. So nothing here is believed further than "try it there": what is heard
is bounded, cleaned, and says only where a machine may be reached. Nothing called is secret.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

import msgspec

from engine.cluster.addresses import MAX_TRIED, HostPort, valid

TYPE = "_winnow._tcp.local."
VERSION = "1"
LABEL_BYTES = 60  # of the first part of a name in the DNS, where 63 fit; a number may be added to it
NAME_LENGTH = 40  # characters shown of what others call themselves

_MEMBER = re.compile(r"[0-9a-f]{32}")
_MARK = re.compile(r"[0-9a-f]{16}")
_BOOT = re.compile(r"[0-9A-Za-z]{0,32}")


class Advert(msgspec.Struct, frozen=True):
    """What this machine says of itself."""

    id: str  # member id
    name: str
    cluster: str
    boot: str
    port: int  # of the engine; 0 while it does not listen
    host: str = ""  # where it listens; empty: on all interfaces
    pairing: int = 0  # port of the pairing listener; 0 while no code is shown


class Found(msgspec.Struct, frozen=True):
    """A machine somebody called out, perhaps itself."""

    id: str
    name: str
    mark: str  # of its cluster, see cluster_mark
    boot: str
    addresses: tuple[str, ...]  # host:port where its engine may listen
    pairing: tuple[str, ...]  # host:port where it may wait to be paired; empty unless it shows a code


def cluster_mark(cluster: str) -> str:
    """What is called out of a cluster's id: enough to tell clusters apart."""
    return hashlib.blake2b(cluster.encode(), digest_size=8).hexdigest()


def instance(advert: Advert) -> str:
    """The full name the advert goes by: the machine's name, and enough of its id to differ from all others."""
    tail = f"-{advert.id[:8]}"
    label = (
        shown(advert.name).replace(".", "-").encode()[: LABEL_BYTES - len(tail)].decode(errors="ignore").strip()
    )
    return f"{label or 'machine'}{tail}.{TYPE}"


def host(advert: Advert) -> str:
    """The name of its addresses: its own, for machines that share one are given each other's addresses."""
    return f"{advert.id[:16]}.local."


def properties(advert: Advert) -> dict[str, str]:
    """The advert's text record."""
    said = {"v": VERSION, "id": advert.id, "cl": cluster_mark(advert.cluster), "boot": advert.boot, "pair": "0"}
    return said | {"pair": "1", "pp": str(advert.pairing)} if advert.pairing else said


def read(name: str, said: Mapping[bytes, bytes | None], ips: Iterable[str], port: int | None) -> Found | None:
    """What was heard under a full name, with its text record, addresses and port; None if it makes no sense."""
    text = {key: (value or b"").decode("ascii", "replace") for key, value in said.items()}
    member, mark, boot = text.get(b"id", ""), text.get(b"cl", ""), text.get(b"boot", "")
    if text.get(b"v") != VERSION or not (
        _MEMBER.fullmatch(member) and _MARK.fullmatch(mark) and _BOOT.fullmatch(boot)
    ):
        return None
    pairing = text.get(b"pp", "") if text.get(b"pair") == "1" else ""
    places = list(ips)[:MAX_TRIED]
    return Found(
        member,
        _friendly(name, member),
        mark,
        boot,
        _reachable(places, str(port or 0)),
        _reachable(places, pairing),
    )


def merged(calls: Iterable[Found]) -> dict[str, Found]:
    """What was heard of each machine under any name; of things that differ the first heard counts. Addresses add
    up: whoever calls himself another machine cannot hide where it is."""
    by_id: dict[str, Found] = {}
    for found in calls:
        first = by_id.get(found.id)
        if first is not None:
            found = msgspec.structs.replace(
                first,
                addresses=tuple(dict.fromkeys(first.addresses + found.addresses))[:MAX_TRIED],
                pairing=tuple(dict.fromkeys(first.pairing + found.pairing))[:MAX_TRIED],
            )
        by_id[found.id] = found
    return by_id


def shown(name: str) -> str:
    """A name from elsewhere as it may be shown: one line of printable characters, not too long."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:NAME_LENGTH].strip()


def _friendly(name: str, member: str) -> str:
    label = name.removesuffix(f".{TYPE}")
    # Two of one name are told apart by a number at the end.
    return shown(re.sub(rf"-{member[:8]}(-\d+)?$", "", label)) or member[:8]


def _reachable(ips: Iterable[str], port: str) -> tuple[str, ...]:
    places = valid(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip in ips)
    far = [place for place in places if _far(place)]
    # Loopback leads to this machine itself; it is meant only by one that has no other address.
    return tuple(str(place) for place in (far or [p for p in places if p.ip is not None and p.ip.is_loopback]))


def _far(place: HostPort) -> bool:
    ip = place.ip
    return ip is not None and not (ip.is_loopback or ip.is_unspecified or ip.is_multicast)
