"""Long texts made to fit: the beginning, the end, and of what lies between the sentences that say most."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from typing import NamedTuple

from engine.text.alignment import Aligned, Edit, edited

GAP = " […] "
SHARE = 0.3  # of the room for the beginning, and as much for the end
_WORDS = re.compile(r"\w+")
_SENTENCE = re.compile(r"[.!?…。！？؟।]+[\"'”’)\]]*\s+|[。！？]|\n\s*")
_JOINER = "\u200d"


class Sentence(NamedTuple):
    """Characters [start, end) of a text; about so many tokens."""

    start: int
    end: int
    tokens: int


def tokens(text: str) -> int:
    """About how many tokens a model makes of a text: a quarter of its bytes, and at least one for each word.

    A rule of thumb for English with the tokenizers of today; bytes instead of characters because other scripts
    take more tokens for each character. Never falls when a text grows.
    """
    return max(math.ceil(len(text.encode("utf-8", "surrogatepass")) / 4), len(text.split()))


def compress(text: Aligned, room: int) -> Aligned:
    """The text in about `room` tokens (at least 1), by leaving out sentences; where, a gap says so.

    The beginning and the end stay. Between them stay the sentences with the most rare words of this text: the sum
    of ln(sentences / sentences with the word) over a sentence's words, by the root of its length. A sentence that
    has no room at either end is cut between words, or between characters as people see them.
    """
    whole = text.text
    if tokens(whole) <= room:
        return text
    kept = _chosen(whole, room)
    edits: list[Edit] = []
    done = 0
    for start, end in kept:
        if start > done:
            seam = len(whole[:done].rstrip())
            edits.append((seam, start, GAP if seam else ""))
        done = end
    if done < len(whole):
        edits.append((done, len(whole), ""))
    return edited(text, edits)


def _chosen(whole: str, room: int) -> list[tuple[int, int]]:
    """The spans that stay, in order and apart from each other."""
    gap = tokens(GAP)
    if room < 8 * gap:
        return [(0, _longest(whole, 0, len(whole), room))]
    parts = sentences(whole)
    share = int(room * SHARE)
    first, opening = _fill(parts, share)
    last, closing = _fill(parts[first:][::-1], share)
    last = len(parts) - last
    spans = [(0, parts[first - 1].end)] if first else []
    if not first:  # the first sentence alone is too long
        opening_end = _longest(whole, 0, parts[0].end, share)
        spans, opening, first = [(0, opening_end)], tokens(whole[:opening_end]), 1
    ending = [(parts[last].start, len(whole))] if last < len(parts) else []
    if not ending:
        start = _shortest(whole, max(spans[0][1], parts[-1].start), len(whole), share)
        ending, closing, last = [(start, len(whole))], tokens(whole[start:]), len(parts) - 1
    left = room - opening - closing - gap
    spans += _middle(whole, parts[first:last], left, gap)
    return _merged([*spans, *ending])


def _middle(whole: str, parts: list[Sentence], left: int, gap: int) -> list[tuple[int, int]]:
    words = [frozenset(word.lower() for word in _WORDS.findall(whole, part.start, part.end)) for part in parts]
    frequency = Counter(word for those in words for word in those)
    rarity = {word: math.log(len(parts) / count) for word, count in frequency.items()}
    score = [
        sum(rarity[word] for word in sorted(those)) / math.sqrt(part.tokens)
        for those, part in zip(words, parts, strict=True)
    ]
    chosen = []
    for place in sorted(range(len(parts)), key=lambda place: (-score[place], place)):
        cost = parts[place].tokens + gap
        if cost <= left:
            chosen.append(place)
            left -= cost
    return [(parts[place].start, parts[place].end) for place in sorted(chosen)]


def sentences(text: str) -> list[Sentence]:
    """The sentences and lines of a text with the white space after them; all characters belong to one."""
    ends = [match.end() for match in _SENTENCE.finditer(text) if _between(text, match.end())]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    spans = [(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True) if start < end]
    return [Sentence(start, end, tokens(text[start:end])) for start, end in spans]


def _fill(parts: list[Sentence], room: int) -> tuple[int, int]:
    """How many of the first parts have room together, and their tokens."""
    used = 0
    for number, part in enumerate(parts):
        if used + part.tokens > room:
            return number, used
        used += part.tokens
    return len(parts), used


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _longest(text: str, start: int, end: int, room: int) -> int:
    """Where to stop after `start`, so that about `room` tokens stay: between words if that is near."""
    low, high = start, end
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokens(text[start:middle]) <= room else (low, middle - 1)
    space = text.rfind(" ", start, low)
    if low < end and space > start + (low - start) // 2:
        return space
    return boundary(text, low, start)


def _shortest(text: str, start: int, end: int, room: int) -> int:
    """Where to begin, so that about `room` tokens stay before `end`."""
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if tokens(text[middle:end]) <= room else (middle + 1, high)
    space = text.find(" ", low, end)
    place = space + 1 if low > start and 0 <= space < low + (end - low) // 2 else low
    while place < end and not _between(text, place):
        place += 1
    return place


def boundary(text: str, place: int, lowest: int = 0) -> int:
    """The last place up to `place` that splits no character as people see it; `lowest` where there is none."""
    while place > lowest and not _between(text, place):
        place -= 1
    return place


def _between(text: str, place: int) -> bool:
    """Whether the characters before and at `place` belong to different signs, after the rules of UAX #29 that
    matter here: line ends, marks, joiners, selectors, skin tones, tags, flags."""
    if not 0 < place < len(text):
        return True
    before, after = text[place - 1], text[place]
    if before == "\r" and after == "\n":
        return False
    if (
        after == _JOINER
        or (before == _JOINER and not after.isspace())
        or unicodedata.category(after) in ("Mn", "Me", "Mc")
    ):
        return False
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return False
    if _flag(before) and _flag(after):
        run = place
        while run > 0 and _flag(text[run - 1]):
            run -= 1
        return (place - run) % 2 == 0
    return True


def _flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
