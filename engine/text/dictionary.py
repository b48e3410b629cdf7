"""Abbreviations and contractions, found in one pass over a text however many there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources

from engine.text.alignment import Edit

APOSTROPHES = str.maketrans("’‘ʼ＇", "''''")
_WORD = r"\w+(?:['’‘ʼ＇]\w+)*"
# Not inside an address, a mention, a tag, a path or a word with hyphens: "u-turn", "R&B" and "U.S." stay.
_BEFORE = r"(?<![\w@#$&/\\'’‘ʼ＇-])(?<!\w\.)"
_AFTER = r"(?![\w@&/\\'’‘ʼ＇-]|\.\w)"
_ADDRESS = r"(?:https?://|www\.)\S+|\S+@\S+\.\w+"


class Dictionary:
    """What words mean, whatever their case. Immutable; two kinds of apostrophes are one."""

    def __init__(self, meanings: Mapping[str, str]) -> None:
        self._meanings = {_key(written): meaning for written, meaning in meanings.items() if written.strip()}
        # A word is looked up; what is more than a word ("w/o", "a.s.a.p.", "no can do") is spelled out.
        whole = re.compile(_WORD)
        special = sorted((key for key in self._meanings if not whole.fullmatch(key)), key=len, reverse=True)
        spelled = "|".join(re.escape(key).replace("'", "['’‘ʼ＇]") for key in special)
        words = _WORD + _AFTER
        if special:  # an entry may end in a sign, and then anything but a letter may follow
            words = f"(?:{spelled})(?:(?<=\\w){_AFTER}|(?<!\\w)(?!\\w))|{words}"
        self._pattern = re.compile(f"{_ADDRESS}|(?:{_BEFORE}(?:{words}))", re.IGNORECASE)

    def __len__(self) -> int:
        return len(self._meanings)

    def edits(self, text: str) -> list[Edit]:
        """Each place where something written here stands by itself, and what it means."""
        meanings, found = self._meanings, []
        for match in self._pattern.finditer(text):
            meaning = meanings.get(_key(match.group()))
            if meaning is not None:
                found.append((match.start(), match.end(), _cased(match.group(), meaning)))
        return found


def _key(written: str) -> str:
    return written.translate(APOSTROPHES).lower().strip()


def _cased(written: str, meaning: str) -> str:
    """As it was written: "Don't" and "DON'T" become "Do not" and "DO NOT"; "IMO" is only an abbreviation."""
    if not meaning or not written[0].isupper():
        return meaning
    if written.isupper() and len(written) > 1:
        return meaning.upper() if "'" in written.translate(APOSTROPHES) else meaning
    return meaning[0].upper() + meaning[1:]


@lru_cache(maxsize=1)
def _entries() -> dict[str, dict[str, str]]:
    """By kind, what is written and what it means, of the file that comes along."""
    file = resources.files("engine.text") / "data" / "slang.tsv"
    found: dict[str, dict[str, str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        kind, written, meaning = line.split("\t")
        found.setdefault(kind, {})[written] = meaning
    return found


@lru_cache(maxsize=1)
def contractions() -> Dictionary:
    """English contractions, with their apostrophe or as people write them without."""
    return Dictionary(_entries()["contraction"])


@lru_cache(maxsize=8)
def _slang(bundled: bool, own: tuple[tuple[str, str], ...]) -> Dictionary:
    meanings = dict(_entries()["slang"]) if bundled else {}
    for written, meaning in own:
        meanings[_key(written)] = meaning
    return Dictionary(meanings)


def abbreviations(bundled: bool, own: Mapping[str, str]) -> Dictionary:
    """The abbreviations that come along, if `bundled`, and those of one's own, which win."""
    return _slang(bundled, tuple(own.items()))


def entries(kinds: Iterable[str]) -> dict[str, str]:
    """What is written and what it means, of the kinds "slang" and "contraction"."""
    return {written: meaning for kind in kinds for written, meaning in _entries()[kind].items()}
