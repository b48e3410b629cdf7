"""All the numbers of a table about labels or scores, each with its interval or the reason why it has no value.

>>> table = evaluate(logprobs, truth)            # [n, k] log-probabilities, [n] label indices
>>> table["ece"].estimate                        # Estimate(value=0.031, low=0.012, high=0.049)
>>> table["auroc"].why_not                       # "" or a sentence

The single functions behind it, without intervals, are in `calibration_error`, `smooth_error`, `proper_scores`,
`confusion`, `ranking` and `score_metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from calibration import calibration_error as errors
from calibration import confusion, proper_scores, ranking, score_metrics, smooth_error
from calibration.calibration_error import (
    BINS,
    Bin,
    BinSums,
    Scheme,
    assign_bins,
    expected_calibration_error,
    reliability_bins,
)
from calibration.intervals import (
    LEVEL,
    NO_ROWS,
    RESAMPLES,
    Estimate,
    Redraws,
    Undefined,
    bootstrap_interval,
    wilson_interval,
)
from calibration.logprobs import BoolArray, FloatArray, IntArray, as_logprobs, as_truth, log_softmax, top_label
from calibration.metric_table import LABEL_METRICS, SCORE_METRICS, Metric, Table
from calibration.proper_scores import brier, log_loss

__all__ = [
    "LEVEL",
    "Bin",
    "Estimate",
    "Metric",
    "Scheme",
    "Undefined",
    "accuracy",
    "assign_bins",
    "bootstrap_interval",
    "brier",
    "calibration_error_interval",
    "evaluate",
    "evaluate_scores",
    "expected_calibration_error",
    "log_loss",
    "reliability_bins",
    "wilson_interval",
]

_PLACES = 250  # groups of confidences told apart in draws: so many by value, and so many by rank


class _Rows(NamedTuple):
    """Checked rows in an order of their own, and their draws."""

    chances: FloatArray
    confidence: FloatArray
    losses: FloatArray
    label: IntArray
    truth: IntArray
    right: BoolArray
    drawn: Redraws
    seed: int


def accuracy(correct: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Share of `correct` [n] that is true, with its Wilson interval. Raises Undefined when n = 0."""
    right = np.asarray(correct, dtype=np.bool_)
    if right.ndim != 1 or right.size == 0:
        raise Undefined(NO_ROWS)
    low, high = wilson_interval(int(right.sum()), right.size, level)
    return Estimate(float(right.mean()), low, high)


def evaluate(
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    bins: int = BINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Metric]:
    """Every number about labels, `logprobs` [n, k] against `truth` [n], in the order of `LABEL_METRICS`.

    The label given to a row is its most probable one. Intervals come from `resamples` draws of the rows, the
    same for all numbers; that of accuracy is Wilson's. Chance pushes calibration errors up, in the rows and once
    more in the draws: their intervals are moved back by that, and reach down to 0 where a perfectly calibrated
    model could show as much. The order of rows changes nothing. Raises ValueError for wrong shapes; without rows
    each number says that there are none.
    """
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    table = Table(LABEL_METRICS, level)
    if len(labels) == 0:
        return table.all_lack(NO_ROWS)
    normalised = log_softmax(scores)
    label, confidence = top_label(normalised)
    losses = proper_scores.log_losses(normalised, labels)
    right = label == labels
    order = np.lexsort((losses, labels, right, confidence))  # or draws would depend on the order of the rows
    rows = _Rows(
        chances=np.exp(normalised[order]),
        confidence=confidence[order],
        losses=losses[order],
        label=label[order],
        truth=labels[order],
        right=right[order],
        drawn=Redraws(len(labels), resamples, seed),
        seed=seed,
    )
    table.put("accuracy", accuracy(rows.right, level))
    _labels(table, rows)
    _probabilities(table, rows, bins)
    _confidence(table, rows, bins)
    _ranking(table, rows)
    return table.found


def calibration_error_interval(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    bins: int = BINS,
    scheme: Scheme = "width",
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """`expected_calibration_error` with the interval it has in the table of `evaluate`."""
    values, right = errors.as_pair(confidence, correct)
    if values.size == 0:
        raise Undefined(NO_ROWS)
    order = np.lexsort((right, values))
    drawn = Redraws(values.size, resamples, seed)
    table = Table(LABEL_METRICS, level)
    sums = _bin_sums(values[order], right[order], bins, scheme, drawn)
    _error(table, "ece", errors.expected_error, *sums, seed)
    found = table.found["ece"].estimate
    assert found is not None
    return found


def evaluate_scores(
    predicted: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    tiers: tuple[Sequence[str | None], Sequence[str | None]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Metric]:
    """Every number about the scores of one dimension, `predicted` [n] against `truth` [n], in points of the score.

    `tiers`: the tier each row ends up in as predicted and in truth, [m] each (of their own rows, None for no
    tier); without it there is no tier accuracy in the table. Intervals as in `evaluate`. Raises ValueError for
    wrong shapes; without rows each number says that there are none.
    """
    table = Table(SCORE_METRICS, level)
    try:
        said, true = score_metrics.as_scores(predicted, truth)
    except Undefined:
        for name in ("mae", "rmse", "spearman"):
            table.lack(name, NO_ROWS)
    else:
        order = np.lexsort((said, true))
        said, true = said[order], true[order]
        drawn = Redraws(said.size, resamples, seed)
        number, off = drawn.sums()[:, 0], np.abs(said - true)
        table.add("mae", float(off.mean()), drawn.sums(off)[:, 0] / number)
        rmse = score_metrics.root_mean_squared_error(said, true)
        table.add("rmse", rmse, np.sqrt(drawn.sums(off * off)[:, 0] / number))
        draws = score_metrics.drawn_spearman(said, true, drawn)
        table.add("spearman", lambda: score_metrics.spearman(said, true), draws)
    if tiers is not None:
        given, right = tiers
        if len(given) != len(right):
            raise ValueError(f"{len(given)} tiers do not go with {len(right)} true ones")
        if given:
            table.put("tier_accuracy", accuracy([one == other for one, other in zip(*tiers, strict=True)], level))
        else:
            table.lack("tier_accuracy", NO_ROWS)
    return table.found


def _labels(table: Table, rows: _Rows) -> None:
    counts = confusion.label_counts(rows.label, rows.truth, rows.chances.shape[1], rows.drawn)
    table.add("macro_f1", lambda: confusion.macro_f1(rows.label, rows.truth), confusion.f1_of(counts))
    table.add("kappa", lambda: confusion.kappa(rows.label, rows.truth), confusion.kappa_of(counts))


def _probabilities(table: Table, rows: _Rows, bins: int) -> None:
    """Log loss, Brier score and its parts, classwise error."""
    number = rows.drawn.sums()[:, 0]
    squares = proper_scores.brier_scores(rows.chances, rows.truth)
    for name, losses in (("log_loss", rows.losses), ("brier", squares)):
        table.add(name, float(losses.mean()), rows.drawn.sums(losses)[:, 0] / number)
    once, drawn = (errors.class_sums(rows.chances, rows.truth, bins, drawn=each) for each in (None, rows.drawn))
    reliability, resolution, uncertainty = zip(
        map(float, proper_scores.murphy(once)), proper_scores.murphy(drawn), strict=True
    )
    table.add("reliability", *reliability, centre=reliability[0])
    table.add("resolution", *resolution, centre=resolution[0])
    table.add("uncertainty", *uncertainty)
    # With two labels the gaps of the one are those of the other; scattering apart they would look smaller.
    free = BinSums(*(part[1:] for part in once)) if rows.chances.shape[1] == 2 else once
    _error(table, "ece_classwise", errors.classwise_error, once, drawn, rows.seed, free=free)


def _confidence(table: Table, rows: _Rows, bins: int) -> None:
    """Calibration errors of the label that was given."""
    width, mass = (_bin_sums(rows.confidence, rows.right, bins, scheme, rows.drawn) for scheme in get_args(Scheme))
    _error(table, "ece", errors.expected_error, *width, rows.seed)
    _error(table, "ece_mass", errors.expected_error, *mass, rows.seed)
    # What is debiased once estimates, in the world of the draws, the plain error of the rows.
    centre = float(errors.expected_error(mass[0]))
    _error(table, "ece_debiased", errors.debiased_error, *mass, rows.seed, centre=centre)
    _error(table, "mce", errors.maximum_error, *width, rows.seed)

    size, nodes = rows.confidence.size, smooth_error.DRAWN_NODES
    gaps = rows.right - rows.confidence
    once, drawn = (smooth_error.on_nodes(gaps, rows.confidence, nodes, each) for each in (None, rows.drawn))
    variance = smooth_error.on_nodes(rows.confidence * (1 - rows.confidence), rows.confidence, nodes)
    noise = np.random.default_rng(rows.seed).standard_normal(drawn.shape) * np.sqrt(variance)
    table.add_error(
        "ece_smooth",
        smooth_error.smooth_calibration_error(rows.confidence, rows.right),
        smooth_error.smooth_errors(drawn / rows.drawn.sums()),
        float(smooth_error.smooth_errors(once / size)),
        smooth_error.smooth_errors(noise / size),
    )


def _bin_sums(
    confidence: FloatArray, right: BoolArray, bins: int, scheme: Scheme, drawn: Redraws
) -> tuple[BinSums, BinSums]:
    """Of the rows themselves and of their draws."""
    index, edges = assign_bins(confidence, bins, scheme)
    count = len(edges) - 1
    return errors.bin_sums(confidence, right, index, count), errors.bin_sums(
        confidence, right, index, count, drawn
    )


def _error(
    table: Table,
    name: str,
    statistic: Callable[[BinSums], FloatArray],
    once: BinSums,
    drawn: BinSums,
    seed: int,
    *,
    centre: float | None = None,
    free: BinSums | None = None,
) -> None:
    """A calibration error that follows from sums over bins; `free`: those bins that scatter freely."""
    value = float(statistic(once))
    by_chance = statistic(errors.chance_sums(free or once, len(drawn.rows), seed))
    table.add_error(name, value, statistic(drawn), value if centre is None else centre, by_chance)


def _ranking(table: Table, rows: _Rows) -> None:
    cuts = np.concatenate([np.linspace(0, 1, _PLACES), np.quantile(rows.confidence, np.linspace(0, 1, _PLACES))])
    edges = np.unique(cuts)
    cell = edges.size - 1 - np.searchsorted(edges, rows.confidence, side="left")  # the surest first
    once = [np.bincount(cell, weights, edges.size).astype(np.float64) for weights in (None, rows.right)]
    drawn = [rows.drawn.sums(weights, cell, edges.size) for weights in (None, rows.right)]
    for name, exact, area in (
        ("auroc", ranking.auroc, ranking.area_under_roc),
        ("aurc", ranking.aurc, ranking.area_under_risk),
    ):
        try:
            value = exact(rows.confidence, rows.right)
        except Undefined as error:
            table.lack(name, str(error))
            continue
        # What taking neighbours together changes, it changes in every draw.
        table.add(name, value, area(*drawn) + (value - float(area(*once))))
