"""How far people agree about the same rows, each decided blind, and where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration import (
    Agreement,
    Estimate,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    krippendorff_alpha,
    wilson_interval,
)
from studio.calibrating import Kind, kind_of
from studio.remembering import remembered
from studio.runtime import Studio
from workspace import reviewers
from workspace.answers import dimension_of
from workspace.reviewers import Opinions
from workspace.runs import spec
from workspace.task import split_labels

GOOD, FAIR = 0.8, 0.667  # alpha from which on conclusions are sound, or at least tentative: Krippendorff 2004
FEW_ROWS = 30  # with fewer rows chance alone can make people seem to agree, or not to
PRIOR = 0.1  # imagined answers: a label somebody gave to none of few rows is not impossible for them
NONE = "none of them"  # what a person said who found no label right
ONLY_TWO = "Of two people who differ nobody can tell who is right: a third one who decides the same rows could."

Ratings = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measure:
    """A statistic of agreement; `label` of a multi dimension it is about, "" for whole rows."""

    title: str
    found: Agreement
    label: str = ""


@dataclass(frozen=True)
class Person:
    """Of the `rows` a person shares with others, how many the person sees differently from what all of them say
    together (None where that cannot be said), and for a score how far from the middle of the others on average."""

    name: str
    rows: int
    apart: int | None
    off: float | None = None


@dataclass(frozen=True)
class Differing:
    """A row on which people differ: what each said, in the order of the people, and the label that counts."""

    row_id: str
    said: tuple[tuple[str, str], ...]
    counts: str


@dataclass(frozen=True)
class People:
    """How far people agree, about scores if `scored`.

    `same`: the share of the `rows` on which all who decided said the same. `apart`: of two people's answers to the
    same row, how often they differ, or for a score how far they are apart; the mean. `measures`: the one to judge
    by first. `each`: the same of every label of a multi dimension. `persons`, and where they cannot be told apart
    `why_not`. `differing` rows, of scores the widest apart first; `settled` others were decided once more since.
    `left_out` rows have no two answers to compare: somebody found no label right, which is no score and no choice
    of labels.
    """

    scored: bool
    rows: int
    left_out: int
    names: tuple[str, ...]
    same: Estimate
    apart: float
    measures: tuple[Measure, ...]
    each: tuple[Measure, ...]
    persons: tuple[Person, ...]
    why_not: str
    differing: tuple[Differing, ...]
    settled: int

    @property
    def verdict(self) -> Literal["good", "fair", "poor", "undefined"]:
        """What the first measure amounts to."""
        found = self.measures[0].found.estimate
        if found is None:
            return "undefined"
        return "good" if found.value >= GOOD else "fair" if found.value >= FAIR else "poor"


def people(studio: Studio, run_id: str, dimension: str) -> People | None:
    """How far those agree who decided rows of a run blind; None where no row was decided by two.

    Raises RunError for an unknown run or dimension.
    """

    def work() -> People | None:
        asked = dimension_of(spec(studio.store, run_id), dimension)
        return compare(reviewers.opinions(studio.store, run_id, dimension), kind_of(asked), asked.labels)

    return remembered(studio, ("people", run_id, dimension), run_id, work)


def compare(opinions: Opinions, kind: Kind, labels: Sequence[str]) -> People | None:
    """The same from what people said; None where nothing can be compared.

    Whole rows: Krippendorff's alpha, nominal for labels (of a multi dimension for all labels of a row together),
    by distance and by order for scores; Cohen's kappa of two people, Fleiss' of more. See `calibration.agreement`.
    """
    spoken = [[_answer(said, kind) for said in row] for row in opinions.said]
    kept = [place for place, row in enumerate(spoken) if sum(said is not None for said in row) > 1]
    if not kept:
        return None
    rows = [spoken[place] for place in kept]
    alike = sum(len({said for said in row if said is not None}) == 1 for row in rows)
    if kind == "multi":
        together = sorted({said for row in rows for said in row if said is not None})
        table, each = _places(rows, together), [(name, _given(rows, name)) for name in labels]
    else:
        table, each = _places(rows, [*labels, NONE]), []
    persons, why_not = _persons(opinions.people, rows, table, each, kind, labels)
    return People(
        scored=kind == "score",
        rows=len(rows),
        left_out=len(spoken) - len(kept),
        names=opinions.people,
        same=Estimate(alike / len(rows), *wilson_interval(alike, len(rows))),
        apart=_apart(_values(rows)) if kind == "score" else _apart(table, nominal=True),
        measures=_scores(rows) if kind == "score" else _labels(table),
        each=tuple(Measure("Krippendorff's alpha", krippendorff_alpha(given), name) for name, given in each),
        persons=persons,
        why_not=why_not,
        differing=tuple(
            Differing(
                opinions.row_ids[place],
                tuple((name, said) for name, said in zip(opinions.people, row, strict=True) if said is not None),
                opinions.counts[place] or NONE,
            )
            for place, row in sorted(zip(kept, rows, strict=True), key=lambda one: -_width(one[1], kind))
            if _width(row, kind) and not opinions.settled[place]
        ),
        settled=sum(
            _width(row, kind) > 0 and opinions.settled[place] for place, row in zip(kept, rows, strict=True)
        ),
    )


def _answer(said: str | None, kind: Kind) -> str | None:
    """What a person said as it is compared; None where that is nothing."""
    if said or said is None:
        return said
    return NONE if kind == "single" else None


def _width(row: Sequence[str | None], kind: Kind) -> float:
    """How far the answers to a row are apart: of scores the largest distance, else 1 where any two differ."""
    answers = {said for said in row if said is not None}
    if kind == "score":
        values = [float(said) for said in answers]
        return max(values) - min(values)
    return float(len(answers) > 1)


def _places(rows: Sequence[Sequence[str | None]], answers: Sequence[str]) -> Ratings:
    """[rows, people]: indices into `answers`, -1 for none."""
    place = {answer: index for index, answer in enumerate(answers)}
    return np.array([[-1 if said is None else place[said] for said in row] for row in rows], dtype=np.int64)


def _given(rows: Sequence[Sequence[str | None]], name: str) -> Ratings:
    """[rows, people]: whether this label is among those each person gave; -1 for no answer."""
    given = [[-1 if said is None else int(name in split_labels(said)) for said in row] for row in rows]
    return np.array(given, dtype=np.int64)


def _labels(table: Ratings) -> tuple[Measure, ...]:
    if table.shape[1] == 2:
        other = Measure("Cohen's kappa", cohen_kappa(table[:, 0], table[:, 1]))
    else:
        other = Measure("Fleiss' kappa", fleiss_kappa(table))
    return Measure("Krippendorff's alpha", krippendorff_alpha(table)), other


def _values(rows: Sequence[Sequence[str | None]]) -> npt.NDArray[np.float64]:
    return np.array([[np.nan if said is None else float(said) for said in row] for row in rows])


def _scores(rows: Sequence[Sequence[str | None]]) -> tuple[Measure, ...]:
    values = _values(rows)
    return (
        Measure("Krippendorff's alpha", krippendorff_alpha(values, "interval")),
        Measure("Alpha by order alone", krippendorff_alpha(values, "ordinal")),
    )


def _persons(
    names: Sequence[str],
    rows: Sequence[Sequence[str | None]],
    table: Ratings,
    each: Sequence[tuple[str, Ratings]],
    kind: Kind,
    labels: Sequence[str],
) -> tuple[tuple[Person, ...], str]:
    """How often each person differs from what all of them say together, and why that cannot be said."""
    shared = (table >= 0).sum(axis=0)
    here = [place for place in range(len(names)) if shared[place]]
    if len(here) < 3:
        return tuple(Person(names[place], int(shared[place]), None) for place in here), ONLY_TWO
    if kind == "score":
        off = _off(_values(rows))
        return tuple(Person(names[p], int(shared[p]), None, float(off[p])) for p in here), ""
    # Of a multi dimension each label is a question of its own; a row is seen differently with any of them.
    apart = np.zeros(table.shape, dtype=np.bool_)
    for answers, size in [(given, 2) for _, given in each] or [(table, len(labels) + 1)]:
        found = dawid_skene(answers, size, prior=PRIOR)
        if found.why_not:
            return tuple(Person(names[p], int(shared[p]), None) for p in here), found.why_not
        apart |= (answers >= 0) & (answers != found.label[:, None])
    return tuple(Person(names[p], int(shared[p]), int(apart[:, p].sum())) for p in here), ""


def _apart(answers: npt.NDArray[np.generic], *, nominal: bool = False) -> float:
    """Mean distance of two people's answers [rows, people] to the same row; 0 or 1 if `nominal`."""
    values = answers.astype(np.float64)
    if nominal:
        values[values < 0] = np.nan
    far = [values[:, one] - values[:, other] for one, other in combinations(range(values.shape[1]), 2)]
    distance = np.abs(np.concatenate(far))
    distance = distance[np.isfinite(distance)]
    return float((distance > 0).mean() if nominal else distance.mean())


def _off(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[people]: mean distance of each person's score from the median of what the others gave the same rows."""
    far = np.full(values.shape, np.nan)
    for person in range(values.shape[1]):
        others = np.delete(values, person, axis=1)
        both = np.isfinite(values[:, person]) & np.isfinite(others).any(axis=1)
        far[both, person] = np.abs(values[both, person] - np.nanmedian(others[both], axis=1))
    off: npt.NDArray[np.float64] = np.nanmean(far, axis=0)
    return off
