from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.alignment import Aligned, Edit, edited, unchanged
from engine.text.preparing import PreparedText
from tests.unit.text.texts import texts


def check(text: Aligned | PreparedText) -> None:
    """The laws of every alignment."""
    alignment = text.alignment
    assert alignment.length == len(text.text)
    pieces = alignment.pieces()
    assert [piece.at for piece in pieces] == [0, *(piece.to for piece in pieces)][: len(pieces)]
    assert not pieces or pieces[-1].to == len(text.text)
    last = (0, 0)
    for place in range(len(text.text)):
        start, end = alignment.span(place, place + 1)
        assert 0 <= start <= end <= len(text.raw)
        assert last[0] <= start
        assert last[1] <= end
        last = (start, end)


def copied(text: Aligned | PreparedText) -> None:
    """What was copied is exactly what stands in the raw text, and each character leads to itself."""
    for at, to, start, end, each in text.alignment.pieces():
        if each:
            assert text.raw[start:end] == text.text[at:to]
            assert text.alignment.span(at, to) == (start, end)
            for offset in range(to - at):
                assert text.alignment.span(at + offset, at + offset + 1) == (start + offset, start + offset + 1)


@st.composite
def edits_of(draw: st.DrawFn, length: int) -> list[Edit]:
    places = sorted(draw(st.lists(st.integers(0, length), max_size=8)))
    places = places[: len(places) // 2 * 2]
    return [
        (start, end, draw(st.sampled_from(["", "x", "naïve 👋🏽", "two words"])))
        for start, end in zip(places[::2], places[1::2], strict=True)
    ]


@given(texts, st.data())
def test_edits_upon_edits_lead_back_to_the_raw_text(raw: str, data: st.DataObject) -> None:
    text = unchanged(raw)
    expected = raw
    for _ in range(3):
        edits = data.draw(edits_of(len(text.text)))
        text = edited(text, edits)
        for start, end, words in reversed(edits):
            expected = expected[:start] + words + expected[end:]
        assert text.raw == raw
        assert text.text == expected
        check(text)
        copied(text)


def test_a_replacement_stands_for_what_it_replaced() -> None:
    text = edited(unchanged("go imo now"), [(3, 6, "in my opinion")])
    assert text.text == "go in my opinion now"
    assert text.alignment.span(3, 5) == text.alignment.span(15, 16) == (3, 6)
    assert text.alignment.span(17, 20) == (7, 10)
    assert text.alignment.span(0, 20) == (0, 10)


def test_nothing_was_asked_for() -> None:
    text = unchanged("abc")
    assert edited(text, []) is text
    with pytest.raises(IndexError):
        text.alignment.span(1, 1)
    with pytest.raises(IndexError):
        text.alignment.span(2, 4)
    with pytest.raises(ValueError, match="overlap"):
        edited(text, [(0, 2, "x"), (1, 3, "y")])
