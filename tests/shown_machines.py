"""Clusters made by hand, and a studio that shows them: for tests of what people see and press, without a network.

The cluster lies in a file beside the workspace, so that a test can change it under a studio in another process;
what is asked of the studio is written to another file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from studio.runtime import Studio
from workspace.errors import EngineError
from workspace.machines import Cluster, FoundMachine, Machine, Pairing

GIB = 1 << 30
# A server process of the browser tests whose studio shows the machines of a file; everything else is real.
SHOWING = """
import os, sys
from pathlib import Path
from studio import runtime
from studio.server import serve
from tests.shown_machines import ShowingStudio
from workspace.store import open_store
os.environ[runtime.VARIABLE] = sys.argv[1]
runtime.use(ShowingStudio(open_store(Path(sys.argv[1]))))
serve(Path(sys.argv[1]), int(sys.argv[2]), False)
"""
RIGHT_CODE = "482-913"

LAPTOP = Machine(
    id="1a" * 16,
    name="laptop",
    key_words="1a1a-1a1a",
    me=True,
    rank=0,
    alive=True,
    silent_for=0.0,
    paused=False,
    mode="auto",
    leader=True,
    gpu="",
    cores=8,
    memory=16 * GIB,
    memory_free=5 * GIB,
    models=("SmolLM2-135M-Instruct",),
    problems=(),
    rows_per_s=6.2,
    doing="Sentiment with SmolLM2-135M-Instruct",
    claims=2,
    facts_behind=0,
    addresses=("192.168.1.20:47311",),
    software="Winnow 0.1.0",
    agreement=0.97,
    compared=412,
    fitness=0.71,
)
ATTIC = msgspec.structs.replace(
    LAPTOP,
    id="2b" * 16,
    name="attic",
    key_words="2b2b-2b2b",
    me=False,
    rank=1,
    silent_for=0.4,
    leader=False,
    gpu="NVIDIA GeForce RTX 4070",
    cores=24,
    memory=64 * GIB,
    memory_free=41 * GIB,
    models=("SmolLM2-135M-Instruct", "Qwen3-4B-Instruct"),
    rows_per_s=34.8,
    claims=3,
    facts_behind=12,
    addresses=("192.168.1.31:40155",),
    agreement=0.985,
    compared=1204,
    fitness=0.96,
)
OLD_PC = msgspec.structs.replace(
    LAPTOP,
    id="3c" * 16,
    name="old-pc",
    key_words="3c3c-3c3c",
    me=False,
    rank=2,
    silent_for=0.9,
    leader=False,
    cores=2,
    memory=4 * GIB,
    memory_free=700 << 20,
    models=(),
    problems=("Qwen3-4B-Instruct needs 3.4 GB of memory; 0.7 GB are free.",),
    rows_per_s=0.0,
    doing="",
    claims=0,
    facts_behind=1480,
    addresses=("192.168.1.44:38011",),
    agreement=None,
    compared=0,
    fitness=None,
)
NAS = FoundMachine("4d" * 16, "nas", "192.168.1.9:45001", pairing=True, other_cluster=False)
PHONE = FoundMachine("5e" * 16, "kitchen", "192.168.1.77:45002", pairing=False, other_cluster=True)
CODE = Pairing("771-204", 45003, 112.0, 3)


def cluster_of(*machines: Machine, **changes: Any) -> Cluster:
    """A cluster of these machines; `changes` replaces any other field."""
    leader = next((machine.id for machine in machines if machine.leader), "")
    whole = Cluster(
        id="c1" * 16,
        epoch=3,
        leader=leader,
        copies=1,
        listening="192.168.1.20:47311",
        removed=False,
        machines=machines,
        found=(),
        pairing=None,
    )
    return msgspec.structs.replace(whole, **changes)


ALONE = cluster_of(
    msgspec.structs.replace(LAPTOP, rows_per_s=0.0, claims=0, doing="", agreement=None, compared=0), listening=""
)
THREE = cluster_of(LAPTOP, ATTIC, OLD_PC, copies=2)


def cluster_file(workspace: Path) -> Path:
    """Where the cluster to show lies."""
    return workspace.with_suffix(".cluster.json")


def show(workspace: Path, cluster: Cluster | None) -> None:
    """From now on the studio of this workspace shows this cluster."""
    half = cluster_file(workspace).with_suffix(".half")
    half.write_bytes(msgspec.json.encode(cluster))
    half.replace(cluster_file(workspace))


def asked(workspace: Path) -> list[list[Any]]:
    """What was asked of the studio: the verb and what it was given."""
    path = workspace.with_suffix(".asked.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class ShowingStudio(Studio):
    """A real studio whose machines are those in the file."""

    @property
    def cluster(self) -> Cluster | None:
        try:
            return msgspec.json.decode(cluster_file(self.path).read_bytes(), type=Cluster | None)
        except FileNotFoundError:
            return None

    def look_for_machines(self) -> None:
        """There is no network here."""

    def pair(self, address: str, code: str) -> str:
        self._note("pair", address, code)
        if code != RIGHT_CODE:
            raise EngineError("The code is wrong.", "2 tries are left. Look at that machine again.")
        return NAS.id

    def open_pairing(self) -> Pairing:
        self._note("open_pairing")
        self._change(pairing=CODE)
        return CODE

    def close_pairing(self) -> None:
        self._note("close_pairing")
        self._change(pairing=None)

    def rename_machine(self, id: str, name: str) -> None:
        self._note("rename", id, name)

    def pause_machine(self, id: str, paused: bool) -> None:
        self._note("pause", id, paused)

    def revoke_machine(self, id: str) -> None:
        self._note("revoke", id)

    def start_over(self) -> None:
        self._note("start_over")

    def add_address(self, text: str) -> None:
        self._note("add_address", text)
        if ":" not in text:
            raise EngineError(f"{text} is no address.", "A host and a port, such as 192.168.1.20:47311.")

    def _change(self, **changes: Any) -> None:
        cluster = self.cluster
        assert cluster is not None
        show(self.path, msgspec.structs.replace(cluster, **changes))

    def _note(self, *words: Any) -> None:
        with self.path.with_suffix(".asked.jsonl").open("a") as file:
            file.write(json.dumps(words) + "\n")
