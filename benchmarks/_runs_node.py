"""`python -m benchmarks._runs_node FOLDER`: an engine process as it runs in production, but for the model of its
worker, which costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.cluster import transport
from engine.cluster.node import Node
from engine.cluster.options import EngineOptions
from engine.cluster.state_folder import StateFolder
from engine.executor import LocalExecutor
from engine.worker_process import WorkerProcess


def main() -> int:
    """Run the node until it is stopped."""
    folder = StateFolder(Path(sys.argv[1]))
    folder.make()
    executor = LocalExecutor(folder.worker_log, lambda: WorkerProcess(module="benchmarks._costless_worker"))
    options = EngineOptions(stay=True, listen="127.0.0.1:0", find="none", name="bench")
    return transport.run(Node(folder, options, executor).run)


if __name__ == "__main__":
    raise SystemExit(main())
