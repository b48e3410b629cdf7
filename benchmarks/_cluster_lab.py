"""Clusters for measurements: real engine processes on this machine, paired by code through their clients."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from engine.client import Engine
from engine.models.catalog import embedded
from workspace.errors import WinnowError
from workspace.facts import DimensionSpec, EngineStatus, RunSpec, run_id
from workspace.ids import row_id

HERE = Path(__file__).resolve().parents[1]
Row = tuple[str, str, str]
Start = Callable[[list[str]], "subprocess.Popen[bytes]"]


class Lab:
    """Some nodes and the clients to them. A context manager: afterwards nothing of it runs."""

    def __init__(self, folder: Path, seconds_per_row: float = 0.0, batch: int = 0) -> None:
        self.folder = folder
        self.engines: list[Engine] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._seconds, self._batch = seconds_per_row, batch

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for engine in self.engines:
            engine.close()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def add(self, listen: str = "127.0.0.1:0", start: Start | None = None) -> Engine:
        """One more machine, not paired yet. `start` begins its process, here if not given."""
        number = len(self.engines)
        self.processes.append((start or _start)(self._command(number, listen)))
        self.engines.append(connect(self._folder(number), self.processes[-1]))
        return self.engines[-1]

    def halt(self, number: int) -> None:
        """Kill a machine's engine."""
        self.engines[number].close()
        self.processes[number].kill()
        self.processes[number].wait()

    def again(self, number: int, listen: str = "127.0.0.1:0", start: Start | None = None) -> None:
        """Start a machine's engine again and connect to it."""
        self.processes[number] = (start or _start)(self._command(number, listen))
        self.engines[number] = connect(self._folder(number), self.processes[number])

    def join(self, number: int, host: str = "127.0.0.1") -> None:
        """Pair a machine with the first one."""
        shown = self.engines[number].open_pairing()
        self.engines[0].pair(f"{host}:{shown.port}", shown.code)

    def together(self, count: int) -> Lab:
        """A cluster of `count` machines that all know each other."""
        for number in range(count):
            self.add()
            if number:
                self.join(number)
        until(lambda: all(self.knows(number) == count for number in range(count)), 30, "the machines to meet")
        return self

    def _folder(self, number: int) -> Path:
        return self.folder / f"node{number}"

    def _command(self, number: int, listen: str) -> list[str]:
        arguments = [str(self._folder(number)), str(self._seconds), str(self._batch), listen]
        return [sys.executable, "-m", "benchmarks._cluster_node", *arguments]

    def knows(self, number: int) -> int:
        """Members a machine hears, itself included."""
        cluster = self.engines[number].status().cluster
        return sum(machine.alive for machine in cluster.machines) if cluster else 0

    def leader(self, numbers: Sequence[int]) -> int | None:
        """The one of these machines that says it leads; None if none does."""
        for number in numbers:
            cluster = self.engines[number].status().cluster
            if cluster and any(machine.me and machine.leader for machine in cluster.machines):
                return number
        return None


def connect(folder: Path, process: subprocess.Popen[bytes] | psutil.Popen) -> Engine:
    """A client of the node that lives in this folder, when it is ready."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return Engine.ensure(folder, start=False)
        except WinnowError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.02) -> float:
    """Wait for something; returns the seconds it took. Raises TimeoutError."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > seconds:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(every)
    return time.perf_counter() - began


def facts_held(status: EngineStatus) -> int:
    """Facts of all authors that a machine holds on disk."""
    return sum(status.vector.values())


def done(engine: Engine) -> int:
    """Rows of the newest run that are answered, as a machine knows it."""
    runs = engine.status().runs
    return runs[-1].done if runs else 0


def spec_and_rows(count: int, tag: str) -> tuple[RunSpec, Iterator[Row]]:
    """A run of one question and its rows; the model named is one every machine has, though none is asked."""
    labels = ("good", "bad")
    dimension = DimensionSpec("mood", "single", labels, labels, "Answer with a word.", "Text: {text}")
    model = embedded()
    spec = RunSpec(run_id("bench", tag, model.digest), "bench", "moods", tag, model, (dimension,))
    texts = (f"{tag}: text number {number} of a benchmark" for number in range(count))
    return spec, ((row_id(text), text, "") for text in texts)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)})
