"""What `calibration` is compared with: libraries where one has the thing, otherwise its formula written out anew.

Each case computes the same numbers twice from the same rows, each side from the input it is made for: ours from
log-probabilities, libraries from probabilities. A library that is not installed is said to be missing and its case
is skipped; nothing here is needed to run Winnow.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from sklearn import metrics
from sklearn.calibration import calibration_curve

import calibration as ours
from benchmarks import _calibration_formulas as formulas
from calibration import agreement, calibrators, curves, steps, temperature, vector
from calibration.calibration_error import Scheme
from calibration.confusion import kappa, macro_f1
from calibration.score_metrics import mean_absolute_error, root_mean_squared_error, spearman

Floats = npt.NDArray[np.float64]
OPTIONAL = ("relplot", "netcal.metrics", "betacal", "statsmodels.stats.inter_rater", "krippendorff", "crowdkit")
LABELS = 5


@dataclass(frozen=True, slots=True)
class Case:
    """The same numbers from us and from `by`. `same`: whether both define the very same thing."""

    name: str
    by: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    same: bool = True


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of an overconfident model: log-probabilities [n, k], of two labels [n, 2], truths [n]; scores."""

    many: Floats
    truth: npt.NDArray[np.int64]
    two: Floats
    truth_two: npt.NDArray[np.int64]
    predicted: Floats
    score: Floats


def rows(count: int) -> Rows:
    """Made by chance with a seed: right as often as softmax(scores / 1.7) says, and biased towards a label."""
    generator = np.random.default_rng(11)

    def model(labels: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        honest = 1.5 * generator.normal(size=(count, labels))
        truth = (honest + generator.gumbel(size=honest.shape)).argmax(axis=1)
        return ours.log_softmax(1.7 * honest + 0.4 * (np.arange(labels) == 0)), truth.astype(np.int64)

    many, two = model(LABELS), model(2)
    score = generator.integers(0, 11, count).astype(np.float64)
    predicted = np.clip(score + generator.normal(0.3, 1.5, count), 0, 10)
    return Rows(*many, *two, predicted, score)


def optional() -> tuple[dict[str, Any], list[str]]:
    """Libraries that may be there, by name, and the names of those that are not."""
    found, missing = {}, []
    for name in OPTIONAL:
        try:
            found[name] = importlib.import_module(name)
        except ImportError:
            missing.append(name.split(".")[0])
    return found, missing


def estimators(data: Rows, found: dict[str, Any]) -> list[Case]:
    """Every number of the table."""
    chances = np.exp(data.many)
    label, said = ours.top_label(data.many)
    right = label == data.truth
    outcome = right.astype(np.float64)
    names = list(range(LABELS))
    f1 = partial(metrics.f1_score, data.truth, label, average="macro")
    scipy_softmax = partial(special.log_softmax, data.many, axis=1)
    cases = [
        Case("log_softmax", "scipy", lambda: ours.log_softmax(data.many), scipy_softmax),
        Case("accuracy", "scipy", lambda: _ends(ours.accuracy(right)), lambda: _wilson(right)),
        Case("macro_f1", "scikit-learn", lambda: macro_f1(label, data.truth), f1),
        Case(
            "kappa",
            "scikit-learn",
            lambda: kappa(label, data.truth),
            lambda: metrics.cohen_kappa_score(label, data.truth),
        ),
        Case(
            "log_loss",
            "scikit-learn",
            lambda: ours.log_loss(data.many, data.truth),
            lambda: metrics.log_loss(data.truth, chances, labels=names),
        ),
        Case(
            "brier",
            "scikit-learn",
            lambda: ours.brier(data.many, data.truth),
            lambda: metrics.brier_score_loss(data.truth, chances, labels=names, scale_by_half=False),
        ),
        Case(
            "brier parts",
            "formula",
            lambda: _parts(ours.brier_parts(data.many, data.truth)),
            lambda: formulas.murphy(chances, data.truth),
        ),
        _diagram(said, right, "width", "uniform"),
        _diagram(said, right, "mass", "quantile"),
        Case(
            "ece",
            "formula",
            lambda: ours.expected_calibration_error(said, right),
            lambda: formulas.ece(said, outcome),
        ),
        Case(
            "mce",
            "formula",
            lambda: ours.maximum_calibration_error(said, right),
            lambda: formulas.mce(said, outcome),
        ),
        Case(
            "ece, equal mass",
            "formula",
            lambda: ours.expected_calibration_error(said, right, scheme="mass"),
            lambda: formulas.ece(said, outcome, np.quantile(said, np.linspace(0, 1, 11))),
        ),
        Case(
            "ece, debiased",
            "formula",
            lambda: ours.debiased_calibration_error(said, right, scheme="width"),
            lambda: formulas.debiased(said, outcome),
        ),
        Case(
            "squared error, debiased",
            "formula",
            lambda: ours.debiased_calibration_error(said, right, scheme="width", norm=2),
            lambda: formulas.debiased_square(said, outcome),
        ),
        Case(
            "ece, classwise",
            "formula",
            lambda: ours.classwise_calibration_error(data.many, data.truth),
            lambda: np.mean([formulas.ece(chances[:, one], (data.truth == one).astype(float)) for one in names]),
        ),
        Case("auroc", "scikit-learn", lambda: ours.auroc(said, right), lambda: metrics.roc_auc_score(right, said)),
        Case("aurc", "formula", lambda: ours.aurc(said, right), lambda: formulas.aurc(said, outcome)),
        Case(
            "mae",
            "scikit-learn",
            lambda: mean_absolute_error(data.predicted, data.score),
            lambda: metrics.mean_absolute_error(data.score, data.predicted),
        ),
        Case(
            "rmse",
            "scikit-learn",
            lambda: root_mean_squared_error(data.predicted, data.score),
            lambda: metrics.root_mean_squared_error(data.score, data.predicted),
        ),
        Case(
            "spearman",
            "scipy",
            lambda: spearman(data.predicted, data.score),
            lambda: stats.spearmanr(data.predicted, data.score).statistic,
        ),
    ]
    few, few_right = said[:300], outcome[:300]
    cases.append(
        Case(
            "smooth ece, 300 rows",
            "formula",
            lambda: ours.smooth_calibration_error(few, few_right == 1),
            lambda: formulas.smooth_ece(few, few_right),
        )
    )
    if "netcal.metrics" in found:
        for name, mine in (("ECE", ours.expected_calibration_error), ("MCE", ours.maximum_calibration_error)):
            peer = getattr(found["netcal.metrics"], name)(10).measure
            both = partial(mine, said, right), partial(peer, said, right.astype(int))
            cases.append(Case(f"{name.lower()} (netcal)", "netcal", *both))
    if "relplot" in found:
        # A grid of 200 points and ten halvings: the same definition, a coarser computation.
        smooth = found["relplot"].smECE
        cases.append(
            Case(
                "smooth ece (relplot)",
                "relplot",
                lambda: ours.smooth_calibration_error(said, right),
                lambda: smooth(said, outcome),
                same=False,
            )
        )
    return cases


def fits(data: Rows, found: dict[str, Any]) -> list[Case]:
    """Every calibrator: fitted on all rows, compared in the probabilities it gives them.

    Without priors, where ours has one, because the papers and libraries have none.
    """
    two, many = ours.log_softmax(data.two), data.many
    odds, hit = two[:, 1] - two[:, 0], data.truth_two == 1
    held, left = two[:, 1], two[:, 0]
    said = np.exp(held)

    def second(fitted: Any) -> Floats:
        return np.asarray(np.exp(fitted.apply(data.two)[:, 1]))

    cases = [
        Case(
            "none",
            "scipy",
            lambda: np.exp(calibrators.fit("none", many, data.truth).apply(many)),
            lambda: special.softmax(many, axis=1),
        ),
        Case(
            "temperature",
            "scikit-learn",
            lambda: np.exp(temperature.fit_temperature(many, data.truth, prior=0).apply(many)),
            lambda: formulas.temperature(many, data.truth),
        ),
        Case(
            "lower_temperature",
            "scikit-learn",
            lambda: np.exp(temperature.fit_lower_temperature(many, data.truth, prior=0).apply(many)),
            lambda: formulas.temperature(many, data.truth),
        ),
        Case(
            "platt",
            "scikit-learn",
            lambda: second(curves.fit_platt(data.two, data.truth_two)),
            lambda: formulas.platt(odds, hit),
        ),
        Case(
            "beta",
            "scikit-learn",
            lambda: second(curves.fit_beta(data.two, data.truth_two, prior=0)),
            lambda: formulas.logistic(np.stack([held, -left], axis=1), hit),
        ),
        Case(
            "isotonic",
            "scikit-learn",
            lambda: second(steps.fit_isotonic(data.two, data.truth_two)),
            lambda: formulas.isotonic(said, hit),
        ),
        Case(
            "histogram",
            "formula",
            lambda: second(steps.fit_histogram(data.two, data.truth_two)),
            lambda: formulas.histogram(said, hit),
        ),
        Case(
            "vector",
            "scipy",
            lambda: np.exp(vector.fit_vector(many, data.truth, prior=0).apply(many)),
            lambda: formulas.vector(many, data.truth),
        ),
    ]
    if "betacal" in found:
        # A ridge instead of none, and a solver that stops earlier: the same map, less exactly.
        beta = found["betacal"].BetaCalibration
        cases.append(
            Case(
                "beta (betacal)",
                "betacal",
                lambda: second(curves.fit_beta(data.two, data.truth_two, prior=0)),
                lambda: beta("abm").fit(said.reshape(-1, 1), hit).predict(said),
                same=False,
            )
        )
    return cases


def people(count: int, found: dict[str, Any]) -> list[Case]:
    """Agreement of three people on `count` units with gaps, and what they say together."""
    generator = np.random.default_rng(5)
    truth = generator.integers(0, 4, count)
    noise = generator.integers(0, 4, (count, 3))
    full = np.where(generator.random((count, 3)) < 0.8, truth[:, None], noise)
    gaps = np.where(generator.random((count, 3)) < 0.15, -1, full)
    gaps = gaps[(gaps >= 0).any(axis=1)]  # of units nobody labeled, libraries know nothing
    cases = [
        Case(
            "cohen_kappa",
            "scikit-learn",
            lambda: _value(ours.cohen_kappa(full[:, 0], full[:, 1], resamples=1)),
            lambda: metrics.cohen_kappa_score(full[:, 0], full[:, 1]),
        )
    ]
    if "statsmodels.stats.inter_rater" in found:
        rater = found["statsmodels.stats.inter_rater"]
        cases.append(
            Case(
                "fleiss_kappa",
                "statsmodels",
                lambda: _value(ours.fleiss_kappa(full, resamples=1)),
                lambda: rater.fleiss_kappa(rater.aggregate_raters(full)[0]),
            )
        )
    if "krippendorff" in found:
        missing = np.where(gaps < 0, np.nan, gaps.astype(np.float64))
        for scale in get_args(agreement.Scale):
            mine = partial(_alpha, missing, scale)
            peer = partial(found["krippendorff"].alpha, missing.T, level_of_measurement=scale)
            cases.append(Case(f"krippendorff_alpha, {scale}", "krippendorff", mine, peer))
    if "crowdkit" in found:
        cases.append(
            Case(
                "dawid_skene",
                "crowd-kit",
                lambda: ours.dawid_skene(gaps, 4).posterior,
                lambda: formulas.crowd_kit(gaps),
            )
        )
    return cases


def _diagram(said: Floats, right: npt.NDArray[np.bool_], scheme: Scheme, strategy: str) -> Case:
    return Case(
        f"reliability bins, equal {scheme}",
        "scikit-learn",
        lambda: _points(ours.reliability_bins(said, right, 10, scheme)),
        lambda: calibration_curve(right, said, n_bins=10, strategy=strategy)[::-1],
    )


def _alpha(ratings: Floats, scale: agreement.Scale) -> float:
    return _value(ours.krippendorff_alpha(ratings, scale, resamples=1))


def _value(found: ours.Agreement) -> float:
    assert found.estimate is not None
    return found.estimate.value


def _ends(estimate: ours.Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def _wilson(right: npt.NDArray[np.bool_]) -> list[float]:
    hits = int(right.sum())
    found = stats.binomtest(hits, right.size).proportion_ci(0.95, method="wilson")
    return [hits / right.size, found.low, found.high]


def _parts(parts: ours.BrierParts) -> list[float]:
    return [parts.reliability, parts.resolution, parts.uncertainty, parts.within]


def _points(bins: list[ours.Bin]) -> list[list[float]]:
    return [[each.mean_confidence for each in bins], [each.accuracy for each in bins]]
