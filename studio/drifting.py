"""Whether the calibrator in force still fits, judged by checked rows its fit has not seen."""

from __future__ import annotations

from dataclasses import dataclass

from calibration import FitCheck, check_fit_by_group, log_softmax
from calibration.logprobs import FloatArray
from studio import fitting
from studio.remembering import remembered
from studio.runtime import Studio
from workspace import adjusted, calibrators, rows, truth
from workspace.calibrators import Calibrator
from workspace.errors import RunError
from workspace.runs import spec
from workspace.scores import Reading
from workspace.truth import Evidence

MOST_ROWS = 5_000  # that are looked at; more would show nothing that these do not


@dataclass(frozen=True)
class GroupCheck:
    """The check of the rows that one model labeled on one machine; `label` of a multi dimension, "" otherwise."""

    model: str
    node: str
    label: str
    check: FitCheck

    @property
    def words(self) -> str:
        """Which rows these are, for people."""
        where = f"{self.model} on {self.node}" if self.node else self.model
        return f"{where}, “{self.label}”" if self.label else where


@dataclass(frozen=True)
class Drift:
    """What `rows` checked rows say of a calibrator that was fitted without them."""

    rows: int
    groups: tuple[GroupCheck, ...]

    @property
    def broken(self) -> tuple[GroupCheck, ...]:
        """Where it does not fit any more, the clearest first."""
        found = [group for group in self.groups if not group.check.fits]
        return tuple(sorted(found, key=lambda group: -group.check.evidence))


NOTHING_NEW = Drift(0, ())


def drift(studio: Studio, run_id: str, dimension: str) -> Drift:
    """Check the calibrator in force by labels that came after it was fitted: decided blind, or gold.

    Rows its fit has seen never count, whatever is said of them later. Each model, prompt and machine is tested by
    itself, and so is each label of a multi dimension: what applies to a text hangs together, so answers about one
    row are not evidence twice. Nothing is checked where no calibrator is in force, or where it did not keep what
    it was fitted on. Raises RunError for an unknown run or dimension.
    """
    calibrator = calibrators.active(studio.store, run_id, dimension)
    if calibrator is None:
        return NOTHING_NEW
    return remembered(
        studio,
        ("drift", run_id, dimension),
        run_id,
        lambda: _checked(studio, calibrator),
        of=calibrator.id,
    )


def _checked(studio: Studio, calibrator: Calibrator) -> Drift:
    store, run_id, dimension = studio.store, calibrator.run_id, calibrator.dimension
    seen = calibrators.fitted_on(store, calibrator.id)
    if not seen:
        return NOTHING_NEW
    with store.read() as con:
        adjusting = adjusted.in_force(con, run_id, dimension)
    reading = adjusting[1] if adjusting is not None and adjusting[0].id == calibrator.id else None
    known = truth.evidence(store, run_id, dimension, reading=reading)
    each = max(1, len(known.row_ids) // max(1, known.rows))
    new = [place for place, row_id in enumerate(known.row_ids) if row_id not in seen][: MOST_ROWS * each]
    evidence = known.pick(new)
    if not new:
        return NOTHING_NEW
    groups = [
        (evidence.digest, evidence.prompt_id, *one) for one in zip(evidence.nodes, evidence.names, strict=True)
    ]
    found = check_fit_by_group(
        groups,
        _as_read_now(studio, calibrator, reading, evidence),
        evidence.truth,
        fitted_on=len(seen),
        names=evidence.labels,
    )
    model = spec(store, run_id).model.name
    return Drift(
        evidence.rows,
        tuple(GroupCheck(model, group[2], group[3], found[group]) for group in dict.fromkeys(groups)),
    )


def _as_read_now(
    studio: Studio, calibrator: Calibrator, reading: Reading | None, evidence: Evidence
) -> FloatArray:
    """Log-probabilities [n, k] as labels are read now: with all of the calibrator where it works on this reading,
    else with its temperature."""
    if reading is None:
        return log_softmax(evidence.logprobs / calibrator.temperature)
    texts: list[str] = []
    if fitting.reads_texts(calibrator):
        found = rows.get(studio.store, evidence.row_ids)
        texts = [found[row_id].text for row_id in evidence.row_ids]
    try:
        return fitting.applied(calibrator, evidence, texts)
    except (ValueError, KeyError) as error:
        raise RunError(
            "The calibration was fitted by another version of Winnow.", "Fit it again.", str(error)
        ) from error
