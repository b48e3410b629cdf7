"""What the calibration page draws: its numbers, the card of the temperature, and the rows behind a bin."""

from __future__ import annotations

import math

import streamlit as st

from calibration import Assessment, Estimate, assess, cross_fit_temperature, fit_temperature
from studio import ui
from studio.words import ago, number, percent, plural
from workspace import calibrators, rows
from workspace.calibrators import Calibrator
from workspace.labels import Evidence, Source
from workspace.store import Store

# How the Review page is asked for rows that say how good the whole run is: picked by chance, decided blind.
BLIND = {"order": "Random sample"}
FOLDS = 5
SHOWN_ROWS = 200
SOURCES: dict[Source, str] = {"gold": "gold", "blind": "blind", "visible": "with suggestion"}


def metric(label: str, value: str, under: str, help: str) -> None:
    """One of the numbers on top, with what qualifies it under it."""
    st.metric(label, value, under, delta_color="off", delta_arrow="off", border=True, height="stretch", help=help)


def interval(estimate: Estimate) -> str:
    """The interval of a share: "63 to 78%"."""
    return f"{100 * estimate.low:.0f} to {100 * estimate.high:.0f}%"


def guessing(labels: int) -> str:
    """What the log loss of a model that knows nothing would be."""
    return f"{math.log(labels):.3f} when guessing"


def sources(evidence: Evidence) -> str:
    """Where the truth comes from: "150 gold, 18 blind"."""
    counts = {source: evidence.source.count(source) for source in SOURCES}
    return ", ".join(f"{number(count)} {SOURCES[source]}" for source, count in counts.items() if count)


def too_few(found: Assessment, run_id: str) -> None:
    """Says how many more rows it takes until the numbers can be relied on, and leads to where they are made."""
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="too_few"):
        st.markdown(
            f":orange[:material/info:] {plural(found.rows, 'checked row')} can mislead. About "
            f"**{number(found.rows_missing)} more**, decided blind, would make these numbers reliable.",
            width="stretch",
        )
        if st.button("Review blind", key="review_blind", icon=":material/visibility_off:"):
            st.switch_page(ui.page("review"), query_params={"run": run_id, **BLIND})


def temperature_card(
    store: Store, run_id: str, dimension: str, evidence: Evidence, raw: Assessment, calibrator: Calibrator | None
) -> None:
    """What a temperature does for this run, judged fairly; the buttons that put one into force or out of it."""
    fitted = fit_temperature(evidence.logprobs, evidence.truth)
    crossed = assess(cross_fit_temperature(evidence.logprobs, evidence.truth, folds=FOLDS), evidence.truth)

    def fit() -> None:
        fact = {"rows": raw.rows, "sources": sources(evidence), "ece_before": raw.ece.value}
        out_of_fold = {"ece_out_of_fold": crossed.ece.value, "log_loss_out_of_fold": crossed.log_loss}
        calibrators.save(
            store, run_id, dimension, "temperature", {"temperature": fitted.value}, {**fact, **out_of_fold}
        )

    with st.container(border=True, key="temperature_card"):
        st.markdown(":primary[:material/device_thermostat:] **Temperature**")
        if calibrator is None:
            st.markdown(
                "One number that makes the model as sure as it deserves to be. Labels and accuracy stay as they "
                "are."
            )
            st.button(
                "Fit temperature",
                key="fit",
                icon=":material/tune:",
                type="primary",
                disabled=raw.rows < 2,
                on_click=fit,
            )
        else:
            st.markdown(
                f"**{calibrator.temperature:.2f}** applies to all labels of this run, fitted "
                f"{ago(calibrator.fitted_at)} on {plural(int(calibrator.evidence.get('rows', 0)), 'checked row')}."
            )
            with st.container(horizontal=True, key="temperature_buttons"):
                st.button(
                    "Fit again",
                    key="fit",
                    icon=":material/tune:",
                    disabled=math.isclose(fitted.value, calibrator.temperature, rel_tol=1e-9),
                    help="Fits on the rows checked by now. Off while nothing new was checked.",
                    on_click=fit,
                )
                st.button(
                    "Remove",
                    key="remove",
                    icon=":material/delete:",
                    on_click=calibrators.clear,
                    args=(store, run_id, dimension),
                )
        on_same = assess(fitted.apply(evidence.logprobs), evidence.truth, resamples=1)
        ui.table(
            [
                _judged("What the model said", raw),
                _judged(f"T = {fitted.value:.2f}, same rows", on_same),
                _judged("T on rows left out", crossed),
            ],
            key="temperature_table",
            alt_text="Calibration error and log loss before and after the temperature",
        )
        st.caption(_verdict(raw, crossed, hopeless=fitted.at_limit and fitted.value > 1))


def _judged(name: str, found: Assessment) -> dict[str, str]:
    return {"": name, "ECE": percent(found.ece.value, 1), "Log loss": f"{found.log_loss:.3f}"}


def _verdict(raw: Assessment, crossed: Assessment, *, hopeless: bool) -> str:
    """How far the gain may be believed, in words."""
    fair = (
        "The curve judges the temperature on the very rows it was fitted on, which can flatter it. “Rows left "
        f"out” does not: each row is judged by a fit on the other {FOLDS - 1} of {FOLDS} parts."
    )
    if hopeless:
        return "Confidence hardly tells right from wrong here, so no temperature can make it useful. " + fair
    if crossed.log_loss >= raw.log_loss:
        return "On rows it has not seen, a temperature does not help here. " + fair
    return fair


def open_clicked(chart: str) -> None:
    """A click on a point or bar of the diagram opens the rows of its bin."""
    points = st.session_state[chart].selection.points
    st.session_state[f"{chart}_bin"] = tuple(points[-1]["customdata"]) if points else None


def rows_behind(store: Store, chart: str, evidence: Evidence, assessments: dict[str, Assessment]) -> None:
    """The rows of one bin, mistakes first. A bin is chosen in the diagram or in the list."""
    series_words = {"before": " before the temperature" if len(assessments) > 1 else "", "after": ""}
    bins = {
        (series, bin.low, bin.high): bin for series, found in sorted(assessments.items()) for bin in found.bins
    }

    def in_words(key: tuple[str, float, float]) -> str:
        bin = bins[key]
        right = round(bin.accuracy * bin.count)
        return (
            f"{bin.low:.0%} to {bin.high:.0%} sure{series_words[key[0]]}: "
            f"{plural(bin.count, 'row')}, {number(right)} right"
        )

    key = f"{chart}_bin"
    if st.session_state.get(key) not in bins:
        st.session_state[key] = None
    ui.section("Rows behind the numbers")
    chosen = st.selectbox(
        "Bin",
        list(bins),
        index=None,
        format_func=in_words,
        placeholder="Click a point or bar of the diagram, or choose a bin here",
        key=key,
        label_visibility="collapsed",
    )
    if chosen is None:
        return
    found = assessments[chosen[0]]
    places = found.inside(chosen[1], chosen[2])
    shown = places[:SHOWN_ROWS]
    texts = rows.get(store, [evidence.row_ids[place] for place in shown])
    ui.table(
        [
            {
                "Text": texts[evidence.row_ids[place]].text,
                "Model said": evidence.labels[found.label[place]],
                "Sure": 100 * float(found.confidence[place]),
                "Truth": evidence.labels[evidence.truth[place]],
                "Right": bool(found.correct[place]),
                "Truth from": SOURCES[evidence.source[place]],
            }
            for place in shown
        ],
        key="rows_behind",
        alt_text="Rows of the chosen bin, mistakes first",
        columns={
            "Text": st.column_config.TextColumn(width="large"),
            "Sure": st.column_config.NumberColumn(format="%.1f%%"),
        },
    )
    if len(places) > len(shown):
        st.caption(f"The first {number(len(shown))} of {plural(len(places), 'row')}")
