"""What a client and the engine process say to each other: typed, bounded msgpack messages.

A message is two frames: the protocol version, then one of the structures below. Every request carries an id that
its reply repeats, and may be sent again with any id: doing it twice leaves the same as doing it once.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.cluster.entries import Author, Decided, Entry, Id, Line, MemberId, Number, Text, Vector
from workspace.facts import EngineStatus, RunSpec
from workspace.machines import Pairing

PROTOCOL = b"winnow-engine/3"
MAX_MESSAGE = 8 << 20  # bytes; the socket drops a peer that sends more
CHUNK_BYTES = 1 << 20  # rows of one AddRows, a single larger row apart
MAX_CHUNK_ROWS = 20_000
MAX_PAGE = 10_000  # entries in one reply
PAGE_BYTES = 4 << 20
MAX_DECISIONS = 1000  # of one Decide

Rows = Annotated[tuple[tuple[Id, Text, Line], ...], Meta(max_length=MAX_CHUNK_ROWS)]
HostPort = Annotated[str, Meta(min_length=3, max_length=300)]
Code = Annotated[str, Meta(max_length=32)]
Name = Annotated[str, Meta(min_length=1, max_length=80)]


class Request(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What a client asks."""

    id: Number


class OpenRun(Request, frozen=True):
    """Know this run; `task` is its document. A new one is paused and has no rows. Replied with Planned."""

    spec: RunSpec
    task: Annotated[str, Meta(max_length=1 << 20)] = ""


class AddRows(Request, frozen=True):
    """Plan (row id, text, domain) into a run; those it has already are left alone. Replied with Planned."""

    run_id: Id
    rows: Rows


class Commit(Request, frozen=True):
    """All rows are there: label them. Replied with Planned."""

    run_id: Id


class SetState(Request, frozen=True):
    """Go on, pause after the claims under way, or cancel. Replied with Planned."""

    run_id: Id
    state: Literal["running", "paused", "cancelled"]


class Status(Request, frozen=True):
    """How is it going? Replied with Standing."""


class ReadEntries(Request, frozen=True):
    """Durable entries of this author's log with seq >= `first`. Replied with Entries."""

    author: Author
    first: Number
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class Decide(Request, frozen=True):
    """Keep what a person decided. Replied with Written."""

    decisions: Annotated[tuple[Decided, ...], Meta(max_length=MAX_DECISIONS)]


class Seal(Request, frozen=True):
    """A run was exported as it follows from what this machine holds now. Replied with SealedAt."""

    run_id: Id


class OpenPairing(Request, frozen=True):
    """Show a code with which another machine may be paired with this one. Replied with Open."""


class ClosePairing(Request, frozen=True):
    """No more. Replied with Done."""


class Pair(Request, frozen=True):
    """Pair with the machine that shows this code. Begun if it is not under way; replied with Pairs at once,
    so it is asked again until it ended."""

    address: HostPort
    code: Code


class SetMember(Request, frozen=True):
    """Rename a machine, pause it or let it go on; None leaves as it is. Replied with Done when durable."""

    member: MemberId
    name: Name | None = None
    paused: bool | None = None


class Revoke(Request, frozen=True):
    """Remove a machine from the cluster, for ever. Replied with Done when durable."""

    member: MemberId


class AddAddress(Request, frozen=True):
    """Some member may be reached at this host:port. Replied with Done."""

    address: HostPort


class LookAround(Request, frozen=True):
    """Look for other machines on the network for the next minute. Replied with Done."""


class StartOver(Request, frozen=True):
    """Set keys and ledger aside, so that the next engine here is a new machine, and exit. Only of a machine that
    was removed from its cluster. Replied with Stopping at once."""


class Shutdown(Request, frozen=True):
    """Finish the claim under way and exit. Replied with Stopping at once."""


class Reply(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What the engine answers; `id` is the request's."""

    id: Number


class Planned(Reply, frozen=True):
    """Done and durable; the run has `rows` rows now."""

    rows: int


class Standing(Reply, frozen=True):
    """The engine at this moment."""

    status: EngineStatus


class Entries(Reply, frozen=True):
    """Entries in order of seq, as they lie in the ledger. Empty when there are none; fewer than asked for when
    they would not fit one message."""

    entries: tuple[Entry, ...]


class Written(Reply, frozen=True):
    """Durable in this engine's log, which goes up to `end` now."""

    end: Number


class SealedAt(Reply, frozen=True):
    """Durable; the seal holds what lies within this vector."""

    vector: Vector


class Open(Reply, frozen=True):
    """The code to show."""

    pairing: Pairing


class Pairs(Reply, frozen=True):
    """How far pairing is; `member` is the other machine once it is done, empty before."""

    member: str


class Done(Reply, frozen=True):
    """Done."""


class Stopping(Reply, frozen=True):
    """The engine ends after its claim."""


class Refused(Reply, frozen=True):
    """It was not done; the fields are those of an EngineError."""

    title: str
    advice: str


Ask = (
    OpenRun
    | AddRows
    | Commit
    | SetState
    | Status
    | ReadEntries
    | Decide
    | Seal
    | OpenPairing
    | ClosePairing
    | Pair
    | SetMember
    | Revoke
    | AddAddress
    | LookAround
    | StartOver
    | Shutdown
)
Answer = Planned | Standing | Entries | Written | SealedAt | Open | Pairs | Done | Stopping | Refused

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Ask)
_replies = msgspec.msgpack.Decoder(Answer)


def encode(message: Ask | Answer) -> bytes:
    """The second frame of a message."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> Ask:
    """A request within its bounds. Raises msgspec.DecodeError for anything else."""
    try:
        request: Ask = _requests.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    return request


def decode_reply(body: bytes) -> Answer:
    """A reply. Raises msgspec.DecodeError for anything else."""
    try:
        reply: Answer = _replies.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    return reply
