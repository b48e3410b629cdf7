from pathlib import Path

import streamlit as st

from studio import export_form, run_views, runtime, ui
from studio.words import plural
from workspace import runs

studio = runtime.current()
store = studio.store
found = {run.id: run for run in runs.list_runs(store) if run.labeled_rows}
ui.heading("Export", "The current labels as a file: what people decided, else what the model said.")

if not found:
    with ui.empty_state(
        "download", "No labels to export yet", "Let a model label some rows first.", key="no_labels"
    ):
        if st.button("Label rows", key="to_label", icon=":material/play_circle:", type="primary"):
            st.switch_page(ui.page("label"))
    st.stop()

run_id = run_views.choose_run(found)
with st.container(horizontal=True, vertical_alignment="top", key="export_what"):
    format = st.segmented_control(
        "Format", list(export_form.FORMATS), default="CSV", required=True, key="format", bind="query-params"
    )
    what = st.segmented_control(
        "Rows", list(export_form.ROWS), default="All", required=True, key="what", bind="query-params"
    )
    least = 0
    if what == "Confidence at least":
        least = st.slider("Confidence", 50, 100, 80, format="%d%%", key="least")
choice = export_form.Choice(run_id, export_form.FORMATS[format], export_form.ROWS[what], least / 100)

st.caption(run_views.summary_line(found[run_id]))
for words in export_form.accepted(studio, run_id):
    st.caption(f":green[:material/verified:] {words}")
with st.container(key="export_preview"), ui.guarded():
    lines = export_form.preview(studio, choice)
    if lines:
        ui.table(lines, key="preview", alt_text="First rows of the file", columns=export_form.COLUMNS)
    else:
        st.caption("No row fits this choice")

with st.container(border=True, key="export_to"):
    named = st.text_input(
        "Path on this machine", value=export_form.usual_path(studio, choice), key=f"path_{choice.format}"
    )
    monitored = st.checkbox(
        "Write what the run took beside it",
        value=True,
        key="monitored",
        help="Tokens, time, warnings and rules in sum (.stats.json), and a line for each answer (.monitor.jsonl).",
    )
    with st.container(horizontal=True, key="export_buttons"):
        pressed = st.button(
            "Write the file", key="write", icon=":material/save:", type="primary", disabled=not named
        )
        st.download_button(
            "Download in the browser",
            data=lambda: export_form.as_bytes(studio, choice),
            file_name=Path(export_form.usual_path(studio, choice)).name,
            key="download",
            icon=":material/download:",
            on_click="ignore",
        )
    if pressed:
        with ui.guarded(), st.spinner("Writing"):
            result = export_form.write(studio, choice._replace(monitored=monitored), Path(named).expanduser())
            st.success(f"{plural(result.rows, 'row')} written to {result.path}", icon=":material/check_circle:")
