"""From a task to what a model is asked: instructions first, the row last, label words as the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

from workspace.errors import TaskError
from workspace.facts import DimensionSpec, Phrasing, Preparation, RowRule
from workspace.ids import content_id
from workspace.task import Dimension, Task

FORMAT = "words-2"  # of how prompts are built; a change gives every prompt another id
MARKER = "{text}"
DEFAULT_PHRASINGS: tuple[Phrasing, ...] = ("words",)


class Prompt(msgspec.Struct, frozen=True):
    """All dimensions of a task as they are asked. `document` is the JSON that `id` is the content address of."""

    id: str
    document: str
    dimensions: tuple[DimensionSpec, ...]
    preparation: Preparation = Preparation()
    rules: tuple[RowRule, ...] = ()


def default_instructions(dimension: Dimension) -> str:
    """The instructions a dimension starts with: its question, its labels with their meaning, how to answer.

    Chosen over five other wordings by accuracy of the embedded model on tweets, messages, questions and news.
    """
    lines = [dimension.question.strip(), "Answer with one of these words:"]
    meanings = {label.name: label.description.strip() for label in dimension.labels}
    for name, word in zip(dimension.label_names, label_words(dimension), strict=True):
        meaning = meanings.get(name, "")
        lines.append(f"- {word}: {meaning}" if meaning else f"- {word}")
    return "\n".join(lines)


def label_words(dimension: Dimension) -> tuple[str, ...]:
    """What the model is asked to say for each label, in task order: the label's own name.

    Capitalised where the name is all lower case, as an answer that opens a sentence is; where that would make
    two labels alike, all names stay as they are.
    """
    names = dimension.label_names
    words = tuple(name[0].upper() + name[1:] if name.islower() else name for name in names)
    return words if len(set(words)) == len(words) else names


def prompt_for(task: Task, *, instructions: Mapping[str, str] | None = None) -> Prompt:
    """The prompt of a task. `instructions` replaces the whole instruction text of the dimensions it names.

    Raises TaskError when a dimension cannot be labeled by a model yet, or `instructions` names an unknown one.
    Braces and markers in labels, questions and rows are plain text: only the user message holds the marker.
    """
    given = dict(instructions or {})
    for name in given:
        if all(name != dimension.name for dimension in task.dimensions):
            raise TaskError(f"There are instructions for '{name}', which is not a dimension of this task.")
    specs = []
    for dimension in task.dimensions:
        own = given.get(dimension.name, "").strip()
        specs.append(
            DimensionSpec(
                name=dimension.name,
                kind=dimension.kind,
                labels=dimension.label_names,
                words=label_words(dimension),
                system=own or default_instructions(dimension),
                user=MARKER,
                after=dimension.after,
                phrasings=dimension.phrasings or DEFAULT_PHRASINGS,
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
