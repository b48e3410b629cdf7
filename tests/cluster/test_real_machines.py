"""Real engines on machines of their own network, with the embedded model: found, paired, lost, found again."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from engine.cluster import identity
from engine.cluster.sockets import new_keys
from tests.cluster.machines import PORT, RealMachine, answers, merged, messages, question, settled, together
from tests.cluster.network import Network
from tests.waiting import wait_for
from workspace.errors import EngineError
from workspace.facts import RunSpec

ROWS = 60
BLOWS = ("kill", "freeze", "cut")
LONG = 120.0  # seconds; a busy machine with two cores loads three models


@pytest.fixture
def machines(network: Network, tmp_path: Path) -> list[RealMachine]:
    """Three machines, not paired."""
    return [RealMachine(network, name, tmp_path) for name in ("studio", "helper", "third")]


def test_machines_find_each_other_pair_by_code_and_label_together(
    machines: list[RealMachine], tmp_path: Path
) -> None:
    studio, helper, third = machines
    spec, rows = question("together"), messages("together", ROWS)
    studio.engine.open_run(spec, rows)
    shown = helper.engine.open_pairing()
    found = wait_for(
        lambda: [machine for machine in studio.cluster.found if machine.name == "helper" and machine.pairing],
        "the helper to be found",
    )
    assert found[0].address == f"{helper.cable.ip}:{shown.port}"
    studio.engine.pair(found[0].address, shown.code)
    third.pair_with(studio)  # the code may be shown on either
    wait_for(lambda: all(machine.sees(*machines) for machine in machines), "the machines to meet")
    more = messages("more", 2 * ROWS)
    studio.engine.open_run(spec, more)
    _all_finish(machines, spec, 3 * ROWS, "everywhere")
    settled(machines)
    counted = answers(third, spec)
    assert set(counted) == {row for row, _, _ in rows + more}
    assert max(counted.values()) == 1
    workers = {entry_author for entry_author in third.logs() if third.logs()[entry_author]}
    assert len(workers) == 3
    files = [merged(machine, tmp_path / "out") for machine in machines]
    assert all(filecmp.cmp(files[0], other, shallow=False) for other in files[1:])
    assert len(files[0].read_text().splitlines()) == 3 * ROWS


@pytest.mark.parametrize("count", [2, 3])
def test_the_leader_may_be_lost_at_any_moment(network: Network, tmp_path: Path, count: int) -> None:
    lose_leaders(network, tmp_path, count, rounds=3)


@pytest.mark.soak
@pytest.mark.parametrize("count", [2, 3])
def test_the_leader_may_be_lost_again_and_again(network: Network, tmp_path: Path, count: int) -> None:
    lose_leaders(network, tmp_path, count, rounds=30)


def lose_leaders(network: Network, folder: Path, count: int, rounds: int) -> None:
    """Kill, freeze or cut off the leader in the middle of a run, `rounds` times over: nothing is ever lost."""
    machines = [RealMachine(network, f"machine{number}", folder) for number in range(count)]
    together(machines)
    for number in range(rounds):
        _lose_leader(machines, f"round {number}", BLOWS[number % len(BLOWS)])
    files = [merged(machine, folder / "out") for machine in machines]
    assert all(filecmp.cmp(files[0], other, shallow=False) for other in files[1:])
    assert len(files[0].read_text().splitlines()) == rounds * ROWS


def _lose_leader(machines: list[RealMachine], tag: str, blow: str) -> None:
    spec, rows = question(tag), messages(tag, ROWS)
    leader = wait_for(lambda: [machine for machine in machines if machine.leads], "a leader")[0]
    others = [machine for machine in machines if machine is not leader]
    others[0].engine.open_run(spec, rows)
    wait_for(lambda: _begun(leader, spec), "the first answers", LONG)
    if blow == "kill":
        leader.kill()
    elif blow == "freeze":
        leader.freeze()
    else:
        leader.cable.cut()
    wait_for(lambda: any(machine.leads for machine in others), f"a new leader after {blow}")
    _all_finish(others, spec, ROWS, f"after {blow}")
    if blow == "kill":
        leader.start()
    elif blow == "freeze":
        leader.thaw()
    else:
        leader.cable.mend()
    _all_finish([leader], spec, ROWS, f"where the leader was lost by {blow}")
    wait_for(lambda: all(machine.sees(*machines) for machine in machines), "the machines to meet again")
    settled(machines)
    assert set(answers(leader, spec)) == {row for row, _, _ in rows}


def _begun(machine: RealMachine, spec: RunSpec) -> bool:
    progress = machine.progress(spec)
    return progress is not None and progress.done > 0


def _all_finish(machines: list[RealMachine], spec: RunSpec, rows: int, when: str) -> None:
    wait_for(lambda: all(machine.finished(spec, rows) for machine in machines), f"the run to end {when}", LONG)


def test_strangers_get_nothing_and_a_removed_machine_nothing_more(machines: list[RealMachine]) -> None:
    studio, helper, third = machines
    together(machines[:2])
    with pytest.raises(EngineError, match=r"[Cc]ode"):
        studio.engine.pair(f"{third.cable.ip}:{third.engine.open_pairing().port}", "000-000")
    # A machine that was not paired knows the address and the studio's key, and yet is not let in.
    assert not third.cable.do(lambda: _is_let_in(f"tcp://{studio.cable.ip}:{PORT}", identity.load(studio.folder)))
    assert not third.sees(studio)

    studio.engine.revoke(helper.me.id)
    wait_for(lambda: [machine.name for machine in studio.cluster.machines] == ["studio"], "the helper to be gone")
    before = helper.status.vector
    studio.engine.open_run(question("later"), messages("later", 5))
    wait_for(lambda: studio.finished(question("later"), 5), "the run to end", LONG)
    assert helper.status.vector == before
    with pytest.raises(EngineError):
        studio.pair_with(helper)


def _is_let_in(endpoint: str, there: identity.Identity) -> bool:
    """Whether somebody with a key of his own is let in."""
    mine, context = new_keys(), zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.curve_publickey, dealer.curve_secretkey = mine.public.encode(), mine.secret.encode()
    dealer.curve_serverkey = there.keys.public.encode()
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    monitor = dealer.get_monitor_socket(events)
    dealer.connect(endpoint)
    event = recv_monitor_message(monitor)["event"]
    context.destroy(0)
    return bool(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)


def test_a_code_is_worth_three_tries(machines: list[RealMachine]) -> None:
    studio, helper = machines[:2]
    shown = helper.engine.open_pairing()
    wrong = "111-111" if shown.code != "111-111" else "222-222"
    for _ in range(3):
        with pytest.raises(EngineError):
            studio.engine.pair(f"{helper.cable.ip}:{shown.port}", wrong)
    with pytest.raises(EngineError):
        studio.engine.pair(f"{helper.cable.ip}:{shown.port}", shown.code)
    assert [machine.name for machine in studio.cluster.machines] == ["studio"]
    studio.pair_with(helper)  # a new code is as good as ever
    wait_for(lambda: studio.sees(helper), "the helper")
