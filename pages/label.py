import streamlit as st

from studio import machine_views, opinion_views, outcome_views, run_form, run_views, runtime, ui
from studio.paging import PAGE_ROWS, Pages
from studio.words import plural
from workspace import labels, rows, runs

studio = runtime.current()
store = studio.store
total = rows.count(store)
found = {run.id: run for run in runs.list_runs(store)}
ui.heading("Label", f"{plural(total, 'row')}, {plural(len(found), 'run')}")

if not total:
    with ui.empty_state("smart_toy", "Nothing to label yet", "A model needs rows to label.", key="no_rows"):
        if st.button("Load a file", key="to_data", icon=":material/upload_file:", type="primary"):
            st.switch_page(ui.page("data"))
    st.stop()
if studio.engine_error is not None:
    ui.show_error(studio.engine_error)

# A start renews the key, which folds the form away.
key = f"new_run_{st.session_state.get('starts', 0)}"
with st.expander("New run, or more rows for one", icon=":material/add_circle:", expanded=not found, key=key):
    run_form.draw(studio)
if not found:
    st.stop()

if next_run := st.session_state.pop("next_run", None):
    st.session_state["run"] = next_run
run_id = run_views.choose_run(found)
run = found[run_id]
dimensions = {dimension.name: dimension for dimension in runs.spec(store, run_id).dimensions}
dimension = next(iter(dimensions))
if len(dimensions) > 1:
    dimension = st.segmented_control(
        "Dimension", list(dimensions), default=dimension, required=True, key="dimension", bind="query-params"
    )
state = run_views.state_of(run, studio.progress().get(run_id))


@st.fragment(run_every=1 if state == "running" else None)
def live() -> None:
    """The run while it works; when it has stopped, the whole page is drawn anew."""
    progress = studio.progress().get(run_id)
    now = run_views.state_of(run, progress)
    with st.container(border=True, key="run_card"):
        with st.container(horizontal=True, vertical_alignment="center"):
            run_views.badge(now)
            st.caption(run_views.summary_line(run) if progress is None else run_views.progress_words(progress))
        if progress is not None and now in ("running", "paused"):
            st.progress(progress.done / progress.rows if progress.rows else 0.0)
            st.caption(run_views.totals_line(studio, run_id))
        run_views.steering(studio, run_id, now)
        machine_views.sign(studio)
        shares = labels.shares(store, run_id, dimension)
        if any(count for _, count in shares):
            ui.share_bars(shares, key=f"shares_{dimension}")
    if state == "running" and now != "running":
        st.rerun()


live()
if run.failed_rows:
    run_views.failures(studio, run, dimension)
with st.container(horizontal=True, key="onward"):
    ui.go_to("review", "Review the doubtful rows", query={"run": run_id})
    ui.go_to("calibration", "See how far the labels can be trusted", query={"run": run_id})
    ui.go_to("export", "Export the labels", query={"run": run_id})

with st.expander("Second opinions", icon=":material/forum:", key="opinions"):
    opinion_views.draw(studio, run_id, dimension)
with st.expander("Rules, tiers and what it took", icon=":material/monitoring:", key="outcome"):
    outcome_views.draw(studio, run_id)

ui.section("Labels")
with st.container(horizontal=True, vertical_alignment="top", key="label_filters"):
    label = st.selectbox(
        "Label",
        dimensions[dimension].labels,
        index=None,
        placeholder="All labels",
        key=f"label_of_{dimension}",
    )
    low, high = st.slider("Confidence", 0, 100, (0, 100), format="%d%%", key="confidence")
    who = st.segmented_control(
        "Decided by", ["Anyone", "Model", "Human"], default="Anyone", required=True, key="who"
    )
by = None if who == "Anyone" else who.lower()
pages = Pages("labels", -1, (run_id, dimension, label, low, high, by))
page = labels.page(
    store,
    run_id,
    dimension,
    after=pages.after,
    limit=PAGE_ROWS,
    label=label,
    decided_by=by,
    low=low / 100,
    high=high / 100,
)
if page:
    run_views.label_table(page)
    pages.buttons(len(page), page[-1].row_no)
else:
    st.caption("No labels to show")
