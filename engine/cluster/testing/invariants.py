"""What must hold at the end: I1 to I3, I8 to I10, I12. What must hold all the time is in `watch`."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from engine.cluster.entries import Decided, Labeled, RowsPlanned, RunOpened, StateSet, member_of
from engine.cluster.testing.winners import RowKey, Winners
from workspace.facts import RunSpec

if TYPE_CHECKING:
    from engine.cluster.testing.cluster import World
    from engine.cluster.testing.machine import Machine


def settled(world: World) -> bool:
    """Whether all machines hold the same facts, and every run that should go on is done."""
    machines = world.people.valid()
    first = machines[0].disk.ends
    return (
        all(machine.disk.ends == first for machine in machines)
        and sum(machine.core.is_leader for machine in machines) == 1
        and len({machine.core.epoch for machine in machines}) == 1
        and not any(any(machine.core.plan.working()) for machine in machines)
        and not any(machine.busy for machine in machines)
    )


def check(world: World) -> list[str]:
    """Every violation at the end of a history."""
    machines = world.people.valid()
    if not machines:
        return []
    tables = [world.laws.winners(machine.disk.arrived()) for machine in machines]
    return [
        *_kept(world, machines),
        *_equal(machines, tables),
        *_complete(world, machines[0], tables[0]),
        *_finished(world, machines),
        *_thrifty(world),
        *_human(machines[0], tables[0]),
        *_sealed(world, machines),
    ]


def _kept(world: World, machines: list[Machine]) -> list[str]:
    """I1: what a machine said it holds is not lost while that machine has its disk."""
    wrong = []
    for machine in machines:
        for author, end in sorted(world.watch.promised[machine.author].items()):
            for other in machines:
                if other.disk.ends.get(author, 0) < end:
                    short = f"{world.name_of(member_of(author))}/{end}"
                    wrong.append(
                        f"I1 {machine.name} said it holds {short}, {other.name} does not have it at the end"
                    )
    return wrong


def _equal(machines: list[Machine], tables: list[Winners]) -> list[str]:
    """I2: equal sets of facts, and byte for byte the same labels; and every core sees the same."""
    wrong = []
    first, table = machines[0], tables[0].table()
    logs = {author: log for author, log in first.disk.logs.items() if log}
    state = _view(first)
    for machine, other in zip(machines[1:], tables[1:], strict=True):
        if {author: log for author, log in machine.disk.logs.items() if log} != logs:
            wrong.append(f"I2 {first.name} and {machine.name} hold different facts")
        if other.table() != table:
            wrong.append(f"I2 {first.name} and {machine.name} come to different labels")
        if other.decisions != tables[0].decisions or other.conflicts != tables[0].conflicts:
            wrong.append(f"I2 {first.name} and {machine.name} see different decisions of people")
        if (seen := _view(machine)) != state:
            different = [f"{a} / {b}" for a, b in zip(state, seen, strict=False) if a != b]
            wrong.append(f"I2 the cores of {first.name} and {machine.name} differ: {different[:3]}")
    return wrong


def _view(machine: Machine) -> list[object]:
    core = machine.core
    runs = [
        (run.run_id, run.state, run.rows, run.done, run.failed, run.left)
        for run in sorted(core.plan.runs.values(), key=lambda run: run.run_id)
    ]
    members = sorted(core.members.values(), key=lambda member: member.id)
    return [sorted(core.vector.items()), runs, members, sorted(core.membership.revoked)]


def _complete(world: World, machine: Machine, table: Winners) -> list[str]:
    """I3: in a run that goes on every row has one label that counts, no other row any; the core counts alike."""
    wrong = []
    specs: dict[str, RunSpec] = {}
    states: dict[str, tuple[tuple[int, str, int], str]] = {}
    planned: dict[str, set[str]] = {}
    answered: set[RowKey] = set()
    whole: set[tuple[str, str]] = set()  # run and row: answered once without any error
    for entry in machine.disk.everything():
        body = world.watch.body(entry)
        if isinstance(body, RunOpened):
            specs.setdefault(body.spec.run_id, body.spec)
        elif isinstance(body, RowsPlanned):
            planned.setdefault(body.run_id, set()).update(row for row, _, _ in body.rows)
        elif isinstance(body, StateSet):
            said = ((body.clock, entry.author, entry.seq), body.state)
            states[body.run_id] = max(states.get(body.run_id, said), said)
        elif isinstance(body, Labeled):
            answered.update((body.run_id, row, name) for row in body.rows for name, _, _ in body.about.dimensions)
            whole.update(
                (body.run_id, row) for at, row in zip(body.at, body.rows, strict=True) if at not in body.failed
            )
    if set(table.table()) != answered:
        wrong.append("I3 rows with an answer and rows with a label are not the same")
    for run_id, spec in specs.items():
        rows = planned.get(run_id, set())
        due = {(run_id, row, dimension.name) for row in rows for dimension in spec.dimensions}
        here = {key for key in answered if key[0] == run_id}
        run = machine.core.plan.runs[run_id]
        state = states.get(run_id, (None, "paused"))[1]
        if state != run.state:
            wrong.append(f"I3 {run_id} is {run.state} at {machine.name} and should be {state}")
        if not here <= due:
            wrong.append(f"I3 {run_id} has answers to rows that were not planned")
        if state == "running" and here != due:
            wrong.append(f"I3 {run_id} lacks {len(due - here)} of {len(due)} answers")
        per_row = collections.Counter(row for _, row, _ in here)
        complete = {row for row in rows if per_row[row] == len(spec.dimensions)}
        failed = {row for row in complete if (run_id, row) not in whole}
        counted = run.rows, run.done, run.failed
        if counted != (there := (len(rows), len(complete), len(failed))):
            wrong.append(f"I3 {run_id}: the core counts {counted} rows, done and failed, there are {there}")
    return wrong


def _finished(world: World, machines: list[Machine]) -> list[str]:
    """I8: once all is healed and a worker lives, every run ends; nobody keeps anything to himself."""
    wrong = []
    if not world.people.content:
        wrong.append("I8 people never got everything in order")
    if not settled(world):
        runs = sorted({run.run_id for machine in machines for run in machine.core.plan.working()})
        wrong.append(f"I8 not done in time: {runs or 'facts are not everywhere'}")
    leaders = {machine.core.epoch for machine in machines}
    if len(leaders) > 1 or sum(machine.core.is_leader for machine in machines) != 1:
        wrong.append(f"I8 there is not one leader at the end: {sorted(epoch.number for epoch in leaders)}")
    return wrong


def _thrifty(world: World) -> list[str]:
    """I9: without faults nothing is computed twice, but for the backups of slow claims at the end of the work.
    With one fault it is at most what was out when it struck."""
    wasted, allowed = world.watch.wasted(), world.faults.allowed
    if world.profile.peaceful and wasted:
        return [f"I9 computed more than once without any fault: {wasted[:5]}"]
    if allowed is not None and len(wasted) > allowed:
        return [f"I9 {len(wasted)} answers were computed twice because of one fault, {allowed} were out"]
    return []


def _human(machine: Machine, table: Winners) -> list[str]:
    """I10: what a person decided last is what counts, whatever models say. Counted here in another way."""
    wrong = []
    decided: dict[tuple[str, str, str], list[tuple[int, str, int, Decided]]] = {}
    tasks: dict[str, str] = {}
    for entry in machine.disk.everything():
        body = machine.world.watch.body(entry)
        if isinstance(body, Decided):
            key = (body.task_name, body.row_id, body.dimension)
            decided.setdefault(key, []).append((body.clock, entry.author, entry.seq, body))
        elif isinstance(body, RunOpened):
            tasks[body.spec.run_id] = body.spec.task_name
    rows = table.table()
    for (run_id, row, dimension), winner in rows.items():
        events = decided.get((tasks.get(run_id, ""), row, dimension), [])
        last = max(events, key=lambda event: event[:3])[3] if events else None
        human = last is not None and last.standing
        if human != (winner.kind == "human"):
            wrong.append(
                f"I10 {row} of {run_id} counts as {winner.kind}, a person {'decided' if human else 'did not'}"
            )
        elif human and last is not None and winner.label != last.label:
            wrong.append(f"I10 {row} of {run_id} is {winner.label}, decided was {last.label}")
    return wrong


def _sealed(world: World, machines: list[Machine]) -> list[str]:
    """I12: what was exported follows from the seal on every machine, for ever, if the seal is known there."""
    wrong = []
    for export in world.people.exports:
        for machine in machines:
            ends = machine.disk.ends
            known = all(ends.get(author, 0) >= end for author, end in export.vector.items())
            if known and world.export(machine, export.run_id, export.vector) != export.labels:
                wrong.append(f"I12 {machine.name} sees another export of {export.run_id} than {export.machine}")
                break
    return wrong
