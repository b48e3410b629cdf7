"""The picture of the cluster: machines as cards, the leader among them, and the rows on their way between them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from studio.machine_words import STATES, chip, leader, leadership, rate, speed, state_of, summary, total_speed
from studio.words import percent, plural
from workspace.machines import Cluster, Machine

FOLDER = Path(__file__).resolve().parent
DOTS_PER_SECOND = 4.0  # on the busiest way; more could not be told apart
STEPS = (1, 2, 5)  # and their tens: how many rows a dot may stand for


@cache
def _component() -> Any:
    return st.components.v2.component(
        "winnow_cluster",
        html=(FOLDER / "cluster.html").read_text(encoding="utf-8"),
        css=(FOLDER / "cluster.css").read_text(encoding="utf-8"),
        js=(FOLDER / "cluster.js").read_text(encoding="utf-8"),
    )


def rows_per_dot(fastest: float) -> int:
    """How many rows a dot stands for, so that a way with `fastest` rows per second stays readable."""
    tens = 1
    while True:
        for step in STEPS:
            if fastest <= step * tens * DOTS_PER_SECOND:
                return step * tens
        tens *= 10


def picture(cluster: Cluster) -> dict[str, Any]:
    """What the component draws: work flows between the leader (this machine while there is none) and the rest."""
    leading = leader(cluster)
    own = next((machine for machine in cluster.machines if machine.me), None)
    hub = leading or own or cluster.machines[0]
    total = total_speed(cluster)
    fastest = max((rate(machine) for machine in cluster.machines if machine.id != hub.id), default=0.0)
    flows = any(machine.id != hub.id and rate(machine) for machine in cluster.machines)
    dot = rows_per_dot(fastest)
    dots = [["out", "rows to label"], ["back", "labels coming back"], ["", f"a dot is {plural(dot, 'row')}"]]
    return {
        "hub": hub.id,
        "sentence": f"{summary(cluster)}. {leadership(cluster)}",
        "rows_per_dot": dot,
        "legend": dots if flows else [],
        "legend_still": [["thick", "the thicker the line, the more rows per second"]] if flows else [],
        "machines": [_drawn(machine, leading, total) for machine in cluster.machines],
    }


def cluster_picture(cluster: Cluster, *, key: str) -> None:
    """Draw the cluster. Called again with new figures it moves on without starting over."""
    _component()(key=key, data=picture(cluster))


def _drawn(machine: Machine, leading: Machine | None, total: float) -> dict[str, Any]:
    state = state_of(machine)
    share = rate(machine) / total if total else 0.0
    leads = machine is leading
    line = speed(rate(machine))
    part = "This machine" if machine.me else chip(machine)
    words = [machine.name, "hands out the work" if leads else "", line or STATES[state], "Show its details"]
    return {
        "id": machine.id,
        "name": machine.name,
        "leads": leads,
        "state": state,
        "line": line or STATES[state],
        "of_the_work": percent(share) if 0 < share < 1 else "",
        "part": part,
        "rate": rate(machine),
        "share": share,
        "sentence": ". ".join(word for word in words if word),
    }
