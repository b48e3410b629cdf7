"""Whether the calibrator in force still fits, judged by checked rows its fit has not seen."""

from __future__ import annotations

from dataclasses import dataclass

from calibration import FitCheck, Shift, check_fit_by_group, confidence_shift, log_softmax
from calibration.drift import ALPHA
from calibration.logprobs import FloatArray
from studio import fitting
from studio.remembering import remembered
from studio.runtime import Studio
from workspace import adjusted, calibrators, rows, since, truth
from workspace.calibrators import Calibrator
from workspace.errors import RunError
from workspace.runs import spec
from workspace.scores import Reading
from workspace.truth import Evidence

MOST_ROWS = 5_000  # that are looked at; more would show nothing that these do not
FIRST_LOOK = 100  # rows labeled since the fit before their confidences are compared with those from before
MOST_COMPARED = 20_000  # rows on either side; with these a shift worth a word is seen for certain
ENOUGH_CHECKED = 30  # of the rows labeled since: from then on what people said of them counts, not their looks


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
    """What `rows` checked rows, `row_ids`, say of a calibrator that was fitted without them."""

    rows: int
    groups: tuple[GroupCheck, ...]
    row_ids: frozenset[str] = frozenset()

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


@dataclass(frozen=True)
class Moved:
    """How sure the model is of the first `rows` rows labeled since the fit is another; `row_ids` are of these."""

    rows: int
    shift: Shift
    row_ids: frozenset[str]

    def checked(self, known: Drift) -> int:
        """How many of these rows people have checked meanwhile."""
        return len(self.row_ids & known.row_ids)


def moved(studio: Studio, run_id: str, dimension: str) -> Moved | None:
    """Whether rows labeled since the calibrator in force was fitted look different from those before; None: no.

    All rows count on both sides, checked or not, as the model itself was sure of them: neither which rows people
    picked nor the calibrator can make a difference. New rows are looked at when there are 100, 200, 400 and so on
    of them, each time the first so many, and the level is shared out among these looks: half of what is left at
    each. So the chance that any of them raises a false alarm is at most 5 %, however often a page is opened.
    Raises RunError for an unknown run or dimension.
    """
    calibrator = calibrators.active(studio.store, run_id, dimension)
    if calibrator is None:
        return None
    key = ("moved", run_id, dimension)
    return remembered(studio, key, run_id, lambda: _moved(studio, calibrator), of=calibrator.id)


def _moved(studio: Studio, calibrator: Calibrator) -> Moved | None:
    store, run_id, dimension, at = studio.store, calibrator.run_id, calibrator.dimension, calibrator.fitted_at
    look = since.rows_since(store, run_id, dimension, at) // FIRST_LOOK
    if not look:
        return None
    looks = look.bit_length()
    first = FIRST_LOOK * 2 ** (looks - 1)
    with store.read() as con:
        adjusting = adjusted.in_force(con, run_id, dimension)
    reading = adjusting[1] if adjusting is not None else None
    found = since.sureness(store, run_id, dimension, at, first=first, most=MOST_COMPARED, reading=reading)
    if min(len(found.before), len(found.now)) < FIRST_LOOK / 2:
        return None  # nearly all of them were answered by rules
    shift = confidence_shift(found.before, found.now, alpha=ALPHA / 2**looks)
    return Moved(first, shift, frozenset(found.row_ids)) if shift.changed else None


def _checked(studio: Studio, calibrator: Calibrator) -> Drift:
    store, run_id, dimension = studio.store, calibrator.run_id, calibrator.dimension
    seen = calibrators.fitted_on(store, calibrator.id)
    if not seen:
        return NOTHING_NEW
    with store.read() as con:
        adjusting = adjusted.in_force(con, run_id, dimension)
    reading = adjusting[1] if adjusting is not None and adjusting[0].id == calibrator.id else None
    known = truth.evidence(store, run_id, dimension, reading=reading)
    most = MOST_ROWS * fitting.labels_of(known)
    new = [place for place, row_id in enumerate(known.row_ids) if row_id not in seen][:most]
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
        frozenset(evidence.row_ids),
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
