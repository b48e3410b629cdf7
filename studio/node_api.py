"""What an engine says of itself and its cluster over HTTP, on this machine only: the studio and helpers serve it.

`/status`, `/progress`, `/peers`, `/ping` and `/shards` answer JSON, `/metrics` text for Prometheus. All only read.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from studio import metrics
from studio.local_only import refusal
from workspace.errors import EngineError, WinnowError
from workspace.facts import EngineStatus

log = logging.getLogger(__name__)

Provider = Callable[[], EngineStatus | None]  # called in a thread; None or a WinnowError: there is no engine now

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def routes(provider: Provider, prefix: str = "") -> list[Route]:
    """All addresses, each below `prefix`."""
    answers = {"status": status, "progress": progress, "peers": peers, "ping": ping, "shards": shards}
    found = [Route(f"{prefix}/{name}", _endpoint(provider, work)) for name, work in answers.items()]
    return [*found, metrics_route(provider, prefix)]


def metrics_route(provider: Provider, prefix: str = "") -> Route:
    """`/metrics` alone: Prometheus looks for it there. Without an engine it answers that there is none."""

    async def answer(request: Request) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        try:
            found = await anyio.to_thread.run_sync(provider)
        except WinnowError:
            found = None
        return Response(metrics.exposition(found), 200, _HEADERS, media_type=metrics.CONTENT_TYPE)

    return Route(f"{prefix}/metrics", answer)


# What can be asked


def status(engine: EngineStatus) -> dict[str, Any]:
    """The engine and its cluster in short."""
    cluster = engine.cluster
    return {
        "node": engine.node,
        "pid": engine.pid,
        "author": engine.author,
        "worker_pid": engine.worker_pid,
        "facts": sum(engine.vector.values()),
        "runs": {run.run_id: run.state for run in engine.runs},
        "cluster": {
            "id": cluster.id,
            "epoch": cluster.epoch,
            "leader": cluster.leader,
            "copies": cluster.copies,
            "listening": cluster.listening,
            "removed": cluster.removed,
            "machines": len(cluster.machines),
            "alive": sum(machine.alive for machine in cluster.machines),
        },
    }


def progress(engine: EngineStatus) -> dict[str, Any]:
    """Every run."""
    return {"runs": engine.runs}


def peers(engine: EngineStatus) -> dict[str, Any]:
    """The machines of the cluster, this one included, and those seen on the network."""
    return {"machines": engine.cluster.machines, "found": engine.cluster.found}


def ping(engine: EngineStatus) -> dict[str, Any]:
    """That there is an engine."""
    return {"app": "winnow", "node": engine.node, "pid": engine.pid}


def shards(engine: EngineStatus) -> dict[str, Any]:
    """Each author's log: how much of it is here, and on how many machines that is."""
    names = {machine.id: machine.name for machine in engine.cluster.machines}
    return {
        "shards": [
            {
                "author": author,
                "machine": names.get(author[:32], ""),
                "facts": facts,
                "copies": engine.copies.get(author, 1),
            }
            for author, facts in sorted(engine.vector.items())
        ]
    }


# How it is answered


def _endpoint(
    provider: Provider, work: Callable[[EngineStatus], dict[str, Any]]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        try:
            engine = await anyio.to_thread.run_sync(provider)
            if engine is None:
                raise EngineError("There is no engine now.", "It starts with the next run.")
            return _json(work(engine))
        except WinnowError as error:
            return _error(503, error.title, error.advice)
        except Exception:
            log.exception("GET %s", request.url.path)
            return _error(500, "This could not be answered.", "The log says why.")

    return answer


def _refused(request: Request) -> Response | None:
    reason = refusal(request.headers)
    return _error(403, reason, "Ask from this machine, under its own address.") if reason else None


def _error(code: int, title: str, advice: str) -> Response:
    return _json({"error": {"title": title, "advice": advice}}, code)


def _json(content: dict[str, Any], code: int = 200) -> Response:
    return Response(msgspec.json.encode(content), code, _HEADERS, media_type="application/json")
