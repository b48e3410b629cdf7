"""Machines whose addresses change, and a network on which nobody can call out: they meet again all the same."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.machines import PORT, RealMachine, answers, messages, question, together
from tests.cluster.network import Network
from tests.waiting import wait_for

ROWS = 30


def test_machines_that_were_given_other_addresses_find_each_other(network: Network, tmp_path: Path) -> None:
    studio, helper = machines = [
        RealMachine(network, name, tmp_path, listen=f"0.0.0.0:{PORT}") for name in ("studio", "helper")
    ]
    together(machines)
    for machine in machines:
        machine.cable.move()
    wait_for(lambda: meet(machines), lambda: f"the machines to meet again: {studio.cluster} {helper.cluster}", 120)
    they_work(machines, "moved")


def test_machines_without_multicast_meet_where_they_are_told(network: Network, tmp_path: Path) -> None:
    studio, helper = machines = [
        RealMachine(network, name, tmp_path, listen=f"0.0.0.0:{PORT}", find="none")
        for name in ("studio", "helper")
    ]
    together(machines)
    for machine in machines:
        machine.kill()
        machine.cable.move()
    studio.start()
    helper.start(peers=(f"{studio.cable.ip}:{PORT}",))
    wait_for(lambda: meet(machines), lambda: f"the machines to meet again: {studio.cluster} {helper.cluster}")
    they_work(machines, "told")


def meet(machines: list[RealMachine]) -> bool:
    """Whether every machine hears every other one at the address it has now."""
    return all(
        machine.sees(other) and f"{other.cable.ip}:{PORT}" in machine.shows(other).addresses
        for machine in machines
        for other in machines
    )


def they_work(machines: list[RealMachine], tag: str) -> None:
    """Have the last of them label what the first one got."""
    first, last = machines[0], machines[-1]
    spec, rows = question(tag), messages(tag, ROWS)
    first.engine.set_member(first.me.id, paused=True)
    first.engine.open_run(spec, rows)
    wait_for(lambda: first.finished(spec, ROWS), "the run to end", 120)
    assert sum(answers(first, spec, by=last).values()) == ROWS
