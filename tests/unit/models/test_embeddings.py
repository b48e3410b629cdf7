"""Static embeddings: the library's own numbers, whatever the batch, and nothing for nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models import embeddings
from workspace.errors import ModelError

TEXTS = ["I love this phone!", "Où est la gare ?", "👩‍🚀 in space", "x", "The match ended 2:1.\r\nWhat a game"]


def test_they_are_those_of_the_library() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    mine = embeddings.embed(TEXTS)
    assert (root.level, list(root.handlers)) == before
    import wordllama

    model = wordllama.WordLlama.load(disable_download=True, cache_dir=Path(wordllama.__file__).parent)
    root.setLevel(before[0])
    for handler in set(root.handlers) - set(before[1]):
        root.removeHandler(handler)
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, model.embed(TEXTS, norm=True), atol=1e-6)


def test_related_texts_are_nearer() -> None:
    cat, kitten, tax = embeddings.embed(["the cat sleeps", "a kitten naps", "the tax office sent a letter"])
    assert cat @ kitten > cat @ tax


def test_nothing_has_no_direction() -> None:
    assert embeddings.embed([]).shape == (0, embeddings.SIZE)
    found = embeddings.embed(["", "word", ""])
    assert not found[0].any()
    assert not found[2].any()
    assert np.linalg.norm(found[1]) == pytest.approx(1.0, abs=1e-6)


def test_a_long_text_is_read_to_its_bound() -> None:
    long = "word " * (embeddings.MAX_CHARACTERS // 5 + 1)
    first, second = embeddings.embed([long, long + "something else entirely"])
    np.testing.assert_array_equal(first, second)


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(), max_size=40), max_size=12))
def test_a_text_has_the_same_embedding_in_every_company(texts: list[str]) -> None:
    together = embeddings.embed(texts)
    alone = [embeddings.embed([text])[0] for text in texts]
    lengths = np.linalg.norm(together, axis=1)
    assert all(length == pytest.approx(1.0, abs=1e-5) or length == 0 for length in lengths)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_digest_stands_for_version_and_weights() -> None:
    assert len(embeddings.DIGEST) == 32
    assert embeddings.DIGEST == embeddings.DIGEST
    with pytest.raises(AttributeError):
        _ = embeddings.NOTHING


def test_missing_vectors_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings._files.cache_clear()
    monkeypatch.setattr(embeddings, "NAME", "no_such_package_at_all")
    try:
        assert not embeddings.ready()
        with pytest.raises(ModelError, match="missing"):
            embeddings._files()
    finally:
        monkeypatch.undo()
        embeddings._files.cache_clear()
    assert embeddings.ready()
