"""Which rows to check next: drawn by lot, with the chance of every row known, so that a promise can rest on them.

A draw gives every row a chance in proportion to its rate and is independent of every other draw, so samples grow:
the chance of being in any of several draws is 1 - product of (1 - chance), whatever the rates of each were. Rates
may follow confidences and domains. Rates and numbers of rows that follow what was found wrong, as `recommend`'s
do, make the next promise a second look at the first rows: `accept` is to be told so by `look`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.bounds import DELTA
from calibration.logprobs import BoolArray, FloatArray, IntArray
from calibration.planning import EPSILON
from calibration.risk import accept, risk_curve

FIRST = 100  # rows of a first sample, from all rows: fewer say little about where the threshold will be
_FEWEST, _MOST = 20, 500  # rows that a recommendation asks for at a time


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
    """The draw that would help a promise most: `count` more rows at these `rates` [N], and `why` in a sentence."""

    rates: FloatArray
    count: int
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
) -> Recommendation:
    """What to draw next for the promise `accept` will be asked for with these arguments and the new labels.

    From all rows until `FIRST` of them were checked. Then only from those that might be accepted: the largest set
    whose error seen so far is not above twice epsilon. Within it all rows have one chance, so sets inside keep the
    exact test; the rows below keep the chance they had. Raises ValueError as `accept` does.
    """
    found = accept(confidence, checked, wrong, epsilon=epsilon, delta=delta, inclusion=inclusion, look=look)
    curve = risk_curve(confidence, checked, wrong, delta=delta, inclusion=inclusion)
    said = np.asarray(confidence, dtype=np.float64)
    seen = int(np.unique(np.asarray(checked, dtype=np.int64)).size)
    left = said.size - seen
    if seen < FIRST:
        count = min(FIRST - seen, left)
        return Recommendation(
            np.ones(said.size), count, f"{count:,} more rows, drawn from all of them, to begin with."
        )
    possible = np.flatnonzero(curve.risk <= 2 * epsilon)
    top = int(possible[-1]) if possible.size else len(curve.rows) - 1
    inside = said >= curve.threshold[top]
    share = curve.coverage[top]
    # A promise that is kept grows with more labels as well: half as many again as there are.
    needed = found.more if found.threshold is None and found.more is not None else seen / 2
    left = int(inside.sum() - np.isin(np.flatnonzero(inside), np.asarray(checked)).sum())
    count = int(min(np.clip(np.ceil(needed * share), _FEWEST, _MOST), left))
    why = f"{count:,} more rows, drawn from the {int(inside.sum()):,} surest: only these can be promised."
    return Recommendation(inside.astype(np.float64), count, why)


def _chances(values: npt.ArrayLike, rows: int) -> FloatArray:
    chance = np.asarray(values, dtype=np.float64)
    if chance.shape != (rows,) or not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError("every row has a chance between 0 and 1 of being drawn")
    return chance
