"""What `winnow helper` says: a screen in a terminal, lines of news in a log. Words made from a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from studio import machine_words as words
from studio.machine_words import State, state_of
from studio.words import plural
from workspace.machines import Cluster, Machine

HOW = "Type it in the studio: Machines, Add."
BURNT = "Wrong codes were typed. A new code: winnow helper --code"
REMOVED = (
    "Removed from its cluster, or the others were set up anew. To be paired again: winnow helper --start-over"
)
ADDRESSES = 3  # shown at most; a machine with containers has dozens


def me(cluster: Cluster) -> Machine:
    """This machine."""
    return next(machine for machine in cluster.machines if machine.me)


def others(cluster: Cluster) -> list[Machine]:
    """All members but this one, the leader first, then in order of pairing."""
    found = [machine for machine in cluster.machines if not machine.me]
    return sorted(found, key=lambda machine: (machine.id != cluster.leader, machine.rank))


def screen(cluster: Cluster, *, burnt: bool = False, api: str = "") -> list[tuple[str, str]]:
    """Everything in labeled lines; a line without a label goes on with the one before."""
    mine = me(cluster)
    lines = [("Name", mine.name), ("Key", mine.key_words)]
    if cluster.removed:
        return [*lines, ("", REMOVED)]
    if cluster.pairing is not None:
        lines += code(cluster)
    elif burnt:
        lines.append(("Code", BURNT))
    elif len(cluster.machines) == 1:
        lines.append(("Code", "Shown by: winnow helper --code"))
    shown = [*mine.addresses[:ADDRESSES]]
    lines += labeled("Reached at", shown)
    lines += labeled("Machines", [_other(machine, cluster) for machine in others(cluster)] or ["None yet"])
    lines.append(("Doing", with_speed(mine)))
    lines += labeled("Problem", mine.problems)
    if len(cluster.machines) > 1:
        lines.append(("Labels", words.copies(cluster)))
    if api:
        lines.append(("Status", api))
    return lines


def code(cluster: Cluster) -> list[tuple[str, str]]:
    """The code, how long it lasts, and where to type it."""
    pairing = cluster.pairing
    assert pairing is not None
    left = f"{words.clock(pairing.seconds_left)} left, {plural(pairing.tries_left, 'try', 'tries')}"
    lines = [("Code", f"{pairing.code}   {left}"), ("", HOW)]
    if places := words.pairing_places(cluster):
        lines.append(("", f"Where machines do not find each other, add it by the address {places[0]}"))
    return lines


def code_line(cluster: Cluster) -> str:
    """The code for a log, where nothing is drawn over."""
    assert cluster.pairing is not None
    places = words.pairing_places(cluster)
    by_address = f" By address: {places[0]}." if places else ""
    seconds = round(cluster.pairing.seconds_left)
    return f"Code {cluster.pairing.code}, for {seconds} seconds. {HOW}{by_address}"


def labeled(label: str, lines: Sequence[str]) -> list[tuple[str, str]]:
    """Lines under one label."""
    return [(label if index == 0 else "", line) for index, line in enumerate(lines)]


def with_speed(machine: Machine) -> str:
    """What a machine does and how fast."""
    return ", ".join(part for part in (words.doing(machine), words.speed(words.rate(machine))) if part)


def news(before: Cluster | None, after: Cluster) -> list[str]:
    """What is worth a line in a log, between two looks at the cluster. Speeds are not: they always change."""
    mine = me(after)
    if before is None or me(before).id != mine.id:
        reached = f", reached at {', '.join(mine.addresses[:ADDRESSES])}" if mine.addresses else ""
        lines = [f"{mine.name}, key {mine.key_words}{reached}"]
        if len(after.machines) == 1 and after.pairing is None:
            lines.append("Not paired yet. A code for the studio: winnow helper --code")
        lines += [f"Works with {machine.name} ({machine.key_words})" for machine in others(after)]
        return [*lines, *([REMOVED] if after.removed else [])]
    lines = []
    known = {machine.id: machine for machine in before.machines}
    for machine in others(after):
        was = known.get(machine.id)
        if was is None:
            lines.append(f"Paired with {machine.name} ({machine.key_words})")
        elif was.alive != machine.alive:
            lines.append(f"{machine.name} is back" if machine.alive else f"{machine.name} is silent")
    gone = known.keys() - {machine.id for machine in after.machines}
    lines += [f"{known[id].name} was removed" for id in sorted(gone)]
    if after.leader and after.leader != before.leader:
        leading = words.leader(after)
        if leading is not None:
            lines.append("This machine hands out the work now" if leading.me else f"{leading.name} leads now")
    lines += _own_news(me(before), mine)
    if after.removed and not before.removed:
        lines.append(REMOVED)
    return lines


def _own_news(was: Machine, now: Machine) -> list[str]:
    lines = []
    quiet: tuple[State, ...] = ("ready", "paused", "problem")
    if now.doing and _steady(now.doing) != _steady(was.doing):
        lines.append(now.doing)
    elif state_of(was) == "working" and state_of(now) in quiet:
        lines.append(words.doing(now))
    lines += [f"Problem: {problem}" for problem in now.problems if problem not in was.problems]
    if now.name != was.name:
        lines.append(f"This machine is called {now.name} now")
    return lines


def _steady(doing: str) -> str:
    """What is done without how far it is: a download is not news at every percent."""
    return "".join(letter for letter in doing if not letter.isdecimal())


def _other(machine: Machine, cluster: Cluster) -> str:
    parts = ["leads" if machine.id == cluster.leader else "", machine.key_words]
    if state_of(machine) == "silent":
        parts.append(f"silent, last heard of {words.since(machine.silent_for)}")
    return f"{machine.name} ({', '.join(part for part in parts if part)})"
