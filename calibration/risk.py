"""Which rows can be accepted unseen so that a promise about their error holds; and what it takes where it cannot.

The promise: with confidence 1 - delta, at most the share epsilon of the accepted rows is wrong. It is about the N
rows of `confidence`, holds in repeated drawing of the checked rows, and assumes nothing about the model: a model
whose confidence says nothing only gets fewer rows accepted. What it does assume: `confidence` was fixed without
the labels of the checked rows (out-of-fold where a calibrator was fitted on them), and the checked rows were drawn
as `inclusion` says, not picked because they looked right or wrong.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, bdtrik, betaincinv

from calibration.logprobs import BoolArray, FloatArray, IntArray

EPSILON = DELTA = 0.05
POWER = 0.8  # the chance of success more labels are planned for
_STEPS = 100  # sets looked at: the surest 1 %, 2 %, ... of the rows
_NEAR_BEST = 0.9  # the first set tested is the smallest whose planned chance is this share of the best one
_LEAST_ERROR = 0.25  # of epsilon: a plan does not believe in errors smaller than that
_CLAIM = 10.0  # checked rows that the model's own claim weighs when more labels are planned
_BETS = np.array([0.0, 0.1, 0.25, 0.5, 0.75])  # error, in epsilons, each bet is best for
_MOST_WRONG = 2000  # plans with more wrong rows than that among the checked ones are no plans


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What can be accepted. `threshold` None: nothing yet; then `rows`, `checked` and `wrong` are 0, `bound` is 1.

    `rows` of the N have confidence >= `threshold`; `checked` of them were checked and `wrong` of those wrong.
    `bound`: with confidence 1 - delta no more than this share of these rows is wrong (a bound for this set; it is
    at most epsilon). `more`: about how many further uniformly drawn labels a promise is likely (80 %) to need, an
    estimate, 0 where one is kept already, None where no number of labels will do unless the error is smaller than
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
class _Sets:
    """Nested sets of rows, the surest first, each array [m]: those with confidence >= threshold."""

    threshold: FloatArray
    rows: IntArray
    claimed: FloatArray  # mean of 1 - confidence
    expected: FloatArray  # checked rows inside, as many uniformly drawn ones as the design is worth
    heaviest: FloatArray  # largest weight 1 / inclusion inside


def clopper_pearson_upper(
    wrong: npt.ArrayLike, checked: npt.ArrayLike, delta: float = DELTA
) -> npt.NDArray[np.float64]:
    """Exact upper bound at 1 - delta of a share of which `wrong` [...] of `checked` [...] were seen; 1 for none.

    Source: Clopper, Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial". Rows drawn without replacement only make it more careful (Uhlmann 1966).
    """
    k, n = np.asarray(wrong, dtype=np.float64), np.asarray(checked, dtype=np.float64)
    if (k < 0).any() or (k > n).any():
        raise ValueError("wrong rows are a part of the checked ones")
    _check_level("delta", delta)
    inside = k < n
    upper: FloatArray = np.where(inside, betaincinv(k + 1, np.where(inside, n - k, 1.0), 1 - delta), 1.0)
    return upper


def accept(
    confidence: npt.ArrayLike,
    checked: npt.ArrayLike,
    wrong: npt.ArrayLike,
    *,
    epsilon: float = EPSILON,
    delta: float = DELTA,
    inclusion: npt.ArrayLike | None = None,
) -> Acceptance:
    """The largest set {confidence >= threshold} of the N rows whose error is at most epsilon, at 1 - delta.

    `confidence` [N] of every row, 0..1; `checked` [n]: positions of the rows people checked, each once; `wrong`
    [n]: whether the label was wrong; `inclusion` [N]: the probability with which each row got into the sample,
    above 0; without it the sample is uniform.

    The sets are fixed in advance by the confidences: the surest 1 %, 2 %, ... of the rows, from the first one that
    is likely to pass on if confidences are true. They are tested one after the other, each at level delta, until
    one fails: fixed-sequence testing, under which the chance of any wrong promise is at most delta without further
    correction (Bauer 1991; Angelopoulos, Bates, Candes, Jordan, Lei 2021, "Learn then Test", section 3.2).

    Each test: for uniform samples Clopper-Pearson. With `inclusion` a bet against "the error is above epsilon",
    capital = product over checked rows inside of 1 - bet * weight * (wrong - epsilon), with weight 1 / inclusion
    and bets small enough to keep it positive, averaged over bets fixed in advance; it passes at capital
    >= 1 / delta (Markov). Under the hypothesis the capital is 1 or less on average for independent draws with
    these probabilities (factor by factor), for random samples within strata (Maclaurin's inequality within, the
    inequality of means across them) and for active choice with probabilities fixed per row. Source of the bets:
    Waudby-Smith, Ramdas 2023, "Estimating means of bounded random variables by betting".

    The order of rows changes nothing. Raises ValueError for wrong shapes and values.
    """
    said, places, bad, chance = _checked(confidence, checked, wrong, inclusion)
    _check_level("epsilon", epsilon)
    _check_level("delta", delta)
    if places.size == 0:
        more = _rows_for(0.0, epsilon, delta)
        return Acceptance(
            None, 0, 0, 0, 1.0, more, f"Nothing was checked yet; about {more} blind labels are needed."
        )
    sets = _nested(said, places.size, chance)
    inside, mistakes = _counted(said[places], bad, sets.threshold)
    if chance is None:
        bounds = clopper_pearson_upper(mistakes, inside, delta)
    else:
        bounds = _betting_bounds(said[places], bad, 1 / chance[places], sets, delta)
    first = _start(sets, epsilon, delta)
    failed = np.flatnonzero(bounds[first:] > epsilon)
    last = first + int(failed[0]) - 1 if failed.size else len(bounds) - 1
    if last < first:
        return _nothing_yet(sets, inside, mistakes, places.size, epsilon, delta)
    found = int(sets.rows[last])
    return Acceptance(
        threshold=float(sets.threshold[last]),
        rows=found,
        checked=int(inside[last]),
        wrong=int(mistakes[last]),
        bound=float(bounds[last]),
        more=0,
        why=(
            f"{found:,} of {said.size:,} rows can be accepted: {int(mistakes[last])} of the {int(inside[last])} "
            f"checked ones among them were wrong, so with {1 - delta:.0%} confidence at most {bounds[last]:.1%} "
            "are."
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
) -> dict[Hashable, Acceptance]:
    """`accept` for every domain by itself; all promises hold together with confidence 1 - delta.

    `domain` [N]: the domain of every row, strings or integers. Each domain gets delta divided by their number
    (Bonferroni), so it needs more labels than one promise for all. Keys are in sorted order.
    """
    said, places, bad, chance = _checked(confidence, checked, wrong, inclusion)
    _check_level("delta", delta)
    of_row = np.asarray(domain)
    if of_row.shape != said.shape:
        raise ValueError(f"{said.size} rows do not go with {of_row.shape} domains")
    names = np.unique(of_row)
    result: dict[Hashable, Acceptance] = {}
    for name in names:
        members = np.flatnonzero(of_row == name)
        here = of_row[places] == name
        result[name.item()] = accept(
            said[members],
            np.searchsorted(members, places[here]),
            bad[here],
            epsilon=epsilon,
            delta=delta / len(names),
            inclusion=None if chance is None else chance[members],
        )
    return result


def conformal_threshold(
    confidence: npt.ArrayLike, wrong: npt.ArrayLike, *, epsilon: float = EPSILON
) -> float | None:
    """Accept rows at or above this: on average the share epsilon of ALL rows is then accepted and wrong.

    Another promise than `accept`: it counts accepted mistakes among all rows rather than among the accepted, and
    holds for the expectation over samples rather than with a stated confidence. It therefore accepts more, and
    needs no more than 1 / epsilon - 1 checked rows; None with fewer. -inf where everything can be accepted.
    Assumes that checked rows are exchangeable with the others (a uniform sample). Source: Angelopoulos, Bates,
    Fisch, Lei, Schuster 2022, "Conformal Risk Control", theorem 1, with the loss "accepted and wrong".
    """
    said, bad = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=np.bool_)
    if said.ndim != 1 or said.shape != bad.shape or np.isnan(said).any():
        raise ValueError("confidences and mistakes are lists of one length")
    _check_level("epsilon", epsilon)
    allowed = int(np.floor(epsilon * (said.size + 1) - 1 + 1e-9))
    if allowed < 0:
        return None
    mistakes = np.sort(said[bad])[::-1]
    return float(np.nextafter(mistakes[allowed], np.inf)) if mistakes.size > allowed else -np.inf


def labels_needed(error: float, *, epsilon: float = EPSILON, delta: float = DELTA) -> int | None:
    """Checked rows a set with this true `error` needs to pass the exact test with a chance of 80 %; a plan.

    None where the error is epsilon or more, or so close to it that no practical number will do.
    """
    _check_level("epsilon", epsilon)
    _check_level("delta", delta)
    if not 0 <= error <= 1:
        raise ValueError("an error is a share between 0 and 1")
    return _rows_for(error, epsilon, delta)


def _nested(said: FloatArray, checked: int, chance: FloatArray | None) -> _Sets:
    order = np.argsort(-said, kind="stable")
    ordered = said[order]
    wanted = np.ceil(np.arange(1, _STEPS + 1) / _STEPS * said.size).astype(np.int64)
    threshold = np.unique(ordered[wanted - 1])[::-1]
    rows = np.searchsorted(-ordered, -threshold, side="right").astype(np.int64)
    weights = np.full(said.size, said.size / checked) if chance is None else 1 / chance[order]
    return _Sets(
        threshold=threshold,
        rows=rows,
        claimed=np.cumsum(1 - ordered)[rows - 1] / rows,
        # Kish's effective number of rows: equal to the count where all weights are.
        expected=rows**2 / np.cumsum(weights)[rows - 1],
        heaviest=np.maximum.accumulate(weights)[rows - 1],
    )


def _counted(said: FloatArray, bad: BoolArray, threshold: FloatArray) -> tuple[IntArray, IntArray]:
    """Checked rows, and wrong ones among them, with confidence >= each threshold."""

    def at_least(values: FloatArray) -> IntArray:
        return (values.size - np.searchsorted(np.sort(values), threshold, side="left")).astype(np.int64)

    return at_least(said), at_least(said[bad])


def _start(sets: _Sets, epsilon: float, delta: float) -> int:
    """The smallest set nearly as likely to pass as the best one, if confidences are true. It looks at no label."""
    rows = np.floor(sets.expected)
    error = np.clip(sets.claimed, _LEAST_ERROR * epsilon, 1.0)
    allowed = _allowed(rows, epsilon, delta)
    passing = np.where(allowed >= 0, bdtr(np.maximum(allowed, 0), np.maximum(rows, 1), error), 0.0)
    if passing.max() == 0:
        return int(sets.expected.argmax())
    return int(np.argmax(passing >= _NEAR_BEST * passing.max()))


def _allowed(rows: FloatArray, epsilon: float, delta: float) -> FloatArray:
    """How many wrong ones of `rows` checked the exact test still passes; -1 for none at all."""
    rows = np.maximum(rows, 1)
    # The inverse in k of the distribution function, then rounding put right by trying the neighbours.
    guess = np.floor(np.nan_to_num(bdtrik(delta, rows, epsilon), nan=-1.0))
    best: FloatArray = np.full_like(guess, -1.0)
    for k in (guess - 1, guess, guess + 1):
        passes = (k >= 0) & (k < rows) & (bdtr(np.clip(k, 0, rows), rows, epsilon) <= delta)
        best = np.where(passes, np.maximum(best, k), best)
    return best


def _betting_bounds(
    said: FloatArray, bad: BoolArray, weights: FloatArray, sets: _Sets, delta: float
) -> FloatArray:
    """Per set the smallest error the bets refute; capital grows with the error bet against, so by bisection."""
    inside = said[None, :] >= sets.threshold[:, None]
    relative = np.where(inside, weights[None, :] / sets.heaviest[:, None], 0.0)
    right, lost = relative * ~bad, relative * bad
    stake = 1 - _BETS

    # A row that is wrong costs the same whatever error is bet against.
    costs = np.log1p(-stake[:, None, None] * np.minimum(lost, 1 - 1e-12)).sum(axis=2)

    def refuted(error: FloatArray) -> BoolArray:
        odds = (error / (1 - error))[None, :, None]
        capital = np.log1p(stake[:, None, None] * right * odds).sum(axis=2) + costs
        return np.asarray(np.logaddexp.reduce(capital, axis=0) - np.log(len(_BETS)) >= -np.log(delta))

    low, high = np.zeros(len(sets.rows)), np.ones(len(sets.rows))
    for _ in range(20):
        middle = (low + high) / 2
        yes = refuted(middle)
        low, high = np.where(yes, low, middle), np.where(yes, middle, high)
    return high


def _nothing_yet(
    sets: _Sets, inside: IntArray, mistakes: IntArray, checked: int, epsilon: float, delta: float
) -> Acceptance:
    """No set passed: which of them would with the fewest labels, going by what was seen and what is claimed."""
    error = (mistakes + _CLAIM * sets.claimed) / (inside + _CLAIM)
    best: int | None = None
    for rows, share in zip(sets.rows, np.maximum(error, _LEAST_ERROR * epsilon), strict=True):
        needed = _rows_for(float(share), epsilon, delta)
        if needed is not None:
            total = int(np.ceil(needed * sets.rows[-1] / rows))
            best = total if best is None else min(best, total)
    if best is None:
        why = (
            f"No part of the rows looks right often enough for an error of {epsilon:.0%}: allow more error, or "
            "improve the labels."
        )
        return Acceptance(None, 0, 0, 0, 1.0, None, why)
    more = max(1, best - checked)
    why = f"{checked:,} checked rows are not enough for this promise yet: about {more:,} more blind labels are."
    return Acceptance(None, 0, 0, 0, 1.0, more, why)


def _rows_for(error: float, epsilon: float, delta: float) -> int | None:
    """The fewest checked rows such that a set with this error passes Clopper-Pearson with probability `POWER`."""
    if error >= epsilon:
        return None
    wrong = np.arange(_MOST_WRONG)
    low, high = wrong + 1, np.ceil((wrong + 20) * 40 / epsilon / min(1.0, -1 / np.log(delta))).astype(np.int64)
    while (low < high).any():  # the smallest n for which k wrong ones still pass
        middle = (low + high) // 2
        passes = bdtr(wrong, middle.astype(np.float64), epsilon) <= delta
        low, high = np.where(passes, low, middle + 1), np.where(passes, middle, high)
    likely = np.flatnonzero(bdtr(wrong, low.astype(np.float64), error) >= POWER)
    return int(low[likely[0]]) if likely.size else None


def _checked(
    confidence: npt.ArrayLike, checked: npt.ArrayLike, wrong: npt.ArrayLike, inclusion: npt.ArrayLike | None
) -> tuple[FloatArray, IntArray, BoolArray, FloatArray | None]:
    said, bad = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=np.bool_)
    if said.ndim != 1 or said.size == 0 or not ((said >= 0) & (said <= 1)).all():
        raise ValueError("confidences are a list of numbers between 0 and 1, one for every row")
    places = np.asarray(checked)
    if places.ndim != 1 or places.shape != bad.shape or (places.size and places.dtype.kind not in "iu"):
        raise ValueError("checked rows are a list of positions, with one outcome each")
    places = places.astype(np.int64)
    if places.size and (places.min() < 0 or places.max() >= said.size or np.unique(places).size < places.size):
        raise ValueError("every checked row is one of the rows, once")
    if inclusion is None:
        return said, places, bad, None
    chance = np.asarray(inclusion, dtype=np.float64)
    if chance.shape != said.shape or not ((chance > 0) & (chance <= 1)).all():
        raise ValueError("every row has a chance above 0, at most 1, of being checked")
    return said, places, bad, chance


def _check_level(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} lies between 0 and 1")
