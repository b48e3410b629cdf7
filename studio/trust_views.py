"""How far confidence can be trusted: the numbers on top, the reliability diagram, and the rows behind a bin."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from calibration import Assessment, Estimate, Metric
from calibration.plots import confidence_figure, reliability_figure
from studio import figure_views, promising, scorecard, ui
from studio.calibrating import Fitted
from studio.runtime import Studio
from studio.words import number, percent, plural
from workspace import rows
from workspace.draws import Sample
from workspace.truth import Evidence, Source

SHOWN_ROWS = 200
SOURCES: dict[Source, str] = {"gold": "gold", "blind": "blind", "visible": "with suggestion"}


def draw(studio: Studio, fitted: Fitted, *, visible: bool) -> None:
    """The section as a whole."""
    corrected = fitted.method != "none"
    with st.grid(4, key="numbers"):
        _numbers(studio, fitted, visible=visible)
    _what_counts(fitted, promising.sample(studio, fitted.run_id, fitted.dimension))
    bins_and_rows(studio, fitted, corrected=corrected)


def _numbers(studio: Studio, fitted: Fitted, *, visible: bool) -> None:
    """What holds of the labels as they are read now, with what it was or could be under it."""
    corrected, in_force = fitted.method != "none", fitted.in_force is not None
    now, other = (fitted.after, fitted.before) if in_force and corrected else (fitted.before, fitted.after)
    word = "before" if in_force else "with the correction"
    if fitted.kind == "score":
        before, after = scorecard.points(studio, fitted, visible=visible)
        shown, against = (after, before) if now is fitted.after else (before, after)
        _point(shown["mae"], against["mae"] if corrected else None, word)
    else:
        right = f"{percent(other.accuracy.value)} {word}"
        metric(
            "Accuracy",
            percent(now.accuracy.value),
            right if corrected and _differ(now.accuracy, other.accuracy) else interval(now.accuracy),
            f"Share of the checked rows whose label is right, 95% interval {interval(now.accuracy)}. Rows chosen "
            "for review because the model was unsure are harder than the rest of the run.",
        )
    metric(
        "Calibration error",
        percent(now.ece.value, 1),
        f"{percent(other.ece.value, 1)} {word}" if corrected else interval(now.ece),
        f"How far confidence is from the truth on average (ECE, ten bins), 95% interval {interval(now.ece)}. With "
        "few rows chance alone adds to it.",
    )
    metric(
        "Log loss",
        f"{now.log_loss:.3f}",
        f"{other.log_loss:.3f} {word}" if corrected else guessing(len(fitted.evidence.labels)),
        "The price of being sure and wrong, in nats. Lower is better; 0 is perfect.",
    )
    metric(
        "Checked rows",
        number(fitted.evidence.rows),
        sources(fitted.evidence),
        "Gold: labels that came with the data. Blind: decided without seeing the suggestion.",
    )


def _point(found: Metric, other: Metric | None, word: str) -> None:
    assert found.estimate is not None  # there is at least one row
    against = other.estimate if other else None
    metric(
        "Off by",
        f"{found.estimate.value:.2f}",
        f"{against.value:.2f} {word}" if against else f"{found.estimate.low:.2f} to {found.estimate.high:.2f}",
        "Mean distance of the expected score from the true one, in points of the score.",
    )


def _what_counts(fitted: Fitted, sample: Sample) -> None:
    """In words: what these numbers rest on, and what they leave out."""
    said = []
    if fitted.label is None and any(fitted.evidence.names):
        said.append("Every label of a row counts as a question of its own: it applies, or it does not.")
    if fitted.method != "none":
        said.append("What a correction does is judged on rows it was not fitted on.")
    if sample.uneven:
        right = ""
        if fitted.kind in ("single", "boolean"):
            share = percent(scorecard.right_of_all(sample))
            right = f" Of all rows about {share} are right, as the sample has it."
        said.append(
            f"Sure rows were drawn more often than others, and these numbers are of the checked rows.{right}"
        )
    if fitted.left_out.words:
        said.append(f"Left out: {fitted.left_out.words}.")
    if fitted.before.rows_missing:
        more = f"About {number(fitted.before.rows_missing)} more, decided blind, would make them reliable."
        said.append(f":orange[:material/info:] {plural(fitted.evidence.rows, 'checked row')} can mislead. {more}")
    if bool(fitted.before.correct.all()) and not fitted.before.rows_missing:
        said.append("Every checked label is right: there is nothing here that could tell sure from right.")
    if said:
        st.caption("  \n".join(said), width="stretch")


@st.fragment
def bins_and_rows(studio: Studio, fitted: Fitted, *, corrected: bool) -> None:
    """The diagrams, and beneath them the rows of the bin that was chosen in one."""
    left, right = st.columns([5, 4], gap="large")
    chart = f"reliability_of_{fitted.run_id}_{fitted.dimension}_{fitted.label or ''}"
    dark = figure_views.is_dark()
    with left:
        figure = reliability_figure(
            fitted.before.bins,
            fitted.after.bins if corrected else None,
            dark,
            names=("what the model said", "with the correction"),
            height=470,
        )
        figure_views.show(
            figure,
            "Said and right",
            key=chart,
            alt=f"Reliability diagram, calibration error {percent(fitted.before.ece.value, 1)}",
            tip="On the dashed line labels are right as often as they are sure. Below it they are too sure. The "
            "band is the 95% interval. Click a point or bar to see its rows.",
            on_select=lambda: open_clicked(chart),
        )
    with right:
        sample = promising.sample(studio, fitted.run_id, fitted.dimension)
        figure = confidence_figure(sample.confidence, dark=dark, height=470)
        figure_views.show(
            figure,
            f"Confidence of all {plural(len(sample.row_ids), 'row')}",
            key="confidence",
            alt="Histogram of the confidence of all rows",
            tip="All answered rows of the run, checked or not, as their labels are read now.",
        )
    rows_behind(studio, chart, fitted, {"before": fitted.before, **({"after": fitted.after} if corrected else {})})


def open_clicked(chart: str) -> None:
    """A click on a point or bar of the diagram opens the rows of its bin."""
    points = st.session_state[chart].selection.points
    st.session_state[f"{chart}_bin"] = tuple(points[-1]["customdata"]) if points else None


def rows_behind(studio: Studio, chart: str, fitted: Fitted, assessments: dict[str, Assessment]) -> None:
    """The rows of one bin, mistakes first. A bin is chosen in the diagram or in the list."""
    evidence = fitted.evidence
    words = {"before": ", as the model said" if len(assessments) > 1 else "", "after": ", with the correction"}
    bins = {(series, bin.low, bin.high): bin for series, one in sorted(assessments.items()) for bin in one.bins}

    def in_words(key: tuple[str, float, float]) -> str:
        bin = bins[key]
        right = round(bin.accuracy * bin.count)
        counts = f"{plural(bin.count, 'row')}, {number(right)} right"
        return f"{bin.low:.0%} to {bin.high:.0%} sure{words[key[0]]}: {counts}"

    key = f"{chart}_bin"
    if st.session_state.get(key) not in bins:
        st.session_state[key] = None
    chosen = st.selectbox(
        "Rows of a bin",
        list(bins),
        index=None,
        format_func=in_words,
        placeholder="Click a point or bar of the diagram, or choose a bin here",
        key=key,
    )
    if chosen is None:
        return
    found = assessments[chosen[0]]
    places = found.inside(chosen[1], chosen[2]).tolist()
    shown = places[:SHOWN_ROWS]
    texts = rows.get(studio.store, [evidence.row_ids[place] for place in shown])
    several = any(evidence.names) and fitted.label is None
    review_table(
        [
            {
                "Text": texts[evidence.row_ids[place]].text,
                **({"Label": evidence.names[place]} if several else {}),
                "Model said": evidence.labels[found.label[place]],
                "Sure": 100 * float(found.confidence[place]),
                "Truth": evidence.labels[evidence.truth[place]],
                "Right": bool(found.correct[place]),
                "Truth from": SOURCES[evidence.source[place]],
            }
            for place in shown
        ],
        [evidence.row_ids[place] for place in shown],
        fitted.run_id,
        fitted.dimension,
        key="rows_behind",
        alt="Rows of the chosen bin, mistakes first",
        columns={"Sure": st.column_config.NumberColumn(format="%.1f%%", width=80)},
    )
    if len(places) > len(shown):
        st.caption(f"The first {number(len(shown))} of {plural(len(places), 'row')}")


def review_table(
    lines: Sequence[dict[str, object]],
    row_ids: Sequence[str],
    run_id: str,
    dimension: str,
    *,
    key: str,
    alt: str,
    columns: dict[str, object] | None = None,
) -> None:
    """Rows with the way to decide them again: all of them, or those picked in the table."""
    above = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
    picked = ui.table(
        lines,
        key=key,
        alt_text=alt,
        columns={"Text": st.column_config.TextColumn(width=300), **(columns or {})},
        pick=True,
    )
    wanted = [row_ids[place] for place in picked] or list(row_ids)
    wanted = list(dict.fromkeys(wanted))
    with above:
        st.caption("Tick rows to review only these.", width="content")
        if st.button(
            f"Review {plural(len(wanted), 'row')}" if picked else f"Review all {number(len(wanted))}",
            key=f"{key}_review",
            icon=":material/rate_review:",
            help="Opens them one by one, with the suggestion hidden.",
        ):
            st.session_state["chosen_rows"] = (run_id, dimension, tuple(wanted))
            ui.switch("review", run_id, dimension=dimension, order="Chosen rows")


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
    each = max(1, len(evidence.row_ids) // max(1, evidence.rows))
    counts = {source: evidence.source.count(source) // each for source in SOURCES}
    return ", ".join(f"{number(count)} {SOURCES[source]}" for source, count in counts.items() if count)


def _differ(one: Estimate, other: Estimate) -> bool:
    return percent(one.value) != percent(other.value)
