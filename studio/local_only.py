"""Who may talk to the studio: this machine, and of web pages only the studio's own.

The server listens on loopback, but a web page anywhere can make the browser on this machine send requests to
loopback, either openly (then `Origin` names the page) or under a name of its own that it lets point here (DNS
rebinding; then `Host` names it). Both are refused, for pages, API and WebSocket alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def refusal(headers: Mapping[str, str]) -> str:
    """Why a request with these headers is refused; empty when it is welcome."""
    host = headers.get("host", "")
    if _name(f"//{host}") not in LOOPBACK_NAMES:
        return "The request is not addressed to this machine."
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "The request comes from a page that is not part of the studio."
    if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
        return "The request comes from another site."
    return ""


def _name(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    return parts.hostname if parts.username is None else None


class LocalOnly:
    """ASGI middleware that answers 403 to everything `refusal` refuses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (reason := refusal(Headers(scope=scope))):
            await PlainTextResponse(reason, 403)(scope, receive, send)
        elif scope["type"] == "websocket" and refusal(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)
