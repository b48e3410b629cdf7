"""The way through the library that a notebook takes, on one simulated collection: the parts fit together."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import (
    assess,
    check_fit,
    class_shares,
    cross_fit_temperature,
    find_label_errors,
    fit_temperature,
    top_label,
)
from calibration.plots import reliability_figure, shares_figure, to_html
from tests.unit.calibration.examples import overconfident


def test_from_labels_of_a_model_to_what_may_be_said_about_them() -> None:
    said, truth = overconfident(3000)
    truth = truth.copy()
    checked = np.random.default_rng(1).choice(3000, 300, replace=False)

    # Fitted on the checked rows, used on all; the checked rows themselves are judged by fits without them.
    fitted = fit_temperature(said[checked], truth[checked])
    calibrated = fitted.apply(said)
    calibrated[checked] = cross_fit_temperature(said[checked], truth[checked])
    before, after = assess(said[checked], truth[checked]), assess(calibrated[checked], truth[checked])
    assert after.ece.value < before.ece.value

    shares = class_shares(calibrated, checked, truth[checked])
    for place, total in enumerate(shares):
        assert total.corrected.low <= (truth == place).mean() <= total.corrected.high
        assert total.worth > 300

    label, confidence = top_label(calibrated[checked])
    slip = np.flatnonzero((confidence > 0.9) & (label == truth[checked]))[0]
    given = truth[checked].copy()
    given[slip] = (given[slip] + 1) % 3
    assert slip in find_label_errors(calibrated[checked], given).places[:10]

    rest = np.setdiff1d(np.arange(3000), checked)[:400]
    assert check_fit(calibrated[rest], truth[rest], fitted_on=300).fits
    assert not check_fit(said[rest], truth[rest], fitted_on=300).fits

    for figure in (reliability_figure(before.bins, after.bins), shares_figure("abc", shares)):
        assert "Plotly.newPlot" in to_html(figure)
    assert sum(total.corrected.value for total in shares) == pytest.approx(1)
