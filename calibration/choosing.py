"""Which calibrator to use: the simplest one that does well enough on rows it has not seen, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from calibration.calibrators import METHODS, Calibrator, Unchanged, fit
from calibration.folds import FOLDS, cross_fit
from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax
from calibration.metrics import LEVEL, Estimate

FEW_ROWS = 10  # with fewer, the folds that compare the methods hold next to nothing
MANY_ROWS = 1000  # a curve without a formula follows the noise of fewer (scikit-learn advises the same)
WITHOUT_FORMULA = ("histogram", "isotonic")
TITLES = {
    "none": "the model's own probabilities",
    "lower_temperature": "a temperature that only lowers confidence",
    "temperature": "a temperature",
    "platt": "Platt's sigmoid",
    "vector": "a weight and an offset for every label",
    "beta": "beta calibration",
    "histogram": "histogram binning",
    "isotonic": "isotonic regression",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen method and what spoke for it.

    `losses`: cross-validated log loss in nats of every method that was tried, with its interval.
    `skipped`: the methods that were not, since they need more rows. `out_of_fold` [n, k]: every row under a fit of
    the chosen method that has not seen it. `why`: one sentence for people.
    """

    method: str
    calibrator: Calibrator
    losses: dict[str, Estimate]
    skipped: tuple[str, ...]
    out_of_fold: FloatArray
    why: str


def rows_needed(method: str) -> int:
    """How many checked rows it takes until `choose` tries the method; 0 for "none".

    Methods with a formula are held back by a prior, Platt's by its targets, so folds of a few rows may judge them.
    """
    if method in WITHOUT_FORMULA:
        return MANY_ROWS
    return 0 if method == "none" else FEW_ROWS


def choose(
    logprobs: npt.ArrayLike, truth: npt.ArrayLike, *, methods: Sequence[str] = METHODS, folds: int = FOLDS
) -> Choice:
    """The simplest of `methods` whose log loss on rows left out is within one standard error of the best one's.

    `logprobs` [n, k], `truth` [n]. The standard error is that of the difference to the best, row by row, so what
    makes rows hard for all methods does not count. Methods are compared in the order of `METHODS`; those that
    need more rows (`rows_needed`) are skipped, and "none" is always tried. Source of the rule: Breiman, Friedman,
    Olshen, Stone 1984, "Classification and Regression Trees", section 3.4.3. The outcome does not depend on the
    order of the rows. Raises ValueError for wrong shapes, unknown methods or fewer than two folds.
    """
    scores = as_logprobs(logprobs)
    n, k = scores.shape
    labels = as_truth(truth, n, k)
    if folds < 2:
        raise ValueError("cross-validation needs at least two folds")
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise ValueError(f"there is no calibrator {unknown[0]!r}; there are {', '.join(METHODS)}")
    asked = [method for method in METHODS if method in methods or method == "none"]
    tried = [method for method in asked if n >= rows_needed(method)]
    skipped = tuple(method for method in asked if method not in tried)
    if n == 0:
        return Choice("none", Unchanged(), {}, skipped, log_softmax(scores), _too_few(n))
    crossed = {method: cross_fit(partial(fit, method), scores, labels, folds=folds) for method in tried}
    rows = {method: _row_losses(found, labels) for method, found in crossed.items()}
    best = min(tried, key=lambda method: float(rows[method].mean()))
    chosen = next(m for m in tried if m == best or _behind(rows[m], rows[best]) <= _error(rows[m] - rows[best]))
    why = _too_few(n) if tried == ["none"] and len(asked) > 1 else _why(chosen, best, rows)
    return Choice(
        chosen, fit(chosen, scores, labels), {m: _estimate(rows[m]) for m in tried}, skipped, crossed[chosen], why
    )


def _row_losses(logprobs: FloatArray, labels: IntArray) -> FloatArray:
    """-ln(probability of the true label) of every row [n], as `log_loss` reads it."""
    losses: FloatArray = -np.maximum(np.take_along_axis(logprobs, labels[:, None], axis=1)[:, 0], LOG_FLOOR)
    return losses


def _behind(losses: FloatArray, best: FloatArray) -> float:
    return float((losses - best).mean())


def _error(values: FloatArray) -> float:
    """Standard error of the mean; nothing is known from a single row."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf


def _estimate(losses: FloatArray) -> Estimate:
    value = float(losses.mean())
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * _error(losses) if len(losses) > 1 else np.inf
    return Estimate(value, max(0.0, value - half), value + half)


def _too_few(n: int) -> str:
    checked = "No row is checked yet" if n == 0 else f"Only {n} {'row is' if n == 1 else 'rows are'} checked"
    return f"{checked}, too few to learn anything from, so {TITLES['none']} stay as they are."


def _why(chosen: str, best: str, rows: dict[str, FloatArray]) -> str:
    n, loss = len(rows[best]), {method: f"{losses.mean():.3f}" for method, losses in rows.items()}
    if chosen == best == "none":
        return f"Nothing tried on {n:,} checked rows has a lower log loss than {TITLES['none']} ({loss['none']})."
    if chosen == best:
        against = f"{loss['none']} for {TITLES['none']}"
        return f"On rows left out, {TITLES[chosen]} has the lowest log loss: {loss[chosen]}, against {against}."
    gain = _behind(rows[chosen], rows[best])
    return (
        f"On rows left out, {TITLES[best]} has the lowest log loss ({loss[best]}), but only by {gain:.3f}, which "
        f"chance explains with {n:,} checked rows, so the simplest as good as it is used: {TITLES[chosen]}."
    )
