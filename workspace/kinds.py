"""What an answer says: from the log-probabilities of its labels to one label, by the kind of dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

from workspace.task import join_labels

APPLIES = math.log(0.5)  # a label of a multi dimension applies from this log-probability on


def label_of(kind: str, labels: Sequence[str], logprobs: Sequence[float]) -> tuple[str, float]:
    """The label and its probability.

    single, boolean: the likeliest label, the first of several. multi: all that apply, see `join_labels`, and the
    probability of the least certain of these yes and no. score: the value next to the expectation, and its own
    probability. `logprobs` as in `workspace.facts.Fact`, as many as `labels`, at least one.
    """
    chances = [min(1.0, math.exp(value)) for value in logprobs]
    if kind == "multi":
        applying = [name for name, value in zip(labels, logprobs, strict=True) if value >= APPLIES]
        return join_labels(applying, labels), min(max(chance, 1.0 - chance) for chance in chances)
    if kind == "score":
        mean, _ = score_of(labels, logprobs)
        place = min(range(len(labels)), key=lambda i: (abs(float(labels[i]) - mean), i))
    else:
        place = max(range(len(logprobs)), key=logprobs.__getitem__)
    return labels[place], chances[place]


def score_of(labels: Sequence[str], logprobs: Sequence[float]) -> tuple[float, float]:
    """Expectation and standard deviation of a score, in its own units; `labels` are its values in figures."""
    values = [float(name) for name in labels]
    chances = [math.exp(value) for value in logprobs]
    total = sum(chances)
    mean = sum(value * chance for value, chance in zip(values, chances, strict=True)) / total
    spread = sum((value - mean) ** 2 * chance for value, chance in zip(values, chances, strict=True)) / total
    return mean, math.sqrt(spread)
