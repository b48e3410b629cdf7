import streamlit as st

from studio import machine_dialogs, machine_views, runtime, ui

studio = runtime.current()
studio.look_for_machines()
ui.heading("Machines", "Let other machines of yours label too. Each keeps a copy of every label.")
machine_dialogs.show_asked(studio)


@st.fragment(run_every=1)
def live() -> None:
    """The machines as the engine knows them, once a second."""
    cluster = studio.cluster
    if cluster is None:
        machine_views.starting(studio)
    else:
        machine_views.whole(studio, cluster)


live()
machine_views.rights()
