"""How many checked rows a promise needs: plans, made before looking or from what was seen so far."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from calibration.bounds import DELTA, check_share
from calibration.logprobs import FloatArray

EPSILON = 0.05
POWER = 0.8  # the chance of success labels are planned for
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
    allowed = binom.ppf(delta, n, epsilon) - 1  # the most wrong ones that still pass; -1: not even none
    chance: FloatArray = np.where(n > 0, binom.cdf(allowed, n, error), 0.0)
    return np.nan_to_num(chance)


def believed(error: npt.ArrayLike, epsilon: float) -> FloatArray:
    """Errors as plans take them: never below a quarter of epsilon, so that a plan does not rest on being lucky."""
    return np.clip(np.asarray(error, dtype=np.float64), _LEAST_ERROR * epsilon, 1.0)
