"""Whether people agree about the rows several of them decided, and what it means where they do not."""

from __future__ import annotations

import streamlit as st

from calibration import Estimate, wilson_interval
from studio import agreeing, trust_views, ui
from studio.agreeing import Differing, Measure, People, Person
from studio.runtime import Studio
from studio.words import number, percent, plural
from workspace import rows
from workspace.task import SEPARATOR

SHOWN_ROWS = 200
FEW_PEOPLE = 4  # so many have a column of their own in the table of rows
TIPS = {
    "Krippendorff's alpha": "1 is perfect agreement, 0 is what chance alone gives. From 0.8 on conclusions are "
    "sound, below 0.667 they are doubtful (Krippendorff).",
    "Alpha by order alone": "As alpha, but only which score is the higher counts, not by how much.",
    "Cohen's kappa": "Agreement of two people beyond what chance gives them by how often each uses each label.",
    "Fleiss' kappa": "Agreement of several people beyond chance, on the rows that most of them decided.",
}
VERDICTS = {
    "good": "People agree well: what one of them says can stand for the truth.",
    "fair": "People agree, but not so well that one of them can stand for the truth without doubt.",
    "poor": "People agree poorly.",
    "undefined": "Whether they agree beyond chance cannot be said.",
}


def draw(studio: Studio, run_id: str, dimension: str) -> None:
    """The section as a whole; nothing while no row was decided by two people."""
    found = agreeing.people(studio, run_id, dimension)
    if found is None:
        return
    ui.section("Do people agree?")
    with st.grid(2 + len(found.measures), key="agreement"):
        _numbers(found)
    _in_words(found)
    if found.each:
        _each_label(found)
    if found.persons and not found.why_not:
        _persons(found)
    _differing(studio, run_id, dimension, found)


def _numbers(found: People) -> None:
    trust_views.metric(
        "Decided by several",
        number(found.rows),
        plural(len(found.names), "person", "people"),
        "Rows that two or more people decided without seeing the suggestion; what each said first counts here: "
        + ", ".join(found.names)
        + ".",
    )
    if found.scored:
        trust_views.metric(
            "Apart by",
            f"{found.apart:.1f}",
            f"{percent(found.same.value)} the same",
            "Points between two people's scores of the same row, on average; under it the share of the rows on "
            "which all gave the same score.",
        )
    else:
        trust_views.metric(
            "Same answer",
            percent(found.same.value),
            trust_views.interval(found.same),
            "Share of these rows on which all who decided said the same, with its 95% interval.",
        )
    for measure in found.measures:
        said = measure.found.estimate
        trust_views.metric(
            measure.title,
            "undefined" if said is None else f"{said.value:.2f}",
            plural(measure.found.units, "row") if said is None else _span(said),
            TIPS[measure.title] if said is not None else measure.found.why_not,
        )


def _in_words(found: People) -> None:
    """What the numbers amount to, and what they mean for the promise."""
    said = [VERDICTS[found.verdict]]
    judged = found.measures[0].found.estimate
    if judged is not None and judged.value >= agreeing.FAIR > judged.low:
        said.append(f"The interval of alpha reaches down to {judged.low:.2f}, so it may as well be poor.")
    said += dict.fromkeys(measure.found.why_not for measure in found.measures if measure.found.why_not)
    if found.verdict in ("fair", "poor"):
        said.append(_for_the_promise(found))
    if found.verdict == "poor":
        said.append("Say more clearly what the labels mean.")
    if found.rows < agreeing.FEW_ROWS:
        said.append(
            f"{plural(found.rows, 'row')} can mislead: decide more, in Review in the order “Decided by others”."
        )
    if found.left_out:
        said.append(
            f"Left out: {plural(found.left_out, 'row')} with fewer than two answers, as a person found none right."
        )
    if found.settled:
        said.append(
            f"{plural(found.settled, 'row was', 'rows were')} settled since, which changes none of these numbers."
        )
    if found.differing and found.why_not:
        said.append(found.why_not)
    words = " ".join(said)
    if found.verdict == "poor":
        st.warning(words, icon=":material/call_split:")
    else:
        st.caption(words, width="stretch")


def _for_the_promise(found: People) -> str:
    if found.scored:
        return (
            f"Two scores of the same row are {found.apart:.1f} points apart on average: a promise about a smaller "
            "difference is finer than the truth it rests on."
        )
    return (
        f"Two answers to the same row differ in {percent(found.apart)} of cases. If all err alike, and not "
        f"together, each errs on about {percent(found.apart / 2)} of the rows: a promise of less error than "
        "that is finer than the truth it rests on."
    )


def _each_label(found: People) -> None:
    ui.table(
        [{"Label": one.label, one.title: _value(one)} for one in found.each],
        key="agreement_labels",
        alt_text="How far people agree about each label",
    )


def _persons(found: People) -> None:
    what = "Off from the others by" if found.scored else "Differs from the consensus"
    ui.table(
        [{"Person": person.name, "Rows shared": person.rows, what: _apart(person)} for person in found.persons],
        key="agreement_people",
        alt_text="How often each person differs from what all of them say together",
    )
    st.caption(
        "Points on average, from the middle of what the others gave."
        if found.scored
        else "The consensus is what all of them together make most probable; who is right more often weighs more "
        "(Dawid and Skene). It cannot see a mistake they all share."
    )


def _apart(person: Person) -> str:
    if person.off is not None:
        return f"{person.off:.2f}"
    assert person.apart is not None  # else the table is not drawn
    low, high = wilson_interval(person.apart, person.rows)
    share = person.apart / person.rows
    span = trust_views.interval(Estimate(share, low, high))
    return f"on {number(person.apart)} rows, {percent(share)} ({span})"


def _differing(studio: Studio, run_id: str, dimension: str, found: People) -> None:
    if not found.differing:
        return
    shown = found.differing[:SHOWN_ROWS]
    first = " Those widest apart come first." if found.scored else ""
    st.markdown(
        f"**{plural(len(found.differing), 'row')} to settle.** The newest decision counts; decide again to settle "
        f"one.{first}"
    )
    texts = rows.get(studio.store, [one.row_id for one in shown])
    apart = len(found.names) <= FEW_PEOPLE
    trust_views.review_table(
        [
            {
                "Text": texts[one.row_id].text,
                "Counts": _written(one.counts),
                **(
                    {name: _written(dict(one.said).get(name, "")) for name in found.names}
                    if apart
                    else {"Said": _together(one, scored=found.scored)}
                ),
            }
            for one in shown
        ],
        [one.row_id for one in found.differing],
        run_id,
        dimension,
        key="differing",
        alt="Rows on which people differ, with what each said",
    )


def _together(row: Differing, *, scored: bool) -> str:
    """Who said what, the most frequent answer or the lowest score first: "negative: ann, bob; neutral: eve"."""
    said: dict[str, list[str]] = {}
    for name, label in row.said:
        said.setdefault(label, []).append(name)
    most = sorted(said.items(), key=lambda one: float(one[0]) if scored else -len(one[1]))
    return "; ".join(f"{_written(label)}: {', '.join(names)}" for label, names in most)


def _written(label: str) -> str:
    """A label, or several of a multi dimension, for people."""
    return label.replace(SEPARATOR, " + ")


def _value(measure: Measure) -> str:
    found = measure.found.estimate
    return measure.found.why_not if found is None else f"{found.value:.2f} ({_span(found)})"


def _span(found: Estimate) -> str:
    return f"{found.low:.2f} to {found.high:.2f}"
