"""A table of numbers for people: what each is called and means, its interval, or the reason why it has no
value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from calibration.intervals import LEVEL, Estimate, Undefined, basic_interval, percentile_interval
from calibration.logprobs import FloatArray

Better = Literal["higher", "lower", ""]


class Words(NamedTuple):
    """What a number is called in a table, which way is good ("" for neither), and a sentence saying what it is."""

    title: str
    better: Better
    meaning: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of the table. `estimate` is None where these rows do not define it, and `why_not` says why.

    `chance`: what a perfectly calibrated model shows on average on as many rows; None for other than calibration
    errors.
    """

    title: str
    better: Better
    meaning: str
    estimate: Estimate | None
    why_not: str = ""
    chance: float | None = None


LABEL_METRICS: dict[str, Words] = {
    "accuracy": Words("Accuracy", "higher", "Share of the rows whose label is right."),
    "macro_f1": Words("Macro F1", "higher", "How well each label is found, the rare ones counting as much."),
    "kappa": Words("Cohen's kappa", "higher", "Agreement with the truth beyond what chance alone would give."),
    "log_loss": Words("Log loss", "lower", "The price of being sure and wrong, in nats; 0 is perfect."),
    "brier": Words("Brier score", "lower", "Squared distance of the probabilities from the truth, 0 to 2."),
    "reliability": Words("Brier: reliability", "lower", "What calibration can take off the Brier score."),
    "resolution": Words("Brier: resolution", "higher", "What is known beyond the share of each label."),
    "uncertainty": Words("Brier: uncertainty", "", "What knowing only the share of each label would cost."),
    "ece": Words("Calibration error", "lower", "How far confidence is from the truth on average (ECE)."),
    "ece_mass": Words("ECE, equal mass", "lower", "The same over bins that hold equally many rows."),
    "ece_debiased": Words("ECE, debiased", "lower", "The same less what chance alone adds to it."),
    "ece_classwise": Words("ECE, classwise", "lower", "The same for the probability of each label, averaged."),
    "ece_smooth": Words("Smooth ECE", "lower", "The same without bins: nothing had to be chosen."),
    "mce": Words("Largest gap", "lower", "The worst bin's distance between confidence and truth (MCE)."),
    "auroc": Words("AUROC", "higher", "How likely a right row is surer than a wrong one; 0.5 is blind."),
    "aurc": Words("AURC", "lower", "Error among the surest rows, averaged over how many of them are taken."),
}
SCORE_METRICS: dict[str, Words] = {
    "mae": Words("MAE", "lower", "Mean distance of a score from the true one, in points of the score."),
    "rmse": Words("RMSE", "lower", "Root of the mean squared distance: large misses count more."),
    "spearman": Words("Spearman", "higher", "Whether higher scores go with higher true ones, from -1 to 1."),
    "tier_accuracy": Words("Tier accuracy", "higher", "Share of the rows that end up in the right tier."),
}


class Table:
    """Collects the numbers named in `words`, each with its interval at `level`."""

    def __init__(self, words: dict[str, Words], level: float = LEVEL) -> None:
        self._words = words
        self._level = level
        self._metrics: dict[str, Metric] = {}

    @property
    def found(self) -> dict[str, Metric]:
        """What was collected, in the order of the words."""
        return {name: self._metrics[name] for name in self._words if name in self._metrics}

    def put(self, name: str, estimate: Estimate) -> None:
        """A number whose interval is known already."""
        self._metrics[name] = Metric(*self._words[name], estimate)

    def lack(self, name: str, why_not: str) -> None:
        """A number that has no value, and why."""
        self._metrics[name] = Metric(*self._words[name], None, why_not)

    def all_lack(self, why_not: str) -> dict[str, Metric]:
        """The table when none of the numbers has a value."""
        for name in self._words:
            self.lack(name, why_not)
        return self.found

    def add(
        self, name: str, value: float | Callable[[], float], draws: FloatArray, *, centre: float | None = None
    ) -> None:
        """A number, or how to compute it (which may raise Undefined), and what came out of it in draws [r].

        `centre`: for numbers from 0 up that chance pushes up, what the draws scatter around in the world they come
        from; their interval is moved back.
        """
        try:
            number = value if isinstance(value, float) else value()
        except Undefined as error:
            self.lack(name, str(error))
            return
        if centre is None:
            self.put(name, percentile_interval(number, draws, self._level))
        else:
            moved = basic_interval(number, draws, centre, self._level)
            self.put(name, replace(moved, low=max(0.0, moved.low)))

    def add_error(self, name: str, value: float, draws: FloatArray, centre: float, chance: FloatArray) -> None:
        """A calibration error in 0..1 as in `add`, and what a perfectly calibrated model gives [r]."""
        self.add(name, value, draws, centre=centre)
        metric = self._metrics[name]
        assert metric.estimate is not None
        by_chance = value <= np.quantile(chance, (1 + self._level) / 2)
        low, high = 0.0 if by_chance else metric.estimate.low, min(1.0, metric.estimate.high)
        self._metrics[name] = replace(metric, estimate=Estimate(value, low, high), chance=float(chance.mean()))
