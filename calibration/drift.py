"""Does a calibration still fit? New blind labels can tell; confidences alone only say that something moved.

A map fitted last week describes last week's model, prompt, machine and rows. Each group of rows that share those
is watched by itself, for instance by the key (model digest, prompt version, node).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, ndtr

from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax, top_label
from calibration.metrics import Estimate, accuracy

ALPHA = 0.05
Finding = Literal["fits", "too sure", "too modest", "label too often", "label too rarely"]

# What a map that no longer fits is expected to look like: confidences that should be cooler or warmer (logarithm
# of a temperature), or one label whose odds are off (logarithm of a factor). Small changes are likelier.
_TEMPERATURES = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.4])
_ODDS = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 3.0])
_FEW = 30  # with fewer labels than this, only a large change can be seen
_MATERIAL = 0.05  # a shift of confidences by less than this share of the rows is not worth a word


@dataclass(frozen=True, slots=True)
class FitCheck:
    """Whether a map fits `rows` new labels. `fits` is False only once `evidence` reached 1 / alpha.

    `evidence`: how many times likelier the labels are under a changed map than under the fitted one (an e-value);
    `p_value` = min(1, 1 / evidence), valid however often one looks. `said`: mean confidence of the top label,
    `right`: how often it was right, with its interval. `label`: the index of the label a finding is about.
    """

    fits: bool
    evidence: float
    p_value: float
    rows: int
    said: float
    right: Estimate
    finding: Finding
    label: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Shift:
    """How confidences moved. `distance`: the largest difference, over all thresholds, between the shares of rows
    above it (Kolmogorov-Smirnov), reached at `threshold`, with `before` and `now` the shares there. `changed`:
    it is more than chance and more than 5 points."""

    changed: bool
    distance: float
    p_value: float
    threshold: float
    before: float
    now: float
    why: str


def check_fit(
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    fitted_on: int | None = None,
    alpha: float = ALPHA,
    names: Sequence[str] | None = None,
) -> FitCheck:
    """Test the map that gave `logprobs` [n, k], n >= 1, by labels [n] that came after it and were decided blind.

    `fitted_on`: how many labels the map was fitted on. Their number limits how well any map can fit; deviations
    that small are not counted against it. None takes the map as exact. `names` [k] are used in the sentence.

    The evidence is a ratio of likelihoods: of the labels under maps with another temperature or other odds of one
    label, mixed with fixed weights, over that under the fitted map. For an exact map this is a test martingale, so
    the chance of ever reaching 1 / alpha is at most alpha, however often one looks while labels come in (Ville
    1939; Shafer 2021, "Testing by betting"; Ramdas, Grünwald, Vovk, Shafer 2023, "Game-theoretic statistics and
    safe anytime-valid inference"). With `fitted_on` the fitted map too is a mixture, over the uncertainty of its
    fit, and the same holds on average over fits, approximately. The order of rows changes nothing. Raises
    ValueError for wrong shapes and values.
    """
    scores = np.maximum(log_softmax(as_logprobs(logprobs)), LOG_FLOOR)
    rows, k = scores.shape
    labels = as_truth(truth, rows, k)
    if rows == 0:
        raise ValueError("a check needs at least one label")
    if not 0 < alpha < 1 or (fitted_on is not None and fitted_on < 1):
        raise ValueError("alpha lies between 0 and 1, and a map is fitted on at least one label")
    if names is not None and len(names) != k:
        raise ValueError(f"{k} labels do not go with {len(names)} names")
    logs, weights, kinds = _changes(scores, labels)
    leeway = 0.0 if fitted_on is None or k == 1 else _leeway(scores, labels, fitted_on)
    evidence = float(np.exp(min(700.0, logsumexp(logs + np.log(weights)) - leeway)))
    top, confidence = top_label(scores)
    right = accuracy(top == labels)
    fits = evidence < 1 / alpha
    finding, label = ("fits", None) if fits else kinds[int((logs + np.log(weights)).argmax())]
    said = float(confidence.mean())
    return FitCheck(
        fits=fits,
        evidence=evidence,
        p_value=min(1.0, 1 / evidence) if evidence > 0 else 1.0,
        rows=rows,
        said=said,
        right=right,
        finding=finding,
        label=label,
        why=_in_words(finding, label, said, right, scores, labels, alpha, names),
    )


def check_fit_by_group(
    groups: Sequence[Hashable],
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    *,
    fitted_on: int | None = None,
    alpha: float = ALPHA,
    names: Sequence[str] | None = None,
) -> dict[Hashable, FitCheck]:
    """`check_fit` for every group by itself, in order of appearance; `groups` [n] such as (digest, prompt, node).

    Each is tested at alpha / number of groups, so that the chance of any false alarm stays alpha (Bonferroni).
    """
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    if len(groups) != len(labels):
        raise ValueError(f"{len(labels)} labels do not go with {len(groups)} groups")
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    return {
        group: check_fit(
            scores[places], labels[places], fitted_on=fitted_on, alpha=alpha / len(members), names=names
        )
        for group, places in members.items()
    }


def spiegelhalter(logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[float, float]:
    """Spiegelhalter's z and its two-sided p-value, for n labels looked at once; z > 0: worse than was claimed.

    Compares the Brier score with what it would be if the probabilities were true. Source: Spiegelhalter 1986,
    "Probabilistic prediction in patient management and clinical trials", for k labels. (0, 1) where every label
    is certain or all are alike, since then the score cannot vary. Raises ValueError for wrong shapes or n = 0.
    """
    p = np.exp(log_softmax(as_logprobs(logprobs)))
    labels = as_truth(truth, *p.shape)
    if len(labels) == 0:
        raise ValueError("a check needs at least one label")
    squares = np.square(p).sum(axis=1)
    surprise = 2 * (squares - p[np.arange(len(labels)), labels]).sum()
    variance = 4 * ((p**3).sum(axis=1) - squares**2).sum()
    if variance <= 1e-12:
        return 0.0, 1.0
    z = float(surprise / variance**0.5)
    return z, float(2 * ndtr(-abs(z)))


def confidence_shift(before: npt.ArrayLike, now: npt.ArrayLike, *, alpha: float = ALPHA) -> Shift:
    """Compare confidences [n] from the time of the fit with those [m] of today; n, m >= 1, all within 0..1.

    Two-sample Kolmogorov-Smirnov test (Smirnov 1939). A shift says that rows or model are others than they were,
    not that the calibration is wrong, and no shift does not say that it is right: only labels can.
    """
    old, new = (np.asarray(values, dtype=np.float64) for values in (before, now))
    for values in (old, new):
        if values.ndim != 1 or values.size == 0 or not ((values >= 0) & (values <= 1)).all():
            raise ValueError("confidences are a list of at least one number between 0 and 1")
    if not 0 < alpha < 1:
        raise ValueError("alpha lies between 0 and 1")
    from scipy.stats import ks_2samp  # takes long to load, and few who import this need it

    test = ks_2samp(old, new)
    threshold, distance, p_value = float(test.statistic_location), float(test.statistic), float(test.pvalue)
    shares = [float((values > threshold).mean()) for values in (old, new)]
    changed = p_value < alpha and distance > _MATERIAL
    moved = f"{shares[1]:.0%} of {new.size:,} rows are more than {threshold:.0%} sure, it was {shares[0]:.0%}"
    if changed:
        why = f"Confidences have moved: {moved}. The rows or the model changed; only new blind labels can say "
        why += "whether the calibration still fits."
    else:
        why = f"No shift of confidences worth a word: {moved}. That alone does not show that the calibration fits."
    return Shift(changed, distance, p_value, threshold, shares[0], shares[1], why)


def _changes(
    scores: FloatArray, labels: IntArray
) -> tuple[FloatArray, FloatArray, list[tuple[Finding, int | None]]]:
    """Log-likelihood ratios [g] of changed maps over the given one, their weights (sum 1), their names."""
    rows, k = scores.shape
    if k == 1:
        return np.zeros(1), np.ones(1), [("fits", None)]
    of_truth = scores[np.arange(rows), labels]
    probabilities = np.exp(scores)
    logs, weights, kinds = [], [], list[tuple[Finding, int | None]]()
    for sign in (1, -1):
        for size in _TEMPERATURES:
            inverse = np.exp(-sign * size)
            logs.append(float((inverse * of_truth - logsumexp(inverse * scores, axis=1) - of_truth).sum()))
            weights.append(0.5 * np.exp(-(size**2) / 2 / 0.5**2))
            kinds.append(("too sure" if sign > 0 else "too modest", None))
    heat = sum(weights)
    # Of two labels, more of the one is less of the other.
    for label in range(1 if k == 2 else 0, k):
        chosen = (labels == label).sum()
        for sign in (1, -1):
            for size in _ODDS:
                grown = np.log1p(probabilities[:, label] * np.expm1(sign * size)).sum()
                logs.append(float(sign * size * chosen - grown))
                weights.append(np.exp(-(size**2) / 2 / 1.0**2))
                kinds.append(("label too rarely" if sign > 0 else "label too often", label))
    parts = np.array(weights)
    temperatures = 2 * len(_TEMPERATURES)
    parts[:temperatures] *= 0.5 / heat
    parts[temperatures:] *= 0.5 / parts[temperatures:].sum()
    return np.array(logs), parts, kinds


def _leeway(scores: FloatArray, labels: IntArray, fitted_on: int) -> float:
    """Log of how much likelier the labels are, on average, when the map moves within the uncertainty of its fit.

    Moves are normal, with the inverse of the information that `fitted_on` such rows have about them as variances.
    Which parameters were fitted is not known, so the likeliest of these counts: none, the temperature alone, the
    temperature and each label's odds. Laplace's approximation of the integral (Tierney, Kadane 1986).
    """
    k = scores.shape[1]
    return max(0.0, *(_moved(scores, labels, fitted_on, free) for free in (1, k + 1)))


def _moved(scores: FloatArray, labels: IntArray, fitted_on: int, free: int) -> float:
    """The same for moves of the first `free` of the parameters temperature, odds of label 0, 1, ..."""
    k = scores.shape[1]
    price = fitted_on / len(labels) * np.diag(_information(scores, np.exp(scores)))[:free]
    seen = np.eye(k)[labels]

    def maps(moves: FloatArray) -> tuple[FloatArray, FloatArray]:
        hotter = np.exp(moves[0]) * scores
        return hotter, log_softmax(hotter + moves[1:] if free > 1 else hotter)

    def unlikely(moves: FloatArray) -> tuple[float, FloatArray]:
        hotter, moved = maps(moves)
        off = seen - np.exp(moved)
        slope = np.concatenate([[(off * hotter).sum()], off.sum(axis=0)])[:free]
        value = (seen * (moved - scores)).sum() - (price * moves**2).sum() / 2
        return -float(value), price * moves - slope

    from scipy.optimize import minimize  # takes long to load, and few who import this need it

    found = minimize(unlikely, np.zeros(free), jac=True, method="L-BFGS-B", bounds=[(-3, 3)] * free)
    hotter, moved = maps(found.x)
    learned = _information(hotter, np.exp(moved))[:free, :free]
    root = np.sqrt(np.where(price > 0, price, np.inf))
    shrunk = np.linalg.slogdet(np.eye(free) + learned / root / root[:, None])[1]
    return -float(found.fun) - float(shrunk) / 2


def _information(scores: FloatArray, probabilities: FloatArray) -> FloatArray:
    """Fisher information [k + 1, k + 1] about the logarithm of a temperature and about every label's odds."""
    centred = probabilities * (scores - (probabilities * scores).sum(axis=1, keepdims=True))
    heat = float((centred * scores).sum())
    odds = np.diag(probabilities.sum(axis=0)) - probabilities.T @ probabilities
    both = centred.sum(axis=0)
    information: FloatArray = np.block([[np.array([[heat]]), both[None, :]], [both[:, None], odds]])
    return information


def _in_words(
    finding: Finding,
    label: int | None,
    said: float,
    right: Estimate,
    scores: FloatArray,
    labels: IntArray,
    alpha: float,
    names: Sequence[str] | None,
) -> str:
    rows = len(labels)
    interval = f"{100 * right.low:.0f}–{100 * right.high:.0f}%"
    seen = f"it said {said:.0%} on average, {right.value:.0%} of {rows:,} new labels were right [{interval}]"
    if finding == "fits":
        few = " So few labels would show only a large change." if rows < _FEW else ""
        return f"Nothing speaks against the calibration: {seen}.{few}"
    what: str = finding
    if label is not None:
        name = f"“{names[label]}”" if names is not None else f"label {label}"
        what = f"it expects {name} {finding.removeprefix('label ')}"
        expected, there = np.exp(scores[:, label]).mean(), (labels == label).mean()
        seen = f"it expected {expected:.0%} among {rows:,} new labels, {there:.0%} came"
    return (
        f"The calibration no longer fits, {what}: {seen}. Chance alone shows this much in at most "
        f"{100 * alpha:g}% of cases. Fit it again."
    )
