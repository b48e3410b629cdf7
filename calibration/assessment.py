"""Everything a reliability diagram and the numbers beside it need, from log-probabilities and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.intervals import RESAMPLES
from calibration.logprobs import BoolArray, FloatArray, IntArray, as_logprobs, as_truth, top_label
from calibration.metrics import (
    Bin,
    Estimate,
    Scheme,
    accuracy,
    brier,
    calibration_error_interval,
    log_loss,
    reliability_bins,
)

# Below this many checked rows, one unlucky row moves accuracy by more than two points.
ENOUGH_ROWS = 50


@dataclass(frozen=True, slots=True)
class Assessment:
    """Labels measured against the truth on n rows. `label`, `confidence`, `correct`: [n], in the rows' order."""

    label: IntArray
    confidence: FloatArray
    correct: BoolArray
    accuracy: Estimate
    ece: Estimate
    log_loss: float  # nats
    brier: float  # 0..2
    bins: tuple[Bin, ...]

    @property
    def rows(self) -> int:
        """How many rows were checked."""
        return len(self.label)

    @property
    def rows_missing(self) -> int:
        """How many more checked rows it takes until these numbers are worth something; 0 when there are enough."""
        return max(0, ENOUGH_ROWS - self.rows)

    def inside(self, low: float, high: float) -> IntArray:
        """Positions [m] of the rows whose confidence lies in (low, high], or [low, high] for the first bin.

        Those that were wrong come first, the most confident of them at the top.
        """
        above = (self.confidence > low) | (
            (self.confidence == low) & (low == self.bins[0].low if self.bins else False)
        )
        found = np.flatnonzero(above & (self.confidence <= high))
        order = np.lexsort((-self.confidence[found], self.correct[found]))
        return found[order].astype(np.int64)


def assess(
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    bins: int = 10,
    scheme: Scheme = "width",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Assessment:
    """Measure `logprobs` [n, k] against `truth` [n]; n >= 1, otherwise ValueError.

    Accuracy has a Wilson interval, ECE the bootstrap interval of `evaluate` over `resamples` draws.
    """
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    label, confidence = top_label(scores)
    correct = label == labels
    return Assessment(
        label=label,
        confidence=confidence,
        correct=correct,
        accuracy=accuracy(correct),
        ece=calibration_error_interval(
            confidence, correct, bins=bins, scheme=scheme, resamples=resamples, seed=seed
        ),
        log_loss=log_loss(scores, labels),
        brier=brier(scores, labels),
        bins=tuple(reliability_bins(confidence, correct, bins, scheme)),
    )
