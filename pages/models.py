import streamlit as st

from studio import model_manager, model_views, runtime, ui, watching

studio = runtime.current()
ui.heading("Models", "What labels: models of this machine, of servers you name, and how well they do here.")

model_views.show_asked()

adding = watching.watch(studio.jobs, model_views.ADDING, finished="The model is ready")
model_views.failure(studio, adding)
testing = watching.watch(studio.jobs, model_views.TESTING, finished="The test is done")
model_views.failure(studio, testing)
if testing is not None and testing.result is not None:
    model_views.result(testing.result)

with st.spinner("Looking for models"):
    found = model_manager.overview()

ui.section("Ready to use")
if found.installed:
    model_views.installed(studio, found.installed)
else:
    st.caption("None yet. Add one below.")
model_views.unreachable(found.unreachable)

job = studio.jobs.find(model_views.ADDING)
busy = job is not None and job.state == "running"
ui.section("Good small models")
st.caption("Downloaded from the Hugging Face Hub and checked. Rows never leave this machine for them.")
model_views.catalog(studio, found.offers, busy=busy)

ui.section("Another one")
with st.container(border=True, key="another_model"):
    model_views.ways(studio, busy=busy)
