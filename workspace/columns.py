"""Which columns of a file hold the text, its id, its domain and the right labels: a guess to be confirmed."""

from __future__ import annotations

import re
from collections.abc import Mapping as Lookup
from collections.abc import Sequence

import msgspec

_TEXT = [
    "text",
    "tweet",
    "body",
    "content",
    "message",
    "question",
    "sentence",
    "review",
    "comment",
    "post",
    "description",
    "prompt",
    "utterance",
    "query",
    "title",
    "headline",
    "subject",
]
_TITLES = ("title", "subject", "headline")
_BODIES = ("body", "text", "content", "description", "message")
_IDS = ("id", "uuid", "guid", "key", "rowid", "row_id", "external_id", "tweet_id")
_DOMAINS = ("domain", "topic", "source", "group", "subreddit", "language", "lang", "section", "channel")
_GOLD = ("gold", "label", "labels", "target", "class", "category", "sentiment", "majority", "answer", "truth", "y")
_JOINT = "\n\n"


class Mapping(msgspec.Struct, frozen=True):
    """Which columns mean what.

    `text` names the columns of the text, in order. With `template`, `{column}` in it is replaced by that
    column's text and everything else is kept; without it several columns are joined by an empty line.
    `gold` maps a dimension of a task to the column with its right labels.
    """

    text: tuple[str, ...]
    template: str | None = None
    id: str | None = None
    domain: str | None = None
    gold: dict[str, str] = {}

    def pieces(self) -> list[tuple[bool, str]]:
        """The template taken apart: (True, column) for a column, (False, words) for words kept as they are."""
        if self.template is None:
            joined: list[tuple[bool, str]] = []
            for column in self.text:
                joined += [(False, _JOINT)] if joined else []
                joined.append((True, column))
            return joined
        names = "|".join(re.escape("{" + name + "}") for name in sorted(self.text, key=len, reverse=True))
        parts = re.split(f"({names})", self.template)
        return [(bool(i % 2), part[1:-1] if i % 2 else part) for i, part in enumerate(parts) if part]

    def used(self) -> list[str]:
        """Every column the mapping reads, each once."""
        names = [*self.text, self.id, self.domain, *self.gold.values()]
        return list(dict.fromkeys(name for name in names if name is not None))


def text_of(row: Lookup[str, str | None], mapping: Mapping) -> str:
    """The text of one record under a mapping, exactly as it is loaded. Columns that are missing count as empty."""
    return "".join((row.get(part) or "") if column else part for column, part in mapping.pieces())


def suggest(columns: Sequence[str], rows: Sequence[Lookup[str, str]]) -> Mapping:
    """The best guess from the columns' names and up to twenty rows. `text` is empty if there is no column."""
    if not columns:
        return Mapping(())
    by_name = {name.lower().strip(): name for name in reversed(columns)}
    values = {name: [row.get(name, "") for row in rows if row.get(name)] for name in columns}
    id_column = next((by_name[name] for name in _IDS if name in by_name), None)
    if id_column is None:
        id_column = next((name for name in columns if name.lower().endswith(("_id", "-id"))), None)
    if len(columns) == 1:
        return Mapping((columns[0],))
    text = _text_column([name for name in columns if name != id_column], values, by_name)
    if text is None:
        return Mapping((), id=id_column)
    template = None
    chosen: tuple[str, ...] = (text,)
    title = next((by_name[name] for name in _TITLES if name in by_name), None)
    if title is not None and title != text and text.lower() in _BODIES:
        chosen, template = (title, text), "{" + title + "}" + _JOINT + "{" + text + "}"
    taken = {*chosen, id_column}
    domain = next((by_name[name] for name in _DOMAINS if name in by_name and by_name[name] not in taken), None)
    gold: dict[str, str] = {}
    for name in columns:
        if name in taken or name == domain or not _few_short(values[name]):
            continue
        lower = name.lower()
        if lower.startswith("gold_") and len(lower) > 5:
            gold[name[5:]] = name
        elif lower.endswith("_gold") and len(lower) > 5:
            gold[name[:-5]] = name
        elif lower in _GOLD or lower.endswith(("_label", "_needed")):
            gold[name] = name
    return Mapping(chosen, template, id_column, domain, gold)


def _text_column(columns: list[str], values: dict[str, list[str]], by_name: dict[str, str]) -> str | None:
    """The likeliest column, None when every column with values holds nothing but numbers and signs."""
    possible = [name for name in columns if not values[name] or any(map(_has_letters, values[name]))]
    named = [by_name[name] for name in _TEXT if name in by_name and by_name[name] in possible]
    if named:
        return named[0]
    return max(possible, key=lambda name: sum(map(len, values[name])) / max(1, len(values[name])), default=None)


def _has_letters(value: str) -> bool:
    return re.search(r"[^\W\d_]", value) is not None


def _few_short(values: Sequence[str]) -> bool:
    if not values:
        return True
    return len(set(values)) <= max(8, len(values) // 2) and max(map(len, values)) <= 60
