import streamlit as st

from studio import runtime, ui
from studio.words import number
from workspace import recovery

path = runtime.workspace_path()
ui.heading("This workspace needs a repair", str(path))

damage = recovery.inspect(path)
if damage is None:
    st.success("The workspace can be read.", icon=":material/check_circle:")
    st.button("Open the studio", key="open", icon=":material/arrow_forward:", type="primary")
    st.stop()

st.error(f"**{damage.sentence}**  \n{damage.advice}", icon=":material/error:")
if damage.details:
    with st.expander("Details"):
        st.code(damage.details, language=None, wrap_lines=True)
if damage.part == "file":
    st.stop()

whole = f" up to byte {number(damage.position)}" if damage.position else ""
st.markdown(
    "What a repair does:\n"
    "1. It keeps a copy of the file and of its log beside it, exactly as they are now.\n"
    f"2. It opens the workspace with what is whole of the log{whole}, and leaves the rest out.\n"
    "3. Decisions and loads of the last moments before the damage may be missing then. Labels of the models come "
    "back by themselves from the engine's own ledger."
)
if st.button("Keep a copy and repair", key="repair", icon=":material/build:", type="primary"):
    with ui.guarded():
        recovered = recovery.recover(path)
        st.success(f"Repaired. A copy is kept in {recovered.kept_copy}. {recovered.advice}")
        st.button("Open the studio", key="open", icon=":material/arrow_forward:", type="primary")
