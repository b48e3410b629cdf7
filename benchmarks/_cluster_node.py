"""`python -m benchmarks._cluster_node FOLDER SECONDS BATCH [LISTEN]`: a real engine process whose answers take a
given time per row and need no model. Everything else is what runs in production."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from engine.cluster import transport
from engine.cluster.node import Node
from engine.cluster.options import EngineOptions
from engine.cluster.state_folder import StateFolder
from engine.executor import Batch, Holding, Result
from engine.labeler import Answer

ANSWER = Answer((-0.1, -2.35), 20, 1, 0.0)


class Timed:
    """An executor that takes `seconds` per row."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loaded = ""

    def capacity(self) -> Holding:
        """See `Executor`."""
        return Holding(1, self._loaded)

    async def run(self, batch: Batch, progress: Callable[[], None]) -> Result:
        """See `Executor`."""
        self._loaded = batch.spec.model.digest
        progress()
        rows = len(batch.texts)
        if self._seconds:
            await asyncio.sleep(self._seconds * rows)
        return Result([(ANSWER,) * len(batch.spec.dimensions)] * rows, max(self._seconds, 1e-6) * rows)

    async def close(self) -> None:
        """See `Executor`."""


def main() -> int:
    """Run the node until it is stopped."""
    folder = StateFolder(Path(sys.argv[1]))
    folder.make()
    listen = sys.argv[4] if len(sys.argv) > 4 else "127.0.0.1:0"
    options = EngineOptions(stay=True, batch=int(sys.argv[3]), listen=listen, find="none", name=folder.path.name)
    return transport.run(Node(folder, options, executor=Timed(float(sys.argv[2]))).run)


if __name__ == "__main__":
    raise SystemExit(main())
