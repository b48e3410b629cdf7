"""What an answer says: from the log-probabilities of its labels to one label, by the kind of dimension."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence

from workspace.task import LEVELS, NO_LABELS, SEPARATOR, join_labels

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


def reader(kind: str, labels: Sequence[str]) -> Callable[[str], str | None]:
    """What reads an answer as people, files and programs write it: the label as it is kept, or None for none.

    In any case and with white space around. multi: "a|b", "a; b", "a, b" and a JSON list, in any order; nothing at
    all, "[]" and "(none)" are no labels; a separator that is part of a label separates nothing. score: "7", "7.0"
    and "+7" alike.
    """
    known = {label.strip().casefold(): label for label in labels}

    def one(written: str) -> str | None:
        found = known.get(written.strip().casefold())
        if found is None and kind == "score":
            try:
                value = float(written)
            except ValueError:
                return None
            return known.get(str(int(value))) if value.is_integer() else None
        return found

    def several(written: str) -> str | None:
        text = written.strip()
        if text.casefold() in ("", NO_LABELS):
            return NO_LABELS
        for parts in _ways_to_split(text):
            found = [one(part) for part in parts]
            if None not in found:
                return join_labels([label for label in found if label is not None], labels)
        return None

    return several if kind == "multi" else one


def _ways_to_split(text: str) -> Iterable[Sequence[str]]:
    if text.startswith("["):
        try:
            parts = json.loads(text)
        except (ValueError, RecursionError):
            parts = None
        if isinstance(parts, list) and all(isinstance(part, str) for part in parts):
            yield parts
    yield [text]
    for separator in (SEPARATOR, ";", ",", "\n"):
        if separator in text:
            yield [part for part in text.split(separator) if part.strip()]


def levels(label: str) -> tuple[str, ...]:
    """The parts of a hierarchical label from the top down: "LOC:city" is ("LOC", "city")."""
    return tuple(part.strip() for part in label.split(LEVELS))


def by_level(numbers: Iterable[tuple[str, float]], depth: int = 1) -> list[tuple[str, float]]:
    """Counts or probabilities of labels, summed over those with the same first `depth` levels.

    In the order of their first label. A label with fewer levels stands for itself.
    """
    sums: dict[str, float] = {}
    for label, number in numbers:
        top = LEVELS.join(levels(label)[:depth])
        sums[top] = sums.get(top, 0) + number
    return list(sums.items())
