"""Asking a chat model for several answers at once as a JSON object, and reading what it says, however it says it.

Shared by every backend that talks to a server. The order of the properties is the order of the dimensions, so
that a model that writes from left to right knows its earlier answers when it gives a later one.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from workspace.facts import DimensionSpec
from workspace.task import NO_LABELS

SAMPLED = "sampled"  # warning: the numbers are shares of several drawn answers
NO_PROBABILITIES = "no_probabilities"  # warning: the model said one answer and not how likely it was
REPAIRED = "repaired"  # warning: the first reply could not be read, a later one could

LONGEST_REPLY = 20_000  # characters that are looked at; a list of a thousand labels takes less
_LISTED = (
    24  # labels repeated beside the property; longer lists are only repeated where the instructions lack them
)
_EXPLANATION_TOKENS = 160
_PSEUDO = 0.1  # draws' worth of doubt shared by all labels, see `frequencies`

_FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)```", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_NONE = {"", "none", "null", "nothing", "n/a", NO_LABELS.casefold()}
_YES, _NO = {"yes", "true", "1"}, {"no", "false", "0"}


class Given(msgspec.Struct, frozen=True):
    """One answer as read from a reply: the places of its labels, exactly one but for `multi`."""

    chosen: tuple[int, ...]
    explanation: str = ""


class Unreadable(Exception):
    """Why a part of a reply is no answer, in words that also help a model to do better."""


def explanation_key(dimension: DimensionSpec) -> str:
    """The property of the explanation. No dimension can be called so: their names have no capitals."""
    return f"{dimension.name}Explanation"


def schema_for(dimensions: Sequence[DimensionSpec]) -> dict[str, Any]:
    """JSON schema of the reply, in the subset that Ollama, llama-server, vLLM and OpenAI understand."""
    properties: dict[str, Any] = {}
    for dimension in dimensions:
        properties[dimension.name] = _value_schema(dimension)
        if dimension.explain:
            properties[explanation_key(dimension)] = {"type": "string"}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _value_schema(dimension: DimensionSpec) -> dict[str, Any]:
    if dimension.kind == "score":
        # An enumeration rather than a range: not every server turns minimum and maximum into a grammar.
        return {"type": "integer", "enum": [int(name) for name in dimension.labels]}
    words = {"type": "string", "enum": list(dimension.words)}
    if dimension.kind == "multi":
        # Without a bound small models go on with the list until they are cut off.
        return {"type": "array", "items": words, "maxItems": len(dimension.words)}
    return words


def instructions_for(dimensions: Sequence[DimensionSpec], system: str) -> str:
    """What is added to the instructions `system` so that the answer is a JSON object."""
    lines = ["Answer with one JSON object and nothing else. Its properties, in this order:"]
    for dimension in dimensions:
        lines.append(f'- "{dimension.name}": {_value_words(dimension, system)}')
        if dimension.explain:
            lines.append(f'- "{explanation_key(dimension)}": one short sentence that says why')
    return "\n".join(lines)


def _value_words(dimension: DimensionSpec, system: str) -> str:
    if dimension.kind == "score":
        return f"a whole number from {dimension.labels[0]} to {dimension.labels[-1]}"
    listed = len(dimension.words) <= _LISTED or not all(word in system for word in dimension.words)
    words = json.dumps(list(dimension.words), ensure_ascii=False) if listed else "the words above"
    if dimension.kind == "multi":
        return f"a list of all that apply of {words}, [] if none does"
    return f"one of {words}"


def tokens_for(dimensions: Sequence[DimensionSpec]) -> int:
    """Tokens that are enough for the reply, with room for spaces and line breaks."""
    total = 32
    for dimension in dimensions:
        sizes = [len(word.encode()) for word in dimension.words]
        spoken = sum(sizes) + 4 * len(sizes) if dimension.kind == "multi" else max(sizes)
        total += len(dimension.name) + spoken + 16 + _EXPLANATION_TOKENS * dimension.explain
    return min(total, 8192)


def repair_words(problems: Mapping[str, str], dimensions: Sequence[DimensionSpec], system: str) -> str:
    """What a model is told after a reply that could not be read; `problems` by dimension."""
    said = " ".join(dict.fromkeys(problems.values()))
    return f"That could not be used: {said} {instructions_for(dimensions, system)}"


def read_reply(
    text: str, dimensions: Sequence[DimensionSpec], *, cut: bool = False
) -> tuple[dict[str, Given], dict[str, str]]:
    """The answers of a reply and, for the other dimensions, why there is none; both by dimension.

    The JSON may stand anywhere in the text. What is no JSON is read as leniently as it can be without guessing:
    trailing commas, single quotes, a bare label, a value found by its name. `cut`: the reply hit its limit.
    """
    text = text[:LONGEST_REPLY]
    found = _object_in(text, {dimension.name for dimension in dimensions})
    given: dict[str, Given] = {}
    problems: dict[str, str] = {}
    for dimension in dimensions:
        try:
            given[dimension.name] = _given(dimension, found, text, alone=len(dimensions) == 1)
        except Unreadable as problem:
            problems[dimension.name] = "It was cut off." if cut and found is None else str(problem)
    return given, problems


def _given(dimension: DimensionSpec, found: dict[str, Any] | None, text: str, *, alone: bool) -> Given:
    if found is None:
        if alone and (word := text.strip()) and len(word) <= 200 and "{" not in word:
            return Given(choice_of(dimension, word))
        found = _by_name(text, dimension)
    names = {str(key).strip().casefold(): key for key in found}
    key = names.get(dimension.name.casefold())
    if key is None:
        raise Unreadable(f'The property "{dimension.name}" is missing.')
    why = found.get(names.get(explanation_key(dimension).casefold(), ""), "")
    return Given(choice_of(dimension, found[key]), why.strip() if isinstance(why, str) else "")


def choice_of(dimension: DimensionSpec, value: Any) -> tuple[int, ...]:
    """The places of the labels a value names. Raises Unreadable when it names none, or one that does not exist."""
    if dimension.kind == "score":
        return (_score(dimension, value),)
    if dimension.kind == "multi":
        if value is None or (isinstance(value, str) and value.strip().casefold() in _NONE):
            return ()
        if isinstance(value, dict):  # {"a": true, "b": false}
            value = [name for name, applies in value.items() if applies is True]
        if isinstance(value, str):
            whole = _place(dimension, value)
            parts = [value] if whole is not None else re.split(r"[,;|\n]+", value)
        else:
            parts = list(value) if isinstance(value, list) else [value]
        return tuple(sorted({_known(dimension, part) for part in parts if str(part).strip()}))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return (_known(dimension, value),)


def _known(dimension: DimensionSpec, value: Any) -> int:
    place = _place(dimension, value) if isinstance(value, str | int | float) else None
    if place is None:
        said = json.dumps(value, ensure_ascii=False, default=str)[:60]
        raise Unreadable(f'{said} is not one of the answers to "{dimension.name}".')
    return place


def _place(dimension: DimensionSpec, value: str | float) -> int | None:
    wanted = _folded(("yes" if value else "no") if isinstance(value, bool) else str(value))
    for names in (dimension.words, dimension.labels):
        alike = [place for place, name in enumerate(names) if _folded(name) == wanted]
        if len(alike) == 1:
            return alike[0]
        exact = [place for place in alike if names[place] == value]
        if exact:
            return exact[0]
    if dimension.kind == "boolean":
        for meaning in (_YES, _NO):
            if wanted in meaning:
                same = [i for i, name in enumerate(dimension.labels) if _folded(name) in meaning]
                return same[0] if same else None
    # "Positive sentiment", "the answer is Positive": exactly one label as whole words.
    inside = {
        place
        for place, name in enumerate(dimension.words)
        if len(wanted) <= 200 and re.search(rf"(?<!\w){re.escape(_folded(name))}(?!\w)", wanted)
    }
    return inside.pop() if len(inside) == 1 else None


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).strip(" .!\"'`*").casefold()


def _score(dimension: DimensionSpec, value: Any) -> int:
    number: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str) and len(value) <= 200 and (seen := _NUMBER.search(value)):
        number = float(seen.group().replace(",", "."))
    low, high = int(dimension.labels[0]), int(dimension.labels[-1])
    if number is None or not math.isfinite(number) or not low - 0.5 <= number <= high + 0.5:
        raise Unreadable(f'"{dimension.name}" must be a whole number from {low} to {high}.')
    return min(max(math.floor(number + 0.5), low), high) - low


def _object_in(text: str, names: set[str]) -> dict[str, Any] | None:
    """The JSON object that has the most of these properties, None where there is none; the strictest way first."""
    best: dict[str, Any] | None = None
    for piece in (text, *_FENCE.findall(text)):
        for candidate in _objects(piece):
            hits = sum(str(key).strip().casefold() in names for key in candidate)
            if best is None or hits > sum(str(key).strip().casefold() in names for key in best):
                best = candidate
        if best is not None:
            return best
    return None


def _objects(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    decoder = json.JSONDecoder()
    at = text.find("{")
    tries = 0
    while at >= 0 and tries < 20:  # a reply full of braces is not worth quadratic time
        tries += 1
        end = at + 1
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            value = _lenient(text[at : text.rfind("}") + 1])
            end = text.rfind("}") + 1 if value is not None else at + 1
        if isinstance(value, dict):
            found.append(value)
        at = text.find("{", end)
    return found


def _lenient(piece: str) -> dict[str, Any] | None:
    """What is almost JSON: trailing commas, single quotes, Python's True and None."""
    fixed = _TRAILING_COMMA.sub(r"\1", piece.translate({0x201C: '"', 0x201D: '"'}))
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(fixed)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _by_name(text: str, dimension: DimensionSpec) -> dict[str, Any]:
    """The value after the dimension's name where the text is no JSON, e.g. because it was cut off."""
    for name in dict.fromkeys((dimension.name, dimension.cue.rstrip(":").strip() or dimension.name)):
        pattern = (
            rf"(?<!\w)[\"'*]*{re.escape(name)}[\"'*]*\s*[:=]\s*"
            r"(\[[^\]]*\]|\"[^\"\n]*\"|'[^'\n]*'|[^,}\n\"'\[{]+)"
        )
        seen = re.search(pattern, text, re.IGNORECASE)
        if seen:
            value = seen.group(1).strip()
            if value.startswith("["):
                return {dimension.name: [part.strip(" \"'") for part in value[1:-1].split(",")]}
            return {dimension.name: value.strip("\"'").strip()}
    raise Unreadable("There was no JSON object.")


def frequencies(dimension: DimensionSpec, draws: Sequence[tuple[int, ...]]) -> tuple[float, ...]:
    """Natural log-probabilities of the labels from drawn answers, as in `engine.labeler.Answer`.

    Laplace smoothing: (count + a) / (draws + a K) for K labels, with a K of a tenth of a draw. For scores it is
    less, so that the expectation of equal draws rounds to what was drawn: pulled toward the middle of the range,
    (K - 1) / 2 away at most, by a share of 0.4 / K, it moves by less than a half.
    """
    count = len(draws)
    if dimension.kind == "multi":
        shares = [sum(place in draw for draw in draws) for place in range(len(dimension.labels))]
        return tuple(math.log((share + _PSEUDO / 2) / (count + _PSEUDO)) for share in shares)
    size = len(dimension.labels)
    total = min(_PSEUDO, 0.4 / size)
    counts = [sum(draw[0] == place for draw in draws) for place in range(size)]
    return tuple(math.log((value + total / size) / (count + total)) for value in counts)
