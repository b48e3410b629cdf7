"""The numbers that say how good the labels of a run are, kept while nothing they depend on has changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration import Bin, Metric, evaluate, evaluate_scores, log_softmax, reliability_bins, top_label
from calibration.logprobs import FloatArray
from studio.calibrating import Fitted
from studio.remembering import remembered
from studio.runtime import Studio
from studio.totals import Totals, totals
from workspace import calibrators, rules, tasks
from workspace.draws import Sample
from workspace.runs import spec

FEW_IN_DOMAIN = 20  # checked rows; with fewer a diagram of a domain is all chance
MOST_DOMAINS = 9

Pair = tuple[dict[str, Metric], dict[str, Metric]]


def numbers(studio: Studio, fitted: Fitted, *, visible: bool) -> Pair:
    """Every number before any correction, and with the one that suits best on rows its fit has not seen.

    For a score those in points of the score come first.
    """

    def work() -> Pair:
        before, after = (_numbers(fitted, scores) for scores in (fitted.evidence.logprobs, fitted.out_of_fold))
        return before, after

    key = ("numbers", fitted.run_id, fitted.dimension, fitted.label, visible)
    return remembered(studio, key, fitted.run_id, work, of=fitted.fit)


def right_of_all(sample: Sample) -> float:
    """The share of all rows whose label is right: each checked row counts for as many as its chance was small."""
    return 1 - float(np.average(sample.wrong, weights=1 / sample.inclusion[sample.checked]))


def points(studio: Studio, fitted: Fitted, *, visible: bool) -> Pair:
    """Of a score, the numbers in points of the score: the expected value against the true one."""

    def work() -> Pair:
        before, after = (_points(fitted, scores) for scores in (fitted.evidence.logprobs, fitted.out_of_fold))
        return before, after

    key = ("points", fitted.run_id, fitted.dimension, visible)
    return remembered(studio, key, fitted.run_id, work, of=fitted.fit)


def tier_accuracy(studio: Studio, run_id: str) -> Metric | None:
    """Share of the rows that end up in the right tier, as labels are read now.

    Calibrators count as if they had not seen these rows. None where the task has no tiers and where no row is
    known in every dimension.
    """

    def work() -> Metric | None:
        pairs = rules.tiers_of_known(studio.store, run_id)
        given, right = [one for one, _ in pairs], [other for _, other in pairs]
        return evaluate_scores([], [], tiers=(given, right))["tier_accuracy"] if pairs else None

    store, asked = studio.store, spec(studio.store, run_id)
    task = tasks.newest_of(store, asked.task_name)
    names = [dimension.name for dimension in asked.dimensions]
    used = [calibrators.active(store, run_id, name) for name in names]
    adjusted = [calibrators.adjusted_rows(store, run_id, name) for name in names]
    now = (task.id if task else "", [one.id if one else "" for one in used], adjusted)
    return remembered(studio, ("tiers", run_id), run_id, work, of=now)


def domain_bins(studio: Studio, fitted: Fitted, *, visible: bool) -> dict[str, Sequence[Bin]]:
    """How sure and how right labels are by domain, out of fold: the largest domains that have enough rows."""

    def work() -> dict[str, Sequence[Bin]]:
        label, confidence = top_label(log_softmax(fitted.out_of_fold))
        right = label == fitted.evidence.truth
        domains = np.array(fitted.evidence.domains, dtype=object)
        names, counts = np.unique(domains, return_counts=True)
        enough = [(-count, name) for name, count in zip(names, counts, strict=True) if count >= FEW_IN_DOMAIN]
        return {
            name or "no domain": reliability_bins(confidence[domains == name], right[domains == name], 5)
            for _, name in sorted(enough)[:MOST_DOMAINS]
        }

    key = ("domains", fitted.run_id, fitted.dimension, fitted.label, visible)
    return remembered(studio, key, fitted.run_id, work, of=fitted.fit)


def shares(studio: Studio, run_id: str, dimension: str) -> Totals:
    """`studio.totals.totals`, kept. Raises RunError as it does."""
    calibrator = calibrators.active(studio.store, run_id, dimension)
    now = (calibrator.id if calibrator else "", calibrators.adjusted_rows(studio.store, run_id, dimension))
    return remembered(
        studio, ("totals", run_id, dimension), run_id, lambda: totals(studio, run_id, dimension), of=now
    )


def _numbers(fitted: Fitted, scores: FloatArray) -> dict[str, Metric]:
    about_labels = evaluate(scores, fitted.evidence.truth)
    return {**_points(fitted, scores), **about_labels} if fitted.kind == "score" else about_labels


def _points(fitted: Fitted, scores: FloatArray) -> dict[str, Metric]:
    values = np.array([float(label) for label in fitted.evidence.labels])
    return evaluate_scores(np.exp(log_softmax(scores)) @ values, values[fitted.evidence.truth])
