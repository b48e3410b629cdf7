"""Conversations kept as JSON: recognised, written as turns, and what their structure says in one line.

Known are lists of messages as ShareGPT has them, `[{"from": "human", "value": "Hi"}]`, and as the APIs of OpenAI
take them, `[{"role": "user", "content": "Hi"}]`, by themselves or under "messages" or "conversations".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.text.alignment import Aligned, Edit, edited

LONGEST = 5_000_000  # characters that are read as JSON
ROLES = {
    "human": "User",
    "user": "User",
    "gpt": "Assistant",
    "chatgpt": "Assistant",
    "assistant": "Assistant",
    "bot": "Assistant",
    "model": "Assistant",
    "system": "System",
    "developer": "System",
    "tool": "Tool",
    "function": "Tool",
    "observation": "Tool",
    "function_call": "Assistant",
}
_WRAPPERS = ("messages", "conversations", "conversation")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
_ESCAPE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.")
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)", re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Turn(NamedTuple):
    """One message: who says it, its text, and the names of the tools it calls.

    `spans` are the characters of the JSON that hold the text, between quotation marks; mostly one span.
    """

    role: str
    text: str
    calls: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] = ()


class Conversation(NamedTuple):
    """What was recognised."""

    turns: tuple[Turn, ...]

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of its fenced blocks of code, in order; "unnamed" where a fence names none."""
        return tuple(dict.fromkeys(name for turn in self.turns for name in _languages(turn.text)))

    @property
    def calls(self) -> dict[str, int]:
        """How often each tool is called."""
        return Counter(name for turn in self.turns for name in turn.calls)

    def signals(self) -> str:
        """One line: turns and words of each role, languages of code, tools."""
        count = Counter(turn.role for turn in self.turns)
        words: Counter[str] = Counter()
        for turn in self.turns:
            words[turn.role] += len(turn.text.split())
        roles = ", ".join(f"{role} {number} ({_many(words[role], 'word')})" for role, number in count.items())
        line = f"Conversation of {_many(len(self.turns), 'turn')}: {roles}."
        if self.languages:
            line += f" Code: {', '.join(self.languages)}."
        if self.calls:
            line += " Tools: " + ", ".join(f"{name} ×{number}" for name, number in self.calls.items()) + "."
        return line


def recognised(text: str) -> Conversation | None:
    """The conversation that a text is, or None."""
    start = text.lstrip()[:1]
    if start not in ("[", "{") or len(text) > LONGEST or ('"role"' not in text and '"from"' not in text):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    place: tuple[str, ...] = ()
    if isinstance(data, dict):
        place = next(((name,) for name in _WRAPPERS if isinstance(data.get(name), list)), ())
        data = data[place[0]] if place else None
    if not isinstance(data, list) or not data:
        return None
    contents = _contents(text, place)
    turns = []
    for number, message in enumerate(data):
        turn = _turn(message)
        if turn is None:
            return None
        turn = turn._replace(spans=tuple(sorted(contents.get(number, ()))))
        # JSON can be written in ways that hide where a text lies, such as a key that is there twice.
        if "\n".join(_unescaped(text[start:end]) for start, end in turn.spans) != turn.text:
            return None
        turns.append(turn)
    spans = [span for turn in turns for span in turn.spans]
    return Conversation(tuple(turns)) if spans == sorted(spans) else None


def as_turns(text: Aligned) -> Aligned:
    """A text that is a conversation as "User: …" and "Assistant: …", after the line of signals.

    A text that is none stays. Each character leads to where it stands in the JSON, escapes such as "\\n" included.
    """
    raw = text.text
    found = recognised(raw)
    if found is None:
        return text
    edits: list[Edit] = []
    words = found.signals()
    done = 0
    for turn in found.turns:
        words += f"\n{turn.role}: "
        for place, (start, end) in enumerate(turn.spans):
            edits.append((done, start, words + ("\n" if place else "")))
            edits += [
                (match.start(), match.end(), _unescaped(match.group()))
                for match in _ESCAPE.finditer(raw, start, end)
            ]
            words, done = "", end
        if turn.calls:
            words += (" " if turn.spans else "") + f"[calls {', '.join(turn.calls)}]"
    edits.append((done, len(raw), words))
    return edited(text, edits)


def _turn(message: Any) -> Turn | None:
    if not isinstance(message, dict):
        return None
    role, content = (
        (message.get("role"), message.get("content"))
        if "role" in message
        else (message.get("from"), message.get("value"))
    )
    if not isinstance(role, str) or not role.strip():
        return None
    calls: list[str] = []
    for call in message.get("tool_calls") or ():
        named = call.get("function", call) if isinstance(call, dict) else None
        name = named.get("name") if isinstance(named, dict) else None
        calls.append(_clean(name) if isinstance(name, str) and name.strip() else "a tool")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        return None
    known = ROLES.get(role.strip().lower()) or _clean(role).capitalize()
    if role.strip().lower() == "function_call":
        calls.append("a tool")
    return Turn(known, _SURROGATE.sub("\ufffd", content), tuple(calls))


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _clean(name: str) -> str:
    """A name from outside, short and on one line."""
    return " ".join(_SURROGATE.sub("", name).split())[:40]


def _contents(raw: str, place: tuple[str, ...]) -> dict[int, list[tuple[int, int]]]:
    """Where the texts of each message lie between their quotation marks, by the number of the message.

    `raw` is JSON that was parsed before; its messages lie at the top, or under the name that is `place`.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    depth = len(place)
    for path, start, end in _strings(raw):
        if path[:depth] != place or len(path) < depth + 2:
            continue
        number, inner = path[depth], path[depth + 1 :]
        is_text = inner in (("content",), ("value",)) or (inner[0], *inner[2:]) == ("content", "text")
        if isinstance(number, int) and is_text:
            found.setdefault(number, []).append((start + 1, end - 1))
    return found


def _strings(raw: str) -> Iterator[tuple[tuple[str | int, ...], int, int]]:
    """Each string value of valid JSON: its path of keys and numbers, where it begins and ends."""
    path: list[str | int] = []
    lists: list[bool] = []
    key = False  # whether a string now would be a key
    for match in _TOKEN.finditer(raw):
        sign = match.group()
        if sign in "{[":
            lists.append(sign == "[")
            path.append(0 if sign == "[" else "")
            key = sign == "{"
        elif sign in "}]":
            lists.pop()
            path.pop()
        elif sign == ",":
            last = path[-1]
            if isinstance(last, int):
                path[-1] = last + 1
            key = not lists[-1]
        elif sign == ":":
            key = False
        elif sign[0] == '"':
            if key:
                path[-1] = str(json.loads(sign))
            else:
                yield tuple(path), match.start(), match.end()


def _unescaped(written: str) -> str:
    return _SURROGATE.sub("\ufffd", str(json.loads(f'"{written}"', strict=False)))


def _languages(text: str) -> list[str]:
    found, fence = [], ""
    for match in _FENCE.finditer(text):
        if not fence:
            fence = match.group(1)
            found.append(match.group(2).lower()[:20] or "unnamed")
        elif match.group(1).startswith(fence):
            fence = ""
    return found
