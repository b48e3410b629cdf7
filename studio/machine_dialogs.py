"""What is asked before a machine is added, renamed or removed.

The page around them draws itself anew every second; a dialog opened there would vanish with the next drawing. So a
button only notes what was asked, and the page opens the dialog from outside of that until it is answered.
"""

from __future__ import annotations

from typing import Literal, NoReturn

import streamlit as st

from studio import ui
from studio.machine_words import CODE_DIGITS, code_of, plain
from studio.runtime import Studio
from workspace.machines import Machine

Question = Literal["add", "address", "rename", "remove", "start_over"]
ASKED = "machine_question"
NAME_LENGTH = 60
CODE_PATTERN = (r"^\s*\d{3}[\s-]?\d{3}\s*$", "Six digits, such as 482-913")


def ask(question: Question, about: str = "") -> NoReturn:
    """Note the question, with the id of the machine it is about, and draw the page with it."""
    st.session_state[ASKED] = (question, about)
    st.rerun()


def show_asked(studio: Studio) -> None:
    """Open the dialog that was asked for, until it is answered or closed."""
    question, about = st.session_state.get(ASKED, ("", ""))
    if question == "add":
        add(studio, about)
    elif question == "address":
        by_address(studio)
    elif question == "rename":
        rename(studio, about)
    elif question == "remove":
        remove(studio, about)
    elif question == "start_over":
        start_over(studio)


def forget() -> None:
    """The question is answered, or the dialog was closed."""
    st.session_state.pop(ASKED, None)


@st.dialog("Add a machine", icon=":material/add_circle:", on_dismiss=forget)
def add(studio: Studio, id: str) -> None:
    """Ask for the code a found machine shows."""
    cluster = studio.cluster
    found = next((one for one in cluster.found if one.id == id), None) if cluster else None
    if found is None:
        st.warning("This machine is not on the network any more, or it was added already.")
        return
    st.markdown(f"**{plain(found.name)}** shows a code of six digits on its own screen.")
    if not found.pairing:
        st.caption(
            "It shows none now. On that machine: `winnow helper --code`, or *Show a code here* under Machines."
        )
    with st.form("pair_form", border=False):
        typed = _code_input()
        st.caption("It will read every row of this workspace. Add machines you own.")
        if st.form_submit_button("Add", key="pair", icon=":material/add:", type="primary"):
            _pair(studio, found.address, typed, found.name)


@st.dialog("Add a machine by its address", icon=":material/edit:", on_dismiss=forget)
def by_address(studio: Studio) -> None:
    """For networks where machines do not find each other by themselves."""
    st.markdown("For networks where machines do not find each other. The other machine shows both on its screen.")
    with st.form("address_form", border=False):
        address = st.text_input("Address", key="machine_address", placeholder="192.168.1.20:47311")
        typed = _code_input()
        st.caption(
            "Leave the code empty for a machine that was added before and is reached at a new address. A machine "
            "that is added reads every row of this workspace."
        )
        if not st.form_submit_button("Add", key="pair", icon=":material/add:", type="primary"):
            return
        if not address.strip():
            st.error("Type the address the other machine shows.", icon=":material/error:")
        elif typed.strip():
            _pair(studio, address.strip(), typed, address.strip())
        else:
            with ui.guarded(), st.spinner("Trying this address"):
                studio.add_address(address.strip())
                st.toast("The address is noted and tried from now on.", icon=":material/check_circle:")
                _close()


@st.dialog("Rename a machine", icon=":material/edit:", on_dismiss=forget)
def rename(studio: Studio, id: str) -> None:
    """The name all machines show for it from now on."""
    machine = _member(studio, id)
    if machine is None:
        return
    with st.form("rename_form", border=False):
        name = st.text_input("Name", machine.name, max_chars=NAME_LENGTH, key="machine_name")
        if not st.form_submit_button("Rename", key="renamed", type="primary"):
            return
        if not name.strip():
            st.error("A machine needs a name.", icon=":material/error:")
            return
        with ui.guarded():
            studio.rename_machine(id, name.strip())
            _close()


@st.dialog("Remove a machine", icon=":material/link_off:", on_dismiss=forget)
def remove(studio: Studio, id: str) -> None:
    """Say what cannot be taken back, then do it."""
    machine = _member(studio, id)
    if machine is None:
        return
    st.markdown(
        f"**{plain(machine.name)}** ({plain(machine.key_words)}) is removed for ever:\n"
        "- every other machine refuses it from now on, wherever it turns up;\n"
        "- the labels it made stay, and what it was working on is given to others;\n"
        "- it keeps the rows and labels it has already. Nobody can take those back."
    )
    if machine.facts_behind < 0 or not machine.alive:
        st.caption("It is silent now: labels it has made and told nobody are lost to the others.")
    with st.container(horizontal=True):
        if st.button("Remove for ever", key="removed", icon=":material/link_off:", type="primary"):
            with ui.guarded():
                studio.revoke_machine(id)
                st.toast(f"{plain(machine.name)} is removed.", icon=":material/link_off:")
                _close()
        if st.button("Keep it", key="kept"):
            _close()


@st.dialog("Start over as a new machine", icon=":material/restart_alt:", on_dismiss=forget)
def start_over(studio: Studio) -> None:
    """Offer a machine that was removed a new life."""
    st.markdown(
        "This machine gets a new key, and can be added by others again.\n"
        "- Rows, labels and decisions of this workspace stay, and unfinished runs go on here.\n"
        "- Its old key and ledger are set aside beside the workspace. Nothing is deleted."
    )
    with st.container(horizontal=True):
        if st.button("Start over", key="started_over", icon=":material/restart_alt:", type="primary"):
            with ui.guarded(), st.spinner("Starting over"):
                studio.start_over()
                _close()
        if st.button("Leave it", key="kept"):
            _close()


def _close() -> NoReturn:
    forget()
    st.rerun()


def _code_input() -> str:
    return st.text_input(
        "Code",
        key="machine_code",
        max_chars=CODE_DIGITS + 3,
        placeholder="482-913",
        validate=CODE_PATTERN,
        autocomplete="off",
    )


def _pair(studio: Studio, address: str, typed: str, name: str) -> None:
    code = code_of(typed)
    if not code:
        st.error("A code has six digits, such as 482-913.", icon=":material/error:")
        return
    with ui.guarded(), st.spinner("Comparing codes"):
        studio.pair(address, code)
        st.toast(f"{plain(name)} is added.", icon=":material/check_circle:")
        _close()


def _member(studio: Studio, id: str) -> Machine | None:
    cluster = studio.cluster
    found = next((one for one in cluster.machines if one.id == id), None) if cluster else None
    if found is None:
        st.warning("This machine does not belong to the cluster any more.")
    return found
