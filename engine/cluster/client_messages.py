"""What a client and the engine process say to each other: typed, bounded msgpack messages.

A message is two frames: the protocol version, then one of the structures below. Every request carries an id that
its reply repeats, and may be sent again with any id: doing it twice leaves the same as doing it once.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from workspace.facts import EngineStatus, RunSpec

PROTOCOL = b"winnow-engine/1"
MAX_MESSAGE = 8 << 20  # bytes; the socket drops a peer that sends more
CHUNK_BYTES = 1 << 20  # rows of one AddRows, a single larger row apart
MAX_TEXT = 1 << 20  # characters of a row's text sent to the engine; beyond any model's context
MAX_CHUNK_ROWS = 20_000
MAX_PAGE = 10_000  # facts in one reply
PAGE_BYTES = 4 << 20

Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Rows = Annotated[tuple[tuple[Id, Text], ...], Meta(max_length=MAX_CHUNK_ROWS)]


class Request(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What a client asks."""

    id: Number


class OpenRun(Request, frozen=True):
    """Know this run. A new one is paused and has no rows. Replied with Planned."""

    spec: RunSpec


class AddRows(Request, frozen=True):
    """Plan (row id, text) pairs into a run; those it has already are left alone. Replied with Planned."""

    run_id: Id
    rows: Rows


class Commit(Request, frozen=True):
    """All rows are there: label them. Replied with Planned."""

    run_id: Id


class SetState(Request, frozen=True):
    """Go on, pause after the batch under way, or cancel. Replied with Planned."""

    run_id: Id
    state: Literal["running", "paused", "cancelled"]


class Status(Request, frozen=True):
    """How is it going? Replied with Standing."""


class ReadFacts(Request, frozen=True):
    """Durable facts of this engine's log with seq >= `after`. Replied with Facts."""

    after: Number
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class Shutdown(Request, frozen=True):
    """Finish the batch under way and exit. Replied with Stopping at once."""


class Reply(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What the engine answers; `id` is the request's."""

    id: Number


class Planned(Reply, frozen=True):
    """Done and durable; the run has `rows` rows now."""

    rows: int


class Standing(Reply, frozen=True):
    """The engine at this moment."""

    status: EngineStatus


class Facts(Reply, frozen=True):
    """Facts in order of seq, as they lie in the ledger. Empty when there are none; fewer than asked for when
    they would not fit one message."""

    facts: tuple[msgspec.Raw, ...]


class Stopping(Reply, frozen=True):
    """The engine ends after its batch."""


class Refused(Reply, frozen=True):
    """It was not done; the fields are those of an EngineError."""

    title: str
    advice: str


Ask = OpenRun | AddRows | Commit | SetState | Status | ReadFacts | Shutdown
Answer = Planned | Standing | Facts | Stopping | Refused

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Ask)
_replies = msgspec.msgpack.Decoder(Answer)


def encode(message: Ask | Answer) -> bytes:
    """The second frame of a message."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> Ask:
    """A request within its bounds. Raises msgspec.DecodeError for anything else."""
    request: Ask = _requests.decode(body)
    return request


def decode_reply(body: bytes) -> Answer:
    """A reply. Raises msgspec.DecodeError for anything else."""
    reply: Answer = _replies.decode(body)
    return reply
