"""The programs' door to a running studio: JSON over HTTP on this machine."""

from __future__ import annotations

from starlette.routing import BaseRoute

routes: list[BaseRoute] = []
