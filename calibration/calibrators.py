"""All ways to turn a model's log-probabilities into ones that are true: one call to fit, one to read from JSON.

>>> fitted = fit("vector", logprobs, truth)     # [n, k] log-probabilities, [n] label indices
>>> fitted.apply(logprobs)                      # [n, k], normalised
>>> from_json(fitted.to_json()) == fitted
True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

from calibration.curves import Beta, Platt, fit_beta, fit_platt
from calibration.documents import Document, read
from calibration.logprobs import FloatArray, as_logprobs, as_truth, log_softmax
from calibration.steps import Histogram, Isotonic, fit_histogram, fit_isotonic
from calibration.temperature import LowerTemperature, Temperature, fit_lower_temperature, fit_temperature
from calibration.vector import Vector, fit_vector

# From the simplest to the one that needs most rows; a tie between methods goes to the earlier one.
METHODS = ("none", "lower_temperature", "temperature", "platt", "vector", "beta", "histogram", "isotonic")


class Calibrator(Protocol):
    """A fitted map from log-probabilities to calibrated ones."""

    @property
    def method(self) -> str:
        """One of `METHODS`."""
        ...

    def apply(self, logprobs: npt.ArrayLike, /) -> FloatArray:
        """[n, k] -> [n, k], normalised. ValueError when the fit was for another number of labels."""
        ...

    def to_json(self) -> str:
        """A JSON object with "method" and numbers; `from_json` gives an equal calibrator back."""
        ...


@dataclass(frozen=True)
class Unchanged(Document):
    """Changes nothing: for models that are right as they are, and for too few rows to tell."""

    method: ClassVar[str] = "none"

    def apply(self, logprobs: npt.ArrayLike) -> FloatArray:
        """[n, k] -> [n, k], only normalised."""
        return log_softmax(logprobs)


_FITS: dict[str, Callable[[Any, Any], Calibrator]] = {
    "lower_temperature": fit_lower_temperature,
    "temperature": fit_temperature,
    "platt": fit_platt,
    "vector": fit_vector,
    "beta": fit_beta,
    "histogram": fit_histogram,
    "isotonic": fit_isotonic,
}
_KINDS: tuple[Any, ...] = (Unchanged, LowerTemperature, Temperature, Platt, Vector, Beta, Histogram, Isotonic)


def fit(method: str, logprobs: npt.ArrayLike, truth: npt.ArrayLike) -> Calibrator:
    """The calibrator of that method with the smallest log loss of `logprobs` [n, k] against `truth` [n].

    Fewer than two rows or labels tell nothing: the result is `Unchanged`. The order of the rows does not matter.
    Raises ValueError for wrong shapes or a method that is not one of `METHODS`.
    """
    if method not in METHODS:
        raise ValueError(f"there is no calibrator {method!r}; there are {', '.join(METHODS)}")
    scores = as_logprobs(logprobs)
    labels = as_truth(truth, *scores.shape)
    if method == "none" or min(scores.shape) < 2:
        return Unchanged()
    return _FITS[method](scores, labels)


def from_json(document: str) -> Calibrator:
    """The calibrator of any method that wrote this. Raises ValueError if none did."""
    method = read(document).get("method")
    for kind in _KINDS:
        if kind.method == method:
            fitted: Calibrator = kind.from_json(document)
            return fitted
    raise ValueError(f"there is no calibrator {method!r}; there are {', '.join(METHODS)}")
