"""The benchmark's comparison on few rows: every estimator and calibrator equals its reference to 1e-6."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._calibration_peers import Case, estimators, fits, people, rows

MADE = rows(3000)
CASES = [*estimators(MADE, {}), *fits(MADE, {}), *people(200, {})]


# The smooth error has a test of its own, against the same formula.
@pytest.mark.parametrize("case", [case for case in CASES if "smooth" not in case.name], ids=lambda case: case.name)
def test_equals_its_reference(case: Case) -> None:
    assert np.asarray(case.ours()) == pytest.approx(np.asarray(case.theirs()), abs=1e-6)


def test_nothing_is_left_out() -> None:
    from calibration import METHODS
    from calibration.metric_table import LABEL_METRICS, SCORE_METRICS

    names = {case.name.replace(", ", "_").split("_300")[0].replace(" ", "_") for case in CASES}
    names = {{"ece_equal_mass": "ece_mass", "smooth_ece": "ece_smooth"}.get(name, name) for name in names}
    parts = {"reliability", "resolution", "uncertainty"}  # in "brier parts"
    assert set(METHODS) <= names
    assert (set(LABEL_METRICS) | set(SCORE_METRICS)) - parts - {"tier_accuracy"} <= names  # a plain accuracy
