"""How far labels can be trusted: pure functions on NumPy arrays, usable from a notebook.

>>> from calibration import assess, fit_temperature
>>> fitted = fit_temperature(logprobs, truth)           # [n, k] log-probabilities, [n] label indices
>>> assess(fitted.apply(logprobs), truth).ece.value     # 0 is perfect
>>> class_shares(of_all_rows, checked, truth)           # honest totals: all rows corrected by the checked ones
>>> find_label_errors(out_of_fold, truth).places        # labels worth a second look, the most suspicious first
>>> check_fit(new_logprobs, new_truth).why              # does the map still fit what was decided since?

Figures are in `calibration.plots`; tests/unit/calibration/test_notebook.py walks the whole way.

Imports nothing else of Winnow. Shapes: n rows, k labels; logarithms are natural, probabilities and shares lie
in 0..1. Wrong shapes and values raise ValueError; nothing returns NaN.
"""

from calibration.agreement import Agreement, cohen_kappa, fleiss_kappa, krippendorff_alpha
from calibration.annotators import Consensus, dawid_skene
from calibration.assessment import ENOUGH_ROWS, Assessment, assess
from calibration.bias import (
    HALF_STRENGTH,
    content_free_bias,
    correct_label_bias,
    fit_label_bias,
    label_bias,
)
from calibration.bounds import clopper_pearson_upper
from calibration.calibration_error import (
    Bin,
    assign_bins,
    classwise_calibration_error,
    debiased_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)
from calibration.calibrators import METHODS, Calibrator, fit, from_json
from calibration.choosing import Choice, choose
from calibration.confusion import kappa, macro_f1
from calibration.drift import FitCheck, Shift, check_fit, check_fit_by_group, confidence_shift, spiegelhalter
from calibration.folds import cross_fit, deal_folds
from calibration.head import Head, LabelsHead, cross_fit_head, fit_head
from calibration.intervals import Estimate, Undefined, bootstrap_interval, wilson_interval
from calibration.label_errors import LabelErrors, find_label_errors, find_score_errors
from calibration.logprobs import log_softmax, top_label
from calibration.metric_table import Metric
from calibration.metrics import accuracy, calibration_error_interval, evaluate, evaluate_scores
from calibration.planning import labels_needed
from calibration.proper_scores import BrierParts, brier, brier_parts, log_loss
from calibration.ranking import RiskCoverage, aurc, auroc, risk_coverage
from calibration.risk import Acceptance, RiskCurve, accept, accept_by_domain, conformal_threshold, risk_curve
from calibration.sampling import Draw, Recommendation, draw, even_rates, partly, recommend
from calibration.score_metrics import mean_absolute_error, root_mean_squared_error, spearman
from calibration.shrinkage import DomainCalibrator, fit_by_domain
from calibration.smooth_error import SmoothCurve, smooth_calibration_error, smooth_curve
from calibration.temperature import (
    LowerTemperature,
    Temperature,
    cross_fit_temperature,
    fit_lower_temperature,
    fit_temperature,
)
from calibration.totals import Total, class_shares, mean_value

__all__ = [
    "ENOUGH_ROWS",
    "HALF_STRENGTH",
    "METHODS",
    "Acceptance",
    "Agreement",
    "Assessment",
    "Bin",
    "BrierParts",
    "Calibrator",
    "Choice",
    "Consensus",
    "DomainCalibrator",
    "Draw",
    "Estimate",
    "FitCheck",
    "Head",
    "LabelErrors",
    "LabelsHead",
    "LowerTemperature",
    "Metric",
    "Recommendation",
    "RiskCoverage",
    "RiskCurve",
    "Shift",
    "SmoothCurve",
    "Temperature",
    "Total",
    "Undefined",
    "accept",
    "accept_by_domain",
    "accuracy",
    "assess",
    "assign_bins",
    "aurc",
    "auroc",
    "bootstrap_interval",
    "brier",
    "brier_parts",
    "calibration_error_interval",
    "check_fit",
    "check_fit_by_group",
    "choose",
    "class_shares",
    "classwise_calibration_error",
    "clopper_pearson_upper",
    "cohen_kappa",
    "confidence_shift",
    "conformal_threshold",
    "content_free_bias",
    "correct_label_bias",
    "cross_fit",
    "cross_fit_head",
    "cross_fit_temperature",
    "dawid_skene",
    "deal_folds",
    "debiased_calibration_error",
    "draw",
    "evaluate",
    "evaluate_scores",
    "even_rates",
    "expected_calibration_error",
    "find_label_errors",
    "find_score_errors",
    "fit",
    "fit_by_domain",
    "fit_head",
    "fit_label_bias",
    "fit_lower_temperature",
    "fit_temperature",
    "fleiss_kappa",
    "from_json",
    "kappa",
    "krippendorff_alpha",
    "label_bias",
    "labels_needed",
    "log_loss",
    "log_softmax",
    "macro_f1",
    "maximum_calibration_error",
    "mean_absolute_error",
    "mean_value",
    "partly",
    "recommend",
    "reliability_bins",
    "risk_coverage",
    "risk_curve",
    "root_mean_squared_error",
    "smooth_calibration_error",
    "smooth_curve",
    "spearman",
    "spiegelhalter",
    "top_label",
    "wilson_interval",
]
