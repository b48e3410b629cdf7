"""How many checked rows a promise needs: plans, made before looking or from what was seen so far."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calibration.bounds import DELTA, check_share
from calibration.logprobs import FloatArray, IntArray

EPSILON = 0.05
POWER = 0.8  # the chance of success labels are planned for
_NEAR_BEST = 0.9  # the first set tested is the smallest whose planned chance is this share of the best one
_PLANNED_DELTA = 0.005  # which is planned for this level, whatever is asked for
_LEAST_ERROR = 0.25  # of epsilon: a plan does not believe in errors smaller than that
# Sizes a tenth apart: a plan is a guess, and beyond the last size it is none.
SIZES = np.unique(np.geomspace(1, 20_000, 104).astype(np.int64))


def labels_needed(error: float, *, epsilon: float = EPSILON, delta: float = DELTA) -> int | None:
    """About how many checked rows a set with this true `error` needs to pass with a chance of 80 %.

    Of the Clopper-Pearson test at level delta that the error is at most epsilon. None where the error is epsilon
    or more, or so close to it that 20,000 would not do. Raises ValueError for shares outside 0..1.
    """
    check_share("epsilon", epsilon)
    if not 0 <= error <= 1:
        raise ValueError("an error is a share between 0 and 1")
    enough = chance_to_pass(SIZES, error, epsilon, delta) >= POWER
    return int(SIZES[enough.argmax()]) if error < epsilon and enough.any() else None


def chance_to_pass(
    checked: npt.ArrayLike, error: npt.ArrayLike, epsilon: float = EPSILON, delta: float = DELTA
) -> FloatArray:
    """The chance that sets with this true `error` [...] pass the test with so many `checked` rows [...]."""
    check_share("delta", delta)
    n = np.floor(np.asarray(checked, dtype=np.float64))
    from scipy.stats import binom  # takes long to load, and few who import this need it

    allowed = binom.ppf(delta, n, epsilon) - 1  # the most wrong ones that still pass; -1: not even none
    chance: FloatArray = np.where(n > 0, binom.cdf(allowed, n, error), 0.0)
    return np.nan_to_num(chance)


def first_tested(worth: npt.ArrayLike, claimed: npt.ArrayLike, epsilon: float = EPSILON) -> IntArray:
    """Which of m nested sets a promise is tested on first: the smallest nearly as likely to pass as the best one.

    `worth` [..., m]: checked rows in each set, the surest set first, as many as they are worth in a very large
    one; `claimed` [m]: its error if confidences are true. It looks at no label. Returns places [...].

    Planned for one fixed level: a start that moves with delta would now and then accept rows at 99 % confidence
    and none at 90 %. A strict one makes for a larger first set, in which one unlucky mistake does not end
    everything; with confidences of real answers it gets more rows accepted at every delta from 0.005 to 0.1 than
    a plan for that delta does.
    """
    rows = np.asarray(worth, dtype=np.float64)
    passing = chance_to_pass(rows, believed(claimed, epsilon), epsilon, _PLANNED_DELTA)
    best = passing.max(axis=-1, keepdims=True)
    first: IntArray = np.where(
        best[..., 0] > 0, (passing >= _NEAR_BEST * best).argmax(axis=-1), rows.argmax(axis=-1)
    )
    return first


def believed(error: npt.ArrayLike, epsilon: float) -> FloatArray:
    """Errors as plans take them: never below a quarter of epsilon, so that a plan does not rest on being lucky."""
    return np.clip(np.asarray(error, dtype=np.float64), _LEAST_ERROR * epsilon, 1.0)
