"""Several questions asked of one row: kinds, phrasings, earlier answers, reasons; with the real embedded model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from engine.models.llama_cpp import LlamaScorer
from engine.prompt import prompt_for
from tests.unit.engine.conftest import spec
from tests.unit.engine.test_scorer import NEAR, ROWS, furthest, refusing
from workspace.facts import DimensionSpec
from workspace.kinds import label_of, score_of
from workspace.task import Task

Opened = Callable[..., LlamaScorer]

TASK = Task.model_validate(
    {
        "name": "messages",
        "dimensions": [
            {"name": "feeling", "question": "What feeling?", "labels": ["positive", "negative", "neutral"]},
            {"name": "question", "kind": "boolean", "question": "Is it a question?"},
            {"name": "topics", "kind": "multi", "question": "Which topics?", "labels": ["travel", "love", "work"]},
            {"name": "strength", "kind": "score", "question": "How strong is the feeling?"},
            {
                "name": "reply",
                "question": "Which reply?",
                "labels": ["thanks", "apology", "none"],
                "after": ["feeling", "strength"],
            },
        ],
    }
)
ALL = prompt_for(TASK).dimensions


def changed(dimension: DimensionSpec, **settings: object) -> DimensionSpec:
    return msgspec.structs.replace(dimension, **settings)


def test_every_kind_is_answered_together(opened: Opened) -> None:
    answers = opened(*ALL).ask(ROWS)
    for row in answers:
        assert [len(answer.logprobs) for answer in row] == [3, 2, 3, 11, 3]
        for asked, answer in zip(ALL, row, strict=True):
            assert not answer.error
            total = sum(map(math.exp, answer.logprobs))
            if asked.kind == "multi":
                assert all(0 <= math.exp(value) <= 1 for value in answer.logprobs)
            else:
                assert math.isclose(total, 1.0, abs_tol=1e-9)
        mean, spread = score_of(ALL[3].labels, row[3].logprobs)
        assert 0 <= mean <= 10
        assert 0 <= spread <= 5


def test_forked_answers_are_those_of_asking_one_by_one(opened: Opened) -> None:
    """What is shared, and what is computed at the same time, changes nothing."""
    independent = [asked for asked in ALL if not asked.after]
    together = opened(*independent)
    answers = together.ask(ROWS)
    for place, asked in enumerate(independent):
        alone = opened(asked).ask(ROWS)
        assert furthest([row[place] for row in answers], [row[0] for row in alone]) < NEAR


def test_branches_computed_one_after_the_other_say_the_same(opened: Opened) -> None:
    scorer = opened(*ALL[:4])
    at_once = scorer.ask(ROWS)
    scorer._model.branches_at_once = False
    in_turn = scorer.ask(ROWS)
    for some, others in zip(at_once, in_turn, strict=True):
        assert furthest(some, others) < NEAR


def test_order_duplicates_and_company_of_rows_do_not_matter(opened: Opened) -> None:
    scorer = opened(*ALL[:4])
    rows = [*ROWS, "Where is my train?", ROWS[2]]
    answers = scorer.ask(rows)
    backwards = scorer.ask(rows[::-1])[::-1]
    assert answers[2] == answers[-1]
    for some, others in zip(answers, backwards, strict=True):
        assert furthest(some, others) < NEAR


def test_a_full_cache_in_the_middle_of_a_row_changes_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = opened(*ALL)
    expected = scorer.ask(ROWS)
    refused = refusing(scorer, monkeypatch)
    answers = scorer.ask(ROWS)
    assert refused
    for some, others in zip(answers, expected, strict=True):
        assert furthest(some, others) < NEAR


def test_nothing_is_held_after_the_rows_are_done(opened: Opened) -> None:
    """Many more rows than cells: each gives back what it held, also when rows are long."""
    scorer = opened(*ALL[:3])
    rows = [f"message {number} " + "and more " * (number % 40) for number in range(24)]
    assert all(not answer.error for row in scorer.ask(rows) for answer in row)
    prefix = len(scorer._questions.groups[0].prefix)
    tokens = np.ones(min(scorer._context.n_batch, scorer._context.n_ctx - prefix), dtype=np.int32)
    left = scorer._context.n_ctx - prefix
    for start in range(0, left - len(tokens) + 1, len(tokens)):
        scorer._context.decode([(1, prefix + start, tokens, False)])  # raises NoRoom if any cell were still held


def test_more_questions_than_sequences_are_asked_in_turn(opened: Opened) -> None:
    labels = tuple(f"subject {number}" for number in range(300))
    scorer = opened(spec(*labels, kind="multi", system="Which subjects?"))
    (answer,) = scorer.ask(ROWS[:1])[0]
    assert len(answer.logprobs) == 300
    assert all(0 <= math.exp(value) <= 1 for value in answer.logprobs)


def test_earlier_answers_are_told_and_change_the_question(opened: Opened) -> None:
    told, untold = opened(*ALL), opened(*ALL[:4], changed(ALL[4], after=()))
    for with_it, without in zip(told.ask(ROWS), untold.ask(ROWS), strict=True):
        assert furthest(with_it[:4], without[:4]) < NEAR
        assert np.abs(np.subtract(with_it[4].logprobs, without[4].logprobs)).max() > NEAR
        said = [label_of(ALL[place].kind, ALL[place].labels, with_it[place].logprobs)[0] for place in (0, 3)]
        (question,) = told._questions.of(4, f"feeling: {said[0]}\nstrength: {said[1]}\n")
        alone = opened(changed(ALL[4], after=(), cue=f"feeling: {said[0]}\nstrength: {said[1]}\n{ALL[4].cue}"))
        assert np.array_equal(alone._questions.of(0)[0].suffix, question.suffix)
        break


def test_what_one_is_told_may_come_from_another_prompt(opened: Opened) -> None:
    """Own instructions make dimensions asked apart; the order of asking still follows what is told."""
    apart = prompt_for(TASK, instructions={"strength": "How strong is the feeling, from 0 to 10?"}).dimensions
    answers = opened(*apart).ask(ROWS[:2])
    assert all(not answer.error for row in answers for answer in row)
    assert [len(answer.logprobs) for answer in answers[0]] == [3, 2, 3, 11, 3]


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_phrasings_are_kept_and_averaged(opened: Opened, kind: str) -> None:
    words = ("Positive", "Negative", "Neutral")
    three = spec(*words, kind=kind, phrasings=("words", "plain", "letters"))
    answers = opened(three).ask(ROWS)
    for place, phrasing in enumerate(("words", "plain", "letters")):
        alone = opened(spec(*words, kind=kind, phrasings=(phrasing,))).ask(ROWS)
        for row, one in zip(answers, alone, strict=True):
            assert np.abs(np.subtract(row[0].phrasings[place], one[0].logprobs)).max() < NEAR
    for (answer,) in answers:
        numbers = np.array(answer.phrasings)
        mean = np.array(answer.logprobs)
        if kind == "single":
            expected = numbers.mean(axis=0)
            expected -= np.log(np.exp(expected).sum())
        else:
            odds = (numbers - np.log1p(-np.exp(numbers))).mean(axis=0)
            expected = -np.log1p(np.exp(-odds))
        assert np.allclose(mean, expected, atol=1e-9)


def test_reasons_are_given_in_a_sentence_or_two(opened: Opened) -> None:
    asked = [changed(asked, explain=True) for asked in ALL[:2]]
    plain = opened(*ALL[:2]).ask(ROWS)
    for row, without in zip(opened(*asked).ask(ROWS), plain, strict=True):
        assert furthest(row, without) < NEAR
        for answer in row:
            assert 0 < answer.completion_tokens <= 61
            assert answer.explanation == answer.explanation.strip()
            assert "\n" not in answer.explanation
    assert any(answer.explanation for answer in row)


def test_of_very_many_labels_those_that_are_near_are_listed(opened: Opened) -> None:
    labels = [*(f"subject number {number} of the long catalogue" for number in range(300)), "dogs", "trains"]
    task = Task.model_validate(
        {"name": "t", "dimensions": [{"name": "d", "question": "What is it about?", "labels": labels}]}
    )
    (asked,) = prompt_for(task).dimensions
    assert "catalogue" not in asked.system
    ((answer,),) = opened(asked).ask(["The train is late again, and so are all other trains."])
    assert answer.warnings == ("pruned",)
    assert math.isclose(sum(map(math.exp, answer.logprobs)), 1.0, abs_tol=1e-9)
    listed = [place for place, value in enumerate(answer.logprobs) if value > math.log(1e-7)]
    assert len(listed) <= 32
    assert labels.index("trains") in listed


def test_the_laws_hold_for_mixed_rows(opened: Opened) -> None:
    """Rows of all lengths, cut into parts where a batch ends."""
    scorer = opened(*ALL[:2])
    rows: Sequence[str] = [("word " * length).strip() for length in (1, 200, 3, 90)]
    together = scorer.ask(rows)
    for row, answers in zip(rows, together, strict=True):
        assert furthest(scorer.ask([row])[0], answers) < NEAR
