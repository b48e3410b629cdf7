import streamlit as st

from studio import prompt_views, runtime, task_draft, ui
from studio.words import ago, plural
from workspace import rows, tasks

studio = runtime.current()
store = studio.store
choices = task_draft.known(studio)
titles = task_draft.titles(choices)
ui.heading("Task", "What the labels mean: the questions asked of every row and the answers there are.")

if next_task := st.session_state.pop("next_task", None):
    st.session_state["task"] = next_task
with st.container(horizontal=True, vertical_alignment="top", key="choose"):
    name = st.selectbox(
        "Task",
        [*choices, task_draft.NEW],
        format_func=lambda name: titles.get(name, name),
        key="task",
        bind="query-params",
        width=320,
    )
    view = st.segmented_control(
        "Edit as", ["Form", "Text"], default="Form", required=True, key="task_view", bind="query-params"
    )
saved = tasks.newest_of(store, name)
if saved:
    st.caption(f"{plural(saved.versions, 'version')}, last saved {ago(saved.saved_at)}")
elif name in choices:
    st.caption("Comes with Winnow, not used in this workspace yet")

draft = task_draft.choose(name, choices)
editor, meaning = st.columns([3, 2], gap="medium")
with editor:
    task = task_draft.edit(draft, view)
    with st.container(horizontal=True, key="task_buttons"):
        if st.button(
            "Save as a new version" if saved else "Save",
            key="save_task",
            icon=":material/save:",
            type="primary",
            disabled=task is None or (saved is not None and saved.task == task),
        ):
            studio.save_task(task)
            draft["of"] = st.session_state["next_task"] = task.name
            st.session_state["task_saved"] = task.shown_title
            st.rerun()
    if title := st.session_state.pop("task_saved", None):
        st.success(
            f"“{title}” is saved. Runs started from now on use this version.", icon=":material/check_circle:"
        )
        ui.go_to("label", "Label rows with it")

with meaning, st.container(border=True, key="prompt_preview"):
    st.markdown("**What the model reads**")
    if task is None:
        st.caption("Shown as soon as the document is valid")
    else:
        first = rows.page(store, limit=1)
        prompt_views.draw(task, first[0].text if first else "The text of a row")
