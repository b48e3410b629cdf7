import streamlit as st

from studio import run_views, runtime, ui
from studio.components import review
from studio.words import plural
from workspace import decisions, draws, reviewers, rows, runs, tasks

ORDERS: dict[str, decisions.Order] = {
    "Uncertain first": "uncertain",
    "Random sample": "random",
    "In file order": "file",
    "Rows that break a rule": "flagged",
    "Blind sample": "sample",
    "Decided by others": "second",
    "Chosen rows": "chosen",
}
BLIND = ("random", "sample", "second", "chosen")  # decided without seeing the suggestion first
NOTHING_LEFT = {
    "sample": "The blind sample is checked.",
    "second": "You have decided all rows that others decided blind.",
    "chosen": "All chosen rows are decided.",
}
FEW = 3  # dimensions that fit beside the other choices

studio = runtime.current()
store = studio.store
found = {run.id: run for run in runs.list_runs(store)}
ready = {run_id: run for run_id, run in found.items() if run.labeled_rows}
ui.arrive()
ui.heading("Review", "One row at a time. Digits choose, Enter accepts, Z takes back, ? lists all keys.")

if not ready:
    working = [run_id for run_id, progress in studio.progress().items() if progress.state == "running"]
    title = "The first labels are on their way" if working else "Nothing to review yet"
    sentence = "Rows appear here as soon as a model has labeled them."
    with ui.empty_state("rate_review", title, sentence, key="nothing_labeled"):
        to = "label" if found or rows.count(store) else "data"
        words = {"data": "Load a file", "label": "See the run" if working else "Label rows"}
        if st.button(words[to], key="to_first_labels", icon=":material/arrow_forward:", type="primary"):
            st.switch_page(ui.page(to))
    st.stop()

choice = st.container(horizontal=True, vertical_alignment="bottom", key="review_choice")
below = st.container(key="review_dimensions")  # where more dimensions than fit beside the other choices go
with choice:
    run_id = run_views.choose_run(ready) if len(ready) > 1 else next(iter(ready))
    run = ready[run_id]
    spec = runs.spec(store, run_id)
    names = [dimension.name for dimension in spec.dimensions]
    dimension = names[0]
    if len(names) > 1:
        with choice if len(names) <= FEW else below:
            dimension = st.segmented_control(
                "Dimension", names, default=names[0], required=True, key="dimension", bind="query-params"
            )
    task = tasks.get(store, run.task_id).task
    newest_task = tasks.newest_of(store, run.task_name)
    ruled = newest_task is not None and newest_task.task.rules
    among = st.session_state.get("chosen_rows", ())  # run, dimension and rows that another page asks to decide
    chosen = among[2] if among[:2] == (run_id, dimension) else ()
    drawn = draws.standing(store, run_id, dimension)
    second = reviewers.unseen(store, run_id, dimension, run_views.reviewer(store, run_id, dimension))
    seconding = second or st.session_state.get("order") == "Decided by others"
    offered = {"flagged": ruled, "sample": drawn.drawn, "second": seconding, "chosen": chosen}
    order = st.selectbox(
        "Order",
        [name for name, order in ORDERS.items() if offered.get(order, True)],
        key="order",
        bind="query-params",
        help="Uncertain first finds the mistakes. The blind sample, drawn on the Calibration page, tells how good "
        "the labels are; rows that others decided, which you decide blind as well, how far people agree.",
    )
    domains = [name for name, _ in rows.domains(store) if name]
    domain = None
    if len(domains) > 1:
        domain = st.selectbox(
            "Domain", domains, index=None, placeholder="All domains", key="domain", bind="query-params"
        )
    reviewer = st.text_input(
        "Reviewer",
        value=st.session_state["known_reviewer"],
        max_chars=80,
        key="reviewer",
        bind="query-params",
        help="Your name beside your decisions.",
    )
if reviewer.strip().casefold() in ("model", "human"):
    st.error("A reviewer cannot be called 'model' or 'human': choose another name.", icon=":material/error:")
    st.stop()

counts = decisions.counts(store, run_id, dimension)
finished = review.review(
    review.settings(
        store.path,
        run_id,
        task.dimension(dimension),
        reviewer=reviewer,
        order=ORDERS[order],
        domain=domain,
        blind=ORDERS[order] in BLIND,
        among=chosen if ORDERS[order] == "chosen" else (),
    ),
    key="deck",
)
waiting = {"sample": drawn.waiting, "second": second}.get(ORDERS[order], counts.waiting)
if finished or not waiting:
    with st.container(border=True, key="review_done"):
        blind = f", {counts.blind:,} of them blind" if counts.blind else ""
        left = NOTHING_LEFT.get(ORDERS[order], "Nothing is waiting in this run.")
        st.markdown(f"**{plural(counts.decided, 'row')} decided{blind}.** {left}")
        with st.container(horizontal=True):
            here = {"run": run_id, "dimension": dimension}
            ui.go_to("calibration", "See how far the labels can be trusted", query=here)
            ui.go_to("export", "Export the labels", query={"run": run_id})
run_views.disputed(studio, run_id, dimension)
