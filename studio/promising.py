"""Blind samples, and what may be promised of the labels of a run on their strength.

Everything here is about the labels as they are read now, with the calibrator in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from calibration.risk import Acceptance, RiskCurve, accept, risk_curve
from studio.remembering import remembered
from studio.runtime import Studio
from workspace import adjusted, calibrators, decisions, draws, promises
from workspace.answers import dimension_of, shape_of
from workspace.draws import Drawn, Sample, Standing
from workspace.errors import RunError
from workspace.facts import DimensionSpec
from workspace.promises import WHOLE, Kept, Part
from workspace.runs import spec
from workspace.statistics import SECONDS_PER_DECISION
from workspace.task import split_labels

EPSILON = DELTA = 0.05
TOLERANCE = 1.0  # of a score, in its own units


@dataclass(frozen=True)
class Promise:
    """What may be promised of the labels as they are read now.

    `acceptance` says which rows and why; `curve` the error at every share that is accepted, None without any
    checked row. `population` of the run's answered rows are covered by the sample, `uncovered` are not: they were
    planned after it was drawn. `waiting` drawn rows are still to be checked; only then can it be accepted.
    `look_minutes`: what looking at the rows that are not accepted takes; `more_minutes`: deciding the labels that
    are missing for the promise, None where none are or no number would do. `kept`: the promise
    about the same that was accepted before. `heard`: what labels are read with (`workspace.promises.heard_with`).
    `places` in `sample`: the rows at or above the threshold.
    """

    run_id: str
    dimension: str
    epsilon: float
    delta: float
    tolerance: float
    label: str | None
    acceptance: Acceptance
    curve: RiskCurve | None
    population: int
    uncovered: int
    checked: int
    skipped: int
    waiting: int
    look_minutes: float
    more_minutes: float | None
    kept: Kept | None
    heard: str
    sample: Sample = field(repr=False)
    places: npt.NDArray[np.int64] = field(repr=False)

    @property
    def sentence(self) -> str:
        """All of it in a sentence for people."""
        return self.acceptance.why


def draw_sample(studio: Studio, run_id: str, dimension: str, rows: int) -> Drawn:
    """Draw so many more rows by chance, to be decided blind: Review shows them in the order "sample".

    Raises RunError when nothing is left to draw.
    """
    return draws.draw(studio.store, run_id, dimension, rows)


def standing(studio: Studio, run_id: str, dimension: str) -> Standing:
    """How many rows were drawn and how many of them wait; quick."""
    return draws.standing(studio.store, run_id, dimension)


def sample(studio: Studio, run_id: str, dimension: str) -> Sample:
    """What the blind sample of a run says of the labels as they are read now."""
    key = ("sample", run_id, dimension)
    now = (
        promises.heard_with(studio.store, run_id, dimension),
        calibrators.adjusted_rows(studio.store, run_id, dimension),
    )
    return remembered(studio, key, run_id, lambda: draws.sample(studio.store, run_id, dimension), of=now)


def promise(
    studio: Studio,
    run_id: str,
    dimension: str,
    *,
    epsilon: float = EPSILON,
    delta: float = DELTA,
    tolerance: float = TOLERANCE,
    label: str | None = None,
) -> Promise:
    """The most rows of which at most the share `epsilon` is wrong, with confidence 1 - `delta`.

    It is about the labels as they are read now, calibrator included, and believes only rows drawn by chance and
    decided blind, or gold. Where sample after sample is drawn until it holds, each is tested at a smaller delta.
    A score is wrong when it is more than `tolerance` away from the truth. `label`: of a multi dimension, only
    whether this label is rightly given or not; without it all labels of a row have to be right.

    Raises RunError for an unknown run, dimension or label, and when no row was answered.
    """
    heard = promises.heard_with(studio.store, run_id, dimension)
    found = sample(studio, run_id, dimension)
    if not found.row_ids:
        raise RunError("No row of this run has an answer yet.", "Let the model label some rows first.")
    covered = np.flatnonzero(found.inclusion > 0) if found.checked.size else np.arange(len(found.row_ids))
    said, wrong = _judged(found, dimension_of(spec(studio.store, run_id), dimension), tolerance, label)
    confidence, chance = said[covered], found.inclusion[covered]
    places = np.searchsorted(covered, found.checked)
    even = not found.checked.size or float(chance.min()) == float(chance.max())
    inclusion = None if even else chance
    look = found.standing.draws or None
    acceptance = accept(confidence, places, wrong, epsilon=epsilon, delta=delta, inclusion=inclusion, look=look)
    curve = risk_curve(confidence, places, wrong, delta=delta, inclusion=inclusion) if places.size else None
    counts = decisions.counts(studio.store, run_id, dimension)
    pace = (counts.median_seconds or SECONDS_PER_DECISION) / 60
    limit = np.inf if acceptance.threshold is None else acceptance.threshold
    accepted = covered[confidence >= limit]
    return Promise(
        run_id=run_id,
        dimension=dimension,
        epsilon=epsilon,
        delta=delta,
        tolerance=tolerance,
        label=label,
        acceptance=acceptance,
        curve=curve,
        population=len(covered),
        uncovered=len(found.row_ids) - len(covered),
        checked=len(places),
        skipped=found.skipped,
        waiting=found.standing.waiting,
        look_minutes=(len(covered) - len(accepted)) * pace,
        more_minutes=acceptance.more * pace if acceptance.more else None,
        kept=promises.in_force(studio.store, run_id, dimension, label or WHOLE),
        heard=heard,
        sample=found,
        places=accepted,
    )


def _judged(
    found: Sample, asked: DimensionSpec, tolerance: float, label: str | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """How sure each row is [N], and which of the checked ones are wrong [m]. Raises RunError for a wrong label."""
    shape = shape_of(asked)
    if label is not None:
        if shape != "multi" or label not in asked.labels:
            raise RunError(f"'{label}' is not asked about alone.", "Choose a label of a multi dimension.")
        applies = found.probabilities[:, asked.labels.index(label)]
        true = [None if one is None else label in split_labels(one) for one in found.truth]
        given = (applies[found.checked] >= 0.5).tolist()
        return np.maximum(applies, 1 - applies), np.array([a != b for a, b in zip(true, given, strict=True)], bool)
    if shape != "score":
        return found.confidence, found.wrong
    values = np.array([float(one) for one in asked.labels])
    true_values = np.array([np.inf if one is None else float(one) for one in found.truth])
    return found.within(values, tolerance), np.abs(true_values - found.value[found.checked]) > tolerance


def accept_promise(studio: Studio, offered: Promise) -> Kept:
    """Accept the rows at or above the threshold; exports say so in a column and beside the file.

    Raises RunError when nothing can be promised, when drawn rows still wait to be checked, when the calibrator has
    not come to all rows, and when labels are read with something else by now.
    """
    run_id, dimension, found = offered.run_id, offered.dimension, offered.acceptance
    if found.threshold is None:
        raise RunError("Nothing can be promised yet.", found.why)
    if draws.standing(studio.store, run_id, dimension).waiting:
        raise RunError("Rows of the sample still wait to be checked.", "Decide them first; a part may mislead.")
    if adjusted.waiting(studio.store, run_id, dimension):
        raise RunError("The calibration is still being applied.", "Wait until it is, and look again.")
    return promises.keep(
        studio.store,
        run_id,
        dimension,
        label=offered.label or WHOLE,
        heard=offered.heard,
        epsilon=offered.epsilon,
        delta=offered.delta,
        tolerance=offered.tolerance,
        parts=[Part(None, found.threshold, found.rows, found.checked, found.wrong, found.bound)],
        row_ids=[offered.sample.row_ids[place] for place in offered.places],
        sentence=offered.sentence,
        reading=offered.sample.reading,
    )


def withdraw_promise(studio: Studio, run_id: str, dimension: str, label: str | None = None) -> None:
    """Take an accepted promise back."""
    promises.withdraw(studio.store, run_id, dimension, label or WHOLE)


def missing_labels(
    studio: Studio, run_id: str, dimension: str, *, epsilon: float = EPSILON, delta: float = DELTA
) -> int | None:
    """About how many more blind labels the promise needs; 0 where it holds, None where no number would do."""
    return promise(studio, run_id, dimension, epsilon=epsilon, delta=delta).acceptance.more
