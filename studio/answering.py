"""How requests of programs are read and answered: typed JSON over HTTP, for this machine only.

Requests must name this machine as their host (a page elsewhere can make a browser send requests here under another
name), come from our own pages if they come from a page, and carry JSON, which no form of a foreign page can send.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from studio import runtime
from studio.local_only import refusal
from studio.runtime import Studio
from workspace.errors import EngineError, WinnowError, WorkspaceBusy, WorkspaceDamaged

log = logging.getLogger(__name__)

MAX_BODY = 4 << 20  # bytes; the largest is a task document of 1 MB inside JSON
VERSION = 1

B = TypeVar("B")


class Nothing(msgspec.Struct, frozen=True):
    """The body of a request that says everything by its address."""


class NotFound(WinnowError):
    """The address names something that is not here."""


class _Refused(Exception):
    """A request that is answered with an error before anything is done."""

    def __init__(self, status: int, title: str, advice: str = "") -> None:
        super().__init__(title)
        self.response = _error(status, title, advice)


def route(method: str, path: str, work: Callable[[Studio, B, dict[str, str]], Any], body: type[B]) -> BaseRoute:
    """What is done for requests to a path below the API's: `work(studio, body, the path's own parts)`."""
    return Route(f"/api/v{VERSION}/{path}", _endpoint(work, body), methods=[method])


def _endpoint(
    work: Callable[[Studio, B, dict[str, str]], Any], body: type[B]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            content = await _read(request, body)
            path = {name: str(value) for name, value in request.path_params.items()}
            result = await anyio.to_thread.run_sync(lambda: work(runtime.current(), content, path))
            return _json(result)
        except _Refused as refused:
            return refused.response
        except WinnowError as error:
            return _error(_status_of(error), error.title, error.advice)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            return _error(500, "The studio could not do this.", "Its log says why; nothing half done was kept.")

    return answer


async def _read(request: Request, body: type[B]) -> B:
    refused = refusal(request.headers)
    if refused:
        raise _Refused(403, refused, "Open the studio under the address it printed when it started.")
    if request.method == "GET":
        return body()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(415, "The request is not JSON.", "Send it with the content type application/json.")
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise _Refused(413, f"The request is larger than {MAX_BODY >> 20} MB.", "Send it in parts.")
    try:
        return msgspec.json.decode(bytes(raw) or b"{}", type=body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Refused(400, f"The request cannot be understood: {error}", "Nothing was changed.") from error


def _status_of(error: WinnowError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, WorkspaceBusy | WorkspaceDamaged | EngineError | runtime.Stopping):
        return 503
    return 422


def words(error: WinnowError | None) -> dict[str, str] | None:
    """An error as programs get it."""
    return {"title": error.title, "advice": error.advice} if error else None


def _error(status_code: int, title: str, advice: str) -> Response:
    return _json({"error": {"title": title, "advice": advice}}, status_code)


def _json(content: Any, status_code: int = 200) -> Response:
    body = msgspec.json.encode(content, enc_hook=str)
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(body, status_code, headers, media_type="application/json")
