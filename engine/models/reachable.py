"""The servers within reach and their models, asked all at once and remembered for some seconds."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from engine.models import servers
from workspace.errors import ModelError
from workspace.facts import ModelSpec

BELIEVED = 10.0  # seconds; pages are drawn again and again

_looking = threading.Lock()
_seen: tuple[tuple[servers.Server, ...], float, list[Reachable]] | None = None


class Reachable(msgspec.Struct, frozen=True):
    """A server with its models; `problem` says why it has none."""

    server: servers.Server
    models: tuple[ModelSpec, ...] = ()
    sizes: dict[str, int] = {}  # bytes, by digest, where the server tells
    problem: str = ""


def look(*, again: bool = False) -> list[Reachable]:
    """This machine's Ollama and every server people added, reachable or not; `again` asks them anew.

    Blocks as long as the slowest of them, some seconds at most.
    """
    global _seen
    try:
        wanted = (servers.this_ollama(), *servers.known())
    except ModelError:
        wanted = ()
    with _looking:
        if not again and _seen is not None and _seen[0] == wanted and time.monotonic() - _seen[1] < BELIEVED:
            return _seen[2]
        with ThreadPoolExecutor(max(1, min(16, len(wanted))), thread_name_prefix="servers") as pool:
            found = list(pool.map(_ask, wanted))
        _seen = (wanted, time.monotonic(), found)
        return found


def _ask(server: servers.Server) -> Reachable:
    try:
        models = servers.models_of(server)
    except ModelError as error:
        return Reachable(server, problem=str(error))
    specs = tuple(
        ModelSpec(server.kind, model.asked_as.partition(":")[2], server.address, model.digest) for model in models
    )
    return Reachable(server, specs, {model.digest: model.size for model in models if model.size})
