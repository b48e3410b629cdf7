"""Real engines on the machines of a test network: processes, clients, and what their ledgers hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from engine.client import Engine
from engine.cluster import entries as log
from engine.cluster.entries import Entry, Labeled
from engine.cluster.options import EngineOptions
from engine.models.catalog import embedded, resolve
from engine.shards.export import export
from engine.shards.merge import merge
from tests.cluster.network import Network, NetworkMachine
from tests.waiting import wait_for
from workspace.errors import WinnowError
from workspace.facts import DimensionSpec, EngineStatus, ModelSpec, RunProgress, RunSpec, run_id
from workspace.ids import row_id
from workspace.machines import Cluster, Machine

HERE = Path(__file__).resolve().parents[2]
PORT = 47100


class RealMachine:
    """A machine of the network with an engine of its own, models of its own."""

    def __init__(self, network: Network, name: str, folder: Path, **options: Any) -> None:
        self.name = name
        self.cable: NetworkMachine = network.machine(name)
        self.engine: Engine
        self.folder = folder / name
        self.models = folder / f"{name}.models"
        chosen = {"stay": True, "name": name, "listen": f"{self.cable.ip}:{PORT}", **options}
        self.options = EngineOptions(**chosen)
        self.start()

    def start(self, **options: Any) -> None:
        """Start the engine, now with these options too, and a client to it."""
        self.options = msgspec.structs.replace(self.options, **options)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with open(self.folder / "engine.out", "ab") as out:
            self.process: subprocess.Popen[bytes] = self.cable.run(
                [sys.executable, "-P", "-m", "engine", str(self.folder), *self.options.arguments()],
                env=self.environment,
                stdout=out,
                stderr=out,
            )
        engine = wait_for(self._connect, f"the engine of {self.name}")
        assert engine is not None
        self.engine = engine

    def kill(self) -> None:
        """As if the power failed, but for the disk."""
        self.engine.close()
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop the engine in the middle of whatever it does, as a lid that is closed."""
        os.kill(self.engine.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.engine.pid, signal.SIGCONT)

    @property
    def environment(self) -> dict[str, str]:
        """What every process of this machine finds in its surroundings."""
        own = {"WINNOW_MODELS": str(self.models), "WINNOW_HELPER": str(self.folder)}
        return {**os.environ, **own, "PYTHONPATH": str(HERE), "PYTHONUTF8": "1"}

    @property
    def status(self) -> EngineStatus:
        return self.engine.status()

    @property
    def cluster(self) -> Cluster:
        cluster = self.status.cluster
        assert cluster is not None
        return cluster

    @property
    def me(self) -> Machine:
        """This machine, as it sees itself."""
        return next(machine for machine in self.cluster.machines if machine.me)

    @property
    def leads(self) -> bool:
        return self.me.leader

    def sees(self, *others: RealMachine) -> bool:
        """Whether it hears all of them."""
        alive = {machine.name for machine in self.cluster.machines if machine.alive}
        return alive >= {other.name for other in others}

    def shows(self, other: RealMachine) -> Machine:
        """How this machine shows another one, or itself."""
        return next(machine for machine in self.cluster.machines if machine.name == other.name)

    def progress(self, spec: RunSpec) -> RunProgress | None:
        """Where a run stands here."""
        return next((run for run in self.status.runs if run.run_id == spec.run_id), None)

    def finished(self, spec: RunSpec, rows: int) -> bool:
        """Whether every row of a run is answered, as this machine knows it."""
        progress = self.progress(spec)
        return progress is not None and (progress.rows, progress.done) == (rows, rows)

    def logs(self) -> dict[str, list[Entry]]:
        """Everything this machine holds on disk, by author."""
        found: dict[str, list[Entry]] = {}
        for author, end in self.status.vector.items():
            entries: list[Entry] = []
            while (first := entries[-1].end if entries else 0) < end:
                entries += self.engine.entries(author, first)
            found[author] = entries
        return found

    def pair_with(self, other: RealMachine, address: str = "") -> None:
        """Type the code that the other machine shows."""
        shown = other.engine.open_pairing()
        self.engine.pair(address or f"{other.cable.ip}:{shown.port}", shown.code)

    def _connect(self) -> Engine | None:
        said = (self.folder / "engine.out").read_text()
        assert self.process.poll() is None, f"the engine ended with {self.process.returncode}: {said}"
        try:
            # Made on the machine, a client's sockets are the machine's.
            return self.cable.do(lambda: Engine.ensure(self.folder, start=False))
        except WinnowError:
            return None


def together(machines: list[RealMachine]) -> None:
    """Pair the others with the first, and wait until all see all."""
    for other in machines[1:]:
        machines[0].pair_with(other)
    wait_for(lambda: all(machine.sees(*machines) for machine in machines), "the machines to meet")


def settled(machines: list[RealMachine]) -> None:
    """Wait until every machine holds every fact, and hold them to being the same, byte by byte."""
    wait_for(lambda: len({tuple(sorted(m.status.vector.items())) for m in machines}) == 1, "equal ledgers", 120)
    logs = [machine.logs() for machine in machines]
    assert all(other == logs[0] for other in logs)


def merged(machine: RealMachine, folder: Path) -> Path:
    """The machine's shards, and the one table made of them."""
    shards, out = folder / machine.name, folder / f"{machine.name}.jsonl"
    export(machine.folder / "ledger.sqlite", shards)
    merge([shards], out, "jsonl")
    return out


def question(tag: str, model: ModelSpec | None = None) -> RunSpec:
    """A run that asks a model one thing, the embedded one if no other is named."""
    labels = ("positive", "negative")
    system, user = "Is the message positive or negative?", "Message: {text}\nAnswer:"
    dimension = DimensionSpec("mood", "single", labels, labels, system, user)
    model = model or embedded()
    return RunSpec(run_id(tag, "p", model.digest), tag, "moods", "p", model, (dimension,))


def second_model(file: Path) -> ModelSpec:
    """The embedded model under another name of the same length: another digest, and it labels just as well."""
    content, name = Path(embedded().path).read_bytes(), b"Smollm2 135M 8k"
    assert name in content
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content.replace(name, b"Another 135M 8k", 1))
    return resolve(str(file))


def messages(tag: str, count: int) -> list[tuple[str, str, str]]:
    """Rows to label."""
    texts = [f"{tag} {number}: I {'love' if number % 2 else 'hate'} this" for number in range(count)]
    return [(row_id(text), text, "chat") for text in texts]


def answers(machine: RealMachine, spec: RunSpec, by: RealMachine | None = None) -> Counter[str]:
    """How often each row of a run was answered, by anybody or by one machine, in the logs this machine holds."""
    counted: Counter[str] = Counter()
    whose = by.me.id if by is not None else ""
    for author, entries in machine.logs().items():
        if whose in ("", log.member_of(author)):
            bodies = [log.decode(entry.body) for entry in entries]
            for body in bodies:
                if isinstance(body, Labeled) and body.run_id == spec.run_id:
                    counted.update(body.rows)
    return counted
