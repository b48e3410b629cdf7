"""The lines of shards: the log of each author as JSON that any tool can read, one line for each fact.

A line stands for itself: what was asked, of which text, what was answered, by whom.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.cluster.entries import Author, Decided, Entry, Id, Labeled, Number, Text, decode
from engine.cluster.facts import MOST_PHRASINGS, expand
from engine.cluster.ledger_view import LedgerView

MAX_LINE = 16 << 20  # bytes; the longest text, escaped, and the rest
MAX_ERROR = 10_000  # characters
MAX_WARNINGS = 100
BEGINNING = b'{"id":'  # of every line

MAX_WORD = 2000  # characters
MOMENTS = 1e11  # seconds
JUDGEMENTS = ("approve", "modify", "reject")

Action = Literal["approve", "reject", "modify", "skip", "undo"]
Word = Annotated[str, Meta(max_length=MAX_WORD)]
Share = Annotated[float, Meta(ge=0, le=1)]
Logprobs = Annotated[tuple[float | None, ...], Meta(max_length=1000)]
Moment = Annotated[float, Meta(ge=-MOMENTS, le=MOMENTS)]  # seconds since 1970-01-01 UTC


class Human(msgspec.Struct, frozen=True):
    """A reviewer's event: which decision it is, and what it does. An undo names the event it takes back."""

    action: Action
    session: Id
    event: Number  # of the session
    clock: Number  # orders the decisions on a row
    undoes: Number | None = None
    undoes_session: Id | None = None
    comment: Annotated[str, Meta(max_length=MAX_ERROR)] = ""
    blind: bool = False


class Line(msgspec.Struct, frozen=True):
    """One fact. (`author`, `seq`) names it; `idx` is the place of the row in its run, as its planner planned it.

    `label` follows from the raw `logprobs` as the kind of its dimension says; it is null for an error, a row left
    out ("drop"), a rejected label, a skip or an undo. `label_id` is its place among `labels`, null for several
    labels in one. In logprobs, and in those of each phrasing, null stands for minus infinity. What
    only the model's answers to a row know (idx, labels, the model itself) is empty in a person's decision on it.
    """

    id: Id
    idx: Number | None
    text: Text
    domain: Word
    label: Word | None
    label_id: Number | None
    confidence: Share | None
    worker: Word
    ts: Moment
    kind: Literal["label", "error", "drop", "human"]
    run_id: Word
    task: Word
    dimension: Id
    author: Author
    seq: Number
    slot: Number
    labels: Annotated[tuple[Word, ...], Meta(max_length=1000)]
    logprobs: Logprobs
    model: Word
    model_digest: Word
    prompt_id: Word
    claim: Word
    epoch: Number
    seconds: Annotated[float, Meta(ge=0, le=1e9)]
    prompt_tokens: Number
    completion_tokens: Number
    warnings: Annotated[tuple[Word, ...], Meta(max_length=MAX_WARNINGS)]
    error: Annotated[str, Meta(max_length=MAX_ERROR)]
    human: Human | None = None
    dimension_kind: Word = ""
    phrasings: Annotated[tuple[Logprobs, ...], Meta(max_length=MOST_PHRASINGS)] = ()
    reply: Annotated[str, Meta(max_length=MAX_ERROR)] = ""
    explanation: Annotated[str, Meta(max_length=MAX_ERROR)] = ""


class NotReadable(Exception):
    """An entry cannot be told in lines yet, for the reason given; the log is read up to it."""


def encode(line: Line) -> bytes:
    """The line with its end."""
    return _encoder.encode(line) + b"\n"


def decode_line(raw: bytes) -> Line:
    """A line within its bounds. Raises ValueError, in words, for anything else."""
    try:
        line = _decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if (line.kind == "human") != (line.human is not None):
        raise ValueError("a person's decision says who decided what, and nothing else does")
    if line.kind == "label" and line.label is None:
        raise ValueError("a label is missing")
    if line.kind in ("error", "drop") and line.label is not None:
        raise ValueError("neither an error nor a row left out has a label")
    return line


def lines(view: LedgerView, author: str, first: int, end: int, run_id: str = "") -> Iterator[Line]:
    """The facts of a log from number `first` up to `end`, of one run if asked for. Raises NotReadable."""
    for entry in view.entries(author, first, end):
        try:
            body = decode(entry.body)
        except msgspec.DecodeError as error:
            raise NotReadable("a newer version of Winnow wrote what follows") from error
        if isinstance(body, Labeled | Decided) and run_id in ("", body.run_id):
            made = _answers(view, entry, body) if isinstance(body, Labeled) else _decision(view, entry, body)
            yield from (line for line in made if line.seq >= first)


def _answers(view: LedgerView, entry: Entry, body: Labeled) -> list[Line]:
    run = view.run(body.run_id)
    if run is None:
        raise NotReadable("the run of what follows has not arrived here yet")
    try:
        rows = view.rows(body.block, body.at)
        facts = expand(entry.author, entry.seq, body)
    except LookupError as error:
        raise NotReadable("the rows of what follows have not arrived here yet") from error
    except ValueError:
        return []  # its parts do not fit together: nobody counts it
    start, asked = view.start(body.block), body.about.dimensions
    places = [(place, text, domain) for place, (_, text, domain) in zip(body.at, rows, strict=True)]
    return [
        Line(
            id=fact.row_id,
            idx=start + place,
            text=text,
            domain=domain,
            label=fact.label if fact.kind == "label" else None,
            label_id=labels.index(fact.label) if fact.kind == "label" and fact.label in labels else None,
            confidence=fact.confidence if fact.kind == "label" else None,
            worker=fact.node,
            ts=_within(fact.made_at, -MOMENTS, MOMENTS),
            kind=fact.kind,
            run_id=fact.run_id,
            task=run.task_name,
            dimension=fact.dimension,
            author=fact.author,
            seq=fact.seq,
            slot=fact.slot,
            labels=labels,
            logprobs=_told(fact.logprobs),
            model=fact.labeler,
            model_digest=fact.model_digest,
            prompt_id=fact.prompt_id,
            claim=fact.claim,
            epoch=fact.epoch,
            seconds=_within(fact.seconds, 0.0, 1e9),
            prompt_tokens=max(fact.prompt_tokens, 0),
            completion_tokens=max(fact.completion_tokens, 0),
            warnings=tuple(warning[:MAX_WORD] for warning in fact.warnings[:MAX_WARNINGS]),
            error=fact.error[:MAX_ERROR],
            dimension_kind=kind,
            phrasings=tuple(map(_told, fact.phrasings)),
            reply=fact.reply,
            explanation=fact.explanation,
        )
        for fact, ((place, text, domain), (_, kind, labels)) in zip(facts, product(places, asked), strict=True)
    ]


def _told(logprobs: tuple[float, ...]) -> tuple[float | None, ...]:
    return tuple(None if chance == -math.inf else chance for chance in logprobs)


def _decision(view: LedgerView, entry: Entry, body: Decided) -> list[Line]:
    try:
        event = msgspec.json.decode(body.event, type=_Event)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []  # no event of a reviewer: nobody counts it
    place = view.place(body.row_id)
    (_, text, domain) = view.rows(place[0], [place[1]])[0] if place else ("", "", "")
    judged = event.action in JUDGEMENTS and event.action != "reject"
    return [
        Line(
            id=body.row_id,
            idx=None,
            text=text,
            domain=domain,
            label=event.label if judged else None,
            label_id=None,
            confidence=1.0 if judged else None,
            worker=event.reviewer,
            ts=_within(event.decided_at / 1e6, -MOMENTS, MOMENTS),
            kind="human",
            run_id=body.run_id,
            task=body.task_name,
            dimension=body.dimension,
            author=entry.author,
            seq=entry.seq,
            slot=0,
            labels=(),
            logprobs=(),
            model="",
            model_digest="",
            prompt_id="",
            claim="",
            epoch=0,
            seconds=_within(event.seconds, 0.0, 1e9),
            prompt_tokens=0,
            completion_tokens=0,
            warnings=(),
            error="",
            human=Human(
                event.action,
                event.session,
                event.seq,
                body.clock,
                event.undoes,
                event.undoes_session,
                event.comment[:MAX_ERROR],
                event.blind,
            ),
        )
    ]


class _Event(msgspec.Struct, frozen=True):
    """What a shard takes of a reviewer's event."""

    action: Action
    reviewer: Word
    session: Id
    seq: Number
    label: Word = ""
    undoes: Number | None = None
    undoes_session: Id | None = None
    comment: str = ""
    blind: bool = False
    seconds: float = 0.0
    decided_at: Number = 0  # microseconds


def _within(value: float, least: float, most: float) -> float:
    """Another machine may have written anything; a line holds what its reader accepts."""
    return min(max(value, least), most) if math.isfinite(value) else 0.0


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)
