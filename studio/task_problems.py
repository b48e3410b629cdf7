"""What is wrong with a task document, and in which part of its form that is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import yaml

from engine.prompt import rules_of
from engine.text.prefilter import check_rules
from workspace import rules
from workspace.errors import TaskError
from workspace.task import Task

OVERALL = ("weights", "gates", "tiers")


class Problem(NamedTuple):
    """`part` is "top", "dimensions.N", "text", "prefilter", "rules" or "overall"."""

    part: str
    message: str


def of_task(task: Task) -> list[Problem]:
    """What cannot be seen in the document alone: patterns and expressions that do not work."""
    found = []
    try:
        check_rules(rules_of(task))
    except TaskError as error:
        found.append(Problem("prefilter", error.title))
    try:
        rules.check(task)
    except TaskError as error:
        part = "rules" if re.search(r"\brule \d", error.title) else "overall"
        found.append(Problem(part, " ".join([error.title, error.advice])))
    return found


def of_error(error: TaskError, document: str) -> Problem:
    """The error of a document as its form shows it: beside the part it is about, without the line."""
    words = re.sub(r"^Line \d+(?: is not valid YAML)?: ", "", error.title)
    words = re.sub(r"^dimension \d+(, |: )", "", words)
    return Problem(part_of(document, error.line), words[:1].upper() + words[1:])


def part_of(document: str, line: int) -> str:
    """The part of the form that this line (from 1) of the document is in; "top" where there is none."""
    try:
        root = yaml.compose(document, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return "top"
    if not isinstance(root, yaml.MappingNode):
        return "top"
    name, value = _last_before(root.value, line)
    if name == "dimensions" and isinstance(value, yaml.SequenceNode) and value.value:
        places = [place for place, item in enumerate(value.value) if item.start_mark.line < line]
        return f"dimensions.{places[-1] if places else 0}"
    if name in OVERALL:
        return "overall"
    return name if name in ("text", "prefilter", "rules") else "top"


def _last_before(pairs: Sequence[tuple[yaml.Node, yaml.Node]], line: int) -> tuple[str, yaml.Node | None]:
    found: tuple[str, yaml.Node | None] = ("", None)
    for key, value in pairs:
        if key.start_mark.line < line:
            found = (str(getattr(key, "value", "")), value)
    return found
