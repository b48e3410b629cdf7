"""Which rows to check next: drawn by lot, with the chance of every row known, so that a promise can rest on them.

A draw gives every row a chance in proportion to its rate and is independent of every other draw, so samples grow:
the chance of being in any of several draws is 1 - product of (1 - chance), whatever the rates of each were. Rates
may follow confidences and domains. Rates and numbers of rows that follow what was found wrong, as `recommend`'s
do, make the next promise a second look at the first rows: `accept` is to be told so by `look`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from calibration.bounds import DELTA
from calibration.logprobs import BoolArray, FloatArray, IntArray
from calibration.planning import EPSILON, SIZES, believed, chance_to_pass, first_tested
from calibration.risk import RiskCurve, accept, risk_curve

FIRST = 100  # rows of a first sample, from all rows: fewer say little about where the threshold will be
_FEWEST, _MOST = 20, 500  # rows that a recommendation asks for at a time
_FRAMES = 30  # sets that a recommendation chooses among
_DOUBTS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # quantiles of what the errors may be, all as likely
_HOPE = 0.25  # chance of a promise, below which no labels are asked for
_STRIDE = 4  # of the sizes that are looked at
_NEARLY = 0.95  # of the best
_CLAIM = 10.0  # checked rows that the model's own claim weighs


@dataclass(frozen=True, slots=True)
class Draw:
    """`places` [count] of the rows drawn, new ones only, in the order they should be checked.

    `inclusion` [N]: the chance each row had to be drawn by now, in this draw or before: what `accept` asks for.
    When only the first of them were checked, `partly` says what it is.
    """

    places: IntArray
    inclusion: FloatArray


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The draw that would help a promise most: `count` more rows at these `rates` [N], and `why` in a sentence.

    Rows at rate 1 are those it is about. `needed`: about how many labels are missing for the promise, which may be
    more than are recommended at a time; 0 where it is kept now, None where it would take more than it saves.
    """

    rates: FloatArray
    count: int
    needed: int | None
    why: str


def draw(
    rates: npt.ArrayLike,
    count: int,
    *,
    seed: int,
    drawn: npt.ArrayLike = (),
    inclusion: npt.ArrayLike | None = None,
) -> Draw:
    """`count` rows by lot, or as many as are left: each with a chance in proportion to its rate.

    `rates` [N], 0 or more, all the same for a uniform sample; rows at rate 0 are not drawn. `drawn`: places of the
    rows drawn before, `inclusion` [N] the chance they had, needed as soon as there are any. The same arguments
    give the same rows; the next draw is another one with the same seed, too.

    Every row has a random number; the rows with the smallest number / chance are drawn, those with chance 1 in any
    case. At equal rates this is a simple random sample, exactly; at others sequential Poisson sampling (Ohlsson
    1998, "Sequential Poisson sampling"): the chances of independent draws, but for the number of rows being fixed.
    Raises ValueError for wrong shapes and values.
    """
    wanted = np.asarray(rates, dtype=np.float64)
    if wanted.ndim != 1 or wanted.size == 0 or not (np.isfinite(wanted) & (wanted >= 0)).all():
        raise ValueError("rates are a list of numbers, 0 or more, one for every row")
    if count < 0:
        raise ValueError("a draw has a number of rows, 0 or more")
    known = np.asarray(drawn)
    if known.size == 0:
        known = known.astype(np.int64)
    if known.ndim != 1 or known.dtype.kind not in "iu" or ((known < 0) | (known >= wanted.size)).any():
        raise ValueError("rows drawn before are a list of positions")
    if inclusion is None and known.size:
        raise ValueError("the chance of the rows that were drawn before is needed")
    before = np.zeros(wanted.size) if inclusion is None else _chances(inclusion, wanted.size)
    new = wanted > 0
    new[known] = False
    now = _in_proportion(wanted, new, count)
    # Numbers of its own for every draw: rows just missed by the last one must not be the first of the next.
    random = np.random.default_rng([seed, int(np.unique(known).size)])
    numbers = random.random(wanted.size)
    with np.errstate(over="ignore", divide="ignore"):
        key = np.where(now < 1, numbers / now, 0.0)
    candidates = np.flatnonzero(new)
    places = candidates[np.argsort(key[candidates], kind="stable")[:count]]
    # In an order that has nothing to do with the rates, so that any part of the draw is one at the same rates.
    return Draw(random.permutation(places).astype(np.int64), before + (1 - before) * now)


def _in_proportion(rates: FloatArray, new: BoolArray, count: int) -> FloatArray:
    """Chances min(1, c * rate) that add up to `count` over the `new` rows, or as many as there are."""
    sorted_rates = np.sort(rates[new] / rates.max())[::-1] if new.any() else np.zeros(0)
    if count >= sorted_rates.size:
        return (rates > 0).astype(np.float64)
    # With the j largest rates certain, the others share the rest; the first j for which none of them is above 1.
    rest = np.cumsum(sorted_rates[::-1])[::-1]
    factors = (count - np.arange(count + 1)) / rest[: count + 1]
    certain = int(np.argmax(factors * sorted_rates[: count + 1] <= 1))
    chances: FloatArray = np.minimum(1.0, factors[certain] * (rates / rates.max()))
    return chances


def partly(before: npt.ArrayLike, after: npt.ArrayLike, share: float) -> FloatArray:
    """Chances [N] when only the first `share` (0..1) of a draw's places were checked.

    `before` [N] and `after` [N]: chances without and with all of that draw. Raises ValueError for wrong values.
    """
    if not 0 <= share <= 1:
        raise ValueError("a share lies between 0 and 1")
    without = _chances(before, np.size(before))
    missed = (1 - _chances(after, without.size)) / np.maximum(1 - without, 1e-12)
    chance: FloatArray = without + (1 - without) * share * np.clip(1 - missed, 0.0, 1.0)
    return chance


def even_rates(groups: npt.ArrayLike) -> FloatArray:
    """Rates [N] at which every group is drawn about equally often: 1 / size of the row's group.

    `groups` [N]: a domain, a layer of confidence, or both as one name. For a promise for every domain this is the
    draw; for one promise over all rows a uniform one needs fewer labels.
    """
    names = np.asarray(groups)
    if names.ndim != 1 or names.size == 0:
        raise ValueError("groups are a list of names, one for every row")
    _, which, sizes = np.unique(names, return_inverse=True, return_counts=True)
    rates: FloatArray = 1 / sizes[which]
    return rates


def recommend(
    confidence: npt.ArrayLike,
    checked: npt.ArrayLike,
    wrong: npt.ArrayLike,
    *,
    epsilon: float = EPSILON,
    delta: float = DELTA,
    inclusion: npt.ArrayLike | None = None,
    look: int | None = None,
    count: int | None = None,
) -> Recommendation:
    """What to draw next for the promise `accept` will be asked for with these arguments, `look` among them, then.

    From all rows until `FIRST` of them were checked. Then only from the surest: of the sets of `accept` the one
    that gets most rows accepted if it is drawn from, by what was seen, what the model claims, and the chance that
    both are better or worse than they look. Within it all rows have one chance, so sets inside keep the exact
    test; the rows below keep the chance they had. As many rows as save most work: those that will be accepted and
    need no look, less the ones drawn. None where that is not more than what can be accepted already.

    Rows that had no chance so far (`inclusion` 0) are to be drawn as often as those like them: as all where they
    are as sure, else as often as the row drawn least. Raises ValueError as `accept` does.
    """
    said = np.asarray(confidence, dtype=np.float64)
    chance = None if inclusion is None else _chances(inclusion, said.size)
    known = np.ones(said.size, dtype=np.bool_) if chance is None or not chance.any() else chance > 0
    places = np.unique(np.asarray(checked, dtype=np.int64))
    left = said.size - places.size
    if places.size < FIRST:
        first = min(FIRST - places.size if count is None else count, left)
        why = f"{first:,} more rows, drawn from all of them, to begin with."
        return Recommendation(np.ones(said.size), first, first, why)
    at = np.cumsum(known)[np.asarray(checked, dtype=np.int64)] - 1
    design = None if chance is None else chance[known]
    level: dict[str, Any] = {"delta": delta, "inclusion": design}
    found = accept(
        said[known], at, wrong, epsilon=epsilon, look=None if look is None else max(1, look - 1), **level
    )
    plan = _plan(said[known], risk_curve(said[known], at, wrong, **level))
    asked = _Asked(epsilon, delta if look is None else delta / (look * (look + 1)))
    pays = _paying(plan, asked, int(known.sum()) - places.size, found.rows - found.checked)
    needed = pays if found.threshold is None else 0
    wanted = int(np.clip(pays or 0, _FEWEST, _MOST)) if count is None else count
    inside = said >= plan.threshold[_frame(plan, asked, wanted).place]
    beside = ~inside & ~known
    least = min(1.0, places.size / known.sum() if design is None else float(design.min()))
    rates = np.where(inside, 1.0, np.where(beside, least, 0.0))
    drawn = inside[places].sum()
    if count is None:
        share = drawn / max(1, (inside & known).sum())
        missed = int(np.ceil(share * (inside & ~known).sum() + least * beside.sum()))
        wanted = 10 * -(-((wanted if pays else 0) + missed) // 10)
    wanted = min(wanted, int((inside | beside).sum() - drawn))
    if not wanted:
        return Recommendation(rates, 0, needed, "More labels would not save more work than they are.")
    where = "all of them." if inside.all() else f"the {inside.sum():,} surest: only these can be promised."
    return Recommendation(rates, wanted, needed, f"{wanted:,} more rows, drawn from {where}")


@dataclass(frozen=True, slots=True)
class _Asked:
    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """Sets that may be drawn from or accepted, the surest first, arrays [m], and what is believed of them."""

    threshold: FloatArray
    rows: IntArray
    checked: IntArray
    claimed: FloatArray  # mean of 1 - confidence
    error: FloatArray  # [doubts, m], by what was seen and claimed


@dataclass(frozen=True, slots=True)
class _Frame:
    """A set of the plan; rows nobody looked at that are accepted on average if it is drawn from; and the chance
    that any are."""

    place: int
    accepted: float
    chance: float


def _plan(said: FloatArray, curve: RiskCurve) -> _Plan:
    # Sets are closer to each other where they are small, as rows are surest there.
    at = np.unique(np.geomspace(1, len(curve.rows), _FRAMES).astype(np.int64)) - 1
    rows, checked = curve.rows[at], curve.checked[at]
    claimed = np.cumsum(1 - np.sort(said)[::-1])[rows - 1] / rows
    wrong = checked * curve.risk[at] + _CLAIM * claimed
    right = checked * (1 - curve.risk[at]) + _CLAIM * (1 - claimed)
    error = betaincinv(np.maximum(wrong, 1e-3), np.maximum(right, 1e-3), _DOUBTS[:, None])
    return _Plan(curve.threshold[at], rows, checked, claimed, error)


def _frame(plan: _Plan, asked: _Asked, count: int) -> _Frame:
    """The set of the plan to draw `count` rows from.

    It is the one with which most rows that nobody has looked at are accepted, as `accept` will test them: from the
    first set on until one fails. Of those nearly as good the largest: what is sure may be another row later.
    """
    left = plan.rows - plan.checked
    part = np.tril(left[None, :] / np.maximum(left[:, None], 1))  # of what is drawn from a set, in those inside
    sample = np.minimum(plan.checked + count * part, plan.rows)
    worth = np.tril(sample / np.maximum(1 - sample / plan.rows, 1e-3))
    first = first_tested(worth, plan.claimed, asked.epsilon)
    passing = chance_to_pass(worth[:, None], believed(plan.error, asked.epsilon), asked.epsilon, asked.delta)
    tested = np.arange(plan.rows.size) >= first[:, None, None]
    going_on = np.where(tested, np.minimum.accumulate(np.where(tested, passing, 1.0), axis=2), 0.0)
    # [drawn from, doubts, accepted]: a set is the end where it passes and the next one does not.
    ends = -np.diff(going_on, axis=2, append=0.0).clip(max=0.0)
    accepted = (ends * (plan.rows - sample)[:, None]).sum(axis=2).mean(axis=1)
    frame = int(np.flatnonzero(accepted >= _NEARLY * accepted.max())[-1])
    return _Frame(frame, float(accepted[frame]), float(going_on[frame, :, first[frame]].mean()))


def _paying(plan: _Plan, asked: _Asked, left: int, already: int) -> int | None:
    """The smallest number of rows that saves nearly as much work as any number of at most `left` - 1 does.

    Saved are the rows that are accepted and nobody looks at, less those drawn for it and those that are accepted
    `already`. None where that is none, or not likely enough.
    """
    sizes = [int(size) for size in SIZES[SIZES >= _FEWEST // 2][::_STRIDE] if size < left]
    draws = [_frame(plan, asked, size) for size in sizes]
    saved = np.array([draw.accepted for draw in draws]) - np.array(sizes) - already
    if not sizes or saved.max() <= 0:
        return None
    at = int(np.argmax(saved >= _NEARLY * saved.max()))
    return sizes[at] if draws[at].chance >= _HOPE else None


def _chances(values: npt.ArrayLike, rows: int) -> FloatArray:
    chance = np.asarray(values, dtype=np.float64)
    if chance.shape != (rows,) or not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError("every row has a chance between 0 and 1 of being drawn")
    return chance
