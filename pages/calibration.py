import streamlit as st

from calibration import Temperature, assess
from calibration.plots import reliability_figure
from studio import calibration_views, run_views, runtime, ui
from studio.words import number, percent
from workspace import calibrators, labels, runs

store = runtime.current().store
found = {run.id: run for run in runs.list_runs(store) if run.labeled_rows}
ui.heading("Calibration", "How far the labels can be trusted: what the model said against what turned out true.")

if not found:
    with ui.empty_state(
        "monitoring", "No labels to check yet", "Let a model label some rows first.", key="no_labels"
    ):
        if st.button("Label rows", key="to_label", icon=":material/play_circle:", type="primary"):
            st.switch_page(ui.page("label"))
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom", key="evidence_choice"):
    run_id = run_views.choose_run(found)
    dimensions = [dimension.name for dimension in runs.spec(store, run_id).dimensions]
    dimension = dimensions[0]
    if len(dimensions) > 1:
        dimension = st.segmented_control(
            "Dimension", dimensions, default=dimension, required=True, key="dimension", bind="query-params"
        )
    visible = st.toggle("Count decisions made with the suggestion in sight", key="visible", bind="query-params")
if visible:
    st.warning(
        "People tend to agree with a suggestion they can see, so these decisions make the labels look better than "
        "they are. Trust what you read below less than usual.",
        icon=":material/visibility:",
    )

evidence = labels.evidence(store, run_id, dimension, include_visible=visible)
if not evidence.row_ids:
    with ui.empty_state(
        "rate_review",
        "Nothing to check the labels against yet",
        "Decide a few rows without seeing the suggestion, or load a file with gold labels.",
        key="no_evidence",
    ):
        if st.button("Review rows", key="to_review", icon=":material/rate_review:", type="primary"):
            st.switch_page(ui.page("review"), query_params={"run": run_id, **calibration_views.BLIND})
    st.stop()

calibrator = calibrators.active(store, run_id, dimension)
raw = assess(evidence.logprobs, evidence.truth)
now = raw
if calibrator is not None:
    now = assess(Temperature(calibrator.temperature).apply(evidence.logprobs), evidence.truth)

with st.grid(4, key="numbers"):
    calibration_views.metric(
        "Accuracy",
        percent(now.accuracy.value),
        calibration_views.interval(now.accuracy),
        "Share of the checked rows whose label is right, with its 95% interval. Rows that were chosen for review "
        "because the model was unsure are harder than the rest of the run.",
    )
    calibration_views.metric(
        "Calibration error",
        percent(now.ece.value, 1),
        f"{percent(raw.ece.value, 1)} before" if calibrator else calibration_views.interval(now.ece),
        "How far confidence is from the truth on average (ECE, ten bins). With few rows chance alone adds to it.",
    )
    calibration_views.metric(
        "Log loss",
        f"{now.log_loss:.3f}",
        f"{raw.log_loss:.3f} before" if calibrator else calibration_views.guessing(len(evidence.labels)),
        "The price of being sure and wrong, in nats. Lower is better; 0 is perfect.",
    )
    calibration_views.metric(
        "Checked rows",
        number(now.rows),
        calibration_views.sources(evidence),
        "Gold: labels that came with the data. Blind: decided without seeing the suggestion.",
    )
if now.rows_missing:
    calibration_views.too_few(now, run_id)

diagram, card = st.columns([5, 3], gap="medium")
with card:
    calibration_views.temperature_card(store, run_id, dimension, evidence, raw, calibrator)

with diagram, st.container(border=True, key="diagram"):
    chart = f"reliability_{run_id}_{dimension}"
    st.plotly_chart(
        reliability_figure(
            raw.bins, now.bins if calibrator else None, dark=st.context.theme.type == "dark", height=470
        ),
        key=chart,
        on_select=lambda: calibration_views.open_clicked(chart),
        selection_mode="points",
        config={"displayModeBar": False},
        alt=f"Reliability diagram, calibration error {percent(now.ece.value, 1)}",
    )

calibration_views.rows_behind(
    store, chart, evidence, {"before": raw, "after": now} if calibrator else {"before": raw}
)
