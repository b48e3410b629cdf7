"""How machines look: picture, totals, cards of members and found machines, and the way to a second machine."""

from __future__ import annotations

from html import escape
from typing import Literal

import streamlit as st

from studio import machine_words as words
from studio import ui
from studio.components.cluster import cluster_picture
from studio.machine_dialogs import ask
from studio.machine_words import plain, state_of
from studio.run_views import Color
from studio.runtime import Studio
from studio.words import number, percent, plural
from workspace.machines import Cluster, FoundMachine, Machine

COMMAND = "winnow helper"
SCREEN = """\
Winnow helper. Ctrl-C stops it.

  Name  attic
  Key   ab12-cd34
  Code  482-913   1:52 left, 3 tries
        Type it in the studio: Machines, Add.\
"""
STEPS = (
    ("terminal", "Start it there", "A helper shows its name and a code of six digits."),
    ("add_circle", "Press Add here", "It appears on this page by itself, two seconds later."),
    ("pin", "Type its code", "From then on the two know each other, also after a restart."),
)
BADGES: dict[words.State, tuple[str, Color]] = {
    "working": (":material/bolt:", "green"),
    "ready": (":material/check_circle:", "gray"),
    "paused": (":material/pause_circle:", "orange"),
    "problem": (":material/warning:", "orange"),
    "silent": (":material/cloud_off:", "gray"),
}
FITNESS = "From how often it agrees with other machines and how fast it answers. Its vote counts accordingly."
RIGHTS = """\
Add machines you own. A member
- reads every row and every label of this workspace, and may write labels;
- keeps a copy of every row that is labeled and of every label, on its own disk;
- talks to the other members only, encrypted; a machine that was never added is told nothing.

A removed machine is refused for ever. It keeps what it has already, and the labels it made stay. To be sure that
no stranger took its place, compare its key with the one on its own screen.

**Fitness** comes from how often a machine agrees with others and how fast it answers; its vote counts accordingly.
**Agrees** is the share of rows that another machine answered too and that got the same label. **Missing** are
labels known here that are not on its disk yet.\
"""


def starting(studio: Studio) -> None:
    """Before the engine has told anything."""
    if studio.engine_error is not None:
        ui.show_error(studio.engine_error)
    else:
        with st.container(border=True, key="starting"):
            st.markdown(":material/hourglass_top: Starting the engine that looks for other machines")


def removed_notice() -> None:
    """This machine was removed by another one."""
    st.error(
        "**This machine was removed by another one, or the others were set up anew.**  \nNothing goes to them any "
        "more and nothing comes back. Every row and label that is here stays, and you can go on labeling alone.",
        icon=":material/link_off:",
    )
    if st.button("Start over as a new machine", key="start_over", icon=":material/restart_alt:"):
        ask("start_over")


def overview(cluster: Cluster) -> None:
    """The cluster at a glance: nothing while this machine is alone."""
    if cluster.removed:
        removed_notice()
    if len(cluster.machines) > 1:
        with st.container(border=True, key="picture"):
            cluster_picture(cluster, key="cluster_picture")
        totals(cluster)


def details(studio: Studio, cluster: Cluster) -> None:
    """Machines to add, and all members."""
    doors(studio, cluster)
    if len(cluster.machines) == 1 and not cluster.found:
        alone()
    ui.section("Members" if len(cluster.machines) > 1 else "This machine")
    with st.grid(3, min_column_width=380, key="members"):
        for machine in sorted(cluster.machines, key=lambda machine: (not machine.me, machine.rank)):
            member(studio, cluster, machine)


def totals(cluster: Cluster) -> None:
    """The cluster in four numbers."""
    leading = words.leader(cluster)
    here, all_of_them = len(words.present(cluster)), len(cluster.machines)
    shown = (
        ("Machines", number(here) if here == all_of_them else f"{here} of {all_of_them}", "Heard from right now."),
        ("Rows per second", number(words.total_speed(cluster)), "Labeled by all machines together."),
        ("Copies of every label", f"{cluster.copies} of {all_of_them}", words.copies(cluster)),
        (
            "Leader",
            leading.name if leading else "None yet",
            "Hands out the work. When it leaves, the others choose another. "
            f"Epoch {number(cluster.epoch)} counts the choices.",
        ),
    )
    with st.grid(4, key="totals"):
        for label, value, tip in shown:
            with st.container(border=True, height="stretch", key=f"total_{label.lower().replace(' ', '_')}"):
                st.metric(label, value, help=tip)


def doors(studio: Studio, cluster: Cluster) -> None:
    """The ways to a further machine: those found, one typed by its address, or this one shown to another."""
    with st.container(border=True, key="doors"):
        with st.container(horizontal=True, vertical_alignment="center"):
            if cluster.found:
                st.markdown(f"**{plural(len(cluster.found), 'machine')} found on your network**", width="stretch")
            else:
                st.markdown(":gray[:material/radar: Looking for machines on your network]", width="stretch")
            if st.button("Add by address", key="add_by_address", icon=":material/edit:", type="tertiary"):
                ask("address")
            if cluster.pairing is None:
                shown = st.button("Show a code here", key="show_code", icon=":material/pin:", type="tertiary")
                if shown:
                    with ui.guarded():
                        studio.open_pairing()
        for found in cluster.found:
            found_machine(cluster, found)
        if cluster.pairing is not None:
            code(studio, cluster)


def found_machine(cluster: Cluster, found: FoundMachine) -> None:
    """A machine of the network that does not belong to the cluster, with the one thing to do about it."""
    with st.container(horizontal=True, vertical_alignment="center", key=f"found_{found.id}"):
        with st.container(gap="xsmall"):
            shows = " :green-badge[:material/pin: shows a code]" if found.pairing else ""
            st.markdown(f":material/computer: **{plain(found.name)}**{shows}")
            other = "Belongs to other machines already. " if found.other_cluster else ""
            st.caption(f"{other}{plain(found.address)}")
        if not (found.other_cluster and len(cluster.machines) > 1):
            label = f"Add {plain(found.name, 24)}"
            kind: Literal["primary", "secondary"] = "secondary" if found.other_cluster else "primary"
            if st.button(label, key=f"add_{found.id}", icon=":material/add:", type=kind):
                ask("add", found.id)


def code(studio: Studio, cluster: Cluster) -> None:
    """The code of this machine, for the keyboard of another one."""
    pairing = cluster.pairing
    assert pairing is not None
    with st.container(horizontal=True, vertical_alignment="center", key="own_code"):
        with st.container(gap="xsmall"):
            st.markdown("**Code of this machine**")
            st.title(pairing.code, anchor=False)
            places = words.pairing_places(cluster)
            address = f" or adds it by the address {plain(places[0])}" if places else ""
            st.caption(
                f"Type it on the other machine, which finds this one under Machines{address}. "
                f"It lasts {words.clock(pairing.seconds_left)} and {plural(pairing.tries_left, 'try', 'tries')}."
            )
        if st.button("Hide", key="hide_code", icon=":material/close:"):
            with ui.guarded():
                studio.close_pairing()


def alone() -> None:
    """The first steps to a second machine."""
    sentence = "Run this on another machine. It labels too, and keeps a copy of every label."
    with ui.empty_state("lan", "One machine so far", sentence, key="alone"), st.container(width=460):
        st.code(COMMAND, language=None)
        st.caption(
            "In a fresh checkout of Winnow, `make helper` sets everything up first. What you will see there:"
        )
        st.code(SCREEN, language=None)
    with st.grid(3, key="how"):
        for icon, name, line in STEPS:
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(f":primary[:material/{icon}:] **{name}**")
                st.caption(line)


def member(studio: Studio, cluster: Cluster, machine: Machine) -> None:
    """The card of a member: what it does, how well, what it is, and the menu that changes it."""
    state = state_of(machine)
    with st.container(border=True, height="stretch", gap="small", key=f"machine_{machine.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            icon, color = BADGES[state]
            badges = f":{color}-badge[{icon} {words.STATES[state]}]"
            if machine.id == cluster.leader and len(cluster.machines) > 1:
                badges += " :gray-badge[:material/flag: Leads]"
            st.markdown(f"**{plain(machine.name)}** {badges}", width="stretch")
            menu(studio, cluster, machine)
        if state != "problem" or machine.doing:
            st.markdown(plain(words.doing(machine), 200))
        for problem in machine.problems:
            st.markdown(f":orange[:material/warning: {plain(problem, 300)}]")
        figures(machine)
        st.caption("  \n".join(particulars(machine)))


def menu(studio: Studio, cluster: Cluster, machine: Machine) -> None:
    """Pause, rename and remove."""
    verbs = ["Resume" if machine.paused else "Pause", "Rename"]
    if not machine.me and not cluster.removed:
        verbs.append("Remove")
    chosen = st.menu_button("Change", verbs, key=f"change_{machine.id}", type="tertiary")
    if chosen in ("Pause", "Resume"):
        with ui.guarded():
            studio.pause_machine(machine.id, chosen == "Pause")
    elif chosen == "Rename":
        ask("rename", machine.id)
    elif chosen == "Remove":
        ask("remove", machine.id)


def figures(machine: Machine) -> None:
    """How fast, how good, how complete; one element, for the page is drawn anew every other second."""
    compared = (
        f"So many of {plural(machine.compared, 'row')} that another machine answered too got the same label."
    )
    shown = (
        ("Speed", words.speed(words.rate(machine)), "Rows labeled per second now."),
        ("Fitness", "" if machine.fitness is None else percent(machine.fitness), FITNESS),
        ("Agrees", words.agreement(machine), compared),
        ("Missing", words.missing(machine), "Labels known here that are not on its disk yet."),
    )
    cells = "".join(
        f'<div title="{escape(tip)}"><div style="opacity: 0.64; font-size: 0.87em">{name}</div>'
        f"<b>{escape(value) or '–'}</b></div>"
        for name, value, tip in shown
    )
    st.html(f'<div style="display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px">{cells}</div>')


def particulars(machine: Machine) -> list[str]:
    """What the machine is, as captions; parts nothing is known of are left out."""
    heard = "" if machine.me else f"heard of {words.since(machine.silent_for)}"
    groups = (
        ("memory", [words.hardware(machine), words.room(machine)]),
        ("smart_toy", [words.models(machine)]),
        ("lan", [", ".join(machine.addresses), heard]),
        ("key", [machine.key_words, machine.software, "" if machine.mode == "auto" else f"mode {machine.mode}"]),
    )
    lines = []
    for icon, parts in groups:
        known = [plain(part, 160) for part in parts if part]
        if known:
            lines.append(f":material/{icon}: {', '.join(known)}")
    return lines


def rights() -> None:
    """What adding a machine means, in words."""
    with st.expander("What a member may do, and what the figures mean", icon=":material/shield:", key="rights"):
        st.markdown(RIGHTS)


def sign(studio: Studio) -> None:
    """On other pages: that other machines help, as a link to them. Nothing while this machine is alone."""
    cluster = studio.cluster
    if cluster is None or len(cluster.machines) < 2:
        return
    st.page_link(ui.page("machines"), label=words.summary(cluster), icon=":material/lan:")
