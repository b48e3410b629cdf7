"""Many small calibrations around a common one, each as far from it as the data say that they differ.

Each of d groups of rows has a scale and an offset for each of k labels: its probabilities are
softmax(exp(place[0]) * logprobs + place[1:]), and place 0 changes nothing. Places are normally distributed around
0 with one spread for the logarithm of the scale and one for the offsets. How large these spreads are is learned
from the data (empirical Bayes): each pair of a grid is weighed by how probable it makes the truth, the integral
over places taken by Laplace's method, and the medians are used. Sources: Robbins 1956, "An Empirical Bayes
Approach to Statistics"; Tierney, Kadane 1986, "Accurate Approximations for Posterior Moments and Marginal
Densities".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.logprobs import FloatArray, IntArray

# From "changes a probability by a point or two" to "by as much as can be", in equal steps of the logarithm.
SCALE_SPREADS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
OFFSET_SPREADS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_STEPS, _HALVINGS = 50, 20
_EXACT, _ROUGH, _ROUNDING = 1e-9, 1e-3, 1e-12  # in units of the spreads; rough is enough to weigh them
_DRAWN = 2000  # rows of a group that the spreads are estimated from, at most


@dataclass(frozen=True, slots=True)
class Posterior:
    """What was learned of d groups. `places` [d, 1 + k]; `spreads` of ln scale and of offsets; `own` [d]: the
    share of each group's place that its own rows determine, 0 (all is common) to 1."""

    places: FloatArray
    spreads: tuple[float, float]
    own: FloatArray


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows sorted by group: scores [n, k], labels [n], groups [n], where the rows of each of d groups begin [d],
    and how many of them have each label [d, k]."""

    scores: FloatArray
    labels: IntArray
    group: IntArray
    starts: IntArray
    hits: FloatArray

    def sums(self, values: FloatArray) -> FloatArray:
        """[n, ...] -> [d, ...]."""
        return np.add.reduceat(values, self.starts, axis=0)


@dataclass(frozen=True, slots=True)
class _Settled:
    """Most probable places in units of the spreads [d, p], what they minimise [d], and the curvature [d, p, p]."""

    unit: FloatArray
    loss: FloatArray
    curvature: FloatArray


def learn(scores: FloatArray, labels: IntArray, group: IntArray) -> Posterior:
    """Places of the groups 0..d-1, each with at least one of the n rows.

    `scores` [n, k] finite log-probabilities, `labels` [n], `group` [n]. The order of the rows does not matter.
    """
    rows = _sorted(scores, labels, group)
    spreads = _spreads(_fewer(rows))
    each = _each(spreads, scores.shape[1])
    found = _settle(rows, each, np.zeros((len(rows.starts), len(each))))
    variance = np.diagonal(np.linalg.inv(found.curvature), axis1=1, axis2=2)
    # A common shift of all offsets changes nothing, so no row can say anything about it.
    free = max(1.0, float(spreads[0] > 0) + (scores.shape[1] - 1) * float(spreads[1] > 0))
    own = np.clip((1.0 - variance).sum(axis=1) / free, 0.0, 1.0)
    return Posterior(found.unit * each, (float(spreads[0]), float(spreads[1])), own)


def _sorted(scores: FloatArray, labels: IntArray, group: IntArray) -> _Rows:
    order = np.argsort(group, kind="stable")
    group = group[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    d, k = len(starts), scores.shape[1]
    hits = np.bincount(group * k + labels[order], minlength=d * k).reshape(d, k).astype(np.float64)
    return _Rows(scores[order], labels[order], group, starts, hits)


def _fewer(rows: _Rows) -> _Rows:
    """Evenly chosen rows of the groups that have more than it takes to tell how groups differ."""
    counts = np.diff(np.append(rows.starts, len(rows.labels)))
    within = np.arange(len(rows.labels)) - rows.starts[rows.group]
    kept = within % -(-counts // _DRAWN)[rows.group] == 0
    return rows if kept.all() else _sorted(rows.scores[kept], rows.labels[kept], rows.group[kept])


def _spreads(rows: _Rows) -> FloatArray:
    """The median spreads [2] by evidence, before which no difference is as probable as all others together.

    So domains are taken to differ only where that has become more probable than not.
    """
    shape = len(SCALE_SPREADS), len(OFFSET_SPREADS)
    evidence = np.empty(shape)
    starts = [np.zeros((len(rows.starts), 1 + rows.scores.shape[1]))] * shape[1]
    for i, of_scale in enumerate(SCALE_SPREADS):
        for j, of_offsets in enumerate(OFFSET_SPREADS):
            each = _each(np.array([of_scale, of_offsets]), rows.scores.shape[1])
            found = _settle(rows, each, starts[j if i else max(0, j - 1)], _ROUGH)
            starts[j] = found.unit * each
            evidence[i, j] = -found.loss.sum() - 0.5 * np.linalg.slogdet(found.curvature)[1].sum()
    before = [np.where(np.arange(count) == 0, 1.0, 1.0 / (count - 1)) for count in shape]
    weights = np.exp(evidence - evidence.max()) * np.outer(*before)
    weights /= weights.sum()
    medians = [np.searchsorted(np.cumsum(weights.sum(axis=axis)), 0.5) for axis in (1, 0)]
    return np.array([SCALE_SPREADS[medians[0]], OFFSET_SPREADS[medians[1]]])


def _settle(rows: _Rows, each: FloatArray, places: FloatArray, tolerance: float = _EXACT) -> _Settled:
    """Newton's method for all groups at once; where a step would not lower the objective, half of it is taken."""
    unit = np.divide(places, each, out=np.zeros_like(places), where=each > 0)
    loss, slope, curvature = _terms(rows, each, unit)
    for _ in range(_STEPS):
        step = -np.linalg.solve(curvature, slope[:, :, None])[:, :, 0]
        if np.abs(step).max() < tolerance:
            break
        for _ in range(_HALVINGS):
            found = _terms(rows, each, unit + step)
            worse = ~(found[0] <= loss + _ROUNDING * np.abs(loss))
            if not worse.any():
                break
            step[worse] /= 2
        else:
            step[worse] = 0.0
            found = _terms(rows, each, unit + step)
        unit = unit + step
        loss, slope, curvature = found
    return _Settled(unit, loss, curvature)


def _terms(rows: _Rows, each: FloatArray, unit: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Summed log loss plus |unit|^2 / 2 of every group [d], its slope [d, p] and curvature [d, p, p] in `unit`.

    The curvature is that of the truth one would expect (Fisher scoring), which is never negative.
    """
    places = unit * each
    curvature = np.empty((*unit.shape, unit.shape[1]))
    slope = np.empty_like(unit)
    with np.errstate(over="ignore", invalid="ignore"):  # a step too far is taken back by whoever took it
        scale = np.exp(places[:, 0])[rows.group]
        raised = scale[:, None] * rows.scores + places[rows.group, 1:]
        raised -= raised.max(axis=1, keepdims=True)
        of_truth = np.take_along_axis(raised, rows.labels[:, None], axis=1)[:, 0]
        share = np.exp(raised)
        total = share.sum(axis=1)
        share /= total[:, None]
        loss = rows.sums(np.log(total) - of_truth) + 0.5 * np.square(unit).sum(axis=1)
        away = rows.scores - np.einsum("nk,nk->n", share, rows.scores)[:, None]
        weighted = share * away
        slope[:, 0] = -rows.sums(scale * np.take_along_axis(away, rows.labels[:, None], axis=1)[:, 0])
        slope[:, 1:] = rows.sums(share) - rows.hits
        curvature[:, 0, 0] = rows.sums(np.square(scale) * np.einsum("nk,nk->n", weighted, away))
        curvature[:, 0, 1:] = curvature[:, 1:, 0] = rows.sums(scale[:, None] * weighted)
        for label in range(share.shape[1]):
            curvature[:, 1 + label, 1:] = -rows.sums(share[:, label, None] * share)
            curvature[:, 1 + label, 1 + label] += rows.sums(share[:, label])
        return loss, slope * each + unit, curvature * np.outer(each, each) + np.eye(unit.shape[1])


def _each(spreads: FloatArray, labels: int) -> FloatArray:
    """The spread of every number of a place, [1 + k]."""
    return np.append(spreads[0], np.full(labels, spreads[1]))
