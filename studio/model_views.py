"""How models look: the ones that are here, the ones that can be added, and what a test said."""

from __future__ import annotations

import streamlit as st

from engine.models import servers
from engine.models.reachable import Reachable
from studio import model_manager as manager
from studio import ui
from studio.jobs import Asked, Job
from studio.jobs import Report as Share
from studio.machine_words import plain as unmarked
from studio.model_manager import Installed, Offer, Tested
from studio.runtime import Studio
from studio.words import file_size, number, percent
from workspace.errors import ModelError
from workspace.facts import ModelSpec

ADDING, TESTING = "add_model", "test_model"
CAN = {
    "logits": "exact probabilities",
    "logprobs": "probabilities",
    "json_schema": "structured answers",
    "parallel": "several rows at once",
    "gpu": "graphics processor",
}
LONGEST = 400  # characters of words of others that are shown
REMOVING = "removing_model"  # in the session: what is asked about, and its name
WAYS = ("From a file", "From the web", "A server")
SERVER_KINDS = {"OpenAI-compatible (vLLM, llama-server, LM Studio, LiteLLM …)": "openai", "Ollama": "ollama"}


def start_adding(
    studio: Studio, what: str, title: str, name: str = "", sha256: str = "", link: bool = False
) -> None:
    """Bring a model here in the background; one at a time."""

    def work(report: Share, cancelled: Asked) -> ModelSpec:
        return manager.add(what, lambda share, _: report(share), cancelled, name=name, sha256=sha256, link=link)

    studio.jobs.start(ADDING, f"Adding {title}", work)
    st.rerun()


def start_test(studio: Studio, model: ModelSpec) -> None:
    """Have a model label five rows in the background; one at a time."""

    def work(report: Share, cancelled: Asked) -> tuple[ModelSpec, Tested]:
        def tell(share: float, _: str) -> None:
            if cancelled():
                raise ModelError("The test was stopped.", "Nothing was changed.")
            report(share)

        return model, manager.try_out(model, tell)

    studio.jobs.start(TESTING, f"Testing {model.name}", work)
    st.rerun()


def failure(studio: Studio, job: Job[object] | None) -> None:
    """Why the last one did not work, until it is put away."""
    if job is None or job.error is None:
        return
    ui.show_error(job.error)
    name = ADDING if studio.jobs.find(ADDING) is job else TESTING
    if st.button("OK", key=f"{name}_seen", icon=":material/check:"):
        studio.jobs.forget(name)
        st.rerun()


def installed(studio: Studio, found: list[Installed]) -> None:
    """The models that can be used now, one below the other."""
    for place, item in enumerate(found):
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"model_{place}"):
            with st.container(gap="xsmall"):
                st.markdown(f"**{plain(item.model.name)}**")
                st.caption(plain(facts_of(item)))
                if item.problem:
                    st.caption(f":orange[:material/warning: {plain(item.problem)}]")
            if st.button("Test", key=f"test_{place}", icon=":material/speed:", width="content"):
                start_test(studio, item.model)
            if item.removable and st.button("Remove", key=f"remove_{place}", icon=":material/delete:"):
                _ask_to_remove(item.asked_as, item.model.name)


def facts_of(item: Installed) -> str:
    """Where it is, its size, and what its last test said."""
    facts = [item.place.capitalize() if item.place != "Ollama" else item.place]
    if item.size:
        facts.append(file_size(item.size))
    if item.model.backend == "embedding":
        facts.append("compares texts with labels instead of reading them: topics well, tone poorly")
    if item.speed is not None and item.speed.rows_per_s:
        facts.append(f"{number(round(item.speed.rows_per_s, 1))} rows per second when tested")
        facts += [CAN[name] for name in item.speed.capabilities if name in CAN]
    return " · ".join(facts)


def unreachable(found: list[Reachable]) -> None:
    """Servers that were added and do not answer, with the way to forget them."""
    for one in found:
        with st.container(
            border=True, horizontal=True, vertical_alignment="center", key=f"lost_{one.server.name}"
        ):
            with st.container(gap="xsmall"):
                st.markdown(f"**{plain(one.server.name)}** :orange-badge[:material/cloud_off: not reached]")
                st.caption(plain(one.problem))
            if st.button("Remove", key=f"forget_{one.server.name}", icon=":material/delete:"):
                _ask_to_remove(f"{one.server.kind}:{one.server.name}", one.server.name)


def result(tested: tuple[ModelSpec, Tested]) -> None:
    """What a model did with five rows."""
    model, outcome = tested
    speed = outcome.speed
    with st.container(border=True, key="test_result"):
        st.markdown(f"**{plain(model.name)}** labeled five rows")
        can = [CAN.get(name, name) for name in speed.capabilities]
        facts = [
            f"{number(round(speed.rows_per_s, 1))} rows per second",
            f"loaded in {speed.loading:.1f} s",
            f"{percent(speed.readable)} of the answers readable",
            *can,
            speed.build,
        ]
        st.caption(plain(" · ".join(facts)))
        if outcome.weights:
            st.caption(f"Fastest on this machine: {plain(outcome.weights)}")
        rows = [
            {"Text": row, "Label": label or "no label", "Confidence": percent(confidence) if label else error}
            for row, label, confidence, error in outcome.labels
        ]
        ui.table(rows, key="test_rows", alt_text="What the model said of five rows")


def catalog(studio: Studio, offers: list[Offer], *, busy: bool) -> None:
    """Models that are known to be good, with what they need."""
    for offer in offers:
        one = offer.known
        with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"offer_{one.name}"):
            with st.container(gap="xsmall"):
                st.markdown(f"**{one.title}**: {one.good_for}")
                sizes = f"{file_size(one.size)} to download, {file_size(one.memory)} of memory"
                st.caption(f"{sizes} · {one.parameters} parameters · {one.licence}")
                if offer.problem:
                    st.caption(f":orange[:material/warning: {plain(offer.problem)}]")
            if offer.installed:
                st.markdown(":green[:material/check_circle: Added]", width="content")
            elif st.button("Add", key=f"add_{one.name}", icon=":material/download:", disabled=busy):
                start_adding(studio, one.name, one.title)


def ways(studio: Studio, *, busy: bool) -> None:
    """Adding a model of one's own: a file, an address, or a server that has some."""
    way = st.segmented_control("How", WAYS, default=WAYS[0], required=True, key="model_way")
    if way == WAYS[0]:
        path = st.text_input(
            "Path of a GGUF file on this machine", key="model_path", placeholder="/models/mine.gguf"
        )
        link = st.toggle(
            "Leave the file where it is", value=True, key="model_link", help="Otherwise it is copied."
        )
        if st.button("Add", key="add_path", icon=":material/add:", type="primary", disabled=busy or not path):
            start_adding(studio, path, path.rpartition("/")[2], link=link)
    elif way == WAYS[1]:
        url = st.text_input(
            "Address of a GGUF file, or hf:OWNER/NAME/FILE.gguf of the Hugging Face Hub, or ollama:NAME",
            key="model_url",
        )
        sha256 = st.text_input("Its SHA-256, if you know it", key="model_sha256")
        if st.button("Add", key="add_url", icon=":material/download:", type="primary", disabled=busy or not url):
            start_adding(studio, url, url.rpartition("/")[2] or url, sha256=sha256)
    else:
        _server()


def _server() -> None:
    kind = SERVER_KINDS[st.selectbox("Kind", list(SERVER_KINDS), key="server_kind")]
    name = st.text_input("Name", key="server_name", placeholder="desk")
    address = st.text_input("Address", key="server_address", placeholder="http://192.168.1.20:8000/v1")
    st.caption(
        "A key is read from the environment or from this system's key store, where "
        f"`winnow models key {name or 'NAME'}` puts it. It is never kept in a file."
    )
    if st.button("Add", key="add_server", icon=":material/add:", type="primary", disabled=not (name and address)):
        with ui.guarded():
            server = servers.add(name, "ollama" if kind == "ollama" else "openai", address)
            st.toast(f"{server.name} added: {server.in_words}", icon=":material/check_circle:")
            st.rerun()


def _ask_to_remove(asked: str, name: str) -> None:
    st.session_state[REMOVING] = (asked, name)
    st.rerun()


def _keep() -> None:
    st.session_state.pop(REMOVING, None)


def show_asked() -> None:
    """Open the question whether something is to be removed, until it is answered or closed."""
    if REMOVING in st.session_state:
        _confirm(*st.session_state[REMOVING])


@st.dialog("Remove a model", icon=":material/delete:", on_dismiss=_keep)
def _confirm(asked: str, name: str) -> None:
    with ui.guarded():
        st.markdown(f"This removes {plain(manager.removable(asked))}.")
        st.caption("Labels it made stay, and so do its runs.")
        with st.container(horizontal=True):
            if st.button(f"Remove {plain(name)}", key="remove_yes", type="primary", icon=":material/delete:"):
                _keep()
                manager.remove(asked)
                st.rerun()
            if st.button("Keep it", key="remove_no"):
                _keep()
                st.rerun()


def plain(text: str) -> str:
    """Words of files, servers and libraries inside Markdown: only as they are written."""
    return unmarked(text, LONGEST)
