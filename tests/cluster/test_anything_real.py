"""Whatever happens to three real machines, in any order: in the end all is labeled, and the same on all."""

from __future__ import annotations

import filecmp
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.machines import RealMachine, answers, merged, messages, question, settled, together
from tests.cluster.network import Network
from tests.waiting import wait_for
from workspace.facts import RunSpec
from workspace.ids import row_id

STEPS = 14
ROWS = 40
LONG = 180.0


class History:
    """What happens, chosen by a seed. `said` tells it, for a failure to be understood."""

    def __init__(self, machines: list[RealMachine], seed: int) -> None:
        self.machines = machines
        self.said: list[str] = []
        self.runs: list[tuple[RunSpec, set[str]]] = []
        self._chance = random.Random(seed)
        self._seed = seed
        self._lost: dict[str, Callable[[], None]] = {}  # by name: what brings it back
        self._frozen: set[str] = set()

    def step(self) -> None:
        """One thing more."""
        (does,) = self._chance.choices([self._open, self._lose, self._bring_back], [3, 4, 3])
        does()
        wanted = self._facts() + self._chance.choice([1, 5, 20, 60])
        wait_for(lambda: self._facts() >= wanted or self._idle(), self._story, LONG)

    def end(self) -> None:
        """Everything is well again."""
        while self._lost:
            self._bring_back()
        wait_for(self._all_done, self._story, LONG)

    def _open(self) -> None:
        machine = self._chance.choice(self._awake())
        tag = f"{self._seed}.{len(self.runs)}"
        spec, rows = question(tag), messages(tag, ROWS)
        self.said.append(f"{machine.name} gets run {tag}")
        machine.engine.open_run(spec, rows)
        self.runs.append((spec, {row_id(text) for _, text, _ in rows}))

    def _lose(self) -> None:
        there = [machine for machine in self.machines if machine.name not in self._lost]
        if len(there) < 2:
            return
        machine = self._chance.choice(there)
        how = self._chance.choice(["kill", "freeze", "cut", "stop"])
        self.said.append(f"{how} {machine.name}{', which leads' if machine.leads else ''}")
        if how == "kill":
            machine.kill()
        elif how == "stop":
            machine.engine.shutdown()
            machine.kill()
        elif how == "freeze":
            machine.freeze()
        else:
            machine.cable.cut()
        back = {"freeze": machine.thaw, "cut": machine.cable.mend}
        self._lost[machine.name] = back.get(how, machine.start)
        if how != "cut":
            self._frozen.add(machine.name)

    def _bring_back(self) -> None:
        if self._lost:
            name = self._chance.choice(sorted(self._lost))
            self.said.append(f"{name} is back")
            self._lost.pop(name)()
            self._frozen.discard(name)

    def _awake(self) -> list[RealMachine]:
        """Those that answer their clients."""
        return [machine for machine in self.machines if machine.name not in self._frozen]

    def _facts(self) -> int:
        return sum(sum(machine.status.vector.values()) for machine in self._awake())

    def _idle(self) -> bool:
        return all(run.state != "running" for machine in self._awake() for run in machine.status.runs)

    def _all_done(self) -> bool:
        return all(machine.finished(spec, ROWS) for machine in self.machines for spec, _ in self.runs)

    def _story(self) -> str:
        shown = [f"{machine.name}: {machine.status.runs}" for machine in self._awake()]
        return "\n".join([f"what was to happen after seed {self._seed}:", *self.said, *shown])


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_anything_may_happen(network: Network, tmp_path: Path, seed: int) -> None:
    anything(network, tmp_path, seed)


def anything(network: Network, folder: Path, seed: int) -> None:
    machines = [RealMachine(network, f"machine{number}", folder) for number in range(3)]
    together(machines)
    history = History(machines, seed)
    for _ in range(STEPS):
        history.step()
    history.end()
    settled(machines)
    for spec, rows in history.runs:
        assert set(answers(machines[0], spec)) == rows, history.said
    files = [merged(machine, folder / "out") for machine in machines]
    assert all(filecmp.cmp(files[0], other, shallow=False) for other in files[1:])
    assert len(files[0].read_text().splitlines()) == len(history.runs) * ROWS
