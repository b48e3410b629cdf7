"""The server of the studio: pages and API on one port of this machine, one open workspace behind both.

Started by `serve` (what the `winnow` command calls) or by `streamlit run studio/server.py` from the
repository root.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `streamlit run studio/server.py` puts studio/ on the path, where none of our packages can be found.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import anyio.to_thread  # noqa: E402 - after the path above
import streamlit as st  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from streamlit import config  # noqa: E402

from studio import api, machines_api, node_api, places, runtime  # noqa: E402
from studio.answering import VERSION  # noqa: E402
from studio.local_only import LocalOnly  # noqa: E402
from studio.terminal import complain, say  # noqa: E402
from workspace.errors import WinnowError, WorkspaceDamaged  # noqa: E402
from workspace.facts import EngineStatus  # noqa: E402

log = logging.getLogger(__name__)

FIRST_PORT = 8501
PORTS_TRIED = 100
LOOPBACK = "127.0.0.1"

_open_browser = False


def free_port(first: int = FIRST_PORT) -> int:
    """The first port from `first` on that nothing on this machine listens on. Raises WinnowError after 100."""
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise WinnowError(
        f"No port between {first} and {first + PORTS_TRIED - 1} is free.",
        "Choose another with --port; nothing was changed.",
    )


def serve(workspace: Path, port: int | None = None, open_browser: bool = True) -> None:
    """Open the workspace and serve the studio until it is stopped by Ctrl-C or SIGTERM.

    With `port` None the first free one from 8501 on is taken. Raises WorkspaceBusy, naming the process that has
    the file, and WinnowError when the file or a port asked for cannot be had. A damaged workspace is served: its
    page offers the recovery.
    """
    global _open_browser
    os.environ[runtime.VARIABLE] = str(workspace.expanduser().absolute())
    os.chdir(ROOT)  # .streamlit/config.toml is looked for here: theme, fonts, loopback, no telemetry
    chosen = free_port(port or FIRST_PORT)
    if port is not None and chosen != port:
        raise WinnowError(
            f"Port {port} is taken.", f"Port {chosen} is free: --port {chosen}. Nothing was changed."
        )
    try:
        runtime.current()
    except WorkspaceDamaged as error:
        complain(WinnowError(error.title, f"{error.advice} The page offers a way back."))
    if port is None and chosen != FIRST_PORT:
        say(f"Port {FIRST_PORT} is taken by another program; this studio is on {chosen}.")
    say(f"Winnow is at http://{LOOPBACK}:{chosen}  (workspace {workspace}, Ctrl-C stops it)")
    _open_browser = open_browser
    try:
        app.run(
            config={
                "server.port": chosen,
                "server.address": LOOPBACK,
                "logger.hideWelcomeMessage": True,  # the address is printed above, once
            }
        )
    except KeyboardInterrupt:
        print("Stopped. Everything is saved; unfinished runs go on at the next start.")  # noqa: T201


def _note_for_command_line(port: int) -> Path:
    """Write studio.json, from which the command line learns that and where a studio has this workspace open."""
    folder = places.engine_folder(runtime.workspace_path())
    folder.mkdir(mode=0o700, exist_ok=True)
    note = folder / "studio.json"
    partial = folder / "studio.json.new"
    partial.touch(mode=0o600)
    partial.write_text(json.dumps({"pid": os.getpid(), "port": port, "url": f"http://{LOOPBACK}:{port}"}))
    partial.replace(note)
    return note


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[None]:
    """Open the workspace with the server, and close it with the server."""
    port = int(config.get_option("server.port"))
    note = None
    try:
        await anyio.to_thread.run_sync(runtime.current)
        note = _note_for_command_line(port)
    except WinnowError as error:
        log.error("%s", error)  # the pages say the same and offer what can be done
    if _open_browser:
        threading.Thread(target=webbrowser.open, args=(f"http://{LOOPBACK}:{port}",), daemon=True).start()
    try:
        yield
    finally:
        if note is not None:
            note.unlink(missing_ok=True)
        await anyio.to_thread.run_sync(lambda: runtime.close(for_good=True))


def _engine() -> EngineStatus | None:
    return runtime.current().engine_status


app = st.App(
    ROOT / "studio" / "app.py",
    routes=[
        *api.routes,
        *machines_api.routes,
        *node_api.routes(_engine, f"/api/v{VERSION}/node"),
        node_api.metrics_route(_engine),
    ],
    lifespan=lifespan,
    middleware=[Middleware(LocalOnly)],
)
