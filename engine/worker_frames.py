"""The bytes between a node and its worker: a length, then msgpack of one of the messages below.

A frame is a four-byte big-endian length followed by that many bytes. Both sides refuse a length above
`MAX_FRAME` before reading it, and decode into the typed messages only, so that a corrupt stream ends in a
`FrameError` and never in a large allocation or in foreign objects.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec

from engine.labeler import Answer, LoadedModel
from workspace.errors import BudgetReached, ModelError
from workspace.facts import RunSpec

# A claim of rows is a few hundred kB. The bound leaves room for rows of several MB and still fits any memory.
MAX_FRAME = 64 << 20
_HEADER = struct.Struct(">I")


class FrameError(Exception):
    """The stream does not carry frames, or one of them is too large."""


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Load this run's model and check that its dimensions can be asked of it."""

    spec: RunSpec


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Answer all dimensions for these rows."""

    batch: int
    rows: tuple[str, ...]


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """Sign of life while a model loads, with the share that is done, 0 to 1."""

    share: float


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready."""

    model: LoadedModel


class Scoring(msgspec.Struct, frozen=True, tag="scoring"):
    """Sign of life while a batch is computed: rows done so far."""

    batch: int
    rows: int


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """The answers of a batch, in the order of its rows."""

    batch: int
    answers: tuple[tuple[Answer, ...], ...]
    seconds: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The request could not be done; the worker goes on. Fields are those of `workspace.errors.ModelError`, which
    is a BudgetReached if `budget`."""

    title: str
    advice: str
    details: str
    budget: bool = False

    def error(self) -> ModelError:
        """What is to be raised on the other side."""
        return (BudgetReached if self.budget else ModelError)(self.title, self.advice, self.details)


Request = Load | Score
Reply = Loading | Loaded | Scoring | Scored | Failed

_encoder = msgspec.msgpack.Encoder()
requests = msgspec.msgpack.Decoder(Request)
replies = msgspec.msgpack.Decoder(Reply)


def encode(message: Request | Reply) -> bytes:
    """One frame. Raises FrameError above MAX_FRAME bytes."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise FrameError(f"a message of {len(body)} bytes is larger than the {MAX_FRAME} allowed")
    return _HEADER.pack(len(body)) + body


def read_body(stream: BinaryIO) -> bytes | None:
    """The next frame's body, or None at a clean or torn end of the stream. Raises FrameError on a bad length."""
    header = _read_exactly(stream, _HEADER.size)
    if header is None:
        return None
    (length,) = _HEADER.unpack(header)
    if length > MAX_FRAME:
        raise FrameError(f"a frame announces {length} bytes, more than the {MAX_FRAME} allowed")
    return _read_exactly(stream, length)


def _read_exactly(stream: BinaryIO, length: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < length:
        piece = stream.read(length - len(parts))
        if not piece:
            return None
        parts += piece
    return bytes(parts)
