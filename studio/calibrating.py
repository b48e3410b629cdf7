"""How good the labels of a run are, and the calibrator that makes their probabilities true.

The workspace has the evidence, `calibration` the methods; here they meet. What is fitted is kept for as long as
nothing it depends on has changed, so asking again costs next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration import Assessment, assess
from studio.fitting import Fit, Tried, best_fit, embedded, first_rows, held_out, labels_of
from studio.jobs import Job
from studio.remembering import remembered
from studio.runtime import Studio
from workspace import calibrators, findings, rows, truth
from workspace.answers import dimension_of, shape_of
from workspace.calibrators import NONE, Calibrator
from workspace.errors import RunError
from workspace.facts import DimensionSpec
from workspace.findings import Finding
from workspace.runs import spec
from workspace.truth import Evidence, LeftOut

Kind = Literal["single", "multi", "score"]


@dataclass(frozen=True)
class Fitted:
    """The calibrator that suits a run and dimension, and what it does to rows it has not seen.

    `evidence`: n answers whose truth is known, `out_of_fold` [n, k] their log-probabilities under fits that have
    not seen them. `before`: the scores as they are without any calibrator; `after`: out of fold. `tried`: every
    method with its log loss on rows left out, simplest first. `in_force`: the calibrator labels are read with now,
    and `current`: whether that one is this one. `left_out`: rows that are not among the evidence, and why.
    """

    run_id: str
    dimension: str
    label: str | None
    kind: Kind
    evidence: Evidence
    fit: Fit
    out_of_fold: npt.NDArray[np.float64]
    before: Assessment
    after: Assessment
    in_force: Calibrator | None
    current: bool

    @property
    def method(self) -> str:
        """Of `calibration.calibrators.METHODS`, or 'by_domain', 'by_label', 'head'."""
        return self.fit.method

    @property
    def why(self) -> str:
        """Why this method, in a sentence."""
        return self.fit.why

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Every method with its log loss on rows left out."""
        return self.fit.tried

    @property
    def left_out(self) -> LeftOut:
        """Rows that would tell something but are not among the evidence."""
        return self.evidence.left_out


def fit(studio: Studio, run_id: str, dimension: str, label: str | None = None, *, visible: bool = False) -> Fitted:
    """The calibrator that suits a run, from all rows whose truth is known.

    `label`: of a multi dimension, how the same fit does on this label alone. `visible`: count decisions taken with
    the suggestion in sight too; never the default. Raises RunError for an unknown run, dimension or label, and
    when there is no row with a known truth.
    """
    asked = dimension_of(spec(studio.store, run_id), dimension)
    if label is not None and not (shape_of(asked) == "multi" and label in asked.labels):
        raise RunError(f"'{label}' is not asked about alone.", "Choose a label of a multi dimension.")

    def work() -> tuple[Evidence, Fit]:
        evidence = first_rows(truth.evidence(studio.store, run_id, dimension, include_visible=visible))
        if not evidence.row_ids:
            raise RunError(
                "No row of this run has a known label yet.", "Draw a blind sample, or load gold labels."
            )
        ids = evidence.row_ids[:: labels_of(evidence)]
        texts = rows.get(studio.store, ids)
        vectors = embedded([texts[row_id].text for row_id in ids])
        found = best_fit(evidence, vectors)
        if not visible:
            findings.note(studio.store, run_id, dimension, Finding(found.method, evidence.rows))
        return evidence, found

    evidence, found = remembered(studio, ("fit", run_id, dimension, visible), run_id, work)
    shown, out_of_fold = evidence, found.out_of_fold
    if label is not None:
        out_of_fold = out_of_fold[[name == label for name in evidence.names]]
        shown = evidence.of_label(label)

    def judged() -> tuple[Assessment, Assessment]:
        return assess(shown.logprobs, shown.truth), assess(out_of_fold, shown.truth)

    before, after = remembered(studio, ("assess", run_id, dimension, visible, label), run_id, judged, of=found)
    in_force = calibrators.active(studio.store, run_id, dimension)
    return Fitted(
        run_id,
        dimension,
        label,
        kind_of(asked),
        shown,
        found,
        out_of_fold,
        before,
        after,
        in_force,
        _same(in_force, found, evidence),
    )


def put_in_force(studio: Studio, fitted: Fitted) -> Job[int]:
    """Read labels with this calibrator from now on; the job applies it to every row in the background.

    A calibrator that changes nothing takes the one before it out of force.
    """
    store, run_id, dimension = studio.store, fitted.run_id, fitted.dimension
    whole = fit(studio, run_id, dimension) if fitted.label is not None else fitted
    asked = dimension_of(spec(store, run_id), dimension)
    said = {
        "rows": whole.evidence.rows,
        "why": whole.why,
        "digest": whole.evidence.digest,
        "prompt": whole.evidence.prompt_id,
        "ece_before": whole.before.ece.value,
        "ece_out_of_fold": whole.after.ece.value,
        "log_loss_before": whole.before.log_loss,
        "log_loss_out_of_fold": whole.after.log_loss,
    }
    parameters = {} if whole.method == NONE else whole.fit.parameters(whole.evidence)
    kept = {} if whole.method == NONE else held_out(whole.evidence, whole.out_of_fold, len(asked.labels))
    calibrators.save(store, run_id, dimension, whole.method, parameters, said, kept)
    return studio.adjusting.start(run_id, dimension)


def applying(studio: Studio, run_id: str, dimension: str) -> Job[int] | None:
    """The job that applies the calibrator of a run, running or ended; None when there was none."""
    return studio.adjusting.find(run_id, dimension)


def take_out(studio: Studio, run_id: str, dimension: str) -> None:
    """Read labels without a calibrator again."""
    calibrators.clear(studio.store, run_id, dimension)


def kind_of(asked: DimensionSpec) -> Kind:
    """How answers of a dimension are read."""
    shape = shape_of(asked)
    return "multi" if shape == "multi" else "score" if shape == "score" else "single"


def _same(in_force: Calibrator | None, found: Fit, evidence: Evidence) -> bool:
    if in_force is None:
        return found.method == NONE
    if in_force.method != found.method:
        return False
    if not in_force.adjusts:  # one that was kept with how answers were read is still the same
        return in_force.temperature == found.temperature
    return in_force.parameters == found.parameters(evidence)
