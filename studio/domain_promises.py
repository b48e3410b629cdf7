"""A promise that holds in every domain by itself, not only on average over all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from calibration.risk import Acceptance, accept_by_domain
from studio import promising
from studio.promising import Asked, Counted, Offer, part_of
from studio.runtime import Studio
from studio.words import number, percent, plural
from workspace import draws
from workspace.draws import Drawn
from workspace.errors import RunError

MOST_DOMAINS = 20  # with more, each would be tested so strictly that nothing could be promised
UNNAMED = "no domain"  # how people read "", the domain of rows without one
MOST_DRAWN = 500  # rows to draw at a time


@dataclass(frozen=True)
class Standing:
    """How a domain stands: `rows` of the run, `checked` of them, and what can be accepted."""

    rows: int
    checked: int
    acceptance: Acceptance


@dataclass(frozen=True, kw_only=True)
class DomainPromise(Offer):
    """What may be promised in every domain at once.

    `domains` are in order; each was tested at the share `each` instead of delta, so that all hold together with
    confidence 1 - delta. `missing`: about how many more labels the domains need where nothing can be accepted yet,
    `more_minutes` what deciding them takes.
    """

    domains: Mapping[str, Standing]
    each: float
    missing: int
    more_minutes: float


def domains(studio: Studio, run_id: str, dimension: str) -> tuple[str, ...]:
    """The domains of a run, none where there is only one, or too many for each to have a promise."""
    found = promising.sample(studio, run_id, dimension).domains
    return found if 2 <= len(found) <= MOST_DOMAINS else ()


def promise(studio: Studio, asked: Asked) -> DomainPromise:
    """As `promising.promise`, for each domain by itself.

    Raises RunError as it does, and when the rows are not of several domains, or of too many.
    """
    names = domains(studio, asked.run_id, asked.dimension)
    if not names:
        raise RunError(f"These rows are not of 2 to {MOST_DOMAINS} domains.", "Look at all of them together.")
    known = promising.counted(studio, asked)
    of_row = known.sample.domain[known.covered]
    found = accept_by_domain(
        known.confidence,
        known.checked,
        known.wrong,
        of_row,
        epsilon=asked.epsilon,
        delta=asked.delta,
        inclusion=known.inclusion,
        look=known.look,
    )
    # A domain whose rows all came after the sample was drawn is covered by nothing.
    by_place = {place: found[place] for place in range(len(names)) if place in found}
    chosen = np.zeros(len(of_row), dtype=np.bool_)
    for place, acceptance in by_place.items():
        if acceptance.threshold is not None:
            chosen |= (of_row == place) & (known.confidence >= acceptance.threshold)
    standings = {names[place]: _standing(known, place, found) for place, found in by_place.items()}
    parts = tuple(part_of(name, one.acceptance) for name, one in standings.items())
    missing = sum(one.acceptance.more or 0 for one in standings.values())
    return DomainPromise(
        **vars(promising.offered(studio, asked, known, chosen, parts, _sentence(standings, asked))),
        domains=standings,
        each=asked.delta / len(standings),
        missing=missing,
        more_minutes=missing * promising.pace(studio, asked.run_id, asked.dimension),
    )


def draw_missing(studio: Studio, offered: DomainPromise) -> Drawn:
    """Draw what the domains lack, from their rows alone. Raises RunError when nothing is left to draw."""
    lacking = [place for place, name in enumerate(offered.sample.domains) if _lacks(offered, name)]
    among = np.flatnonzero(np.isin(offered.sample.domain, lacking))
    ids = [offered.sample.row_ids[place] for place in among]
    rows = min(offered.missing, MOST_DRAWN)
    return draws.draw(studio.store, offered.run_id, offered.dimension, rows, among=ids)


def named(domain: str) -> str:
    """A domain as people read it."""
    return domain or UNNAMED


def _lacks(offered: DomainPromise, name: str) -> bool:
    return name in offered.domains and bool(offered.domains[name].acceptance.more)


def _standing(known: Counted, place: int, found: Acceptance) -> Standing:
    of_row = known.sample.domain[known.covered]
    here = of_row == place
    return Standing(int(here.sum()), int(here[known.checked].sum()), found)


def _sentence(standings: Mapping[str, Standing], asked: Asked) -> str:
    """All of it in a sentence for people."""
    rows = sum(one.rows for one in standings.values())
    accepted = sum(one.acceptance.rows for one in standings.values())
    each = ", ".join(
        f"{number(one.acceptance.rows) if one.acceptance.rows else 'none'} of {number(one.rows)} of {named(name)}"
        for name, one in standings.items()
    )
    return (
        f"{number(accepted)} of {plural(rows, 'row')} can be accepted ({each}): with {percent(1 - asked.delta)} "
        f"confidence at most {percent(asked.epsilon)} of those are wrong in every domain."
    )
