"""What can be done to a text: each step is a function from an aligned text to an aligned text."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from engine.text.alignment import Aligned, Edit, edited
from engine.text.dictionary import Dictionary

_SPACE = re.compile(r"\s{2,}|[^\S \n]|\A\s|\s\Z")  # where there is something to do
_JOINER = "\u200d"
_KEYCAP = "\u20e3"  # after a figure
_DOTTED = "İ"  # the one character whose lower case is two


def whitespace(text: Aligned) -> Aligned:
    """Runs of white space become one space, or one line break where there was one; none at the ends."""
    edits: list[Edit] = []
    length = len(text.text)
    for match in _SPACE.finditer(text.text):
        start, end = match.span()
        run = match.group()
        kept = "" if start == 0 or end == length else "\n" if len(run.splitlines()[0]) < len(run) else " "
        if run != kept:
            edits.append((start, end, kept))
    return edited(text, edits) if edits else text


def lowercase(text: Aligned) -> Aligned:
    """Everything in lower case, each character in its place."""
    if _DOTTED in text.text:
        lower = _DOTTED.lower()
        edits = [(match.start(), match.end(), lower) for match in re.finditer(_DOTTED, text.text)]
        text = edited(text, edits)
    return text._replace(text=text.text.lower())


def spelled_out(text: Aligned, known: Dictionary) -> Aligned:
    """What the dictionary has, as it means it: "imo" becomes "in my opinion", "don't" becomes "do not"."""
    edits = known.edits(text.text)
    return edited(text, edits) if edits else text


def emoji_to_words(text: Aligned) -> Aligned:
    """An emoji becomes its name, with a space where it would touch a word or another emoji."""
    if text.text.isascii() or not _first_characters().search(text.text):
        return text
    import emoji

    edits: list[Edit] = []
    for token in emoji.analyze(text.text, join_emoji=False):
        match = token.value
        if not isinstance(match, emoji.EmojiMatch) or not match.data:
            continue
        start, end = match.start, match.end
        if text.text[end : end + 1] == _JOINER:  # to another emoji, in a way that has no name of its own
            end += 1
        words = str(match.data["en"]).strip(":").replace("_", " ")
        if (edits and edits[-1][1] == start) or text.text[start - 1 : start].isalnum():
            words = " " + words
        if text.text[end : end + 1].isalnum():
            words += " "
        edits.append((start, end, words))
    return edited(text, edits) if edits else text


@lru_cache(maxsize=1)
def _first_characters() -> re.Pattern[str]:
    """What an emoji can begin with: far quicker to look for than an emoji."""
    import emoji

    points = sorted({ord(written[0]) for written in emoji.EMOJI_DATA if not written[0].isascii()} | {ord(_KEYCAP)})
    starts = [points[0], *(b for a, b in pairwise(points) if b > a + 1)]
    ends = [*(a for a, b in pairwise(points) if b > a + 1), points[-1]]
    ranges = (f"{re.escape(chr(a))}-{re.escape(chr(b))}" for a, b in zip(starts, ends, strict=True))
    return re.compile(f"[{''.join(ranges)}]")
