from __future__ import annotations

import sys
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.text import steps
from engine.text.alignment import unchanged
from engine.text.dictionary import Dictionary, abbreviations, contractions, entries
from engine.text.preparing import prepare
from tests.unit.text.test_alignment import check, copied
from tests.unit.text.texts import conversations, texts
from workspace.facts import Preparation


def prepared(text: str, **switches: object) -> str:
    return prepare([text], Preparation(**switches))[0].text  # type: ignore[arg-type]


SWITCHES = st.builds(
    Preparation,
    whitespace=st.booleans(),
    lowercase=st.booleans(),
    contractions=st.booleans(),
    slang=st.booleans(),
    expansions=st.sampled_from([{}, {"ACME": "Acme Corporation", "w/o": "not with", "s.o.s.": "help"}]),
    emoji=st.booleans(),
    conversation=st.booleans(),
    max_tokens=st.sampled_from([0, 0, 5, 20]),
)


@given(st.one_of(texts, conversations), SWITCHES)
@settings(max_examples=400)
def test_any_steps_lead_back_to_the_raw_text(raw: str, switches: Preparation) -> None:
    found = prepare([raw], switches)[0]
    assert found.raw == raw
    check(found)
    if not switches.lowercase:
        copied(found)
    if switches == Preparation(expansions=switches.expansions):
        assert switches.expansions or found.text == raw


@given(texts)
def test_lower_case_is_lower_case_in_place(raw: str) -> None:
    found = prepare([raw], Preparation(lowercase=True))[0]
    assert found.text == raw.replace("İ", "i̇").lower()
    for place, character in enumerate(found.text):
        start, end = found.alignment.span(place, place + 1)
        assert raw[start:end] == character or character in raw[start:end].lower() + "ς"


def test_only_one_character_grows_in_lower_case() -> None:
    grown = [chr(code) for code in range(sys.maxunicode + 1) if len(chr(code).lower()) != 1]
    assert grown == ["İ"]


@given(texts)
def test_white_space_is_single_and_words_stay(raw: str) -> None:
    found = prepared(raw, whitespace=True)
    assert found.split() == raw.split()
    assert all(not (a.isspace() and b.isspace()) for a, b in pairwise(found))
    assert found == found.strip()
    assert prepared(found, whitespace=True) == found


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a \t b", "a b"),
        ("a\r\n\r\nb", "a\nb"),
        (" a ", "a"),
        ("a\xa0b", "a b"),
        ("a\u2028b", "a\nb"),
        ("a\nb", "a\nb"),
        (" \n ", ""),
        ("👩\u200d💻", "👩\u200d💻"),
    ],
)
def test_white_space(raw: str, expected: str) -> None:
    assert prepared(raw, whitespace=True) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("I don't", "I do not"),
        ("Don’t go", "Do not go"),
        ("DON'T", "DO NOT"),
        ("I'M", "I AM"),
        ("it's John's", "it is John's"),
        ("can't've", "cannot have"),
        ("dont", "do not"),
        ("wont", "wont"),
    ],
)
def test_contractions(raw: str, expected: str) -> None:
    assert prepared(raw, contractions=True) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("IMO no", "in my opinion no"),
        ("Imo no", "In my opinion no"),
        ("thx U", "thanks You"),
        ("w/o it", "without it"),
        ("b/c.", "because."),
        ("(lol)", "(laughing out loud)"),
        ("lol!!!", "laughing out loud!!!"),
        ("U.S. u-turn R&B", "U.S. u-turn R&B"),
        ("@lol #lol lol.com http://x.y/lol lol@imo.com", "@lol #lol lol.com http://x.y/lol lol@imo.com"),
        ("lollipop slol", "lollipop slol"),
        ("lol 👍 imo", "laughing out loud 👍 in my opinion"),
    ],
)
def test_abbreviations(raw: str, expected: str) -> None:
    assert prepared(raw, slang=True) == expected


def test_what_people_add_wins_and_needs_no_other() -> None:
    own = {"LOL": "lots of love", "a.s.a.p.": "at once", "no can do": "I cannot", "c++": "C plus plus"}
    raw = "lol A.S.A.P. no can do c++, imo"
    assert prepared(raw, expansions=own) == "lots of love at once I cannot C plus plus, imo"
    assert prepared(raw, expansions=own, slang=True).endswith("in my opinion")
    assert prepared("x++ is c", expansions={"": "never", "c++": "C"}) == "x++ is c"


def test_what_comes_along_means_one_thing() -> None:
    every = entries(("slang", "contraction"))
    assert len(every) > 450
    assert len(every) == len(entries(("slang",))) + len(entries(("contraction",)))
    for written, meaning in every.items():
        assert written == written.lower().strip()
        assert meaning == " ".join(meaning.split())
        assert meaning.lower() != written
        assert Dictionary(every).edits(written) == [(0, len(written), meaning)]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("I❤️you", "I red heart you"),
        ("ok 👩‍💻.", "ok woman technologist."),
        ("😂😂", "face with tears of joy face with tears of joy"),
        ("😀\u200d😀", "grinning face grinning face"),
        ("hi 👋🏽", "hi waving hand medium skin tone"),
        ("🇩🇪!", "Germany!"),
        ("5 #1 * 1️⃣", "5 #1 * keycap 1"),
        ("plain naïve", "plain naïve"),
    ],
)
def test_emoji(raw: str, expected: str) -> None:
    assert prepared(raw, emoji=True) == expected


def test_an_emoji_of_many_code_points_is_one_span() -> None:
    found = prepare(["a 👩‍💻 b"], Preparation(emoji=True))[0]
    start = found.text.index("woman")
    assert found.alignment.span(start, start + 1) == found.alignment.span(start + 8, start + 9) == (2, 5)
    assert found.raw[2:5] == "👩‍💻"


def test_steps_are_pure_and_leave_alone_what_has_nothing_for_them() -> None:
    text = unchanged("plain words only")
    untouched = (
        steps.whitespace,
        steps.emoji_to_words,
        lambda t: steps.spelled_out(t, contractions()),
        lambda t: steps.spelled_out(t, abbreviations(True, {})),
    )
    assert all(step(text) is text for step in untouched)


def test_case_comes_last() -> None:
    for slang, emoji in product((False, True), repeat=2):
        found = prepared("IMO GREAT 🇩🇪", slang=slang, emoji=emoji, lowercase=True)
        assert found == found.lower()
    assert found == "in my opinion great germany"
