"""From a task to what a model is asked: instructions first, the row last, label words as the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from workspace.errors import TaskError
from workspace.facts import DimensionSpec, Phrasing, Preparation, RowRule
from workspace.ids import content_id
from workspace.task import Dimension, Task

FORMAT = "words-3"  # of how prompts are built; a change gives every prompt another id
MARKER = "{text}"
LISTED = "{labels}"  # after the row: where the few labels that come into question for it are listed
DEFAULT_PHRASINGS: tuple[Phrasing, ...] = ("words",)
YES_NO = ("Yes", "No")  # what is said of each label of a multi dimension
# Characters of labels in one prompt, about 750 tokens. Every token of every row is compared with all of them: the
# embedded model reads rows half as fast behind 1,600 tokens as behind 130.
LABEL_CHARACTERS = 3000
MEANING_CHARACTERS = 300  # of what a label means, as texts are compared with it
LISTED_LABELS = 32  # there
EXAMPLES, EXAMPLE_CHARACTERS = 2, 80  # of a label that are shown, and how long they may be

Order = Literal["task", "reversed"]


class Prompt(msgspec.Struct, frozen=True):
    """All dimensions of a task as they are asked. `document` is the JSON that `id` is the content address of."""

    id: str
    document: str
    dimensions: tuple[DimensionSpec, ...]
    preparation: Preparation = Preparation()
    rules: tuple[RowRule, ...] = ()


def default_instructions(dimension: Dimension, order: Order = "task") -> str:
    """The instructions a dimension starts with: its question, its labels with their meaning, how to answer.

    Chosen over five other wordings by accuracy of the embedded model on tweets, messages, questions and news.
    """
    lines = [dimension.question.strip()]
    if dimension.kind == "score":
        return "\n".join([*lines, f"Answer with a number from {dimension.minimum} to {dimension.maximum}."])
    listed = _listed(
        dimension,
        label_words(dimension),
        order,
        meanings=_names(dimension) + _meaning(dimension) <= LABEL_CHARACTERS,
    )
    if dimension.kind == "multi":
        return "\n".join([*lines, "Answer for each of these labels whether it applies, Yes or No:", *listed])
    if _is_long(dimension):
        return "\n".join([*lines, "Answer with one of the labels that are listed after the text."])
    return "\n".join([*lines, "Answer with one of these words:", *listed])


def label_words(dimension: Dimension) -> tuple[str, ...]:
    """What the model is asked to say for each label, in task order: the label's own name.

    Capitalised where the name is all lower case, as an answer that opens a sentence is; where that would make
    two labels alike, all names stay as they are.
    """
    names = dimension.label_names
    words = tuple(name[0].upper() + name[1:] if name.islower() else name for name in names)
    return words if len(set(words)) == len(words) else names


def letters(count: int) -> tuple[str, ...]:
    """The letters that stand for labels: A to Z, then AA, AB, and so on."""
    found = []
    for number in range(count):
        written, rest = "", number + 1
        while rest:
            rest, place = divmod(rest - 1, 26)
            written = chr(ord("A") + place) + written
        found.append(written)
    return tuple(found)


def prompt_for(
    task: Task,
    *,
    instructions: Mapping[str, str] | None = None,
    order: Order = "task",
    explain: bool = False,
) -> Prompt:
    """The prompt of a task. `instructions` replaces the whole instruction text of the dimensions it names; each of
    them is asked by itself, the others together. With `order` "reversed" labels are listed the other way round,
    with `explain` the model is also asked why.

    Raises TaskError when `instructions` names an unknown dimension. Braces and markers in labels, questions and
    rows are plain text: only the user message holds the markers.
    """
    given = {name: text.strip() for name, text in (instructions or {}).items()}
    for name in given:
        if all(name != dimension.name for dimension in task.dimensions):
            raise TaskError(f"There are instructions for '{name}', which is not a dimension of this task.")
    together = [
        dimension for dimension in task.dimensions if not given.get(dimension.name) and not _is_long(dimension)
    ]
    shared = _shared_instructions(together, order) if len(together) > 1 else ""
    specs = []
    for dimension in task.dimensions:
        own = given.get(dimension.name, "")
        among = bool(shared) and dimension in together
        listed = _is_long(dimension) and not own
        specs.append(
            DimensionSpec(
                name=dimension.name,
                kind=dimension.kind,
                labels=dimension.label_names,
                words=dimension.label_names if among or listed else label_words(dimension),
                system=own or (shared if among else default_instructions(dimension, order)),
                user=f"{MARKER}\n\nPossible labels: {LISTED}" if listed else MARKER,
                cue=f"{dimension.name}:" if among else "",
                after=dimension.after,
                phrasings=_phrasings(dimension, lettered=not own and not listed),
                explain=explain,
                meanings=_meanings(dimension),
            )
        )
    return prompt_of(specs, preparation_of(task), rules_of(task))


def preparation_of(task: Task) -> Preparation:
    """What a task has done to a text before a model reads it."""
    return msgspec.convert(task.text.model_dump(), Preparation)


def rules_of(task: Task) -> tuple[RowRule, ...]:
    """The prefilter of a task."""
    return tuple(msgspec.convert(rule.model_dump(), RowRule, strict=False) for rule in task.prefilter)


def prompt_of(
    dimensions: Sequence[DimensionSpec],
    preparation: Preparation = Preparation(),  # noqa: B008 - immutable
    rules: Sequence[RowRule] = (),
) -> Prompt:
    """The prompt that asks these dimensions; the document says all there is to say about it."""
    body = {
        "format": FORMAT,
        "dimensions": [msgspec.to_builtins(spec) for spec in dimensions],
        "preparation": msgspec.to_builtins(preparation),
        "rules": [msgspec.to_builtins(rule) for rule in rules],
    }
    document = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return Prompt(content_id(["prompt", document]), document, tuple(dimensions), preparation, tuple(rules))


def _shared_instructions(dimensions: Sequence[Dimension], order: Order) -> str:
    """One text that asks several questions; the answer to each is opened with its name."""
    # What labels mean is said where there is room, of the dimensions that take the least first.
    explained = set()
    room = LABEL_CHARACTERS - sum(_names(dimension) for dimension in dimensions)
    for dimension in sorted(dimensions, key=_meaning):
        room -= _meaning(dimension)
        if room >= 0:
            explained.add(dimension.name)
    parts = ["Answer these questions about the text, each with one of its labels."]
    for dimension in dimensions:
        asked = f"{dimension.name}: {dimension.question.strip()}"
        if dimension.kind == "score":
            parts.append(f"{asked} A number from {dimension.minimum} to {dimension.maximum}.")
            continue
        if dimension.kind == "multi":
            asked += " Yes or No for each label."
        meanings = dimension.name in explained and any(_shown(label) for label in dimension.labels)
        if meanings or "letters" in dimension.phrasings:
            parts.append("\n".join([asked, *_listed(dimension, dimension.label_names, order, meanings=meanings)]))
        else:
            parts.append(f"{asked} Labels: {', '.join(_in_order(dimension.label_names, order))}.")
    return "\n".join(parts)


def _listed(dimension: Dimension, words: Sequence[str], order: Order, *, meanings: bool) -> list[str]:
    """A line for each label: its word, or letter and word, and where there is room what it means."""
    shown = {label.name: _shown(label) for label in dimension.labels} if meanings else {}
    opening = [f"{letter}." for letter in letters(len(words))] if "letters" in dimension.phrasings else None
    lines = []
    for place, (name, word) in enumerate(zip(dimension.label_names, words, strict=True)):
        meaning = shown.get(name, "")
        line = f"{opening[place]} {word}" if opening else f"- {word}"
        lines.append(f"{line}: {meaning}" if meaning else line)
    return _in_order(lines, order)


def _shown(label: object) -> str:
    """What a label means, and the first short examples of it."""
    description, examples = getattr(label, "description", "").strip(), getattr(label, "examples", ())
    short = [" ".join(text.split()) for text in examples if 0 < len(text.strip()) <= EXAMPLE_CHARACTERS]
    if not short:
        return description
    told = "for example " + ", ".join(f'"{text}"' for text in short[:EXAMPLES])
    return f"{description} ({told})" if description else told


def _meanings(dimension: Dimension) -> tuple[str, ...]:
    """What the labels mean, bounded, because every machine keeps it; empty where nothing is said of any."""
    found = {label.name: _shown(label)[:MEANING_CHARACTERS] for label in dimension.labels}
    return tuple(found[name] for name in dimension.label_names) if any(found.values()) else ()


def _phrasings(dimension: Dimension, *, lettered: bool) -> tuple[Phrasing, ...]:
    """The ways to put the question; letters only where they stand before the labels."""
    wanted = dimension.phrasings or DEFAULT_PHRASINGS
    return tuple(way for way in wanted if lettered or way != "letters") or DEFAULT_PHRASINGS


def _in_order(items: Sequence[str], order: Order) -> list[str]:
    return list(items) if order == "task" else list(reversed(items))


def _names(dimension: Dimension) -> int:
    """Characters of a dimension's labels."""
    return sum(len(name) + 2 for name in dimension.label_names)


def _meaning(dimension: Dimension) -> int:
    """Characters of what is said about a dimension's labels."""
    return sum(len(_shown(label)) for label in dimension.labels)


def _is_long(dimension: Dimension) -> bool:
    """Whether the labels cannot be listed for every row, not even by name."""
    return dimension.kind == "single" and _names(dimension) > LABEL_CHARACTERS
