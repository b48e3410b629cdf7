"""How often each label occurs in all rows of a run, from what the model says and what people found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.totals import Total, class_shares, mean_value
from studio.calibrating import kind_of
from studio.promising import sample
from studio.runtime import Studio
from workspace.answers import dimension_of
from workspace.errors import RunError
from workspace.runs import spec
from workspace.scores import yes_or_no
from workspace.task import split_labels


@dataclass(frozen=True)
class Totals:
    """Shares of the labels in a run's covered rows (`names`, in task order), and for a score the mean as well.

    Of a multi dimension each label has a share of its own. `checked` rows correct what the model says; `weighted`:
    they were drawn with unequal chances, and each counts as many rows as it stands for.
    """

    names: tuple[str, ...]
    shares: tuple[Total, ...]
    mean: Total | None
    rows: int
    checked: int
    weighted: bool


def totals(studio: Studio, run_id: str, dimension: str) -> Totals:
    """How often each label occurs in the rows the sample covers, corrected by what people found in it.

    Rejected and skipped rows say nothing here. Raises RunError with fewer than two checked rows.
    """
    found = sample(studio, run_id, dimension)
    asked = dimension_of(spec(studio.store, run_id), dimension)
    known = [place for place, label in enumerate(found.truth) if label is not None]
    if len(known) < 2:
        raise RunError("Too few rows were drawn and checked.", "Draw a blind sample and decide it.")
    covered = np.flatnonzero(found.inclusion > 0)
    places = np.searchsorted(covered, found.checked[known])
    true = [str(found.truth[place]) for place in known]
    design: dict[str, Any] = {}
    chance, stratum = found.inclusion[found.checked[known]], found.stratum[found.checked[known]]
    if stratum.min() != stratum.max():
        design = {"inclusion": chance, "strata": stratum}
    probabilities = found.probabilities[covered]
    kind = kind_of(asked)
    if kind == "multi":
        with np.errstate(divide="ignore"):
            odds = np.log(probabilities) - np.log1p(-np.minimum(probabilities, 1 - 1e-16))
        each = [set(split_labels(label)) for label in true]
        shares = tuple(
            class_shares(
                yes_or_no(odds[:, at]),
                places,
                np.array([name not in labels for labels in each], np.int64),
                **design,
            )[0]
            for at, name in enumerate(asked.labels)
        )
        return Totals(asked.labels, shares, None, len(covered), len(known), found.uneven)
    with np.errstate(divide="ignore"):
        logprobs = np.log(probabilities)
    shares = class_shares(logprobs, places, np.array([asked.labels.index(label) for label in true]), **design)
    mean = None
    if kind == "score":
        low, high = float(asked.labels[0]), float(asked.labels[-1])
        values = np.array([float(label) for label in true])
        mean = mean_value(found.value[covered], places, values, low=low, high=high, **design)
    return Totals(asked.labels, shares, mean, len(covered), len(known), found.uneven)
