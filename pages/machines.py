import streamlit as st

from studio import machine_dialogs, machine_views, runtime, ui

studio = runtime.current()
ui.heading("Machines", "Let other machines of yours label too. Each keeps a copy of every label.")
machine_dialogs.show_asked(studio)


@st.fragment(run_every=1)
def overview() -> None:
    """The machines at a glance, once a second; others are looked for as long as this goes on."""
    studio.look_for_machines()
    cluster = studio.cluster
    if cluster is None:
        machine_views.starting(studio)
    else:
        machine_views.overview(cluster)


@st.fragment(run_every=2)
def details() -> None:
    """Machines to add and all members; more to draw, so less often."""
    cluster = studio.cluster
    if cluster is not None:
        machine_views.details(studio, cluster)


overview()
details()
machine_views.rights()
