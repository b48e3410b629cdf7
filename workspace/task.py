"""What labels mean: a task as a small YAML document, versioned by its content."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from workspace.errors import TaskError
from workspace.facts import Phrasing
from workspace.ids import content_id

Kind = Literal["single", "boolean", "multi", "score"]

MAX_LABELS = 1000  # bounds the width of a probability vector and of a prompt
MAX_DEPTH = 20  # a task needs five
MAX_DOCUMENT = 1 << 20  # characters; a task is written by a person
SEPARATOR = "|"  # between the labels of a multi dimension where they are written as one
NO_LABELS = "(none)"  # so is written that none of the labels of a multi dimension applies
LEVELS = ":"  # between the levels of a hierarchical label, "LOC:city"

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^\S(?:.*\S)?$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(_Part):
    """One answer a dimension can have."""

    name: Name
    description: str = Field(default="", max_length=2000)
    examples: tuple[str, ...] = ()

    @field_validator("name", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return _label_name(value)


class Dimension(_Part):
    """One question asked of every row."""

    name: Identifier
    kind: Kind = "single"
    question: str = Field(min_length=3, max_length=2000)
    labels: tuple[Label, ...] = ()
    minimum: int = 0
    maximum: int = 10
    after: tuple[Identifier, ...] = ()  # dimensions before this one whose answers the model is told
    phrasings: tuple[Phrasing, ...] = ()  # ways to put the question, averaged; none: what proved best

    @field_validator("labels", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`labels: [yes, no]` and `labels: {yes: meaning}` are short for the long form."""
        if isinstance(value, dict):
            return [{"name": _label_name(name), "description": text or ""} for name, text in value.items()]
        if isinstance(value, list | tuple):
            return [item if isinstance(item, dict | Label) else {"name": _label_name(item)} for item in value]
        return value

    @model_validator(mode="after")
    def _labels_fit_kind(self) -> Dimension:
        names = [label.name.casefold() for label in self.labels]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the label '{twice}' appears twice")
        if len(set(self.phrasings)) < len(self.phrasings):
            raise ValueError("a phrasing is there twice")
        if self.kind == "multi":
            for label in self.labels:
                if SEPARATOR in label.name or label.name == NO_LABELS:
                    raise ValueError(f"a label of a multi dimension is not '{NO_LABELS}' and has no {SEPARATOR}")
        if self.kind in ("single", "multi") and not 2 <= len(names) <= MAX_LABELS:
            raise ValueError(f"a {self.kind} dimension needs 2 to {MAX_LABELS} labels, this one has {len(names)}")
        if self.kind == "boolean" and len(names) not in (0, 2):
            raise ValueError("a boolean dimension has no labels (then yes and no) or exactly two")
        if self.kind == "score":
            if self.labels:
                raise ValueError("a score dimension has a minimum and a maximum instead of labels")
            if not self.minimum < self.maximum <= self.minimum + 100:
                raise ValueError("a score needs minimum < maximum, at most 100 apart")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels in the order of every probability vector of this dimension."""
        if self.kind == "score":
            return tuple(str(value) for value in range(self.minimum, self.maximum + 1))
        if self.kind == "boolean" and not self.labels:
            return ("yes", "no")
        return tuple(label.name for label in self.labels)

    def has(self, label: str) -> bool:
        """Whether this is an answer to the dimension, as a decision writes it."""
        if self.kind == "multi":
            return label == join_labels(split_labels(label), self.label_names)
        return label in self.label_names


def join_labels(chosen: Collection[str], labels: Sequence[str]) -> str:
    """The labels of a multi dimension that apply, written as one: in task order, "a|b", or "(none)"."""
    return SEPARATOR.join(name for name in labels if name in chosen) or NO_LABELS


def split_labels(written: str) -> tuple[str, ...]:
    """The inverse of `join_labels`."""
    return () if written == NO_LABELS else tuple(written.split(SEPARATOR))


class TextSteps(_Part):
    """What is done to a text before a model reads it; see `workspace.facts.Preparation`."""

    whitespace: bool = False
    lowercase: bool = False
    contractions: bool = False
    slang: bool = False
    expansions: dict[str, str] = Field(default_factory=dict, max_length=10_000)
    emoji: bool = False
    entities: bool = False
    conversation: bool = False
    max_tokens: int = Field(default=0, ge=0, le=1_000_000)


class PrefilterRule(_Part):
    """What becomes of rows that need no model: they are left out, or have their labels at once."""

    name: Identifier
    keywords: tuple[str, ...] = Field(default=(), max_length=10_000)
    pattern: str = Field(default="", max_length=2000)
    drop: bool = False
    labels: dict[str, str] = Field(default_factory=dict)

    @field_validator("labels", mode="before")
    @classmethod
    def _as_written(cls, value: Any) -> Any:
        return {key: _label_name(name) for key, name in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_of_each(self) -> PrefilterRule:
        if bool(self.keywords) == bool(self.pattern):
            raise ValueError("a prefilter rule has either keywords or a pattern")
        if self.drop == bool(self.labels):
            raise ValueError("a prefilter rule either drops the row or gives it labels")
        return self


class Gate(_Part):
    """A gatekeeper: where `when` is true, the overall score is `cap` at most."""

    when: str = Field(min_length=3, max_length=2000)
    cap: float


class Rule(_Part):
    """A SQL boolean expression over dimension names that every row should satisfy, with what to say if not."""

    expression: str = Field(min_length=3, max_length=2000)
    message: str = Field(min_length=1, max_length=500)


class Task(_Part):
    """A labeling task: one or more dimensions, rules between them, weights and tiers over scores."""

    name: Identifier
    title: str = Field(default="", max_length=120)
    description: str = Field(default="", max_length=5000)
    dimensions: tuple[Dimension, ...] = Field(min_length=1, max_length=50)
    text: TextSteps = TextSteps()
    prefilter: tuple[PrefilterRule, ...] = Field(default=(), max_length=200)
    rules: tuple[Rule, ...] = ()
    weights: dict[str, float] = Field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    tiers: dict[str, str] = Field(default_factory=dict)  # name: SQL expression; the first that is true counts

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        names = [dimension.name for dimension in self.dimensions]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two dimensions are called '{twice}'")
        for name, weight in self.weights.items():
            if name not in names:
                raise ValueError(f"the weight '{name}' names no dimension")
            if self.dimension(name).kind != "score":
                raise ValueError(f"'{name}' has a weight, but is no score")
            if not 0 <= weight <= 1_000_000:
                raise ValueError(f"the weight of '{name}' is not between 0 and a million")
        if self.weights and not any(self.weights.values()):
            raise ValueError("at least one weight is above 0")
        if self.gates and not self.weights:
            raise ValueError("gates cap the overall score, which needs weights")
        for place, dimension in enumerate(self.dimensions):
            for earlier in dimension.after:
                if earlier not in names[:place]:
                    raise ValueError(f"'{dimension.name}' is after '{earlier}', which is no dimension before it")
        for rule in self.prefilter:
            for name, label in rule.labels.items():
                if name not in names:
                    raise ValueError(f"the prefilter rule '{rule.name}' names no dimension: '{name}'")
                if not self.dimension(name).has(label):
                    raise ValueError(f"the prefilter rule '{rule.name}' gives '{name}' an unknown label '{label}'")
            if rule.labels and set(rule.labels) != set(names):
                raise ValueError(f"the prefilter rule '{rule.name}' must give a label to every dimension")
        return self

    @property
    def shown_title(self) -> str:
        return self.title or self.name.replace("_", " ").capitalize()

    def dimension(self, name: str) -> Dimension:
        """The dimension of that name; raises KeyError."""
        for dimension in self.dimensions:
            if dimension.name == name:
                return dimension
        raise KeyError(name)


def task_id(task: Task) -> str:
    """Content address of a task: two documents that mean the same have the same id, whatever their layout."""
    return content_id(["task", task.model_dump_json()])


def to_yaml(task: Task) -> str:
    """The task as a document people can edit; `parse_task(to_yaml(t)) == t`."""
    data = task.model_dump(mode="json", exclude_defaults=True)
    for dimension in data["dimensions"]:
        dimension.setdefault("kind", "single")
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def parse_task(document: str) -> Task:
    """Read a task document. Raises TaskError naming the line and what was expected there."""
    if len(document) > MAX_DOCUMENT:
        raise TaskError("The task document is larger than 1 MB.", "Nothing was changed.")
    try:
        _refuse_bombs(document)
        root = yaml.compose(document, Loader=yaml.SafeLoader)
        _refuse_repeated_settings(root)
        data = yaml.safe_load(document)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise TaskError(
            f"Line {line} is not valid YAML: {error.problem}.",
            "Check indentation, colons and quotes there.",
            str(error),
            line,
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TaskError("The document is not valid YAML.", "Check its first lines.", str(error)) from error
    if not isinstance(data, dict):
        raise TaskError(
            "A task is a list of settings such as `name:` and `dimensions:`.",
            "Start from one of the bundled tasks.",
            line=1,
        )
    try:
        return Task.model_validate(data)
    except ValidationError as error:
        raise _first_problem(error, root) from error


def _refuse_bombs(document: str) -> None:
    """Stop at what takes forever to read: aliases that unfold to more than any memory, and deep nesting."""
    depth = 0
    for event in yaml.parse(document, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise TaskError(
                f"Line {line}: `*{event.anchor}` refers to another part of the document.",
                "Write that part out; a text that starts with * needs quotes.",
                line=line,
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise TaskError(f"Line {line} is nested too deeply.", "Check brackets and indentation.", line=line)


def _refuse_repeated_settings(node: yaml.Node | None) -> None:
    """YAML takes the last of two equal keys without a word; people mean one of them."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(getattr(key, "value", ""))
            if isinstance(key, yaml.ScalarNode) and name in seen:
                line = key.start_mark.line + 1
                raise TaskError(f"Line {line}: `{name}` is there twice.", "Keep one of them.", line=line)
            seen.add(name)
            _refuse_repeated_settings(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_settings(item)


def _label_name(value: Any) -> Any:
    # YAML reads bare yes/no and numbers as something else than the words people wrote.
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else value


def _first_problem(error: ValidationError, root: yaml.Node | None) -> TaskError:
    problems = error.errors(include_url=False)
    first = problems[0]
    path = [part for part in first["loc"] if isinstance(part, str | int)]
    line = _line_of(root, path, unknown_key=first["type"] == "extra_forbidden")
    where = _where(path)
    message = _in_words(first["type"], str(first["msg"]), path)
    more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
    return TaskError(f"Line {line}: {where}{message}{more}.", "", str(error), line)


def _in_words(kind: str, message: str, path: Sequence[str | int]) -> str:
    if kind == "missing":
        return f"`{path[-1]}` is missing"
    if kind == "extra_forbidden":
        return f"`{path[-1]}` is not a setting known here"
    if kind == "string_type":
        return "this should be a text; put it in quotes"
    if kind == "string_pattern_mismatch" and path and path[-1] == "name":
        return "a name is lower case letters, digits and underscores, starting with a letter"
    return re.sub(r"^(Value error|Assertion failed), ", "", message).rstrip(".")


def _where(path: Sequence[str | int]) -> str:
    singular = {"dimensions": "dimension", "labels": "label", "rules": "rule"}
    pairs = itertools.pairwise(path)
    words = [f"{singular.get(str(key), key)} {index + 1}" for key, index in pairs if isinstance(index, int)]
    return ", ".join(words) + ": " if words else ""


def _line_of(node: yaml.Node | None, path: Sequence[str | int], *, unknown_key: bool = False) -> int:
    """1-based line of the deepest part of `path` that exists in the document."""
    line = node.start_mark.line + 1 if node else 1
    for position, part in enumerate(path):
        if isinstance(node, yaml.MappingNode) and isinstance(part, str):
            found = [(key, value) for key, value in node.value if getattr(key, "value", None) == part]
            if not found:
                return line
            key, node = found[0]
            line = key.start_mark.line + 1
            if unknown_key and position == len(path) - 1:
                return int(line)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return int(line)
    return int(line)
