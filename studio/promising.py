"""Blind samples, and what may be promised of the labels of a run on their strength.

Everything here is about the labels as they are read now, with the calibrator in force.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import numpy.typing as npt

from calibration.risk import Acceptance, RiskCurve, accept, risk_curve
from studio.remembering import remembered, stays
from studio.runtime import Studio
from workspace import adjusted, calibrators, decisions, draws, promises
from workspace.answers import dimension_of, shape_of
from workspace.draws import Sample, Standing
from workspace.errors import RunError
from workspace.promises import WHOLE, Kept, Part
from workspace.runs import spec
from workspace.statistics import SECONDS_PER_DECISION
from workspace.task import split_labels

EPSILON = DELTA = 0.05
TOLERANCE = 1.0  # of a score, in its own units


@dataclass(frozen=True)
class Asked:
    """What somebody wants to be promised: with confidence 1 - `delta`, at most the share `epsilon` is wrong.

    A score is wrong when it is more than `tolerance` away from the truth. `label`: of a multi dimension, only
    whether this label is rightly given or not; without it all labels of a row have to be right.
    """

    run_id: str
    dimension: str
    _: KW_ONLY
    epsilon: float = EPSILON
    delta: float = DELTA
    tolerance: float = TOLERANCE
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Offer(Asked):
    """Rows that may be accepted, as the labels are read now.

    `parts` say which and why, `sentence` says it in words, and `places` in `sample` are these rows. `population`
    of the run's answered rows are covered by the sample, `uncovered` are not: they were planned after it was
    drawn. `waiting` drawn rows are still to be checked; only then can it be accepted. `to_look` rows are neither
    accepted nor checked, and `look_minutes` is what looking at them takes. `heard`: what labels are read with
    (`workspace.promises.heard_with`); `kept`: what was accepted before about the same label.
    """

    parts: tuple[Part, ...]
    sentence: str
    population: int
    uncovered: int
    checked: int
    skipped: int
    waiting: int
    to_look: int
    look_minutes: float
    kept: Kept | None
    heard: str
    sample: Sample = field(repr=False)
    places: npt.NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Promise(Offer):
    """What may be promised of all rows together.

    `acceptance` says which rows and why; `curve` the error at every share that is accepted, None without any
    checked row.
    """

    acceptance: Acceptance
    curve: RiskCurve | None


def part_of(domain: str | None, found: Acceptance) -> Part:
    """What was found for a domain, or for all rows, as it is kept."""
    return Part(domain, found.threshold, found.rows, found.checked, found.wrong, found.bound)


def standing(studio: Studio, run_id: str, dimension: str) -> Standing:
    """How many rows were drawn and how many of them wait; quick."""
    return draws.standing(studio.store, run_id, dimension)


def sample(studio: Studio, run_id: str, dimension: str) -> Sample:
    """What the blind sample of a run says of the labels as they are read now."""
    key = ("sample", run_id, dimension)
    read_with = _read_with(studio, run_id, dimension)
    return remembered(studio, key, run_id, lambda: draws.sample(studio.store, run_id, dimension), of=read_with)


def _read_with(studio: Studio, run_id: str, dimension: str) -> tuple[str, int]:
    """What a sample depends on beside what models and people said."""
    heard = promises.heard_with(studio.store, run_id, dimension)
    return heard, calibrators.adjusted_rows(studio.store, run_id, dimension)


def promise(studio: Studio, asked: Asked) -> Promise:
    """The most rows of which what is asked can be promised.

    It is about the labels as they are read now, calibrator included, and believes only rows drawn by chance and
    decided blind, or gold. Where sample after sample is drawn until it holds, each is tested at a smaller delta.

    Raises RunError for an unknown run, dimension or label, and when no row was answered.
    """
    known = counted(studio, asked)
    acceptance = accept(
        known.confidence,
        known.checked,
        known.wrong,
        epsilon=asked.epsilon,
        delta=asked.delta,
        inclusion=known.inclusion,
        look=known.look,
    )
    curve = None
    if known.checked.size:
        curve = risk_curve(
            known.confidence,
            known.checked,
            known.wrong,
            delta=asked.delta,
            inclusion=known.inclusion,
            look=known.look,
        )
    limit = np.inf if acceptance.threshold is None else acceptance.threshold
    offer = offered(studio, asked, known, known.confidence >= limit, (part_of(None, acceptance),), acceptance.why)
    return Promise(**vars(offer), acceptance=acceptance, curve=curve)


def offered(
    studio: Studio,
    asked: Asked,
    known: Counted,
    chosen: npt.NDArray[np.bool_],
    parts: tuple[Part, ...],
    sentence: str,
) -> Offer:
    """The `chosen` [M] of the rows counted, offered to be accepted."""
    store, run_id, dimension = studio.store, asked.run_id, asked.dimension
    open_ = ~chosen
    open_[known.checked] = False
    left = int(open_.sum())
    return Offer(
        **vars(asked),
        parts=parts,
        sentence=sentence,
        population=len(known.covered),
        uncovered=len(known.sample.row_ids) - len(known.covered),
        checked=len(known.checked),
        skipped=known.sample.skipped,
        waiting=known.sample.standing.waiting,
        to_look=left,
        look_minutes=left * pace(studio, run_id, dimension),
        kept=promises.in_force(store, run_id, dimension, asked.label or WHOLE),
        heard=known.heard,
        sample=known.sample,
        places=known.covered[chosen],
    )


def pace(studio: Studio, run_id: str, dimension: str) -> float:
    """Minutes that deciding a row takes."""
    return (decisions.counts(studio.store, run_id, dimension).median_seconds or SECONDS_PER_DECISION) / 60


@dataclass(frozen=True)
class Counted:
    """What a sample says of M rows, as `calibration.risk` asks for it.

    `covered` [M]: their places in `sample`; `confidence` [M]; `inclusion` [M], None where all had the same
    chance; `checked` [m]: places among the M; `wrong` [m]; `look`: how often rows were drawn, None for never.
    `heard`: what labels were read with.
    """

    heard: str
    sample: Sample = field(repr=False)
    covered: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    inclusion: npt.NDArray[np.float64] | None
    checked: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.bool_]
    look: int | None


def counted(studio: Studio, asked: Asked) -> Counted:
    """What may be counted on of a run. Raises RunError as `promise`."""
    heard = promises.heard_with(studio.store, asked.run_id, asked.dimension)
    found = sample(studio, asked.run_id, asked.dimension)
    if not found.row_ids:
        raise RunError("No row of this run has an answer yet.", "Let the model label some rows first.")
    covered = np.flatnonzero(found.inclusion > 0) if found.checked.size else np.arange(len(found.row_ids))
    said, wrong = judged(studio, asked, found)
    chance = found.inclusion[covered]
    even = not found.checked.size or float(chance.min()) == float(chance.max())
    return Counted(
        heard,
        found,
        covered,
        said[covered],
        None if even else chance,
        np.searchsorted(covered, found.checked),
        wrong,
        found.standing.draws or None,
    )


def judged(studio: Studio, asked: Asked, found: Sample) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """How sure each row is [N], and which of the checked ones are wrong [m]. Raises RunError for a wrong label."""
    dimension = dimension_of(spec(studio.store, asked.run_id), asked.dimension)
    shape, label = shape_of(dimension), asked.label
    if label is not None:
        if shape != "multi" or label not in dimension.labels:
            raise RunError(f"'{label}' is not asked about alone.", "Choose a label of a multi dimension.")
        applies = found.probabilities[:, dimension.labels.index(label)]
        true = [None if one is None else label in split_labels(one) for one in found.truth]
        given = (applies[found.checked] >= 0.5).tolist()
        return np.maximum(applies, 1 - applies), np.array([a != b for a, b in zip(true, given, strict=True)], bool)
    if shape != "score":
        return found.confidence, found.wrong
    values = np.array([float(one) for one in dimension.labels])
    true_values = np.array([np.inf if one is None else float(one) for one in found.truth])
    away = np.abs(true_values - found.value[found.checked])
    return found.within(values, asked.tolerance), away > asked.tolerance


def accept_promise(studio: Studio, offered: Offer) -> Kept:
    """Accept the rows at or above the threshold; exports say so in a column and beside the file.

    Raises RunError when nothing can be promised, when drawn rows still wait to be checked, when the calibrator has
    not come to all rows, and when labels are read with something else by now.
    """
    run_id, dimension = offered.run_id, offered.dimension
    if not offered.places.size:
        raise RunError("Nothing can be promised yet.", offered.sentence)
    if draws.standing(studio.store, run_id, dimension).waiting:
        raise RunError("Rows of the sample still wait to be checked.", "Decide them first; a part may mislead.")
    if adjusted.waiting(studio.store, run_id, dimension):
        raise RunError("The calibration is still being applied.", "Wait until it is, and look again.")
    kept = promises.keep(
        studio.store,
        run_id,
        dimension,
        label=offered.label or WHOLE,
        heard=offered.heard,
        epsilon=offered.epsilon,
        delta=offered.delta,
        tolerance=offered.tolerance,
        parts=offered.parts,
        row_ids=[offered.sample.row_ids[place] for place in offered.places],
        sentence=offered.sentence,
        reading=offered.sample.reading,
    )
    # Labels stay read as they were in this sample, so it need not be looked at again.
    stays(studio, ("sample", run_id, dimension), _read_with(studio, run_id, dimension))
    return kept


def withdraw_promise(studio: Studio, run_id: str, dimension: str, label: str | None = None) -> None:
    """Take an accepted promise back."""
    promises.withdraw(studio.store, run_id, dimension, label or WHOLE)
