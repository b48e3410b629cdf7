"""The progress bar of a background job on a page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from studio.jobs import Job, Jobs
from studio.words import percent, time_left


def watch(jobs: Jobs, name: str, *, finished: str) -> Job[Any] | None:
    """Draw the job of that name while it runs; returns it once it has ended, else None.

    `finished` is the sentence people are told once when it has ended well.
    """
    job = jobs.find(name)
    if job is None:
        return None
    if job.state == "running":
        _bar(jobs, name)
        return None
    if not job.announced:
        job.announced = True
        if job.state == "done":
            st.toast(finished, icon=":material/check_circle:")
    return job


@st.fragment(run_every=0.5)
def _bar(jobs: Jobs, name: str) -> None:
    job = jobs.find(name)
    if job is None or job.state != "running":
        st.rerun()
    with st.container(border=True, key=f"job_{name}"):
        parts = [f"{job.title}: {percent(job.fraction)}", time_left(job.seconds_left)]
        st.progress(job.fraction, text=", ".join(part for part in parts if part))
        if job.cancelled():
            st.caption("Stopping at the next safe place")
        elif st.button("Cancel", key=f"job_{name}_cancel", icon=":material/close:"):
            job.cancel()
