import streamlit as st

from studio import load_form, runtime, text_views, ui
from studio.paging import PAGE_ROWS, Pages
from studio.watching import watch
from studio.words import ago, file_size, plural
from workspace import intake, rows

studio = runtime.current()
store = studio.store
total = rows.count(store)
files = intake.imports(store)
ui.heading("Data", f"{plural(total, 'row')} from {plural(len(files), 'file')}" if total else "No rows yet")

job = watch(studio.jobs, "load", finished="The file is loaded")
if job is not None:
    load_form.show_result(studio, job)

if st.session_state.pop("load_started", False):
    st.session_state.update(data_tabs="Rows", load_path="")
browse, load, history, preparation = st.tabs(
    ["Rows", "Load a file", "Loaded files", "Text preparation"],
    key="data_tabs",
    default="Rows" if total else "Load a file",
    on_change="rerun",
)

if browse.open:
    with browse:
        if not total:
            with ui.empty_state(
                "table_rows", "No rows yet", "Rows appear here once a file is loaded.", key="no_rows"
            ):
                pass
        else:
            with st.container(horizontal=True, vertical_alignment="bottom", key="row_filters"):
                search = st.text_input(
                    "Search", key="search", type="search", placeholder="Words in the text", bind="query-params"
                )
                names = rows.domains(store)
                domain = None
                if names:
                    options = [name for name, _ in names]
                    domain = st.selectbox(
                        "Domain", options, index=None, placeholder="All domains", key="domain", bind="query-params"
                    )
            pages = Pages("rows", -1, (search, domain))
            found = rows.page(store, after=pages.after, limit=PAGE_ROWS, search=search or "", domain=domain)
            if found:
                ui.table(
                    load_form.as_table(found),
                    key="rows_table",
                    alt_text="Rows of the workspace",
                    columns=load_form.ROW_COLUMNS,
                )
                whole = None if search else rows.count(store, domain)
                pages.buttons(len(found), found[-1].row_no, whole)
            else:
                st.caption(f"No row contains “{search}”")

if load.open:
    with load:
        load_form.draw(studio)

if history.open:
    with history:
        if not files:
            st.caption("No file was loaded yet")
        else:
            ui.table(
                [
                    {
                        "File": record.source,
                        "Format": record.format,
                        "Size": file_size(record.bytes),
                        "Lines": record.lines,
                        "Added": record.added,
                        "Repeated": record.repeated,
                        "Rejected": record.rejected,
                        "Loaded": ago(record.finished_at),
                    }
                    for record in files
                ],
                key="imports_table",
                alt_text="Files loaded into this workspace",
            )
            rejected = [record for record in files if record.rejected]
            if rejected:
                chosen = st.selectbox(
                    "Show the lines rejected from",
                    rejected,
                    format_func=lambda record: f"{record.source} ({plural(record.rejected, 'line')})",
                    key="rejects_of",
                )
                load_form.show_rejects(studio, chosen.id)

if preparation.open:
    with preparation:
        text_views.draw(studio)
