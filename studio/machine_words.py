"""What is said of machines, the same on the page and in a terminal: states, figures and sentences, no drawing."""

from __future__ import annotations

import re
from typing import Literal

from studio.words import number, percent, plural
from workspace.machines import Cluster, Machine

State = Literal["working", "ready", "paused", "problem", "silent"]

STATES: dict[State, str] = {
    "working": "Working",
    "ready": "Ready",
    "paused": "Paused",
    "problem": "Problem",
    "silent": "Silent",
}
CODE_DIGITS = 6


def state_of(machine: Machine) -> State:
    """The one word that matters most about a machine now."""
    if not machine.alive and not machine.me:
        return "silent"
    if machine.paused:
        return "paused"
    if machine.claims or machine.doing:
        return "working"
    return "problem" if machine.problems else "ready"


def doing(machine: Machine) -> str:
    """What a machine is at: its own words, else its state in a sentence."""
    state = state_of(machine)
    if state == "silent":
        return f"Last heard of {since(machine.silent_for)}; others do its work"
    if state == "paused":
        return "Paused: it is given no rows and still keeps a copy of every label"
    return machine.doing or ("Labeling" if state == "working" else "Waiting for work")


def speed(rows_per_s: float) -> str:
    """41.3 -> "41 rows/s"; nothing is "" rather than "0 rows/s"."""
    return f"{number(rows_per_s)} rows/s" if rows_per_s >= 0.05 else ""


def rate(machine: Machine) -> float:
    """Rows per second it does now. Its last pace stays known when it rests or falls silent, but does not count."""
    return machine.rows_per_s if state_of(machine) == "working" else 0.0


def total_speed(cluster: Cluster) -> float:
    """Rows per second of all machines together."""
    return sum(map(rate, cluster.machines))


def present(cluster: Cluster) -> list[Machine]:
    """Machines heard from now, this one included."""
    return [machine for machine in cluster.machines if state_of(machine) != "silent"]


def summary(cluster: Cluster) -> str:
    """The cluster in a line: "3 machines, 1 silent, 41 rows/s"."""
    silent = len(cluster.machines) - len(present(cluster))
    parts = [plural(len(cluster.machines), "machine"), f"{silent} silent" if silent else ""]
    return ", ".join(part for part in [*parts, speed(total_speed(cluster))] if part)


def copies(cluster: Cluster) -> str:
    """How many machines hold every label: what can be lost without losing anything."""
    if len(cluster.machines) == 1:
        return "Every label is on this machine only."
    if cluster.copies >= len(cluster.machines):
        return f"Every label is on all {plural(len(cluster.machines), 'machine')}."
    if cluster.copies <= 1:
        return "The newest labels are on this machine only; the others are catching up."
    return f"Every label is on {number(cluster.copies)} of {plural(len(cluster.machines), 'machine')}."


def leader(cluster: Cluster) -> Machine | None:
    """The machine that hands out the work, None while there is none."""
    return next((machine for machine in cluster.machines if machine.id == cluster.leader), None)


def leadership(cluster: Cluster) -> str:
    """Who hands out the work, and how many leaders there have been."""
    found = leader(cluster)
    if found is None:
        return "The machines are choosing who hands out the work."
    who = "This machine" if found.me else found.name
    return f"{who} hands out the work (epoch {number(cluster.epoch)})."


def since(seconds: float | None) -> str:
    """When a machine was last heard of: 0.4 -> "now", 75 -> "1 minute ago"; None is never."""
    if seconds is None:
        return "not since this engine started"
    if seconds < 2:
        return "now"
    if seconds < 60:
        return f"{plural(round(seconds), 'second')} ago"
    if seconds < 3600:
        return f"{plural(round(seconds / 60), 'minute')} ago"
    if seconds < 86_400:
        return f"{plural(round(seconds / 3600), 'hour')} ago"
    return f"{plural(round(seconds / 86_400), 'day')} ago"


def memory(count: int) -> str:
    """Memory in the binary units it is sold in: 17_179_869_184 -> "16 GB"; unknown is ""."""
    if count <= 0:
        return ""
    if count < 1 << 30:
        return f"{round(count / (1 << 20))} MB"
    return f"{number(count / (1 << 30))} GB"


def hardware(machine: Machine) -> str:
    """The parts that decide how fast it is: "RTX 4070, 16 cores"."""
    cores = plural(machine.cores, "core") if machine.cores else ""
    return ", ".join(part for part in (machine.gpu, cores) if part)


def chip(machine: Machine) -> str:
    """The one part that decides most, in a few letters: "RTX 4070", else "8 cores"."""
    return machine.gpu.removeprefix("NVIDIA ").removeprefix("GeForce ") or hardware(machine)


def room(machine: Machine) -> str:
    """Its memory: "31 GB of 64 GB free"."""
    total = memory(machine.memory)
    if not total:
        return ""
    return f"{memory(machine.memory_free)} of {total} free" if machine.memory_free > 0 else total


def models(machine: Machine) -> str:
    """The models that lie on it; one that no run here names is known by the start of its digest."""
    return ", ".join(f"model {name[:8]}" if _DIGEST.fullmatch(name) else name for name in machine.models)


def missing(machine: Machine) -> str:
    """Labels this machine holds and that one does not yet."""
    return "None" if machine.facts_behind <= 0 else number(machine.facts_behind)


def agreement(machine: Machine) -> str:
    """How often it gave the same label as another machine, "" while unknown."""
    return percent(machine.agreement) if machine.agreement is not None and machine.compared else ""


def pairing_places(cluster: Cluster) -> list[str]:
    """host:port at which this machine waits to be paired, likeliest first."""
    own = next((machine.addresses for machine in cluster.machines if machine.me), ())
    hosts = dict.fromkeys(address.rpartition(":")[0] for address in own)
    return [f"{host}:{cluster.pairing.port}" for host in hosts if host] if cluster.pairing else []


def clock(seconds: float) -> str:
    """Time left of something short: 112 -> "1:52"."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02}"


def code_of(typed: str) -> str:
    """The code as it is shown, whatever was typed around its digits: "482 913" -> "482-913"; "" if it is none."""
    digits = "".join(letter for letter in typed if letter.isdecimal() and letter.isascii())
    rest = typed.replace(" ", "").replace("-", "")
    return f"{digits[:3]}-{digits[3:]}" if len(digits) == CODE_DIGITS and rest == digits else ""


def plain(text: str, length: int = 80) -> str:
    """Words of another machine inside Markdown: shown letter by letter, never as a link, picture or style."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    shown = line if len(line) <= length else line[: length - 1] + "…"
    return "".join(f"\\{letter}" if letter in _MARKS else letter for letter in shown)


_DIGEST = re.compile(r"[0-9a-f]{32,}")
_MARKS = frozenset("\\`*_{}[]()<>#+-.!|~$:&@/^=\"'")
