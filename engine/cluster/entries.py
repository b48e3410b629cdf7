"""What stands in the logs: the immutable entries of which everything else is a function.

Every author writes one append-only log. An entry holds one fact, or the facts of one batch of rows together; its
facts are numbered from `seq` on, and the next entry of the log starts at `seq + count`, without a gap. The union
of the logs is the database: entries are only ever added, in any order between authors, as often as you like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.labeler import Answer
from workspace.facts import RunSpec

BLOCK_ROWS = 512  # rows of one RowsPlanned
BLOCK_BYTES = 1 << 20  # of their texts, a single larger row apart
MAX_TEXT = 1 << 20  # characters of a row's text; beyond any model's context
MAX_DIMENSIONS = 255
MAX_FACTS = BLOCK_ROWS * MAX_DIMENSIONS  # in one entry
ENTRY_BYTES = 512 << 10  # of the probabilities in one Labeled, a single row apart

Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
Line = Annotated[str, Meta(max_length=2000)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
MemberId = Annotated[str, Meta(min_length=32, max_length=32, pattern="^[0-9a-f]{32}$")]
Author = Annotated[str, Meta(min_length=49, max_length=49, pattern="^[0-9a-f]{32}[.][0-9a-f]{16}$")]
Block = tuple[Author, Number]  # author and seq of the RowsPlanned that brought the rows
Vector = Annotated[
    dict[Author, Number], Meta(max_length=1 << 16)
]  # version vector: how many facts of each author, all from the first on, are held
Offsets = Annotated[tuple[Annotated[int, Meta(ge=0, lt=BLOCK_ROWS)], ...], Meta(max_length=BLOCK_ROWS)]
Rows = Annotated[tuple[tuple[Id, Text, Line], ...], Meta(min_length=1, max_length=BLOCK_ROWS)]
Labels = Annotated[tuple[Line, ...], Meta(min_length=1, max_length=1000)]
Asked = tuple[Id, Line, Labels]  # a dimension: its name, its kind, its labels in the order of the probabilities


class Body(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What an entry says."""


class RunOpened(Body, frozen=True, tag="run"):
    """There is this run. The path of its model is left out: it is each machine's own. `task` is the document."""

    spec: RunSpec
    task: Annotated[str, Meta(max_length=1 << 20)] = ""


class RowsPlanned(Body, frozen=True, tag="rows"):
    """These (row id, text, domain) belong to a run. Such a block is the unit work is divided by."""

    run_id: Id
    rows: Rows


class StateSet(Body, frozen=True, tag="state"):
    """What a run should do; the largest (clock, author, seq) counts. A run is done when no row is unanswered."""

    run_id: Id
    state: Literal["running", "paused", "cancelled"]
    note: Line
    clock: Number  # Lamport clock: more than any its author had seen


RowAnswers = Annotated[tuple[Answer, ...], Meta(min_length=1, max_length=MAX_DIMENSIONS)]


class About(msgspec.Struct, frozen=True, array_like=True):
    """What the answers of one batch have in common; with it an entry can be read without any other."""

    dimensions: Annotated[tuple[Asked, ...], Meta(min_length=1, max_length=MAX_DIMENSIONS)]
    labeler: Line  # name of the model
    model_digest: Id
    prompt_id: Id
    node: Line  # name of the machine
    claim: Line
    epoch: Number
    made_at: Annotated[float, Meta(ge=0, le=1e12)]  # seconds since 1970-01-01 UTC
    slot: Annotated[int, Meta(ge=0, le=1000)] = 0


class Labeled(Body, frozen=True, tag="label"):
    """Answers of a model to rows of one block: for each row, in the order of `at`, one to each of the dimensions.

    Each answer is a fact; those of the first row come first. `at` are the places of the rows in the block, `rows`
    their ids; `failed` the places of rows with an error. Answers to rows that were answered before are evidence
    of repeatability and never counted.
    """

    run_id: Id
    block: Block
    at: Offsets
    failed: Offsets
    seconds: Annotated[float, Meta(ge=0, le=1e9)]  # of work for the whole batch
    rows: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=BLOCK_ROWS)]
    answers: Annotated[tuple[RowAnswers, ...], Meta(min_length=1, max_length=BLOCK_ROWS)]
    about: About


class Decided(Body, frozen=True, tag="human"):
    """What a person decided about a row, as it stood after that event: `label` is the label, empty when the
    model's label was rejected; not `standing` when nothing is decided (any more). The largest (clock, author,
    seq) for (task, dimension, row) counts, and comes before any model. `event` is the reviewer's event as JSON."""

    task_name: Id
    dimension: Id
    row_id: Id
    run_id: Line
    label: Line
    standing: bool
    event: Annotated[str, Meta(max_length=1 << 18)]
    clock: Number


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A paired machine. `id` is BLAKE2b-128 of its public key, in hex; `rank` counts pairings, the first has 0.

    A paused member is given no work. `addresses` are host:port by which it was reached when this was written.
    """

    id: MemberId
    key: Annotated[str, Meta(min_length=40, max_length=40)]  # Curve25519 public key, Z85
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    rank: Annotated[int, Meta(ge=0, le=1_000_000)]
    addresses: Annotated[tuple[Line, ...], Meta(max_length=16)] = ()
    paused: bool = False


class MemberSet(Body, frozen=True, tag="member"):
    """A machine belongs to the cluster and looks like this; the largest (clock, author, seq) counts."""

    member: Member
    clock: Number


class MemberRevoked(Body, frozen=True, tag="revoke"):
    """This key does not belong to the cluster, now and for ever, whatever is said of it elsewhere."""

    id: MemberId
    name: Line


class Sealed(Body, frozen=True, tag="seal"):
    """What was exported of a run is what followed from the entries within this version vector; it stays so."""

    run_id: Id
    vector: Vector


AnyBody = RunOpened | RowsPlanned | StateSet | Labeled | Decided | MemberSet | MemberRevoked | Sealed


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of one log. `body` is msgpack of one of the bodies above, so that it travels as it lies."""

    author: Author
    seq: Number  # of its first fact
    count: Annotated[int, Meta(ge=1, le=MAX_FACTS)]
    body: bytes

    @property
    def end(self) -> int:
        """`seq` of the entry after it."""
        return self.seq + self.count


class BlockFound(msgspec.Struct, frozen=True):
    """What a ledger made of a RowsPlanned: `count` rows, of which those at the keys of `elsewhere` were planned
    into this run before, at (block, place)."""

    run_id: str
    block: tuple[str, int]
    count: int
    elsewhere: Mapping[int, tuple[tuple[str, int], int]] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyBody)


def encode(body: AnyBody) -> bytes:
    """The bytes of a body."""
    return _encoder.encode(body)


def decode(body: bytes) -> AnyBody:
    """A body within its bounds. Raises msgspec.DecodeError for anything else."""
    try:
        found: AnyBody = _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:  # msgspec lets these out as they are
        raise msgspec.DecodeError(str(error)) from error
    return found


class Outline(Body, frozen=True, tag="label"):
    """A Labeled without what it says of each row: enough to know which rows are answered."""

    run_id: str
    block: Block
    at: tuple[int, ...]
    failed: tuple[int, ...]
    seconds: float
    rows: msgspec.Raw
    answers: msgspec.Raw
    about: About


AnyOutline = RunOpened | RowsPlanned | StateSet | Outline | Decided | MemberSet | MemberRevoked | Sealed
_outlines = msgspec.msgpack.Decoder(AnyOutline)


def outline(body: bytes) -> AnyOutline:
    """As `decode`, many times faster for answers. Only for what was decoded once before it was stored."""
    found: AnyOutline = _outlines.decode(body)
    return found


def well_formed(count: int, body: AnyBody) -> bool:
    """Whether the parts of a body fit each other and the number of facts claimed for it."""
    if not isinstance(body, Labeled):
        return count == 1
    widths = [len(labels) for _, _, labels in body.about.dimensions]
    return (
        len(body.at) == len(body.rows) == len(body.answers)
        and count == count_of(body)
        and body.at == tuple(sorted(set(body.at)))  # ascending, none twice
        and body.failed == failed_places(body.at, body.answers)
        and all(len(answers) == len(widths) for answers in body.answers)
        and all(
            len(answer.logprobs) in (0, width)
            for answers in body.answers
            for answer, width in zip(answers, widths, strict=True)
        )
    )


def failed_places(at: Sequence[int], answers: Sequence[Sequence[Answer]]) -> tuple[int, ...]:
    """Those of the places whose row has an error."""
    return tuple(place for place, row in zip(at, answers, strict=True) if any(answer.error for answer in row))


def count_of(body: AnyBody) -> int:
    """Facts in a body."""
    return len(body.at) * len(body.about.dimensions) if isinstance(body, Labeled) else 1


def member_of(author: str) -> str:
    """Id of the member that writes this log."""
    return author[:32]
