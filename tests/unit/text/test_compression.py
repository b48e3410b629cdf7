from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.text.alignment import unchanged
from engine.text.compression import GAP, boundary, compress, sentences, tokens
from tests.unit.text.test_alignment import check, copied
from tests.unit.text.texts import texts

LONG = "The parcel was late. " + "We waited and waited. " * 20 + "Then the zebra ate my passport. "
LONG += "We waited and waited. " * 20 + "I want my money back."


@given(st.lists(texts, max_size=12).map(" ".join), st.integers(1, 60))
def test_it_fits_and_loses_nothing_but_what_it_leaves_out(raw: str, room: int) -> None:
    found = compress(unchanged(raw), room)
    assert tokens(found.text) <= room
    check(found)
    copied(found)
    kept = [(at, to, start, end) for at, to, start, end, each in found.alignment.pieces() if each]
    assert found.text.replace(GAP, "") == "".join(raw[start:end] for _, _, start, end in kept) or GAP in raw
    if tokens(raw) <= room:
        assert found.text == raw
    for _, _, start, end in kept:
        assert boundary(raw, start) == start
        assert boundary(raw, end) == end


def test_beginning_end_and_what_is_rare_between_stay_in_order() -> None:
    found = compress(unchanged(LONG), 60).text
    assert tokens(found) <= 60
    assert found.startswith("The parcel was late. ")
    assert found.endswith("I want my money back.")
    assert "zebra ate my passport." in found
    assert 1 <= found.count(GAP) <= 3
    assert "  " not in found
    whole = {LONG[part.start : part.end].strip() for part in sentences(LONG)}
    for piece in found.split(GAP):
        assert {piece[part.start : part.end].strip() for part in sentences(piece)} <= whole


def test_without_sentences_words_stay_whole() -> None:
    raw = " ".join(f"word{number}" for number in range(400))
    found = compress(unchanged(raw), 50).text
    first, last = found.split(GAP)
    assert raw.startswith(first + " ")
    assert raw.endswith(" " + last)
    assert 30 <= tokens(found) <= 50


def test_a_family_is_never_torn_apart() -> None:
    family = "👨‍👩‍👧‍👦"
    for room in range(1, 60):
        found = compress(unchanged(family * 50), room).text
        assert found.replace(GAP, "").replace(family, "") == ""


def test_tokens_never_fall_when_a_text_grows() -> None:
    assert tokens("") == 0
    assert tokens("a b c d") == 4
    assert tokens("internationalisation") == 5
    assert tokens("日本語") == 3
    assert all(tokens(LONG[:n]) <= tokens(LONG[: n + 1]) for n in range(len(LONG)))
