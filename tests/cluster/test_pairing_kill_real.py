"""A machine killed in the very moment it is paired, at either end: the next code makes all good."""

from __future__ import annotations

import contextlib
import random
import threading
from pathlib import Path

import pytest

from tests.cluster.machines import RealMachine, answers, messages, question, settled
from tests.cluster.network import Network
from tests.waiting import wait_for
from workspace.errors import WinnowError
from workspace.ids import row_id

ROWS = 10
LONGEST = 0.25  # seconds; a pairing takes about 0.1


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_a_machine_may_die_while_it_is_paired(network: Network, tmp_path: Path, seed: int) -> None:
    die_while_paired(network, tmp_path, seed)


def die_while_paired(network: Network, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    studio, helper = machines = [RealMachine(network, name, folder) for name in ("studio", "helper")]
    before = [(question(machine.name), messages(machine.name, ROWS)) for machine in machines]
    for machine, (spec, rows) in zip(machines, before, strict=True):
        machine.engine.open_run(spec, rows)  # what each had before both will have
    dies = chance.choice(machines)
    shown = helper.engine.open_pairing()
    blow = threading.Timer(chance.uniform(0, LONGEST), dies.process.kill)
    blow.start()
    with contextlib.suppress(WinnowError):
        studio.engine.pair(f"{helper.cable.ip}:{shown.port}", shown.code)
    blow.join()
    dies.process.wait()
    dies.kill()
    dies.start()
    studio.pair_with(helper)
    wait_for(lambda: all(machine.sees(*machines) for machine in machines), "the machines to meet")
    assert studio.cluster.id == helper.cluster.id
    assert len(studio.cluster.machines) == len(helper.cluster.machines) == 2
    ends = [(machine, spec) for machine in machines for spec, _ in before]
    wait_for(lambda: all(machine.finished(spec, ROWS) for machine, spec in ends), "the runs to end", 120)
    settled(machines)
    for spec, rows in before:
        assert set(answers(helper, spec)) == {row_id(text) for _, text, _ in rows}
