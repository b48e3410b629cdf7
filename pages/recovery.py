import streamlit as st

from studio import runtime, ui
from workspace import recovery

path = runtime.workspace_path()
ui.heading("This workspace needs a repair", str(path))

# Once opened it is in use: then there is nothing to repair any more, here or in another tab.
damage = None if runtime.is_open() else recovery.inspect(path)
if damage is None:
    if done := st.session_state.get("recovered"):
        st.success(done, icon=":material/check_circle:")
    else:
        st.success("The workspace can be read.", icon=":material/check_circle:")
    if st.button("Open the studio", key="open", icon=":material/arrow_forward:", type="primary"):
        st.rerun()
    st.stop()

st.error(f"**{damage.title}**  \n{damage.advice}", icon=":material/error:")
st.markdown(
    "What happens when you repair it:\n"
    "1. A copy of the file and of its log is kept beside it, exactly as they are now.\n"
    "2. The workspace is opened without the log.\n"
    "3. What was only in the log may be missing: the last seconds before the crash, at most what was written "
    "since the file was last brought up to date. Labels come back from the engine's own ledger."
)
if st.button("Keep a copy and repair", key="repair", icon=":material/build:", type="primary"):
    with ui.guarded():
        recovered = recovery.recover(path)
        st.session_state["recovered"] = f"A copy is kept in {recovered.kept_copy}. {recovered.advice}"
        st.rerun()
if damage.details:
    with st.expander("Details"):
        st.code(damage.details, language=None, wrap_lines=True)
