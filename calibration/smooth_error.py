"""Calibration error without bins: the gap between confidence and truth, smoothed by just as much as it is large.

smECE_s is the integral over t in 0..1 of |r(t)|, where r(t) is the mean over rows of K_s(t, confidence) *
(correct - confidence) and K_s the Gaussian kernel of width s reflected at 0 and 1. It falls in s; the smooth ECE
is where smECE_s = s. Source: Blasiok, Nakkiran 2023, "Smooth ECE: principled reliability diagrams via kernel
smoothing", definitions 1 and 2. Nothing has to be chosen, and a small change of the rows changes it little.

The reflected Gaussian is the heat kernel of 0..1, so smoothing is a product with exp(-(pi m s)^2 / 2) in the
cosine transform. The transform needs evenly spaced nodes: each row is shared between the two nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

from calibration.calibration_error import as_pair
from calibration.intervals import LEVEL, NO_ROWS, RESAMPLES, Redraws, Undefined
from calibration.logprobs import FloatArray, IntArray

NODES = 2**13 + 1
DRAWN_NODES = 2**8 + 1  # enough for an interval
_STEPS, _DRAWN_STEPS = 40, 14  # halvings of 0..1


@dataclass(frozen=True, slots=True)
class SmoothCurve:
    """A reliability diagram without bins, each [m]: of the rows that said about `confidence`, the share `right`
    was right; [`low`, `high`] is where it lies in most draws of a bootstrap. `density`: how many rows say so, 1
    on average. The area between `right` and `confidence` weighted by `density` is `error`, which is also the
    width of the kernel."""

    confidence: FloatArray
    right: FloatArray
    low: FloatArray
    high: FloatArray
    density: FloatArray
    error: float


def smooth_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Smooth ECE, in 0..1; source above. Raises Undefined when n = 0."""
    values, right = as_pair(confidence, correct)
    if values.size == 0:
        raise Undefined(NO_ROWS)
    return float(smooth_errors(on_nodes(right - values, values, NODES) / values.size, _STEPS))


def smooth_curve(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> SmoothCurve:
    """The smoothed reliability diagram at 257 evenly spaced confidences (cut at 0 and 1), with a pointwise
    bootstrap band.

    Source as above, section 4: right(t) = t + r(t) / density(t), where there are no rows t itself. Raises
    Undefined when n = 0.
    """
    values, right = as_pair(confidence, correct)
    error = smooth_calibration_error(values, right)
    nodes = np.linspace(0, 1, DRAWN_NODES)

    def lines(drawn: Redraws | None) -> tuple[FloatArray, FloatArray]:
        each = (right - values, np.ones(values.size))
        gaps, rows = (on_nodes(weights, values, DRAWN_NODES, drawn) / values.size for weights in each)
        width = np.asarray(max(error, 1 / DRAWN_NODES))
        residual, density = (_smooth(_frequencies(part), width) for part in (gaps, rows))
        some = density > 1e-6
        return np.clip(nodes + np.divide(residual, density, out=0 * density, where=some), 0.0, 1.0), density

    share, density = lines(None)
    drawn, _ = lines(Redraws(values.size, resamples, seed))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return SmoothCurve(nodes, share, np.minimum(low, share), np.maximum(high, share), density, error)


def on_nodes(weights: FloatArray, values: FloatArray, nodes: int, drawn: Redraws | None = None) -> FloatArray:
    """[nodes], or [resamples, nodes] when drawn: `weights` [n] of rows at `values` [n], in 0..1, shared between
    the two nearest of the evenly spaced nodes so that their mean place stays what it was."""
    place: FloatArray = values * (nodes - 1)
    lower: IntArray = np.minimum(place.astype(np.int64), nodes - 2)
    share: FloatArray = place - lower
    below, above = weights * (1 - share), weights * share
    if drawn is not None:
        return drawn.sums(below, lower, nodes) + drawn.sums(above, lower + 1, nodes)
    return np.asarray(np.bincount(lower, below, nodes) + np.bincount(lower + 1, above, nodes), dtype=np.float64)


def smooth_errors(gaps: FloatArray, steps: int = _DRAWN_STEPS) -> FloatArray:
    """Smooth ECE [...] from gaps summed at nodes [..., nodes] and divided by the number of rows."""
    frequencies = _frequencies(gaps)
    low, high = np.zeros(gaps.shape[:-1]), np.ones(gaps.shape[:-1])
    for _ in range(steps):
        width = (low + high) / 2
        size = np.abs(_smooth(frequencies, width))
        area = (size.sum(axis=-1) - (size[..., 0] + size[..., -1]) / 2) / (gaps.shape[-1] - 1)
        wider = area > width
        low, high = np.where(wider, width, low), np.where(wider, high, width)
    middle: FloatArray = (low + high) / 2
    return middle


def _frequencies(masses: FloatArray) -> FloatArray:
    """The cosine transform of point masses at the nodes; those at the ends are their own mirror image."""
    doubled = masses.copy()
    doubled[..., [0, -1]] *= 2
    found: FloatArray = dct(doubled, type=1, axis=-1) / 2
    return found


def _smooth(frequencies: FloatArray, width: FloatArray) -> FloatArray:
    """The density at the nodes [..., nodes] after smoothing by `width` [...]."""
    order = np.arange(frequencies.shape[-1])
    damped = frequencies * np.exp(-np.square(np.pi * order * width[..., None]) / 2)
    density: FloatArray = dct(damped, type=1, axis=-1)
    return density
