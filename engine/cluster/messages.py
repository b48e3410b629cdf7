"""What machines of a cluster say to each other: typed, bounded messages. PROTOCOL.md is their specification.

A message is two frames: the protocol version, then one of the structures below. The sender is the key of the
encrypted connection it came by, never a field. Every message may be lost, doubled, late and out of order.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.cluster.entries import (
    BLOCK_ROWS,
    MAX_FACTS,
    Author,
    Block,
    Id,
    Line,
    Number,
    Offsets,
    Vector,
)

PROTOCOL = b"winnow-cluster/2"
MAX_MESSAGE = 8 << 20  # bytes; the socket drops a peer that sends more
FACTS_BYTES = 1 << 20  # bodies of one Facts, a single larger entry apart
PIECE_BYTES = 1 << 20  # of a model's file in one ModelPart
MAX_PIECES = 1 << 20

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Clock = Annotated[float, Meta(ge=-1e15, le=1e15)]
Hash = Annotated[bytes, Meta(min_length=16, max_length=16)]
Mode = Literal["auto", "server", "client"]


class Epoch(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A leadership. Epochs are ordered; the highest one counts, and no two lives of a process share one."""

    number: Number
    author: Annotated[str, Meta(max_length=49)]  # member and log of the leader; empty with number 0: nobody yet


class Work(msgspec.Struct, frozen=True, array_like=True):
    """Rows to be answered: places of one block of a run."""

    run_id: Id
    block: Block
    at: Offsets


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A claim a worker holds, and for how long its backend has shown no progress. `work` is told to a leader that
    did not grant it, so that it does not grant the same rows again."""

    epoch: Epoch
    claim: Number
    idle: Seconds
    work: Work | None = None


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """A model this machine cannot run, and why."""

    digest: Id
    why: Line


class Card(msgspec.Struct, frozen=True, array_like=True):
    """What a machine says of itself: what it is, can do and does."""

    boot: Annotated[str, Meta(max_length=32)]  # names one life of its process
    mode: Mode = "auto"
    software: Line = ""
    cores: Annotated[int, Meta(ge=0, le=100_000)] = 0
    memory: Number = 0  # bytes
    memory_free: Number = 0  # bytes
    gpu: Line = ""  # empty without one
    models: Annotated[tuple[Id, ...], Meta(max_length=256)] = ()  # digests it can run now
    loaded: Annotated[str, Meta(max_length=128)] = ""  # digest in memory
    refused: Annotated[tuple[Refusal, ...], Meta(max_length=64)] = ()
    rows_per_s: Annotated[float, Meta(ge=0)] = 0.0  # of the last minute of work
    doing: Line = ""  # in words
    port: Annotated[int, Meta(ge=0, le=65535)] = 0  # where it listens
    working: bool = True  # False: it takes no work (stopping)
    batch: Annotated[int, Meta(ge=0, le=BLOCK_ROWS)] = 0  # most rows it takes in one claim, 0 for no wish


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Anything said between machines."""


class Hello(Message, frozen=True):
    """First on every new connection; answered by Welcome. Another cluster or no common protocol is refused."""

    cluster: Id
    protocols: tuple[Annotated[int, Meta(ge=1, le=1000)], Annotated[int, Meta(ge=1, le=1000)]]  # oldest, newest
    card: Card
    epoch: Epoch
    vector: Vector
    addresses: Annotated[tuple[Line, ...], Meta(max_length=16)] = ()  # host:port it believes it listens on


class Welcome(Hello, frozen=True):
    """The answer to Hello, of the same content."""


class Beat(Message, frozen=True):
    """Every beat, to all: alive, led by `epoch`, holding durably `vector`, working on `held`."""

    epoch: Epoch
    vector: Vector
    held: Annotated[tuple[Held, ...], Meta(max_length=16)]
    card: Card


class Lead(Message, frozen=True):
    """I lead from now on. Sent only after the epoch is on disk."""

    epoch: Epoch
    reason: Line


class Credit(Message, frozen=True):
    """A worker has room for `slots` more claims; `clock` is its own clock's reading, `boot` as in its card."""

    epoch: Epoch
    slots: Annotated[int, Meta(ge=1, le=16)]
    clock: Clock
    boot: Annotated[str, Meta(max_length=32)]


class Grant(Message, frozen=True):
    """A claim on `work`, until `ttl` seconds after `clock` (of the worker's own clock, from its Credit) or after
    the last progress of its backend. `failures` counts earlier deaths with it."""

    epoch: Epoch
    claim: Number
    work: Work
    ttl: Seconds
    clock: Clock
    failures: Annotated[int, Meta(ge=0, le=1000)] = 0


Reason = Literal["died", "model", "stopped", "unknown", "expired"]


class Release(Message, frozen=True):
    """The worker gives a claim back undone: its backend died, cannot run the model, was stopped; or the worker
    does not know the run or the rows; or its time is up."""

    epoch: Epoch
    claim: Number
    reason: Reason
    detail: Line = ""


class Facts(Message, frozen=True):
    """Entries of one author's log, (facts in it, body) each, without a gap from `first` on. Welcome whatever the
    epoch. `more`: the sender has further ones."""

    author: Author
    first: Number
    entries: Annotated[tuple[tuple[Annotated[int, Meta(ge=1, le=MAX_FACTS)], bytes], ...], Meta(max_length=4096)]
    more: bool = False


class Have(Message, frozen=True):
    """I hold this author's facts before `end` on disk."""

    author: Author
    end: Number


class Need(Message, frozen=True):
    """Send me this author's facts from `first` on."""

    author: Author
    first: Number


class Audit(Message, frozen=True):
    """Count and sum modulo 2^128 of the BLAKE2b-128 of this author's entries before `end`."""

    author: Author
    end: Number
    count: Number
    sum: Hash


class Bye(Message, frozen=True):
    """This life of the process ends now."""

    boot: Annotated[str, Meta(max_length=32)]


class ModelWant(Message, frozen=True):
    """Who has the file of this digest? Answered by ModelOffer."""

    digest: Id


class ModelOffer(Message, frozen=True):
    """I have it: its size and the BLAKE2b-128 of each piece of PIECE_BYTES."""

    digest: Id
    name: Line
    size: Number
    pieces: Annotated[tuple[Hash, ...], Meta(max_length=MAX_PIECES)]


class ModelAsk(Message, frozen=True):
    """Send me this piece."""

    digest: Id
    piece: Annotated[int, Meta(ge=0, lt=MAX_PIECES)]


class ModelPart(Message, frozen=True):
    """A piece; empty when it is not there any more."""

    digest: Id
    piece: Annotated[int, Meta(ge=0, lt=MAX_PIECES)]
    data: Annotated[bytes, Meta(max_length=PIECE_BYTES)]


AnyMessage = (
    Hello
    | Welcome
    | Beat
    | Lead
    | Credit
    | Grant
    | Release
    | Facts
    | Have
    | Need
    | Audit
    | Bye
    | ModelWant
    | ModelOffer
    | ModelAsk
    | ModelPart
)

NOBODY = Epoch(0, "")

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """The second frame of a message."""
    return _encoder.encode(message)


def decode(body: bytes) -> AnyMessage:
    """A message within its bounds. Raises msgspec.DecodeError for anything else."""
    try:
        found: AnyMessage = _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec lets these out as they are
        raise msgspec.DecodeError(str(error)) from error
    return found
