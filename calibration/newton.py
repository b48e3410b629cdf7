"""Newton's method for the few parameters of a calibrator: a convex loss, its slope and its curvature."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from calibration.logprobs import FloatArray

_STEPS = 100
_TOLERANCE = 1e-10
_HALVINGS = 30
_ROUNDING = 1e-14
_MANY, _STRIDE = 100_000, 50
_FLAT = 1e-12  # of the largest curvature: along flatter directions nothing changes, so nothing is moved

Terms = tuple[float, FloatArray, FloatArray]


def few_first(n: int) -> list[slice]:
    """Which of n rows to solve for, one after another, each from where the last one ended: some, then all.

    The solution for every 50th row is close to that for all, and costs a 50th.
    """
    return [slice(None, None, _STRIDE)] * (n >= _MANY) + [slice(None)]


def minimise(terms: Callable[[slice, FloatArray], Terms], start: FloatArray, n: int) -> FloatArray:
    """The place [p] where a convex mean loss over n rows is smallest.

    `terms(rows, place)` gives the loss of these rows, its slope [p] and its curvature [p, p]. Steps are halved
    until the loss falls. Ends when a step would change no parameter by more than 1e-10 of its size, or after 100
    steps, so that a loss whose smallest value lies at infinity ends far out, not in a hang.
    """
    place = np.array(start, dtype=np.float64)
    for rows in few_first(n):
        place = _descend(partial(terms, rows), place)
    return place


def _descend(terms: Callable[[FloatArray], Terms], place: FloatArray) -> FloatArray:
    loss, slope, curvature = terms(place)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(curvature, -slope, rcond=_FLAT)[0]
        small = np.abs(step) <= _TOLERANCE * np.maximum(np.abs(place), 1.0)
        if small.all() or not np.isfinite(step).all():
            return place
        for _ in range(_HALVINGS):
            found = terms(place + step)
            if found[0] <= loss + _ROUNDING * abs(loss):
                break
            step = step / 2
        else:
            return place
        place = place + step
        loss, slope, curvature = found
    return place
