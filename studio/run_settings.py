"""How a run asks: what people may set beside task, model and rows, with defaults that are right for most."""

from __future__ import annotations

import streamlit as st

from workspace.facts import ModelSpec, Settings

SERVERS = ("ollama", "openai")
USUAL = Settings()


def draw(model: ModelSpec | None) -> Settings:
    """The settings of a new run. Those of servers are shown for models that are asked through one."""
    served = model is not None and model.backend in SERVERS
    with st.expander("Settings", icon=":material/tune:", key="run_settings"):
        cache = st.toggle(
            "Take answers this machine has already computed from its cache",
            value=USUAL.cache,
            key="run_cache",
            help="The same model, prompt and text give the same answer. Off: everything is computed again.",
        )
        if not served:
            return Settings(cache=cache)
        with st.container(horizontal=True):
            samples = int(
                st.number_input(
                    "Answers per row",
                    min_value=1,
                    max_value=25,
                    value=USUAL.samples,
                    key="run_samples",
                    help="For servers that give no probabilities: several answers are drawn, how often each label "
                    "comes is its probability.",
                )
            )
            temperature = USUAL.temperature
            if samples > 1:
                temperature = st.number_input(
                    "Temperature", min_value=0.1, max_value=2.0, value=0.7, step=0.1, key="run_temperature"
                )
            concurrency = int(
                st.number_input(
                    "Requests at a time",
                    0,
                    256,
                    USUAL.concurrency,
                    key="run_concurrency",
                    help="0: found by trying.",
                )
            )
            timeout = st.number_input("Seconds per reply", 1.0, 3600.0, USUAL.timeout, key="run_timeout")
            retries = int(st.number_input("Tries after a failure", 0, 20, USUAL.retries, key="run_retries"))
            repairs = int(
                st.number_input(
                    "Tries after an unreadable reply",
                    0,
                    10,
                    USUAL.repairs,
                    key="run_repairs",
                    help="Then it counts as failed.",
                )
            )
        price_in, price_out, budget = (
            _money() if model is not None and model.backend == "openai" else (0.0, 0.0, None)
        )
    return Settings(
        samples,
        float(temperature),
        repairs,
        retries,
        float(timeout),
        concurrency,
        cache,
        budget,
        price_in,
        price_out,
    )


def _money() -> tuple[float, float, float | None]:
    with st.container(horizontal=True):
        price_in = st.number_input("Price per million tokens read", min_value=0.0, value=0.0, key="run_price_in")
        price_out = st.number_input("… and written", min_value=0.0, value=0.0, key="run_price_out")
        budget = st.number_input(
            "Stop before it costs more than",
            min_value=0.0,
            value=None,
            placeholder="no limit",
            key="run_budget",
            disabled=not (price_in or price_out),
            help="In the currency of the prices. The run pauses; what was labeled stays.",
        )
    return float(price_in), float(price_out), budget or None
