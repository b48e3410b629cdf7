"""From answers to an entry of the log, and from the entry back to facts: everything that will ever be asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from engine.cluster.effects import Claim
from engine.cluster.entries import About, Asked, Labeled, failed_places
from engine.labeler import Answer, bounded
from workspace.facts import Fact, FactKind, RunSpec
from workspace.kinds import label_of

WRONG_COUNT = "The model answered with another number of labels than the task has."
NO_PROBABILITIES = "The model answered with numbers that are no probabilities."
TOO_MANY = "The model said that more labels apply than can be written down."
ROUNDING = 1e-6  # by which a logarithm of a probability may come out above 0
SUM_ROUNDING = 0.01  # by which the probabilities of many labels may miss 1
LONGEST_LABEL = 2000  # characters; also of the labels of a multi dimension that apply, written as one
MOST_PHRASINGS = 8
TEXT_CHARACTERS = 256 << 10  # of replies and explanations in one entry, which share them


def labeled(
    spec: RunSpec,
    claim: Claim,
    rows: Sequence[str],
    answers: Sequence[Sequence[Answer]],
    node: str,
    seconds: float,
    made_at: float,
) -> Labeled:
    """The entry for a claim that was worked off: for each of its rows (their ids), in its order, the answers to
    all dimensions of the run.

    `node` is the name of this machine, `seconds` the time of the whole batch, `made_at` seconds since 1970. An
    answer without probabilities for exactly the labels of the task becomes an error, and says why. Raises
    ValueError when there are not as many rows, or as many answers to each, as there should be.
    """
    work = claim.work
    asked: list[Asked] = [(one.name, one.kind, one.labels) for one in spec.dimensions]
    kept = tuple(
        tuple(_checked(answer, one) for answer, one in zip(row, asked, strict=True))
        for _, _, row in zip(work.at, rows, answers, strict=True)
    )
    about = About(
        dimensions=tuple(asked),
        labeler=spec.model.name,
        model_digest=spec.model.digest,
        prompt_id=spec.prompt_id,
        node=node,
        claim=claim.name,
        epoch=claim.epoch.number,
        made_at=made_at,
    )
    return Labeled(
        run_id=spec.run_id,
        block=work.block,
        at=work.at,
        failed=failed_places(work.at, kept),
        seconds=seconds,
        rows=tuple(rows),
        answers=_with_room(kept),
        about=about,
    )


def error_answer(reason: str) -> Answer:
    """The answer of a row that nobody can answer."""
    return Answer((), 0, 0, 0.0, (), reason)


def expand(author: str, seq: int, body: Labeled) -> list[Fact]:
    """The facts of an entry at `seq` of this author's log: of the first row to each dimension, then of the next.

    Raises ValueError when its parts do not fit together. Another machine may have written it: what it calls a
    label and has no probabilities for is an error here too.
    """
    about = body.about
    asked = [_readable(one) for one in about.dimensions]
    facts: list[Fact] = []
    for _, row_id, given in zip(body.at, body.rows, body.answers, strict=True):
        for one, answer in zip(asked, given, strict=True):
            kind, label, confidence, answer = _said(_checked(answer, one), one)
            facts.append(
                Fact(
                    author=author,
                    seq=seq + len(facts),
                    run_id=body.run_id,
                    row_id=row_id,
                    dimension=one[0],
                    labeler=about.labeler,
                    slot=about.slot,
                    kind=kind,
                    label=label,
                    logprobs=answer.logprobs,
                    confidence=confidence,
                    model_digest=about.model_digest,
                    prompt_id=about.prompt_id,
                    node=about.node,
                    claim=about.claim,
                    epoch=about.epoch,
                    seconds=answer.seconds,
                    prompt_tokens=answer.prompt_tokens,
                    completion_tokens=answer.completion_tokens,
                    warnings=answer.warnings,
                    error=answer.error,
                    made_at=about.made_at,
                    phrasings=answer.phrasings,
                    reply=answer.reply,
                    explanation=answer.explanation,
                )
            )
    return facts


def _said(answer: Answer, asked: Asked) -> tuple[FactKind, str, float, Answer]:
    """What kind of fact a checked answer is, its label and the confidence in it."""
    if answer.error:
        return "error", "", 0.0, answer
    if answer.dropped:
        return "drop", "", 0.0, answer
    _, kind, labels = asked
    label, confidence = label_of(kind, labels, answer.logprobs)
    if len(label) > LONGEST_LABEL:
        return "error", "", 0.0, _wrong(answer, TOO_MANY)
    return "label", label, confidence, answer


def _readable(asked: Asked) -> Asked:
    """The dimension itself, or as a choice of words if it is a score of what are no figures."""
    name, kind, labels = asked
    if kind == "score":
        try:
            figures = all(math.isfinite(float(label)) for label in labels)
        except ValueError:
            figures = False
        return asked if figures else (name, "single", labels)
    return asked


def _checked(given: Answer, asked: Asked) -> Answer:
    """The answer itself if it is an error in words, has been left out by a rule, or has a probability for each
    label; else an error. Its texts are cut where they are too long."""
    _, kind, labels = asked
    answer = bounded(given)
    if answer.error or answer.dropped:
        if not answer.logprobs and not answer.phrasings:
            return answer
        return msgspec.structs.replace(answer, logprobs=(), phrasings=())
    if len(answer.phrasings) > MOST_PHRASINGS or any(len(one) != len(labels) for one in _numbers(answer)):
        return _wrong(answer, WRONG_COUNT)
    for numbers in _numbers(answer):
        if not all(number <= ROUNDING for number in numbers):  # "not a number" is caught by this too
            return _wrong(answer, NO_PROBABILITIES)
    if kind != "multi" and abs(sum(map(math.exp, answer.logprobs)) - 1.0) > SUM_ROUNDING:
        return _wrong(answer, NO_PROBABILITIES)
    return answer


def _numbers(answer: Answer) -> Iterator[tuple[float, ...]]:
    yield answer.logprobs
    yield from answer.phrasings


def _wrong(answer: Answer, why: str) -> Answer:
    return msgspec.structs.replace(answer, logprobs=(), phrasings=(), error=why)


def _with_room(answers: tuple[tuple[Answer, ...], ...]) -> tuple[tuple[Answer, ...], ...]:
    """The same with shorter texts where an entry has no room for all of them."""
    texts = sum(len(answer.reply) + len(answer.explanation) for row in answers for answer in row)
    if texts <= TEXT_CHARACTERS:
        return answers
    speaking = sum(bool(answer.reply or answer.explanation) for row in answers for answer in row)
    most = TEXT_CHARACTERS // (2 * speaking)
    return tuple(
        tuple(
            msgspec.structs.replace(answer, reply=answer.reply[:most], explanation=answer.explanation[:most])
            for answer in row
        )
        for row in answers
    )
