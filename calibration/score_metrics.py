"""How far scores are from the truth: `predicted` and `truth` [n], in the units of the score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calibration.intervals import NO_ROWS, Redraws, Undefined
from calibration.logprobs import FloatArray, IntArray

_LEVELS = 40  # values told apart on each side of a table that is drawn again


def mean_absolute_error(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """MAE: mean of |predicted - truth|. Raises Undefined when n = 0."""
    said, true = as_scores(predicted, truth)
    return float(np.abs(said - true).mean())


def root_mean_squared_error(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """RMSE: root of the mean of (predicted - truth)². Raises Undefined when n = 0."""
    said, true = as_scores(predicted, truth)
    return float(np.sqrt(np.square(said - true).mean()))


def spearman(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Spearman's rank correlation, in -1..1: whether higher predictions go with higher truths. Equal values share
    their mean rank. Source: Spearman 1904, "The proof and measurement of association between two things".
    Raises Undefined for fewer than two rows and when either side is the same in every row.
    """
    from scipy.stats import rankdata  # takes long to load, and few who import this need it

    said, true = as_scores(predicted, truth)
    if said.size < 2:
        raise Undefined("One checked row has no order.")
    for values, name in ((said, "predicted"), (true, "true")):
        if (values == values[0]).all():
            raise Undefined(f"Every row has the same {name} score, so there is no order to compare.")
    ranks = [rankdata(values) - (values.size + 1) / 2 for values in (said, true)]
    return float(np.clip(ranks[0] @ ranks[1] / np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])), -1.0, 1.0))


def drawn_spearman(said: FloatArray, true: FloatArray, drawn: Redraws) -> FloatArray:
    """Spearman's correlation [resamples] in each draw; NaN where a draw is the same in every row.

    From a table of values; with more than 40 distinct ones on a side neighbours are taken together.
    """
    rows, columns = _levels(said), _levels(true)
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    table = drawn.sums(None, rows * shape[1] + columns, shape[0] * shape[1]).reshape(-1, *shape)
    number = table.sum(axis=(1, 2))[:, None]
    ranks = []
    for axis in (2, 1):
        count = table.sum(axis=axis)
        ranks.append((count, np.cumsum(count, axis=1) - count / 2 - number / 2))
    spread = [np.einsum("rv,rv,rv->r", count, rank, rank) for count, rank in ranks]
    product = np.einsum("rxy,rx,ry->r", table, ranks[0][1], ranks[1][1])
    scale = np.sqrt(spread[0] * spread[1])
    found: FloatArray = np.divide(product, scale, out=np.full(product.shape, np.nan), where=scale > 0)
    return found


def as_scores(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check and convert both to float64 [n]. Raises ValueError for other shapes and for what is no number,
    Undefined when n = 0."""
    said, true = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if said.ndim != 1 or said.shape != true.shape:
        raise ValueError(f"{said.shape} predicted scores do not go with {true.shape} true ones")
    if not (np.isfinite(said).all() and np.isfinite(true).all()):
        raise ValueError("scores are numbers")
    if said.size == 0:
        raise Undefined(NO_ROWS)
    return said, true


def _levels(values: FloatArray) -> IntArray:
    """The place of each value among the distinct ones, or among as many quantiles."""
    distinct, place = np.unique(values, return_inverse=True)
    if distinct.size > _LEVELS:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _LEVELS + 1)[1:-1]))
        place = np.searchsorted(edges, values, side="left")
    return place.astype(np.int64)
