"""The promise that holds in every domain by itself, as the page shows it: in words, and a table of the domains."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from studio import domain_promises, kept_views, offer_views, ui
from studio.domain_promises import DomainPromise, Standing, named
from studio.offer_views import missing_words, roughly
from studio.runtime import Studio
from studio.words import number, percent, plural
from workspace import draws

HELP = (
    "Otherwise the error is an average over all rows: one domain may be better and another one worse. It takes "
    "more checked rows."
)
DRAW_HELP = (
    "Rows are drawn by chance, only from the domains where something is missing, and you decide them without "
    "seeing the suggestion."
)


def wanted(studio: Studio, run_id: str, dimension: str) -> bool:
    """Whether each domain is to be looked at by itself; asked only where there are a few of them."""
    names = domain_promises.domains(studio, run_id, dimension)
    if not names:
        return False
    return st.toggle(f"In each of the {len(names)} domains", key="by_domain", persist_state="session", help=HELP)


def draw(
    studio: Studio,
    promise: DomainPromise,
    standing: draws.Standing,
    kind: str,
    *,
    words: DeltaGenerator,
    table: DeltaGenerator,
) -> None:
    """All about it: the sentence in `words`, the domains in `table`, what to do here."""
    with words:
        _say(promise)
    offer_views.progress(promise, standing, kind)
    _buttons(studio, promise, standing)
    kept_views.draw(studio, promise)
    with table:
        _table(promise)


def _say(promise: DomainPromise) -> None:
    target = f"At {percent(promise.epsilon)} error in every domain"
    able = [name for name, one in promise.domains.items() if one.acceptance.threshold is not None]
    if promise.places.size:
        offer_views.accepting(promise, target)
        if len(able) < len(promise.domains):
            st.caption(f"They are of {_listed(able)}.")
        return
    if promise.missing:
        title = f"{target}, no row can be accepted yet: about {missing_words(promise.missing)}."
    else:
        title = f"{target}, no row can be accepted: even the surest labels are wrong too often."
    st.subheader(title, anchor=False)
    time = f" Deciding them takes {roughly(promise.more_minutes)}." if promise.missing else ""
    st.caption(f"{plural(promise.checked, 'row')} checked, by chance and blind.{time}")


def _buttons(studio: Studio, promise: DomainPromise, standing: draws.Standing) -> None:
    """The one thing to do next first."""
    with st.container(horizontal=True, key="promise_buttons"):
        offer_views.buttons(studio, promise, standing)
        more = min(promise.missing, domain_promises.MOST_DRAWN)
        if not more or standing.waiting:
            return
        if st.button(
            f"Draw {plural(more, 'row')} to check",
            key="draw",
            icon=":material/casino:",
            type="secondary" if promise.places.size else "primary",
            help=DRAW_HELP,
        ):
            domain_promises.draw_missing(studio, promise)
            offer_views.to_review(promise.run_id, promise.dimension)


def _table(promise: DomainPromise) -> None:
    """Every domain: what is accepted, on what evidence, and what is missing."""
    st.markdown("**Every domain by itself**")
    ui.table(
        [_line(name, one) for name, one in promise.domains.items()],
        key="domain_promises",
        alt_text="What can be accepted in each domain, and what is missing",
        columns=_COLUMNS,
    )
    st.caption(
        f"Each domain is tested at {percent(1 - promise.each, 1)} confidence, so that all {len(promise.domains)} "
        f"promises hold together with {percent(1 - promise.delta)}."
    )


def _line(name: str, one: Standing) -> dict[str, Any]:
    found = one.acceptance
    if found.threshold is not None:
        checked, error = (
            f"{number(found.checked)}, {number(found.wrong)} wrong",
            f"at most {percent(found.bound, 1)}",
        )
    else:
        checked, error = number(one.checked), f"{number(found.more)} to check" if found.more else "too high"
    return {
        "Domain": named(name),
        "Rows": one.rows,
        "Accepted": found.rows,
        "Checked": checked,
        "Error": error,
    }


_COLUMNS = {
    "Rows": st.column_config.NumberColumn(format="localized"),
    "Accepted": st.column_config.NumberColumn(help="Rows that can be accepted", format="localized"),
    "Checked": st.column_config.TextColumn(help="Of the accepted rows; of all rows where none can be accepted"),
    "Error": st.column_config.TextColumn(
        help="Among the accepted rows. Where none can be accepted: about how many more have to be checked, or "
        "that it is too high."
    ),
}


def _listed(names: list[str]) -> str:
    first, last = [named(name) for name in names[:-1]], named(names[-1])
    return f"{', '.join(first)} and {last}" if first else last
