"""The engine process: `python -m engine STATE_DIR`. Started by `engine.client.Engine.ensure`, rarely by hand."""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from filelock import FileLock, Timeout

from engine.cluster import options, transport
from engine.cluster.node import Node
from engine.cluster.state_folder import StateFolder
from workspace.errors import WinnowError

LOG_BYTES = 1 << 20
TAKEN = 3  # exit status: another engine lives in this folder


def main(arguments: list[str] | None = None) -> int:
    """Run an engine until it is stopped or idle; returns the exit status."""
    state_dir, chosen = options.parse(arguments)
    os.umask(0o077)  # ledger, logs and keys are for this user only
    folder = StateFolder(state_dir)
    log = logging.getLogger("engine")
    try:
        folder.make()
        # Held for life; the system lets go of it when the process dies, however it dies.
        with FileLock(folder.lock, timeout=0, mode=0o600, thread_local=False):
            _log_to(folder.log)
            return transport.run(Node(folder, chosen).run)
    except Timeout:
        return TAKEN
    except WinnowError as error:
        log.error("%s", error)
        sys.stderr.write(f"{error}\n")
        return 1


def _log_to(path: Path) -> None:
    """Events of this engine into a log of bounded size. Never prompts, never texts of rows."""
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    log = logging.getLogger("engine")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False


if __name__ == "__main__":
    raise SystemExit(main())
