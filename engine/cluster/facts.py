"""From answers to an entry of the log, and from the entry back to facts: everything that will ever be asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from engine.cluster.effects import Claim
from engine.cluster.entries import About, Labeled
from engine.labeler import Answer
from workspace.facts import Fact, RunSpec

WRONG_COUNT = "The model answered with another number of labels than the task has."
NO_PROBABILITIES = "The model answered with numbers that are no probabilities."
ROUNDING = 1e-6  # by which a logarithm of a probability may come out above 0


def labeled(
    spec: RunSpec,
    claim: Claim,
    rows: Sequence[str],
    answers: Sequence[Answer],
    node: str,
    seconds: float,
    made_at: float,
) -> Labeled:
    """The entry for a claim that was worked off: one answer for each of its rows (their ids), in its order.

    `node` is the name of this machine, `seconds` the time of the whole batch, `made_at` seconds since 1970.
    An answer without probabilities for exactly the labels of the task becomes an error, and says why.
    """
    work = claim.work
    dimension = spec.dimensions[work.dimension]
    kept = tuple(_checked(answer, len(dimension.labels)) for answer in answers)
    about = About(
        dimension=dimension.name,
        labels=dimension.labels,
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
        dimension=work.dimension,
        block=work.block,
        at=work.at,
        failed=tuple(place for place, answer in zip(work.at, kept, strict=True) if answer.error),
        seconds=seconds,
        rows=tuple(rows),
        answers=kept,
        about=about,
    )


def error_answer(reason: str) -> Answer:
    """The answer of a row that nobody can answer."""
    return Answer((), 0, 0, 0.0, (), reason)


def expand(author: str, seq: int, body: Labeled) -> list[Fact]:
    """The facts of an entry at `seq` of this author's log. Raises ValueError when its parts do not fit together.

    Another machine may have written it: what it calls a label and has no probabilities for is an error here too.
    """
    about, failed = body.about, frozenset(body.failed)
    facts = []
    for i, (place, row_id, given) in enumerate(zip(body.at, body.rows, body.answers, strict=True)):
        answer = _checked(given, len(about.labels))
        wrong = place in failed or bool(answer.error)
        best = 0 if wrong else max(range(len(answer.logprobs)), key=answer.logprobs.__getitem__)
        facts.append(
            Fact(
                author=author,
                seq=seq + i,
                run_id=body.run_id,
                row_id=row_id,
                dimension=about.dimension,
                labeler=about.labeler,
                slot=about.slot,
                kind="error" if wrong else "label",
                label="" if wrong else about.labels[best],
                logprobs=() if wrong else answer.logprobs,
                confidence=0.0 if wrong else min(1.0, math.exp(answer.logprobs[best])),
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
            )
        )
    return facts


def _checked(answer: Answer, labels: int) -> Answer:
    """The answer itself if it is an error in words or has a probability for each label; else an error."""
    if answer.error:
        wrong = answer.error
    elif len(answer.logprobs) != labels:
        wrong = WRONG_COUNT
    elif not all(chance <= ROUNDING for chance in answer.logprobs):  # "not a number" is caught by this too
        wrong = NO_PROBABILITIES
    else:
        return answer
    return msgspec.structs.replace(answer, logprobs=(), error=wrong)
