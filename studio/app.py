"""The frame around every page: name, navigation, and what to do when the workspace cannot be opened."""

from __future__ import annotations

import streamlit as st

from studio import runtime, ui
from workspace import statistics
from workspace.errors import WinnowError, WorkspaceDamaged

PAGES = {
    "": [("home", "Home", "home")],
    "Label": [
        ("data", "Data", "table_rows"),
        ("task", "Task", "sell"),
        ("label", "Label", "play_circle"),
        ("review", "Review", "rate_review"),
    ],
    "Trust": [("calibration", "Calibration", "monitoring"), ("export", "Export", "download")],
    "Models and machines": [("models", "Models", "neurology"), ("machines", "Machines", "lan")],
}

# The icon is a file of ours: a page's own Material icon would be fetched from the internet.
st.set_page_config(
    page_title="Winnow",
    page_icon=str(ui.ICON),
    layout="wide",
    initial_sidebar_state="locked",
)
st.logo(str(ui.LOGO), size="large")

try:
    studio = runtime.current()
except WorkspaceDamaged:
    st.navigation([st.Page(ui.page("recovery"), title="Recovery")], position="hidden").run()
    st.stop()
except WinnowError as error:
    ui.show_error(error)
    st.button("Try again", icon=":material/refresh:", type="primary")
    st.stop()

navigation = st.navigation(
    {
        section: [
            st.Page(ui.page(name), title=title, icon=f":material/{icon}:", default=name == "home")
            for name, title, icon in pages
        ]
        for section, pages in PAGES.items()
    }
)
with st.sidebar:
    # Before the page, which may stop the script; whatever changes these numbers runs it again.
    overview = statistics.overview(studio.store)
    ui.workspace_card(studio.path.name, overview.labeled, overview.rows)
navigation.run()
