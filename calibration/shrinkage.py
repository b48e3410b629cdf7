"""Calibration per domain: each domain's map drawn towards the common one by how little its own rows say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from calibration.calibrators import Calibrator, Unchanged, from_json
from calibration.documents import Numbers, numbers_alike, read
from calibration.folds import cross_fit
from calibration.hierarchy import learn
from calibration.logprobs import LOG_FLOOR, FloatArray, IntArray, as_logprobs, as_truth, log_softmax
from calibration.vector import fit_vector


@dataclass(frozen=True)
class DomainShift:
    """How a domain differs: log_softmax(scale * logprobs + offsets), one offset for each of k labels.

    Source: Alexandari, Kundaje, Shrikumar 2020, "Maximum Likelihood with Bias-Corrected Calibration is
    Hard-To-Beat at Label DomainShift Adaptation": a temperature, and offsets for other shares of labels.
    """

    scale: float
    offsets: Numbers

    def __post_init__(self) -> None:
        numbers_alike(self.offsets)
        numbers_alike((self.scale,))
        if self.scale <= 0:
            raise ValueError("the scale of log-probabilities is a positive number")


@dataclass(frozen=True)
class DomainCalibrator:
    """The pooled calibrator, and for each domain the change it makes to what the pooled one says.

    Domains that were not seen get the pooled one alone. `spreads`: how much domains differ, as the standard
    deviations of ln scale and of offsets, 0: not at all. `own`: how much of each domain's change its own rows
    determine, 0 (it is as the others) to 1. `rows`: how many checked rows it had.
    """

    pooled: Calibrator
    domains: dict[str, DomainShift]
    spreads: tuple[float, float]
    own: dict[str, float]
    rows: dict[str, int]
    method: ClassVar[str] = "by_domain"

    def apply(self, logprobs: npt.ArrayLike, domains: Sequence[str]) -> FloatArray:
        """[n, k] and the domains of the n rows -> [n, k], normalised. Raises ValueError for wrong shapes."""
        scores = _bounded(self.pooled.apply(logprobs))
        n, k = scores.shape
        names, place = _places(domains, n)
        maps = [self.domains.get(name, DomainShift(1.0, (0.0,) * k)) for name in names]
        if any(len(one.offsets) != k for one in self.domains.values()):
            raise ValueError(f"this calibrator was fitted on another number of labels than {k}")
        if n == 0:
            return scores
        scales = np.array([one.scale for one in maps])[place]
        return log_softmax(scales[:, None] * scores + np.array([one.offsets for one in maps])[place])

    def to_json(self) -> str:
        """As JSON text; `from_json` gives an equal calibrator back."""
        return json.dumps(
            {
                "method": self.method,
                "pooled": read(self.pooled.to_json()),
                "domains": {name: asdict(one) for name, one in self.domains.items()},
                "spreads": self.spreads,
                "own": self.own,
                "rows": self.rows,
            }
        )

    @classmethod
    def from_json(cls, document: str) -> DomainCalibrator:
        """Read what `to_json` wrote. Raises ValueError if it is anything else."""
        data = read(document)
        try:
            if data["method"] != cls.method:
                raise ValueError("this is no document of a calibrator by domain")
            first, second = data["spreads"]
            return cls(
                pooled=from_json(json.dumps(data["pooled"])),
                domains={
                    name: DomainShift(one["scale"], tuple(one["offsets"])) for name, one in data["domains"].items()
                },
                spreads=(float(first), float(second)),
                own={name: float(share) for name, share in data["own"].items()},
                rows={name: int(count) for name, count in data["rows"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("this is no document of a calibrator by domain") from error


def fit_by_domain(
    logprobs: npt.ArrayLike,
    truth: npt.ArrayLike,
    domains: Sequence[str],
    *,
    fit_pooled: Callable[[FloatArray, IntArray], Calibrator] = fit_vector,
) -> DomainCalibrator:
    """A pooled calibrator and a change of it for each domain: `logprobs` [n, k], `truth` [n], n domains.

    `fit_pooled(logprobs, truth)` fits the pooled one, vector scaling unless given. A domain may go its own way as
    far as the domains are seen to differ beyond chance (`calibration.hierarchy`): one with few rows stays near the
    pooled calibrator, one with many follows its own rows, and if domains do not differ all stay with it. Changes
    are learned on what pooled fits say of rows they have not seen: on its own rows a fit looks too unsure, and
    every domain would correct that. The order of the rows does not matter. Raises ValueError for wrong shapes.
    """
    scores = as_logprobs(logprobs)
    n, k = scores.shape
    labels = as_truth(truth, n, k)
    names, place = _places(domains, n)
    pooled = fit_pooled(scores, labels) if min(n, k) >= 2 else Unchanged()
    rows = dict(zip(names, np.bincount(place, minlength=len(names)).tolist(), strict=True))
    if len(names) < 2 or k < 2:
        return DomainCalibrator(pooled, {}, (0.0, 0.0), dict.fromkeys(names, 0.0), rows)
    found = learn(_bounded(cross_fit(fit_pooled, scores, labels)), labels, place)
    return DomainCalibrator(
        pooled=pooled,
        domains={name: _shift_of(one) for name, one in zip(names, found.places, strict=True)},
        spreads=found.spreads,
        own=dict(zip(names, found.own.tolist(), strict=True)),
        rows=rows,
    )


def _bounded(logprobs: FloatArray) -> FloatArray:
    """Labels held for impossible at `LOG_FLOOR`."""
    return np.maximum(logprobs, LOG_FLOOR)


def _places(domains: Sequence[str], n: int) -> tuple[list[str], IntArray]:
    """The different names, sorted, and the place among them of each row [n]."""
    given = np.asarray(domains, dtype=np.str_) if len(domains) else np.empty(0, dtype=np.str_)
    if given.shape != (n,):
        raise ValueError(f"there are {given.size} domains for {n} rows")
    names, place = np.unique(given, return_inverse=True)
    return [str(name) for name in names], place.astype(np.int64)


def _shift_of(place: FloatArray) -> DomainShift:
    """Of ln scale and offsets."""
    return DomainShift(float(np.exp(place[0])), tuple(place[1:].tolist()))
