"""Honest totals: how many rows are of each class, or what a score is on average, with an interval.

Counting a model's labels is precise and wrong, counting people's labels is right and imprecise. Both together are
right and as precise as the model is good: the model's total over all rows is corrected by how far it was off on
the rows people checked. With the finite number of rows N known, this is the difference estimator of survey
sampling (Cochran 1977, "Sampling techniques", section 7.3; Särndal, Swensson, Wretman 1992, section 6.3), known
for models as prediction-powered inference (Angelopoulos, Bates, Fannjiang, Jordan, Zrnic 2023). How much the
model's word counts is tuned so that the interval gets shortest, as in PPI++ (Angelopoulos, Duchi, Zrnic 2023).

What it assumes: the checked rows were drawn by chance as `inclusion` says, and what the model says of a checked
row was computed without that row's label (out-of-fold where anything was fitted on these labels). It assumes
nothing about the model: a bad one only leaves the interval as wide as that of people alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from calibration.logprobs import FloatArray, IntArray, as_logprobs, as_truth, log_softmax
from calibration.metrics import LEVEL, Estimate

# Rows of the rarer outcome are what tells how good the model is. What they say is mixed with this many imagined
# rows that say "the model adds nothing", so that two lucky hits do not make an interval narrow.
_DOUBT = 3.0

# Models squeeze scores to the middle of the range; their differences may count up to this many times.
_STRETCH = 2.0


@dataclass(frozen=True, slots=True)
class Total:
    """A share or a mean over all N rows, in three ways.

    `model`: counting what the model says, without any correction and without a known error. `people`: from the
    checked rows alone. `corrected`: from both. `power`: the weight of the model's word in it, 0 (none) to 1
    (to 2 for means). `worth`: this many checked rows without a model would give an interval as short as the
    corrected one.
    """

    model: float
    people: Estimate
    corrected: Estimate
    power: float
    worth: float


@dataclass(frozen=True, slots=True)
class _Design:
    """How the m checked rows were drawn."""

    weight: FloatArray  # [m], each checked row's part of all rows; they add up to one
    spread: FloatArray  # [m], what a squared deviation of a row adds to the variance of the weighted mean
    group: IntArray  # [m], stratum; rows vary around the mean of theirs
    kish: float  # variance of the weighted mean of values of variance one, were they alike everywhere

    def mean(self, values: FloatArray) -> FloatArray:
        """[m, c] -> [c]."""
        mean: FloatArray = self.weight @ values
        return mean

    def covariance(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """[m, c], [m, c] -> [c], of the weighted means."""
        products: FloatArray = self.spread @ (self._centred(first) * self._centred(second))
        return products

    def _centred(self, values: FloatArray) -> FloatArray:
        sums = np.zeros((int(self.group.max()) + 1, values.shape[1]))
        np.add.at(sums, self.group, self.weight[:, None] * values)
        size = np.bincount(self.group, weights=self.weight)
        return values - (sums / size[:, None])[self.group]


def class_shares(
    logprobs: npt.ArrayLike,
    checked: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    inclusion: npt.ArrayLike | None = None,
    strata: npt.ArrayLike | None = None,
    level: float = LEVEL,
) -> tuple[Total, ...]:
    """The share of each of the k labels among the N rows; the shares of each way add up to one.

    `logprobs` [N, k], calibrated ones serve best; `checked` [m >= 2]: positions of the rows people labeled, each
    once; `truth` [m]: their label indices; `inclusion` [m]: the probability with which each of them got into the
    sample, above 0, at most 1, without it m / N for all; `strata` [m]: whatever names the stratum of each, where
    numbers of rows were drawn from strata. A label of a `multi` dimension is a case of its own with k = 2.
    `model` counts the rows whose most probable label it is.

    The intervals have Wilson's form for as many rows as the variance is worth, so they never leave 0..1 and do
    not shrink to nothing where a label was never seen. Raises ValueError for wrong shapes and values.
    """
    probabilities = np.exp(log_softmax(as_logprobs(logprobs)))
    rows, k = probabilities.shape
    places, design = _drawn(rows, checked, inclusion, strata)
    labels = as_truth(truth, len(places), k)
    z = _quantile(level)
    seen, said = np.eye(k)[labels], probabilities[places]
    people = design.mean(seen)
    power = _power(design, seen, said)
    corrected = power * probabilities.mean(axis=0) + design.mean(seen - power * said)
    rest = seen - power * said
    # Powers that differ leave a sum other than one; each label takes its part of that by how uncertain it is.
    uncertain = design.covariance(rest, rest)
    if uncertain.sum() > 0:
        part = uncertain / uncertain.sum()
        corrected = corrected + part * (1 - corrected.sum())
        rest = rest - rest.sum(axis=1, keepdims=True) * part
    corrected = np.clip(corrected, 0.0, 1.0)
    corrected /= corrected.sum()

    rarer = np.minimum(seen.sum(axis=0), (1 - seen).sum(axis=0))
    alone = people * (1 - people) * design.kish
    effect = _mixed(design.covariance(seen, seen), alone * len(places) / (len(places) - 1), rarer)
    left = _mixed(_left_over(design, rest, power), design.covariance(seen, seen), rarer)
    counted = np.bincount(probabilities.argmax(axis=1), minlength=k) / rows
    totals = []
    for c in range(k):
        noise, rest_of_it = design.kish * float(effect[c]), float(left[c])
        totals.append(
            Total(
                model=float(counted[c]),
                people=_wilson(float(people[c]), noise, z),
                corrected=_wilson(float(corrected[c]), noise * rest_of_it, z),
                power=float(power[c]),
                worth=len(places) / rest_of_it,
            )
        )
    return tuple(totals)


def mean_value(
    predicted: npt.ArrayLike,
    checked: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    low: float = 0.0,
    high: float = 10.0,
    inclusion: npt.ArrayLike | None = None,
    strata: npt.ArrayLike | None = None,
    level: float = LEVEL,
) -> Total:
    """The mean over the N rows of a value between `low` and `high`, such as a score.

    `predicted` [N]: the model's value of every row (of a score its expectation); `checked` [m >= 2] and the rest
    as in `class_shares`; `values` [m]: what people said. Intervals by Student's t, widened by one imagined row
    anywhere in the range, so that equal values do not promise certainty. Raises ValueError for wrong shapes and
    values.
    """
    from scipy.stats import t as student  # takes long to load, and few who import this need it

    guesses, given = np.asarray(predicted, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if guesses.ndim != 1 or not low < high or not _inside(guesses, low, high) or not _inside(given, low, high):
        raise ValueError(f"predictions and values are lists of numbers between {low:g} and {high:g}")
    places, design = _drawn(len(guesses), checked, inclusion, strata)
    if given.shape != places.shape:
        raise ValueError("every checked row has one value")
    seen, said = given[:, None], guesses[places][:, None]
    power = _power(design, seen, said, most=_STRETCH)
    rest = seen - power * said
    people = float(design.mean(seen)[0])
    corrected = float((power * guesses.mean() + design.mean(rest))[0])
    imagined = design.kish * (high - low) ** 2 / 12 / len(places)
    alone = float(design.covariance(seen, seen)[0]) + imagined
    both = min(alone, float(_left_over(design, rest, power)[0]) + imagined)
    quantile = (1 + level) / 2
    _quantile(level)

    def around(value: float, variance: float, known: int) -> Estimate:
        half = float(student.ppf(quantile, known)) * variance**0.5
        value = min(max(value, low), high)
        return Estimate(value, max(low, value - half), min(high, value + half))

    return Total(
        model=float(guesses.mean()),
        people=around(people, alone, len(places) - 1),
        corrected=around(corrected, both, max(1, len(places) - 2)),
        power=float(power[0]),
        worth=len(places) * (alone / both if both > 0 else 1.0),
    )


def _power(design: _Design, seen: FloatArray, said: FloatArray, most: float = 1.0) -> FloatArray:
    """The weight that makes the variance least, per column: PPI++, section 6; 0 where the model says nothing.

    Calibrated probabilities deserve 1, so more than that is what a few rows make of chance; `most` bounds it.
    """
    variance = design.covariance(said, said)
    together = design.covariance(seen, said)
    speaks = variance > 1e-15
    weight: FloatArray = np.clip(np.where(speaks, together / np.where(speaks, variance, 1.0), 0.0), 0.0, most)
    return weight


def _left_over(design: _Design, rest: FloatArray, power: FloatArray) -> FloatArray:
    """Variance of what the model left unexplained; where it has a say, tuning that has cost one of the rows."""
    m = len(rest)
    variance: FloatArray = design.covariance(rest, rest) * np.where(power > 0, (m - 1) / max(1, m - 2), 1.0)
    return variance


def _mixed(variance: FloatArray, compared: FloatArray, rarer: FloatArray) -> FloatArray:
    """Their ratio [k], drawn towards 1 where few rows of the `rarer` outcome [k] tell what it is."""
    ratio = np.where(compared > 0, variance / np.where(compared > 0, compared, 1.0), 1.0)
    mixed: FloatArray = (rarer * ratio + _DOUBT) / (rarer + _DOUBT)
    return mixed


def _wilson(share: float, variance: float, z: float) -> Estimate:
    """Wilson's interval (1927) of a share, where one row drawn uniformly would have `variance` 1."""
    share = min(max(share, 0.0), 1.0)  # a sum of weights may leave it by a rounding error
    scale = 1 + z * z * variance
    centre = (share + z * z * variance / 2) / scale
    half = z / scale * (share * (1 - share) * variance + (z * variance / 2) ** 2) ** 0.5
    return Estimate(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def _drawn(
    rows: int, checked: npt.ArrayLike, inclusion: npt.ArrayLike | None, strata: npt.ArrayLike | None
) -> tuple[IntArray, _Design]:
    """The places of the checked rows, and how they were drawn.

    With weights w = 1 / inclusion the mean is sum(w y) / sum(w) (Hájek 1971), and its variance by linearisation
    sum(w² (1 - inclusion) (y - mean of the stratum)²) / sum(w)²: right for rows drawn independently of each
    other, and with the factor n / (n - 1) for n rows drawn without replacement from each stratum.
    """
    places = np.asarray(checked)
    if places.ndim != 1 or len(places) < 2 or places.dtype.kind not in "iu":
        raise ValueError("totals need the positions of at least two checked rows")
    places = places.astype(np.int64)
    m = len(places)
    if places.min() < 0 or places.max() >= rows or np.unique(places).size < m:
        raise ValueError("every checked row is one of the rows, once")
    chance = np.full(m, m / rows) if inclusion is None else np.asarray(inclusion, dtype=np.float64)
    if chance.shape != (m,) or not ((chance > 0) & (chance <= 1)).all():
        raise ValueError("every checked row had a chance above 0, at most 1, of being checked")
    group = np.zeros(m, dtype=np.int64)
    if strata is not None:
        names = np.asarray(strata)
        if names.shape != (m,):
            raise ValueError(f"{m} checked rows do not go with strata of shape {names.shape}")
        group = np.unique(names, return_inverse=True)[1].astype(np.int64)
    size = np.bincount(group)
    # A stratum of one row cannot tell how much it varies: all such ones vary around the mean of all of them, or,
    # if there is just one, around that of the largest stratum.
    lonely = size[group] == 1
    group[lonely] = len(size) if lonely.sum() > 1 else size.argmax()
    group = np.unique(group, return_inverse=True)[1].astype(np.int64)
    size = np.bincount(group)
    weight = 1 / chance
    spread = np.square(weight / weight.sum()) * (1 - chance)
    return places, _Design(
        weight=weight / weight.sum(),
        spread=spread * (size / (size - 1))[group],
        group=group,
        kish=float(spread.sum()),
    )


def _inside(values: FloatArray, low: float, high: float) -> bool:
    return values.ndim == 1 and values.size > 0 and bool(((values >= low) & (values <= high)).all())


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError("a level lies between 0 and 1")
    return NormalDist().inv_cdf((1 + level) / 2)
