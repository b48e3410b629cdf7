"""Which rows can be accepted unseen so that a promise about their error holds; and what it takes where it cannot.

The promise: with confidence 1 - delta, at most the share epsilon of the accepted rows is wrong. It is about the N
rows of `confidence`, holds in repeated drawing of the checked rows, and assumes nothing about the model: a model
whose confidence says nothing only gets fewer rows accepted. What it does assume:

- The checked rows were drawn as `inclusion` says, not picked because they looked right or wrong, and every one
  that was drawn counts; one that people could not decide is best counted as wrong.
- `confidence` was fixed without the labels of the checked rows. Where a calibrator was fitted on them this means
  out-of-fold confidences for the checked rows, which is nearly the same; how nearly, `python -m benchmarks
  promise` measures.
- The sample was not enlarged until the promise held, or else `look` says how often it was asked for.
- `epsilon` was chosen without looking. What it does to raise it until rows can be accepted, the same benchmark
  measures (`choosing`).

What "wrong" means is the caller's: another label than the truth; for a dimension with several labels, one promise
per label, wrong where "applies" and truth differ; for scores, wrong where |value - truth| is above a tolerance.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.bounds import DELTA, betting_upper, check_share, clopper_pearson_upper, constant, poisson_upper
from calibration.logprobs import BoolArray, FloatArray, IntArray
from calibration.planning import EPSILON, POWER, SIZES, believed, chance_to_pass, first_tested

_STEPS = 100  # sets looked at: the surest 1 %, 2 %, ... of the rows
_COST_OF_BETS = 1.5  # times as many rows as the exact test needs
_CLAIM = 10.0  # checked rows that the model's own claim weighs when more labels are planned


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What can be accepted. `threshold` None: nothing yet; then `rows`, `checked` and `wrong` are 0, `bound` is 1.

    `rows` of the N have confidence >= `threshold`; `checked` of them were checked and `wrong` of those wrong.
    `bound`: with confidence 1 - delta no more than this share of these rows is wrong (a bound for this set; it is
    at most epsilon). `more`: about how many further uniformly drawn labels a promise is likely to need, an
    estimate; 0 where one is kept already, None where no number of labels will do unless the error is smaller than
    it looks. `why`: all of this in a sentence.
    """

    threshold: float | None
    rows: int
    checked: int
    wrong: int
    bound: float
    more: int | None
    why: str


@dataclass(frozen=True, slots=True)
class RiskCurve:
    """Nested sets of rows, the surest first, arrays [m] with m <= 100: those with confidence >= `threshold`.

    `coverage`: their share of all rows, and `rows` their number; `checked`: checked ones among them; `risk`: the
    error estimated from these, each counted as many times as its chance of being drawn is small; `bound`: the
    error is at most this with confidence 1 - delta, at each point by itself, 1 where nobody can say.
    """

    threshold: FloatArray
    coverage: FloatArray
    rows: IntArray
    checked: IntArray
    wrong: IntArray
    risk: FloatArray
    bound: FloatArray


@dataclass(frozen=True, slots=True)
class _Sample:
    said: FloatArray  # [N]
    places: IntArray  # [n], each once
    bad: BoolArray  # [n]
    chance: FloatArray | None  # [N]


@dataclass(frozen=True, slots=True)
class _Sets:
    """What can be known of the sets without any label, arrays [m]."""

    threshold: FloatArray
    rows: IntArray
    claimed: FloatArray  # mean of 1 - confidence
    expected: FloatArray  # checked rows inside, as many uniformly drawn ones as the design is worth
    heaviest: FloatArray  # largest weight 1 / inclusion inside
    even: BoolArray  # whether all rows inside had one chance
    alike: FloatArray  # the smallest chance as a part of the mean one: 1 where all were alike


def accept(
    confidence: npt.ArrayLike,
    checked: npt.ArrayLike,
    wrong: npt.ArrayLike,
    *,
    epsilon: float = EPSILON,
    delta: float = DELTA,
    inclusion: npt.ArrayLike | None = None,
    look: int | None = None,
) -> Acceptance:
    """The largest set {confidence >= threshold} of the N rows whose error is at most epsilon, at 1 - delta.

    `confidence` [N] of every row, 0..1; `checked` [n]: positions of the rows people checked; `wrong` [n]: whether
    the label was wrong. A row checked twice counts once, and as wrong if anybody says so. `inclusion` [N]: the
    chance of each row to be among the checked ones; without it they are a uniform sample. Sets with rows that had
    no chance (0) are not accepted. `look`: 1, 2, ... where labels are added and the promise is asked for again
    until it holds; look k is tested at delta / (k * (k + 1)), which adds up to delta however often one looks, as
    long as the size of each addition is decided without looking.

    The sets are fixed in advance by the confidences: the surest 1 %, 2 %, ... of the rows, from the first one that
    is likely to pass on if confidences are true; the same for every delta, so a larger one never accepts fewer
    rows. They are tested one after the other, each at level delta, until one fails: fixed-sequence testing, under
    which the chance of any wrong promise is at most delta without further correction (Bauer 1991; Angelopoulos,
    Bates, Candes, Jordan, Lei 2021, "Learn then Test", section 3.2). The test is Clopper-Pearson's for N rows
    (`clopper_pearson_upper`) in sets whose rows had all one chance, one that counts on the smallest chance where
    they differ little (`poisson_upper`), and a bet weighted by 1 / inclusion (`betting_upper`) in the others.

    The order of rows changes nothing. Raises ValueError for wrong shapes and values.
    """
    sample = _checked(confidence, checked, wrong, inclusion)
    check_share("epsilon", epsilon)
    level = _level(delta, look)
    sets = _nested(sample)
    curve = _curve(sample, sets, level)
    first = int(first_tested(_worth(sets, sets.expected), sets.claimed, epsilon))
    failed = np.flatnonzero(curve.bound[first:] > epsilon)
    last = first + int(failed[0]) - 1 if failed.size else len(sets.rows) - 1
    if last < first:
        return _nothing_yet(sets, curve, sample, epsilon, level)
    found, seen, mistakes = int(curve.rows[last]), int(curve.checked[last]), int(curve.wrong[last])
    bound = float(curve.bound[last])
    left = sample.said.size - found
    return Acceptance(
        threshold=float(curve.threshold[last]),
        rows=found,
        checked=seen,
        wrong=mistakes,
        bound=bound,
        more=0,
        why=(
            f"{found:,} of {sample.said.size:,} rows can be accepted, {left:,} {'needs' if left == 1 else 'need'} "
            f"a look: of the {seen:,} checked among the accepted {mistakes:,} {'was' if mistakes == 1 else 'were'}"
            f" wrong, so with {_percent(1 - delta)} confidence at most {_percent(bound)} of them are."
        ),
    )


def accept_by_domain(
    confidence: npt.ArrayLike,
    checked: npt.ArrayLike,
    wrong: npt.ArrayLike,
    domain: npt.ArrayLike,
    *,
    epsilon: float = EPSILON,
    delta: float = DELTA,
    inclusion: npt.ArrayLike | None = None,
    look: int | None = None,
) -> dict[Hashable, Acceptance]:
    """`accept` for every domain by itself; all promises hold together with confidence 1 - delta.

    `domain` [N]: the domain of every row, strings or integers. Each domain gets delta divided by their number
    (Bonferroni), so it needs more labels than one promise for all. Keys are in sorted order.
    """
    sample = _checked(confidence, checked, wrong, inclusion)
    check_share("delta", delta)
    of_row = np.asarray(domain)
    if of_row.shape != sample.said.shape:
        raise ValueError(f"{sample.said.size} rows do not go with {of_row.shape} domains")
    names = np.unique(of_row)
    result: dict[Hashable, Acceptance] = {}
    for name in names:
        members = np.flatnonzero(of_row == name)
        here = of_row[sample.places] == name
        result[name.item()] = accept(
            sample.said[members],
            np.searchsorted(members, sample.places[here]),
            sample.bad[here],
            epsilon=epsilon,
            delta=delta / len(names),
            inclusion=None if sample.chance is None else sample.chance[members],
            look=look,
        )
    return result


def risk_curve(
    confidence: npt.ArrayLike,
    checked: npt.ArrayLike,
    wrong: npt.ArrayLike,
    *,
    delta: float = DELTA,
    inclusion: npt.ArrayLike | None = None,
    look: int | None = None,
) -> RiskCurve:
    """Error against the share of rows accepted, the sets of `accept` in which anybody checked a row.

    Arguments as in `accept`. The bounds hold one at a time: the promise for a set picked by looking at them is
    `accept`'s. Raises ValueError for wrong shapes and values.
    """
    sample = _checked(confidence, checked, wrong, inclusion)
    curve = _curve(sample, _nested(sample), _level(delta, look))
    seen = curve.checked > 0
    return RiskCurve(*(getattr(curve, name)[seen] for name in RiskCurve.__slots__))


def conformal_threshold(
    confidence: npt.ArrayLike, wrong: npt.ArrayLike, *, epsilon: float = EPSILON
) -> float | None:
    """Accept rows at or above this: on average the share epsilon of ALL rows is then accepted and wrong.

    `confidence` [n] and `wrong` [n] of a uniform sample of checked rows. Another promise than `accept`: it counts
    accepted mistakes among all rows rather than among the accepted, and holds for the expectation over samples
    rather than with a stated confidence. It therefore accepts more, and needs no more than 1 / epsilon - 1 checked
    rows; None with fewer. -inf where everything can be accepted. Source: Angelopoulos, Bates, Fisch, Lei, Schuster
    2022, "Conformal Risk Control", theorem 1, with the loss "accepted and wrong".
    """
    said, bad = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=np.bool_)
    if said.ndim != 1 or said.shape != bad.shape or np.isnan(said).any():
        raise ValueError("confidences and mistakes are lists of one length")
    check_share("epsilon", epsilon)
    allowed = int(np.floor(epsilon * (said.size + 1) - 1 + 1e-9))
    if allowed < 0:
        return None
    mistakes = np.sort(said[bad])[::-1]
    return float(np.nextafter(mistakes[allowed], np.inf)) if mistakes.size > allowed else -np.inf


def _level(delta: float, look: int | None) -> float:
    """What this look is tested at."""
    check_share("delta", delta)
    if look is None:
        return delta
    if look < 1:
        raise ValueError("looks are counted from 1")
    return delta / (look * (look + 1))


def _nested(sample: _Sample) -> _Sets:
    total = sample.said.size
    order = np.argsort(-sample.said, kind="stable")
    ordered = sample.said[order]
    wanted = np.ceil(np.arange(1, _STEPS + 1) / _STEPS * total).astype(np.int64)
    threshold = np.unique(ordered[wanted - 1])[::-1]
    rows = np.searchsorted(-ordered, -threshold, side="right").astype(np.int64)
    chance = np.full(total, sample.places.size / total) if sample.chance is None else sample.chance[order]
    least, most = np.minimum.accumulate(chance)[rows - 1], np.maximum.accumulate(chance)[rows - 1]
    with np.errstate(divide="ignore"):
        weights = 1 / chance
        heaviest = 1 / least
    # Kish's effective number of rows: equal to the count where all weights are.
    expected = rows**2 / np.cumsum(weights)[rows - 1]
    return _Sets(
        threshold=threshold,
        rows=rows,
        claimed=np.cumsum(1 - ordered)[rows - 1] / rows,
        expected=expected,
        heaviest=heaviest,
        even=constant(least, most),
        alike=rows * least / np.maximum(expected, 1e-12),
    )


def _curve(sample: _Sample, sets: _Sets, delta: float) -> RiskCurve:
    """Every set of `sets`, also those nobody checked a row of: their risk is 1."""
    order = np.argsort(-sample.said[sample.places], kind="stable")
    said, bad = sample.said[sample.places][order], sample.bad[order]
    seen = np.searchsorted(-said, -sets.threshold, side="right").astype(np.int64)
    mistakes = np.concatenate(([0], np.cumsum(bad)))[seen]
    weights = np.ones(said.size) if sample.chance is None else 1 / sample.chance[sample.places][order]
    weight = np.concatenate(([0.0], np.cumsum(weights)))[seen]
    lost = np.concatenate(([0.0], np.cumsum(weights * bad)))[seen]
    bound = clopper_pearson_upper(mistakes, seen, delta, rows=sets.rows)
    nearly = ~sets.even & (sets.alike >= 1 / _COST_OF_BETS)
    # Where fewer were checked than their chances say, these count.
    expected = np.minimum(sets.rows / sets.heaviest, seen * sets.alike)
    bound[nearly] = poisson_upper(mistakes[nearly], expected[nearly], delta)
    for at in np.flatnonzero(~sets.even & ~nearly):
        bound[at] = betting_upper(weights[: seen[at]], bad[: seen[at]], sets.heaviest[at], delta)
    return RiskCurve(
        threshold=sets.threshold,
        coverage=sets.rows / sample.said.size,
        rows=sets.rows,
        checked=seen,
        wrong=mistakes.astype(np.int64),
        risk=np.where(seen > 0, lost / np.where(seen > 0, weight, 1.0), 1.0),
        bound=bound,
    )


def _worth(sets: _Sets, expected: FloatArray) -> FloatArray:
    """Checked rows of a very large set that say as much: more where few are left unchecked, less for bets."""
    left = np.maximum(1 - expected / sets.rows, 1e-3)
    uneven = expected * np.maximum(sets.alike, 1 / _COST_OF_BETS)
    worth: FloatArray = np.where(sets.even, expected / left, uneven)
    return worth


def _nothing_yet(sets: _Sets, curve: RiskCurve, sample: _Sample, epsilon: float, delta: float) -> Acceptance:
    """No set passed: with how many more labels the first one tested then would, by what was seen and claimed."""
    total, checked = sample.said.size, sample.places.size
    error = believed((curve.checked * curve.risk + _CLAIM * sets.claimed) / (curve.checked + _CLAIM), epsilon)

    def kept(more: int) -> bool:
        expected = sets.expected + more * sets.rows / total
        first = int(first_tested(_worth(sets, expected), sets.claimed, epsilon))
        passing = chance_to_pass(_worth(sets, expected)[first], error[first], epsilon, delta)
        return float(passing) >= POWER

    # Checking everything settles it, but that is no promise about rows nobody looked at.
    sizes = [int(size) for size in SIZES if size < total - checked]
    if not sizes or not kept(sizes[-1]):
        why = (
            f"No part of the rows looks right often enough for an error of {_percent(epsilon)}: allow more error, "
            "check all of them, or improve the labels."
        )
        return Acceptance(None, 0, 0, 0, 1.0, None, why)
    missing = sizes[bisect_left(sizes, True, key=kept)]
    why = (
        f"{checked:,} checked rows are not enough for this promise yet: about {missing:,} more are needed, blind."
    )
    return Acceptance(None, 0, 0, 0, 1.0, missing, why)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _checked(
    confidence: npt.ArrayLike, checked: npt.ArrayLike, wrong: npt.ArrayLike, inclusion: npt.ArrayLike | None
) -> _Sample:
    said, bad = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=np.bool_)
    if said.ndim != 1 or said.size == 0 or not ((said >= 0) & (said <= 1)).all():
        raise ValueError("confidences are a list of numbers between 0 and 1, one for every row")
    places = np.asarray(checked)
    if places.ndim != 1 or places.shape != bad.shape or (places.size and places.dtype.kind not in "iu"):
        raise ValueError("checked rows are a list of positions, with one outcome each")
    places, which = np.unique(places.astype(np.int64), return_inverse=True)
    if places.size and (places[0] < 0 or places[-1] >= said.size):
        raise ValueError("every checked row is one of the rows")
    anybody = np.zeros(places.size, dtype=np.bool_)
    np.logical_or.at(anybody, which, bad)
    if inclusion is None:
        return _Sample(said, places, anybody, None)
    chance = np.asarray(inclusion, dtype=np.float64)
    if chance.shape != said.shape or not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError("every row has a chance between 0 and 1 of being checked")
    if not (chance[places] > 0).all():
        raise ValueError("a row that could not be drawn was checked")
    return _Sample(said, places, anybody, chance)
