"""A text that was changed, and for each of its characters the place in the raw text it stands for.

Characters are code points, as Python counts them. An alignment is a row of pieces: one that was copied leads each
character to a place of its own, one that was put in leads all of its characters to the same span of the raw text.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

Edit = tuple[int, int, str]  # characters [start, end) of a text become this


class Piece(NamedTuple):
    """Prepared characters [at, to) stand for raw characters [start, end), one by one if `each`."""

    at: int
    to: int
    start: int
    end: int
    each: bool


class Alignment:
    """The pieces in order, in four whole numbers each. Immutable."""

    __slots__ = ("_at", "_each", "_end", "_start", "length")

    def __init__(self, pieces: Iterable[Piece], length: int) -> None:
        chosen = list(pieces)
        self.length = length  # of the prepared text
        self._at = array("q", [piece.at for piece in chosen])
        self._start = array("q", [piece.start for piece in chosen])
        self._end = array("q", [piece.end for piece in chosen])
        self._each = bytes(piece.each for piece in chosen)

    def pieces(self) -> list[Piece]:
        """All of them, in order and without gaps in the prepared text."""
        ends = [*self._at[1:], self.length] if self._at else []
        found = zip(self._at, ends, self._start, self._end, map(bool, self._each), strict=True)
        return [Piece(*values) for values in found]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The raw characters that the prepared characters [start, end) stand for, as a span [start, end).

        Spans never run backwards: those of later characters neither start nor end before. Raises IndexError when
        the characters are not there, or none are asked for.
        """
        if not 0 <= start < end <= self.length:
            raise IndexError(f"characters {start} to {end} of {self.length}")
        first, last = bisect_right(self._at, start) - 1, bisect_right(self._at, end - 1) - 1
        begin = self._start[first] + (start - self._at[first] if self._each[first] else 0)
        close = self._start[last] + end - self._at[last] if self._each[last] else self._end[last]
        return begin, close

    def slices(self, start: int, end: int) -> list[Piece]:
        """The pieces of the prepared characters [start, end), cut at both ends; places are of the whole text."""
        if start >= end:
            return []
        found = []
        for number in range(bisect_right(self._at, start) - 1, bisect_right(self._at, end - 1)):
            at = self._at[number]
            to = self._at[number + 1] if number + 1 < len(self._at) else self.length
            low, high = max(at, start), min(to, end)
            if self._each[number]:
                raw = self._start[number]
                found.append(Piece(low, high, raw + low - at, raw + high - at, True))
            else:
                found.append(Piece(low, high, self._start[number], self._end[number], False))
        return found


class Aligned(NamedTuple):
    """A prepared text with what leads it back to `raw`."""

    raw: str
    text: str
    alignment: Alignment


def unchanged(raw: str) -> Aligned:
    """A text nothing was done to yet."""
    return Aligned(raw, raw, Alignment([Piece(0, len(raw), 0, len(raw), True)] if raw else [], len(raw)))


def edited(before: Aligned, edits: Iterable[Edit]) -> Aligned:
    """The text with these edits, aligned to the same raw text.

    Edits are in order and do not overlap. What an edit puts in stands for the raw text of what it replaces; where
    it replaces nothing, for what lies between its neighbours, mostly an empty span.
    """
    parts: list[str] = []
    pieces: list[Piece] = []
    done = at = 0  # characters of `before` that are dealt with; characters of the new text
    old = before.alignment
    for start, end, words in edits:
        if start < done:
            raise ValueError("edits overlap or are out of order")
        pieces += [_moved(piece, at - done) for piece in old.slices(done, start)]
        parts.append(before.text[done:start])
        at += start - done
        done = end
        if words:
            parts.append(words)
            pieces.append(Piece(at, at + len(words), *_replaced(before, start, end), False))
            at += len(words)
    if not parts and not done:
        return before
    pieces += [_moved(piece, at - done) for piece in old.slices(done, old.length)]
    parts.append(before.text[done:])
    text = "".join(parts)
    return Aligned(before.raw, text, Alignment(_joined(pieces), len(text)))


def _moved(piece: Piece, by: int) -> Piece:
    return Piece(piece.at + by, piece.to + by, piece.start, piece.end, piece.each)


def _replaced(before: Aligned, start: int, end: int) -> tuple[int, int]:
    alignment = before.alignment
    if start < end:
        return alignment.span(start, end)
    left = alignment.span(start - 1, start)[1] if start else 0
    right = alignment.span(start, start + 1)[0] if start < alignment.length else len(before.raw)
    return min(left, right), max(left, right)  # two characters of one replacement share their span


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours that continue each other become one, so that a chain of edits does not grow without end."""
    found: list[Piece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if last and last.each and piece.each and last.end == piece.start:
            found[-1] = Piece(last.at, piece.to, last.start, piece.end, True)
        elif last and not last.each and not piece.each and (last.start, last.end) == (piece.start, piece.end):
            found[-1] = Piece(last.at, piece.to, last.start, last.end, False)
        else:
            found.append(piece)
    return found
