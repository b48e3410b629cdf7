"""The correction that makes confidence true: which one suits, why, what it does, and the buttons that use it."""

from __future__ import annotations

import streamlit as st

from calibration import Metric
from calibration.plots import domains_figure, methods_figure
from studio import calibrating, drifting, figure_views, scorecard, ui
from studio.calibrating import Fitted
from studio.drifting import Drift, Moved
from studio.fitting import BY_DOMAIN, BY_LABEL, HEAD, TITLES_HERE
from studio.runtime import Studio
from studio.words import ago, number, percent, plural, time_left
from workspace import promises

NAMES = {
    "none": "No correction",
    "lower_temperature": "Lower temperature",
    "temperature": "Temperature",
    "platt": "Platt's sigmoid",
    "vector": "Vector scaling",
    "beta": "Beta calibration",
    "histogram": "Histogram binning",
    "isotonic": "Isotonic regression",
    BY_DOMAIN: "A map per domain",
    BY_LABEL: "A map per label",
    HEAD: "Learned head",
}
USE_HELP = (
    "Applies to every label of this run, also to those still to come. A promise is then about the labels as they "
    "are with it."
)
NOT_THESE = "Only what was decided blind, or came with the data, may correct labels."


def draw(studio: Studio, fitted: Fitted, *, visible: bool) -> None:
    """The section as a whole."""
    words, picture = st.columns([4, 5], gap="large")
    with words, st.container(border=True, key="correction"):
        _in_force(fitted)
        found = drifting.NOTHING_NEW
        with ui.guarded():
            found = drifting.drift(studio, fitted.run_id, fitted.dimension)
            _checked_since(found)
            _moved_since(drifting.moved(studio, fitted.run_id, fitted.dimension), found)
        _buttons(studio, fitted, visible=visible, anew=bool(found.broken))
        work(studio, fitted.run_id, fitted.dimension)
    with picture:
        tried = [(NAMES.get(one.method, one.title), one.log_loss) for one in fitted.tried]
        chosen = NAMES.get(fitted.method, fitted.method)
        figure_views.show(
            methods_figure(tried, chosen, dark=figure_views.is_dark()),
            "Methods compared",
            key="methods",
            alt="Log loss of each method on rows left out: "
            + ", ".join(f"{name} {loss.value:.3f}" for name, loss in tried),
            tip="Each method is fitted on a part of the checked rows and judged on the others. The simplest one "
            "that does as well as any, as far as chance allows to tell, is chosen.",
        )
    _every_number(studio, fitted, visible=visible)
    _domains(studio, fitted, visible=visible)


def _in_force(fitted: Fitted) -> None:
    found = fitted.in_force
    if found is None:
        st.markdown("**No correction in use.** Labels show how sure the model itself was.")
    else:
        title = TITLES_HERE.get(found.method, found.method)
        rows = plural(int(found.evidence.get("rows", 0)), "checked row")
        st.markdown(
            f":green[:material/check_circle:] **In use: {title}**, fitted {ago(found.fitted_at)} on {rows}."
        )
    if fitted.method == "none":
        st.markdown("**None is needed:** none does better than the model itself, as far as these rows can tell.")
    elif not fitted.current and _same(fitted):
        st.markdown(f"**Fitted anew it learns from {plural(fitted.evidence.rows, 'checked row')}.**")
    elif not fitted.current:
        lead = "Better by now" if found else "Suits best"
        st.markdown(f"**{lead}: {TITLES_HERE.get(fitted.method, fitted.method)}.**")
    st.caption(fitted.why)


def _checked_since(found: Drift) -> None:
    """What checked rows say that are new to the one in force: a warning where it fits no longer."""
    if found.broken:
        said = [f"**{group.words}.** {group.check.why}" for group in found.broken]
        st.warning("  \n".join(said), icon=":material/trending_down:")
    elif found.rows:
        st.caption(
            f"New to it: {plural(found.rows, 'checked row')}; nothing speaks against it.",
            help="  \n".join(f"{group.words}: {group.check.why}" for group in found.groups),
        )


def _moved_since(moved: Moved | None, known: Drift) -> None:
    """That rows labeled since the fit are of another kind: a warning until enough of them are checked."""
    if moved is None or known.broken:
        return
    shift, checked = moved.shift, moved.checked(known)
    said = (
        f"Rows labeled since look different: of the first {number(moved.rows)} the model is more than "
        f"{percent(shift.threshold)} sure in {percent(shift.now)}, of those before in {percent(shift.before)}."
    )
    if checked >= drifting.ENOUGH_CHECKED:
        st.caption(f"{said} {plural(checked, 'of them is', 'of them are')} checked: nothing speaks against it.")
    else:
        st.warning(
            f"**{said}** Whether it suits them too, only checked rows can say: draw more, above, and decide "
            "them blind.",
            icon=":material/moving:",
        )


def _buttons(studio: Studio, fitted: Fitted, *, visible: bool, anew: bool) -> None:
    """`anew`: the one in force does not fit any more, so there is a way on even where none at all is better."""
    found = fitted.in_force
    with st.container(horizontal=True, key="correction_buttons"):
        if (fitted.method != "none" or anew) and not fitted.current:
            words = "Fit anew" if anew or _same(fitted) else "Use the new one" if found else "Use it"
            tip = NOT_THESE if visible else USE_HELP
            if st.button(words, key="use", icon=":material/tune:", type="primary", disabled=visible, help=tip):
                _use(studio, fitted)
        if found is not None and st.button("Take it out", key="take_out", icon=":material/undo:"):
            with ui.guarded():
                calibrating.take_out(studio, fitted.run_id, fitted.dimension)
                st.rerun()


def _same(fitted: Fitted) -> bool:
    """Whether what suits best is what is in use, fitted on other rows."""
    return fitted.in_force is not None and fitted.in_force.method == fitted.method


def _use(studio: Studio, fitted: Fitted) -> None:
    with ui.guarded():
        calibrating.put_in_force(studio, fitted)
        st.rerun()


def at_hand(studio: Studio, fitted: Fitted) -> None:
    """What a correction nobody uses yet would do, said where the promise is: it is best used first."""
    if fitted.in_force is not None or fitted.method == "none":
        return
    if promises.all_in_force(studio.store, fitted.run_id, fitted.dimension):
        return  # the labels were good enough to be accepted, and with another reading they would no longer be
    before, after = fitted.before, fitted.after
    if fitted.kind != "score" and after.accuracy.low > before.accuracy.value:
        right, now = percent(after.accuracy.value), percent(before.accuracy.value)
        gain = f"makes {right} of the labels right instead of {now}"
    else:
        gain = "makes labels say better how sure they are"
    title = TITLES_HERE.get(fitted.method, fitted.method)
    with st.container(border=True, key="at_hand"):
        words, button = st.columns([7, 1], vertical_alignment="center")
        words.markdown(
            f":material/tune: **A correction is at hand:** {title} {gain}. Use it before you accept rows."
        )
        if button.button("Use it", key="use_at_hand", help=USE_HELP, width="stretch"):
            _use(studio, fitted)


def work(studio: Studio, run_id: str, dimension: str) -> None:
    """How far a correction has come to the rows; the whole page is drawn anew when it has to all of them."""
    job = calibrating.applying(studio, run_id, dimension)
    if job is None:
        return

    @st.fragment(run_every=0.5 if job.state == "running" else None)
    def live() -> None:
        if job.state == "running":
            words = " ".join(("Applying it to every row", time_left(job.seconds_left))).strip()
            st.progress(job.fraction, text=words)
        elif job.error is not None:
            ui.show_error(job.error)
        elif not job.announced:
            job.announced = True
            st.rerun()

    live()


def _every_number(studio: Studio, fitted: Fitted, *, visible: bool) -> None:
    opened = st.expander(
        "All numbers, before and after", icon=":material/functions:", key="every_number", on_change="rerun"
    )
    with opened:
        if not opened.open:
            return
        before, after = scorecard.numbers(studio, fitted, visible=visible)
        corrected = fitted.method != "none"
        ui.table(
            [
                {
                    "": one.title,
                    "Before": _value(one),
                    **({"With the correction": _value(after[name])} if corrected else {}),
                    "Good is": one.better,
                    "What it is": one.why_not or one.meaning + _by_chance(one),
                }
                for name, one in before.items()
            ],
            key="numbers_table",
            alt_text="Every number before and with the correction, with its 95% interval",
            columns={"What it is": st.column_config.TextColumn(width="large")},
        )
        st.caption("In brackets the 95% interval. With the correction: on rows it was not fitted on.")
        tiers = scorecard.tier_accuracy(studio, fitted.run_id) if fitted.kind == "score" else None
        if tiers is not None:
            st.caption(f"{tiers.title}, as labels are read now: {_value(tiers)}. {tiers.meaning}")


def _value(metric: Metric) -> str:
    found = metric.estimate
    return "undefined" if found is None else f"{found.value:.3f} [{found.low:.3f} to {found.high:.3f}]"


def _by_chance(metric: Metric) -> str:
    return "" if metric.chance is None else f" Chance alone gives {metric.chance:.3f} here."


def _domains(studio: Studio, fitted: Fitted, *, visible: bool) -> None:
    bins = scorecard.domain_bins(studio, fitted, visible=visible)
    if len(bins) < 2:
        return
    figure_views.show(
        domains_figure(bins, dark=figure_views.is_dark()),
        "By domain, with the correction" if fitted.method != "none" else "By domain",
        key="domains",
        alt="A reliability diagram for each domain: " + ", ".join(bins),
        tip=f"Domains with at least {scorecard.FEW_IN_DOMAIN} checked rows. Across: how sure labels were; up: how "
        "often they were right. Larger dots stand for more rows.",
    )
