"""From an answer to a fact: everything about it that will ever be asked, in one immutable record."""

from __future__ import annotations

import math
import secrets
import time

from engine.labeler import Answer
from workspace.facts import DimensionSpec, Fact, RunSpec

UNNUMBERED = -1  # seq of a fact that is not in a ledger yet; the ledger gives author and seq


def new_boot() -> str:
    """Name of one life of an engine process, first part of the claims it hands out."""
    return secrets.token_hex(4)


def label_fact(
    spec: RunSpec, dimension: DimensionSpec, row_id: str, answer: Answer, node: str, claim: str
) -> Fact:
    """The fact an answer makes; an answer without probabilities is an error."""
    if answer.error or len(answer.logprobs) != len(dimension.labels):
        reason = answer.error or "The model answered with another number of labels than the task has."
        return _fact(spec, dimension, row_id, answer, node, claim, reason)
    best = max(range(len(answer.logprobs)), key=answer.logprobs.__getitem__)
    return _fact(spec, dimension, row_id, answer, node, claim, "", best)


def error_fact(spec: RunSpec, dimension: DimensionSpec, row_id: str, reason: str, node: str, claim: str) -> Fact:
    """The fact that a row cannot be answered."""
    return _fact(spec, dimension, row_id, Answer((), 0, 0, 0.0), node, claim, reason)


def _fact(
    spec: RunSpec,
    dimension: DimensionSpec,
    row_id: str,
    answer: Answer,
    node: str,
    claim: str,
    error: str,
    best: int | None = None,
) -> Fact:
    return Fact(
        author="",
        seq=UNNUMBERED,
        run_id=spec.run_id,
        row_id=row_id,
        dimension=dimension.name,
        labeler=spec.model.name,
        slot=0,
        kind="error" if best is None else "label",
        label="" if best is None else dimension.labels[best],
        logprobs=() if best is None else answer.logprobs,
        confidence=0.0 if best is None else math.exp(answer.logprobs[best]),
        model_digest=spec.model.digest,
        prompt_id=spec.prompt_id,
        node=node,
        claim=claim,
        epoch=0,
        seconds=answer.seconds,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        warnings=answer.warnings,
        error=error,
        made_at=time.time(),
    )
