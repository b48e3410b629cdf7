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
from calibration.bounds import clopper_pearson_upper
from calibration.calibrators import METHODS, Calibrator, fit, from_json
from calibration.folds import cross_fit, deal_folds
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
from calibration.planning import labels_needed
from calibration.risk import Acceptance, RiskCurve, accept, accept_by_domain, conformal_threshold, risk_curve
from calibration.sampling import Draw, Recommendation, draw, even_rates, partly, recommend
from calibration.temperature import Temperature, cross_fit_temperature, fit_temperature
from calibration.totals import Total, class_shares, mean_value

__all__ = [
    "ENOUGH_ROWS",
    "HALF_STRENGTH",
    "METHODS",
    "Acceptance",
    "Agreement",
    "Assessment",
    "Bin",
    "Calibrator",
    "Draw",
    "Estimate",
    "Recommendation",
    "RiskCurve",
    "Temperature",
    "Total",
    "accept",
    "accept_by_domain",
    "accuracy",
    "assess",
    "assign_bins",
    "bootstrap_interval",
    "brier",
    "class_shares",
    "clopper_pearson_upper",
    "cohen_kappa",
    "conformal_threshold",
    "correct_label_bias",
    "cross_fit",
    "cross_fit_temperature",
    "deal_folds",
    "draw",
    "even_rates",
    "expected_calibration_error",
    "fit",
    "fit_temperature",
    "fleiss_kappa",
    "from_json",
    "krippendorff_alpha",
    "label_bias",
    "labels_needed",
    "log_loss",
    "log_softmax",
    "mean_value",
    "partly",
    "recommend",
    "reliability_bins",
    "risk_curve",
    "top_label",
    "wilson_interval",
]
