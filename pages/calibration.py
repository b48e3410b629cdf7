import streamlit as st

from studio import (
    agreeing_views,
    calibrating,
    correction_views,
    promise_views,
    run_views,
    runtime,
    suspect_views,
    totals_views,
    trust_views,
    ui,
)
from workspace import decisions, draws, runs, truth
from workspace.answers import shape_of
from workspace.errors import RunError

studio = runtime.current()
store = studio.store
found = {run.id: run for run in runs.list_runs(store) if run.labeled_rows}
ui.heading("Calibration", "How many labels can be relied on, and how sure that is.")

if not found:
    with ui.empty_state(
        "monitoring", "No labels to check yet", "Let a model label some rows first.", key="no_labels"
    ):
        if st.button("Label rows", key="to_label", icon=":material/play_circle:", type="primary"):
            st.switch_page(ui.page("label"))
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom", key="evidence_choice"):
    run_id = run_views.choose_run(found)
    dimensions = {dimension.name: dimension for dimension in runs.spec(store, run_id).dimensions}
    dimension = next(iter(dimensions))
    if len(dimensions) > 1:
        dimension = st.segmented_control(
            "Dimension", list(dimensions), default=dimension, required=True, key="dimension", bind="query-params"
        )
    kind, label = shape_of(dimensions[dimension]), None
    if kind == "multi":
        label = st.selectbox(
            "Label",
            dimensions[dimension].labels,
            index=None,
            placeholder="All labels of a row",
            key=f"label_of_{dimension}",
            width=220,
        )

known = truth.known_rows(store, run_id, dimension)
at_hand = st.container()
if known or draws.standing(store, run_id, dimension).drawn:
    promise_views.card(studio, run_id, dimension, kind, label)
else:
    promise_views.nothing_yet(studio, run_id, dimension)
if not known and not decisions.counts(store, run_id, dimension).decided:
    st.stop()

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    ui.section("How far confidence can be trusted")
    visible = st.toggle(
        "Count decisions made with the suggestion in sight",
        key="visible",
        bind="query-params",
        help="People tend to agree with a suggestion they can see. The promise above and the totals never count "
        "such decisions.",
    )
if visible:
    st.warning(
        "People tend to agree with a suggestion they can see, so these decisions make the labels look better than "
        "they are. Trust the numbers of this section less than usual.",
        icon=":material/visibility:",
    )
try:
    with st.spinner("Comparing what can be done with the checked rows"):
        fitted = calibrating.fit(studio, run_id, dimension, label, visible=visible)
except RunError:
    st.caption("Needs rows whose right label is known: a blind sample, or gold labels that came with the data.")
    st.stop()

if not visible:
    with at_hand:
        correction_views.at_hand(studio, fitted)
trust_views.draw(studio, fitted, visible=visible)

ui.section("Correction")
correction_views.draw(studio, fitted, visible=visible)

ui.section("Totals")
try:
    totals_views.draw(studio, run_id, dimension)
except RunError as error:
    st.caption(f"{error.title} {error.advice}")

ui.section("Labels that may be wrong")
suspect_views.draw(studio, fitted)

with ui.guarded():
    agreeing_views.draw(studio, run_id, dimension)
