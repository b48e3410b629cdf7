"""A model only one machine has goes to the other over the network, also when that one dies on the way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from engine.cluster.messages import PIECE_BYTES
from tests.cluster.machines import RealMachine, answers, messages, question, second_model, together
from tests.cluster.network import Network
from tests.waiting import wait_for
from workspace.ids import row_id

ROWS = 30
SOME = 16 * PIECE_BYTES


def test_a_model_is_fetched_and_goes_on_after_the_machine_died(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_WEIGHTS", "original")  # which form is faster is not the question here
    studio, helper = machines = [RealMachine(network, name, tmp_path) for name in ("studio", "helper")]
    model = second_model(studio.models / "Second.Q4_1.gguf")
    size = Path(model.path).stat().st_size
    spec, rows = question("travel", model), messages("travel", ROWS)
    together(machines)
    studio.engine.set_member(studio.me.id, paused=True)  # whatever is labeled, the helper does it
    studio.engine.open_run(spec, rows)
    part = helper.models / f".{model.digest}.part"
    wait_for(lambda: part.exists() and part.stat().st_size > SOME, "the first pieces of the model")
    helper.kill()
    held = part.stat().st_size
    assert held < size, "it was all there already"
    assert not list(helper.models.glob("*.gguf"))

    before = received(helper)
    helper.start()
    (file,) = wait_for(lambda: list(helper.models.glob("*.gguf")), "the model")
    assert file.name == "Second.Q4_1.gguf"
    assert file.read_bytes() == Path(model.path).read_bytes()
    assert received(helper) - before < size - held + 8 * PIECE_BYTES, "what was there already came again"
    wait_for(lambda: all(machine.finished(spec, ROWS) for machine in machines), "the run to end", 120)
    counted = answers(studio, spec, by=helper)
    assert set(counted) == {row_id(text) for _, text, _ in rows}
    assert max(counted.values()) == 1
    assert model.name in helper.me.models


def received(machine: RealMachine) -> int:
    """Bytes that have come to a machine by its cable."""
    shown = ["ip", "-statistics", "-json", "link", "show", "eth0"]
    process = machine.cable.run(shown, stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=30)
    return int(json.loads(said)[0]["stats64"]["rx"]["bytes"])
