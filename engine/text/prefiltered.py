"""A labeler whose rows pass the rules of the prefilter first; what a rule catches no model ever sees."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.labeler import Answer, Labeler, LoadedModel, Progress
from engine.text.prefilter import Prefilter
from workspace.facts import DimensionSpec, RowRule
from workspace.task import split_labels

DOUBT = 1e-6  # the probability that is left to all other labels, so that its logarithm is finite


class Prefiltered:
    """Answers for the rows a rule catches, with the warning "rule:NAME"; the others are asked of `inner`.

    A rule that drops leaves the row out of every dimension; one that labels is certain but for `DOUBT`.
    """

    def __init__(
        self,
        inner: Labeler,
        rules: Sequence[RowRule],
        dimensions: Sequence[DimensionSpec],
        conversation: bool = False,
    ) -> None:
        self._inner = inner
        self._prefilter = Prefilter(rules, conversation)
        self._answers = [tuple(_answer(rule, dimension) for dimension in dimensions) for rule in rules]

    @property
    def loaded(self) -> LoadedModel:
        return self._inner.loaded

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """As `Labeler.ask`."""
        caught = [self._prefilter.find(row) for row in rows]
        left = [row for row, rule in zip(rows, caught, strict=True) if rule is None]
        ready = len(rows) - len(left)
        if progress:
            progress(ready)
        heard: Progress | None = (lambda done: progress(ready + done)) if progress else None
        answers = iter(self._inner.ask(left, heard) if left else [])
        return [next(answers) if rule is None else self._answers[rule] for rule in caught]

    def close(self) -> None:
        """As `Labeler.close`."""
        self._inner.close()


def _answer(rule: RowRule, dimension: DimensionSpec) -> Answer:
    warnings = (f"rule:{rule.name}",)
    if rule.drop:
        return Answer((), 0, 0, 0.0, warnings, dropped=True)
    logprobs = certain(dimension, rule.labels[dimension.name])
    ways = len(dimension.phrasings)
    return Answer(logprobs, 0, 0, 0.0, warnings, phrasings=(logprobs,) * ways if ways > 1 else ())


def certain(dimension: DimensionSpec, label: str) -> tuple[float, ...]:
    """Log-probabilities that say this label, as a fact writes it; see `workspace.facts.Fact`."""
    sure, unsure = math.log1p(-DOUBT), math.log(DOUBT)
    if dimension.kind == "multi":
        chosen = split_labels(label)
        return tuple(sure if name in chosen else unsure for name in dimension.labels)
    rest = unsure - math.log(len(dimension.labels) - 1)
    return tuple(sure if name == label else rest for name in dimension.labels)
