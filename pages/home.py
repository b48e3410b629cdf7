import streamlit as st

from studio import activity, machine_views, run_views, runtime, sample, ui
from studio.words import ago, number, percent, plural
from workspace import runs, samples, statistics, trust

STEPS = (
    ("play_circle", "A model labels", "It runs on this machine. Your texts go nowhere."),
    ("rate_review", "You review the doubtful rows", "One key press each, least certain first."),
    ("monitoring", "You know what to trust", "Measured against people, not promised."),
)

studio = runtime.current()
store = studio.store
facts = statistics.overview(store)

if not facts.rows:
    first = samples.BUNDLED[0]
    ui.heading(
        "Welcome to Winnow", "Label text with models on this machine, and know how far to trust the labels."
    )
    with ui.empty_state(ui.MARK, "Nothing to label yet", "Try the bundled sample, or bring a file.", key="empty"):
        with st.container(horizontal=True, horizontal_alignment="center", key="first_choice"):
            opened = st.button("Open the sample", key="open_sample", icon=":material/science:", type="primary")
            if st.button("Load a file", key="load_file", icon=":material/upload_file:"):
                st.switch_page(ui.page("data"))
        st.caption(f"{first.title}: {first.attribution}", text_alignment="center")
        if opened:
            with ui.guarded(), st.spinner("Loading the sample"):
                sample.open_sample(store, first.name)
                st.rerun()
    with st.grid(3, key="how"):
        for icon, name, sentence in STEPS:
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(f":primary[:material/{icon}:] **{name}**")
                st.caption(sentence)
    st.stop()

ui.heading(store.path.stem.replace("_", " ").capitalize(), f"{plural(facts.rows, 'row')} in {store.path.name}")

step = activity.next_step(studio)
with st.container(border=True, horizontal=True, vertical_alignment="center", key="next_step"):
    with st.container(gap="xsmall"):
        st.markdown(":primary[:material/flag:] **Next step**")
        st.markdown(step.sentence)
    if st.button("Go on", key="go_on", icon=":material/arrow_forward:", icon_position="right", type="primary"):
        asked = {"run": step.run_id, "dimension": step.dimension}
        st.switch_page(ui.page(step.page), query_params={name: value for name, value in asked.items() if value})

with st.grid(4, key="numbers"):
    ui.tile("Rows", number(facts.rows), to="data", link="Browse the rows")
    ui.tile("Labeled", number(facts.labeled), to="label", link="See the labels")
    ui.tile("Reviewed", number(facts.decided), to="review", link="Review more")
    expected = trust.expected_errors(store)
    ui.tile(
        "Expected errors",
        percent(expected.errors, 1) if expected else "Unknown",
        to="calibration",
        link="See why" if expected else "Find out",
        tip="The share of labels that is expected to be wrong, known once a run is calibrated",
        query={"run": expected.run_id, "dimension": expected.dimension} if expected else None,
    )


@st.fragment(run_every=1)
def work_under_way() -> None:
    """Runs the engine is busy with, once a second; nothing of it is drawn when there are none."""
    machine_views.sign(studio)
    working = {run_id: progress for run_id, progress in studio.progress().items() if progress.state == "running"}
    if not working:
        return
    for run in runs.list_runs(store):
        if run.id in working:
            with st.container(border=True, key=f"running_{run.id}"):
                st.markdown(f"**{run_views.name_of(run)}**")
                run_views.progress_bar(working[run.id])


work_under_way()

ui.section("Recent activity")
with st.container(border=True, gap="xsmall", key="activity"):
    for event in activity.recent(store):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.page_link(
                ui.page(event.page), label=event.sentence, icon=f":material/{event.icon}:", width="stretch"
            )
            st.caption(ago(event.at), width="content")
