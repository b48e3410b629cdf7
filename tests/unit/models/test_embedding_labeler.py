"""Labels by likeness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.labeler import EMPTY, TRUNCATED
from engine.models import embeddings
from engine.models.embedding_labeler import EmbeddingLabeler, logprobs_of
from engine.models.opening import open_labeler
from engine.prompt import prompt_for
from tests.unit.models.examples import MENTIONS, ROWS, TOPIC, URGENT, run_of, task_of
from workspace.errors import ModelError
from workspace.facts import ModelSpec
from workspace.kinds import label_of
from workspace.task import Dimension, Label


def test_a_run_is_opened_and_every_kind_answered() -> None:
    task = task_of()
    spec = run_of(task, ModelSpec("embedding", embeddings.NAME, "", embeddings.DIGEST))
    heard: list[int] = []
    labeler = open_labeler(spec)
    answers = labeler.ask(ROWS, heard.append)
    labeler.close()
    assert heard[-1] == len(ROWS) == len(answers)
    topics = [label_of("single", TOPIC.label_names, row[0].logprobs)[0] for row in answers]
    assert topics[:4] == ["sport", "money", "weather", "sport"]
    for row in answers:
        assert sum(np.exp(row[0].logprobs)) == pytest.approx(1.0)
        assert sum(np.exp(row[1].logprobs)) == pytest.approx(1.0)
        assert all(value <= 0 for value in row[2].logprobs)
    assert [answer.warnings for answer in answers[-1]] == [(EMPTY,)] * 3
    assert answers[-1][0].logprobs == pytest.approx((np.log(1 / 3),) * 3)
    assert "logprobs" in labeler.loaded.capabilities


def test_several_labels_apply_to_a_text_that_is_like_several() -> None:
    labeler = EmbeddingLabeler(prompt_for(task_of(MENTIONS)).dimensions)
    (answer,), (other,) = labeler.ask(
        ["dogs and cats eat bread, cheese and fruit", "engine, wheel and brakes of a car"]
    )
    assert label_of("multi", MENTIONS.label_names, answer.logprobs)[0] == "animals|food"
    assert label_of("multi", MENTIONS.label_names, other.logprobs)[0] == "cars"


def test_a_long_row_says_that_its_end_was_not_read() -> None:
    labeler = EmbeddingLabeler(prompt_for(task_of(TOPIC)).dimensions)
    ((answer,),) = labeler.ask(["rain " * embeddings.MAX_CHARACTERS])
    assert answer.warnings == (TRUNCATED,)


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        (Dimension(name="quality", kind="score", question="How good?"), "is a score"),
        (Dimension(name="bare", kind="boolean", question="Is it so?"), "says nothing"),
        (Dimension(name="stars", question="How many?", labels=(Label(name="1"), Label(name="2"))), "says nothing"),
    ],
)
def test_what_likeness_cannot_answer_is_refused_in_words(dimension: Dimension, words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised:
        EmbeddingLabeler(prompt_for(task_of(TOPIC, dimension)).dimensions)
    assert raised.value.advice


def test_reasons_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="no reasons"):
        EmbeddingLabeler(prompt_for(task_of(URGENT), explain=True).dimensions)


near = st.lists(st.floats(-1, 1), min_size=2, max_size=8)


@given(near, st.sampled_from(["single", "boolean", "multi"]))
def test_the_nearer_label_is_never_less_likely(similarities: list[float], kind: str) -> None:
    (found,) = logprobs_of(kind, [similarities])
    assert all(value <= 1e-12 for value in found)
    if kind != "multi":
        assert np.exp(found).sum() == pytest.approx(1.0)
    order = np.argsort(similarities, kind="stable")
    assert all(np.diff(found[order]) >= -1e-9)
