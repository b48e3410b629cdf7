"""Upper bounds of an error of which only a sample was seen: exact for uniform samples, by betting for others.

All hold at every sample size, for any model, with no large-sample approximation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, gammaincinv

from calibration.logprobs import BoolArray, FloatArray

DELTA = 0.05
_BETS = np.array([1.0, 0.9, 0.75, 0.5, 0.25])  # shares of the largest stake that cannot ruin


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless `value` lies between 0 and 1, both excluded."""
    if not 0 < value < 1:
        raise ValueError(f"{name} lies between 0 and 1")


def clopper_pearson_upper(
    wrong: npt.ArrayLike, checked: npt.ArrayLike, delta: float = DELTA, *, rows: npt.ArrayLike | None = None
) -> FloatArray:
    """Exact upper bound at 1 - delta of a share of which `wrong` [...] of `checked` [...] were seen; 1 for none.

    Without `rows` the checked ones are few of infinitely many. With `rows` [...] they are that many, drawn without
    replacement, so that checking most of them says more, and checking all of them says everything: the largest
    number of wrong ones that would still show no more than `wrong` with a chance above delta.

    Sources: Clopper, Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial"; the same with the hypergeometric distribution: Buonaccorsi 1987, "A note on confidence intervals for
    proportions in finite populations". Raises ValueError for more wrong than checked, or more checked than rows.
    """
    k, n = np.broadcast_arrays(np.asarray(wrong, dtype=np.float64), np.asarray(checked, dtype=np.float64))
    if (k < 0).any() or (k > n).any():
        raise ValueError("wrong rows are a part of the checked ones")
    check_share("delta", delta)
    if rows is None:
        inside = k < n
        upper: FloatArray = np.where(inside, betaincinv(k + 1, np.where(inside, n - k, 1.0), 1 - delta), 1.0)
        return upper
    k, n, total = np.broadcast_arrays(k, n, np.asarray(rows, dtype=np.float64))
    if (n > total).any():
        raise ValueError("checked rows are a part of all rows")
    from scipy.stats import hypergeom  # takes long to load, and few who import this need it

    low, high = k.copy(), total - (n - k)  # wrong rows there must be, and can be
    while (low < high).any():
        middle = np.ceil((low + high) / 2)
        possible = hypergeom.cdf(k, total, middle, n) > delta
        low, high = np.where(possible, middle, low), np.where(possible, high, middle - 1)
    share: FloatArray = np.where(total > 0, low / np.maximum(total, 1), 1.0)
    return share


def betting_upper(weights: npt.ArrayLike, wrong: npt.ArrayLike, heaviest: float, delta: float = DELTA) -> float:
    """Upper bound at 1 - delta of the error of a set whose rows were drawn with unequal chances.

    `weights` [m]: 1 / chance of being drawn, of the checked rows in the set; `wrong` [m]; `heaviest`: the largest
    weight of any row in the set, checked or not. 1 where nothing can be said.

    An error of e is refuted by a bet against it: capital = product over the checked rows of 1 + bet * weight *
    (e - wrong), with bets small enough to keep it positive, averaged over bets fixed in advance, reaches 1 / delta
    (Markov). If the error is e or more the capital is 1 or less on average: for independent draws factor by
    factor, for random samples within strata by Maclaurin's inequality within and that of means across them.
    Source of the bets: Waudby-Smith, Ramdas 2023, "Estimating means of bounded random variables by betting".
    """
    relative, bad = np.asarray(weights, dtype=np.float64) / heaviest, np.asarray(wrong, dtype=np.bool_)
    check_share("delta", delta)
    # A bet of stake / (heaviest * (1 - e)): what a wrong row costs does not depend on the error bet against.
    lost = np.log1p(-_BETS[:, None] * np.minimum(relative[bad], 1 - 1e-12)).sum(axis=1)
    stakes = _BETS[:, None] * relative[~bad]
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        capital = np.log1p(stakes * (middle / (1 - middle))).sum(axis=1) + lost
        refuted = np.logaddexp.reduce(capital) - np.log(len(_BETS)) >= -np.log(delta)
        low, high = (low, middle) if refuted else (middle, high)
    return high


def poisson_upper(wrong: npt.ArrayLike, expected: npt.ArrayLike, delta: float = DELTA) -> FloatArray:
    """Upper bound at 1 - delta of the error of sets whose rows had chances a little different; at most 1.

    `wrong` [...]: checked rows of a set found wrong; `expected` [...]: its rows times the smallest chance any of
    them had to be checked. Loses as much as the other chances are larger, and nothing else to speak of.

    In random samples within strata, and in independent draws, the number found wrong is a sum of independent
    indicators (a hypergeometric number is one: Vatutin, Mikhailov 1982), and its mean is at least the smallest
    chance times the number that are wrong. No such sum with this mean is small more often than Poisson's
    distribution is (Hoeffding 1956, "On the distribution of the number of successes in independent trials",
    theorem 5; Anderson, Samuels 1967), whose exact bound this is; a delta above 1/3, where that does not hold,
    counts as 1/3.
    """
    check_share("delta", delta)
    most = gammaincinv(np.asarray(wrong, dtype=np.float64) + 1, 1 - min(delta, 1 / 3))
    chances = np.asarray(expected, dtype=np.float64)
    upper: FloatArray = np.where(chances > most, most / np.where(chances > most, chances, 1.0), 1.0)
    return upper


def constant(least: FloatArray, most: FloatArray) -> BoolArray:
    """Whether chances from `least` to `most` [...] are one and the same, and not zero."""
    same: BoolArray = (least > 0) & (most - least <= 1e-9 * most)
    return same
