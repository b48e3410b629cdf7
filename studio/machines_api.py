"""The machines of the cluster for programs: what they are, and the verbs of the Machines page."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.routing import BaseRoute

from studio.answering import NotFound, Nothing, route
from studio.runtime import Studio
from workspace.machines import Cluster, Pairing

Address = Annotated[str, Meta(min_length=1, max_length=300)]
Code = Annotated[str, Meta(min_length=1, max_length=20)]
Name = Annotated[str, Meta(min_length=1, max_length=80)]


class PairRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine to take in: where it is (host:port) and the code it shows."""

    address: Address
    code: Code


class MachineRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What should be different about a machine; what is left out stays."""

    name: Name | None = None
    paused: bool | None = None


class AddressRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host:port at which a machine of the cluster may be reached."""

    address: Address


def machines(studio: Studio, _body: Nothing, _path: dict[str, str]) -> dict[str, Cluster | None]:
    """The cluster as this machine's engine sees it; null until an engine runs. Asked for, one is started."""
    studio.look_for_machines()
    return {"cluster": studio.cluster}


def pair(studio: Studio, body: PairRequest, _path: dict[str, str]) -> dict[str, str]:
    """Take in the machine that shows a code; answers when both are members of one cluster."""
    return {"id": studio.pair(body.address, body.code)}


def open_pairing(studio: Studio, _body: Nothing, _path: dict[str, str]) -> Pairing:
    """A code to be typed on another machine."""
    return studio.open_pairing()


def close_pairing(studio: Studio, _body: Nothing, _path: dict[str, str]) -> dict[str, Any]:
    """The code shown is worth nothing any more."""
    studio.close_pairing()
    return {}


def change(studio: Studio, body: MachineRequest, path: dict[str, str]) -> dict[str, str]:
    """Rename a machine, pause it or let it go on."""
    id = _member(studio, path["machine"])
    if body.name is not None:
        studio.rename_machine(id, body.name)
    if body.paused is not None:
        studio.pause_machine(id, body.paused)
    return {"id": id}


def revoke(studio: Studio, _body: Nothing, path: dict[str, str]) -> dict[str, str]:
    """Remove a machine for ever."""
    id = _member(studio, path["machine"])
    studio.revoke_machine(id)
    return {"id": id}


def add_address(studio: Studio, body: AddressRequest, _path: dict[str, str]) -> dict[str, Any]:
    """Try another address, for networks that do not tell."""
    studio.add_address(body.address)
    return {}


def _member(studio: Studio, id: str) -> str:
    cluster = studio.cluster
    if cluster is None or all(machine.id != id for machine in cluster.machines):
        raise NotFound("The cluster has no such machine.", "`GET /api/v1/machines` lists them.")
    return id


routes: list[BaseRoute] = [
    route("GET", "machines", machines, Nothing),
    route("POST", "machines/pair", pair, PairRequest),
    route("POST", "machines/pairing", open_pairing, Nothing),
    route("POST", "machines/pairing/close", close_pairing, Nothing),
    route("POST", "machines/addresses", add_address, AddressRequest),
    route("POST", "machines/{machine}", change, MachineRequest),
    route("POST", "machines/{machine}/revoke", revoke, Nothing),
]
