"""A machine is removed in the middle of its work, begins anew and is taken in again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.machines import RealMachine, answers, messages, question, together
from tests.cluster.network import Network
from tests.waiting import wait_for
from workspace.errors import EngineError
from workspace.ids import row_id

ROWS = 90


def test_a_machine_removed_at_work_begins_anew_and_helps_again(network: Network, tmp_path: Path) -> None:
    studio, helper = machines = [RealMachine(network, name, tmp_path) for name in ("studio", "helper")]
    together(machines)
    spec, rows = question("removal"), messages("removal", ROWS)
    studio.engine.open_run(spec, rows)
    wait_for(lambda: answers(studio, spec, by=helper), "the first labels of the helper", 120)
    with pytest.raises(EngineError):
        helper.engine.start_over()  # it is a member
    before = helper.me.id
    studio.engine.revoke(before)
    wait_for(lambda: [machine.name for machine in studio.cluster.machines] == ["studio"], "the helper to be gone")
    known = answers(studio, spec, by=helper)
    wait_for(lambda: studio.finished(spec, ROWS), "the run to end", 120)
    counted = answers(studio, spec)
    assert set(counted) == {row_id(text) for _, text, _ in rows}
    assert max(counted.values()) == 1
    assert answers(studio, spec, by=helper) == known, "labels came after the removal"

    wait_for(lambda: helper.cluster.removed, "the helper to notice")
    helper.engine.start_over()
    helper.engine.close()
    assert helper.process.wait(30) == 0
    assert len(list(helper.folder.glob("removed-*/ledger.sqlite"))) == 1  # nothing is deleted
    helper.start()
    assert helper.me.id != before
    assert not helper.cluster.removed
    assert not helper.status.runs
    together(machines)
    studio.engine.set_member(studio.me.id, paused=True)
    again, more = question("again"), messages("again", 20)
    studio.engine.open_run(again, more)
    wait_for(lambda: all(machine.finished(again, 20) for machine in machines), "the run to end", 120)
    assert sum(answers(studio, again, by=helper).values()) == 20
    assert sum(answers(helper, spec).values()) == ROWS  # and it has all there was
