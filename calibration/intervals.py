"""What is known about the error of a number: intervals of shares in closed form, of anything else by drawing
again.

Intervals are two-sided at 95 % unless another `level` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, IntArray

LEVEL = 0.95
RESAMPLES = 500
NO_ROWS = "There is no checked row, and a number needs at least one."
# Rows are drawn in at most so many groups: the spread of that many sums is known to one part in thirty.
_GROUPS = 1000


class Undefined(ValueError):
    """A number that these rows do not define; the message says why, in a sentence for people."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the interval it lies in at the stated level; low <= value <= high."""

    value: float
    low: float
    high: float


def wilson_interval(successes: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share of `successes` among `n`; (0, 1) when n = 0. Always contains successes / n.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference". Unlike
    p ± 1.96 s it keeps its coverage for few rows and for shares near 0 and 1 (Brown, Cai, DasGupta 2001).
    Raises ValueError unless 0 <= successes <= n and 0 < level < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a share")
    _check_level(level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    # Exact at the ends, where rounding could leave the share itself just outside.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: npt.ArrayLike,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """`statistic(*arrays)` and its percentile interval over rows drawn again with replacement.

    For any statistic at all; those of this package are drawn many times faster by `Redraws`. All arrays have
    n >= 1 rows along their first axis and are drawn together. The same seed gives the same interval. Widened where
    needed so that it contains the value itself.
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife". Raises ValueError on bad arguments.
    """
    columns = [np.asarray(array) for array in arrays]
    if not columns or resamples < 1 or len({len(column) for column in columns}) != 1 or len(columns[0]) == 0:
        raise ValueError("a bootstrap needs arrays of one and the same length, at least one row and one resample")
    generator = np.random.default_rng(seed)
    value = float(statistic(*columns))
    draws = np.empty(resamples)
    for i in range(resamples):
        chosen = generator.integers(0, len(columns[0]), len(columns[0]))
        draws[i] = statistic(*(column[chosen] for column in columns))
    return percentile_interval(value, draws, level)


def percentile_interval(value: float, draws: FloatArray, level: float = LEVEL) -> Estimate:
    """The middle `level` of what came out in the draws [r], widened to contain `value`.

    Draws that are NaN, because what was drawn did not define the statistic, do not count; without any other the
    interval is the value. Raises ValueError unless 0 < level < 1.
    """
    _check_level(level)
    defined = draws[np.isfinite(draws)]
    if defined.size == 0:
        return Estimate(value, value, value)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def basic_interval(value: float, draws: FloatArray, truth: float, level: float = LEVEL) -> Estimate:
    """`value` less the middle `level` of the errors `draws` [r] - `truth`, widened to contain `value`.

    `truth` is what the statistic estimates in the world the draws come from. For statistics that chance pushes to
    one side, as it pushes every calibration error up: the draws are pushed once more, and as far, so the interval
    is moved back by it. Source: Davison, Hinkley 1997, "Bootstrap methods and their application", section 5.2.
    """
    _check_level(level)
    defined = draws[np.isfinite(draws)]
    if defined.size == 0:
        return Estimate(value, value, value)
    high, low = value + truth - np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


class Redraws:
    """Rows drawn again with replacement, `resamples` times, for statistics that follow from sums over rows.

    Whatever follows from sums is had for the price of one pass over the rows, and all statistics of one `Redraws`
    see the same draws. Up to 1,000 rows are drawn one by one; more are dealt at random to 1,000 groups of (nearly)
    equal size, which are drawn whole: sums of random groups scatter as sums of rows do. The same seed and order of
    rows give the same draws. Raises ValueError without rows or resamples.
    """

    def __init__(self, rows: int, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if rows < 1 or resamples < 1:
            raise ValueError("a bootstrap needs at least one row and one resample")
        generator = np.random.default_rng(seed)
        self.resamples = resamples
        self.groups = min(rows, _GROUPS)
        dealt = np.arange(rows) % self.groups
        self._group: IntArray = generator.permutation(dealt) if rows > self.groups else dealt
        even = np.full(self.groups, 1 / self.groups)
        self._times = generator.multinomial(self.groups, even, size=resamples).astype(np.float64)

    def sums(
        self, weights: npt.ArrayLike | None = None, cell: IntArray | None = None, cells: int = 1
    ) -> FloatArray:
        """[resamples, cells]: in each draw, the sum of `weights` [n] (1 unless given) of the rows in each cell.

        `cell` [n]: the cell of each row, 0..cells-1; all rows are in the one cell unless given.
        """
        place = self._group if cell is None else self._group * cells + cell
        summed = np.bincount(place, weights=weights, minlength=self.groups * cells)
        return self._times @ summed.reshape(self.groups, cells).astype(np.float64)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError("a level lies between 0 and 1")
