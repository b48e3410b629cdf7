"""How far labels can be trusted: pure functions on NumPy arrays, usable from a notebook.

>>> from calibration import assess, fit_temperature
>>> fitted = fit_temperature(logprobs, truth)           # [n, k] log-probabilities, [n] label indices
>>> assess(fitted.apply(logprobs), truth).ece.value     # 0 is perfect

Imports nothing else of Winnow. Shapes: n rows, k labels; logarithms are natural, probabilities and shares lie
in 0..1. Wrong shapes and values raise ValueError; nothing returns NaN.
"""

from calibration.agreement import Agreement, cohen_kappa, fleiss_kappa, krippendorff_alpha
from calibration.assessment import ENOUGH_ROWS, Assessment, assess
from calibration.bias import HALF_STRENGTH, correct_label_bias, label_bias
from calibration.logprobs import log_softmax, top_label
from calibration.metrics import (
    Bin,
    Estimate,
    accuracy,
    assign_bins,
    bootstrap_interval,
    brier,
    expected_calibration_error,
    log_loss,
    reliability_bins,
    wilson_interval,
)
from calibration.temperature import Temperature, cross_fit_temperature, fit_temperature

__all__ = [
    "ENOUGH_ROWS",
    "HALF_STRENGTH",
    "Agreement",
    "Assessment",
    "Bin",
    "Estimate",
    "Temperature",
    "accuracy",
    "assess",
    "assign_bins",
    "bootstrap_interval",
    "brier",
    "cohen_kappa",
    "correct_label_bias",
    "cross_fit_temperature",
    "expected_calibration_error",
    "fit_temperature",
    "fleiss_kappa",
    "krippendorff_alpha",
    "label_bias",
    "log_loss",
    "log_softmax",
    "reliability_bins",
    "top_label",
    "wilson_interval",
]
