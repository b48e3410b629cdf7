"""PROTOCOL.md and the code side by side: types in the document's words, and the document's tables."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from engine.cluster import (
    audits,
    claims,
    core,
    disk,
    driver,
    entries,
    mesh,
    messages,
    model_fetch,
    model_offers,
    model_transfer,
    pace,
    pairing,
    pairing_door,
    replication,
)

DOCUMENT = Path(messages.__file__).with_name("PROTOCOL.md")
TYPED = (entries, messages, pairing)  # modules whose names for types the document uses
LIMITED = (
    *(entries, messages, core, replication, disk, driver, mesh, claims, pace),
    *(pairing, pairing_door, model_offers, model_fetch, model_transfer, audits),
)

ALIAS = re.compile(r"^([A-Z]\w*) = (?:Annotated|tuple|dict|Literal)\[", re.MULTILINE)


def aliases() -> dict[str, Any]:
    """The names these modules have for types."""
    return {
        name: getattr(module, name)
        for module in TYPED
        for name in ALIAS.findall(Path(str(module.__file__)).read_text("utf-8"))
    }


def words(kind: Any, named: bool = True) -> str:
    """A type as the document writes it; by its own name if it has one and is not being defined."""
    if named:
        for name, alias in aliases().items():
            if kind == alias:
                return name
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(parts[0], parts[1:])
    if origin is Literal:
        return _or([f'"{value}"' for value in parts])
    if origin in (Union, UnionType):
        return _or([words(part) for part in parts])
    if origin is tuple:
        if len(parts) == 2 and parts[1] is ...:
            return f"list of {words(parts[0])}"
        return "(" + ", ".join(words(part) for part in parts) + ")"
    if origin is dict:
        return f"map of {words(parts[0])} to {words(parts[1])}"
    plain = {int: "integer", float: "float", str: "text", bytes: "bytes", bool: "boolean", NoneType: "nil"}
    return plain.get(kind) or str(kind.__name__)


def _or(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _bounded(kind: Any, metas: tuple[Any, ...]) -> str:
    (meta,) = metas
    assert isinstance(meta, Meta)
    low, high = meta.ge if meta.gt is None else f"above {meta.gt} ", meta.le if meta.lt is None else meta.lt - 1
    if low is None and high is None:
        low, high = meta.min_length, meta.max_length
    low_words, high_words = ("" if bound is None else str(bound) for bound in (low, high))
    bounds = low_words if low_words == high_words else f"{low_words}..{high_words}"
    of = f" of {words(get_args(kind)[0])}" if get_origin(kind) is tuple else ""
    like = f" like `{meta.pattern}`" if meta.pattern else ""
    return " ".join(filter(None, ["list" if of else words(kind), bounds])) + of + like


def structs(module: ModuleType) -> dict[str, type[msgspec.Struct]]:
    """The structures a module defines, by name."""
    return {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
    }


def fields(kind: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    """Name, type and default of each field, in the order they travel in."""
    hints = get_type_hints(kind, include_extras=True)
    return [(field.name, words(hints[field.name]), _default(field)) for field in msgspec.structs.fields(kind)]


def _default(field: msgspec.structs.FieldInfo) -> str:
    return "–" if field.default is msgspec.NODEFAULT else f"`{msgspec.json.encode(field.default).decode()}`"


def tag(kind: type[msgspec.Struct]) -> str:
    """What stands before the fields; empty when nothing does."""
    return str(kind.__struct_config__.tag or "")


class Section:
    """A heading, and the rows of the tables below it up to the next heading."""

    def __init__(self, number: str, title: str) -> None:
        self.number, self.title = number, title
        self.text: list[str] = []
        self.rows: list[list[str]] = []


def sections(text: str) -> list[Section]:
    """The document in its order."""
    found: list[Section] = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"#{2,3} (\d+(?:\.\d+)*)\.? (.+)", line):
            found.append(Section(heading[1], heading[2]))
        elif found and line.startswith("|"):
            # A bar inside backquotes belongs to the cell.
            cells = re.findall(r"((?:`[^`]*`|[^|])*)\|", line[1:])
            found[-1].rows.append([cell.strip() for cell in cells])
        elif found:
            found[-1].text.append(line)
    for section in found:
        section.rows = section.rows[2:] if section.rows else []
    return found


CONSTANT = re.compile(r"^([A-Z][A-Z_]*(?:, [A-Z][A-Z_]*)*) = ", re.MULTILINE)


def limits(module: ModuleType) -> dict[str, int | float | bytes | tuple[int, ...]]:
    """The numbers and versions a module names for others to see, in its order."""
    found = {}
    for names in CONSTANT.findall(Path(str(module.__file__)).read_text("utf-8")):
        for name in names.split(", "):
            value = getattr(module, name)
            numbers = isinstance(value, tuple) and all(isinstance(part, int) for part in value)
            if isinstance(value, int | float | bytes) or numbers:
                found[name] = value
    return found


def shown(value: int | float | bytes | tuple[int, ...]) -> str:
    """A value as the document writes it."""
    if isinstance(value, bytes):
        return f"`{value.decode('ascii')}`"
    if isinstance(value, tuple):
        return "..".join(str(part) for part in value)
    return f"{value:,}"


def title(kind: type[msgspec.Struct]) -> str:
    """The heading of a structure."""
    named = f', tag "{tag(kind)}"' if tag(kind) else ""
    return kind.__name__ + named + ("" if kind.__struct_config__.array_like else ", a map")
