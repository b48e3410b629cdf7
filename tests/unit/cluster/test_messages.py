"""Messages and entries: what is sent is what is read, and nothing else is ever read, whatever the bytes."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from engine.cluster import entries, messages
from tests.unit.cluster.built import built

Struct = type[msgspec.Struct]
Decode = Callable[[bytes], Any]

MESSAGES: tuple[Struct, ...] = get_args(messages.AnyMessage)
BODIES: tuple[Struct, ...] = get_args(entries.AnyBody)
KINDS: list[tuple[Struct, Decode]] = [
    *((kind, messages.decode) for kind in MESSAGES),
    *((kind, entries.decode) for kind in BODIES),
]
DECODERS = [messages.decode, entries.decode]
AUTHOR = "a" * 32 + "." + "0" * 16

pack = msgspec.msgpack.encode


def name(value: object) -> str:
    return getattr(value, "__module__", "").rpartition(".")[2] + "." + getattr(value, "__name__", "")


any_body = st.one_of([built(kind) for kind, _ in KINDS])
any_valid = any_body.map(pack)


def refused_or_read(decode: Decode, body: bytes) -> object:
    """What comes of bytes: a structure, or DecodeError, and nothing else."""
    try:
        return decode(body)
    except msgspec.DecodeError:
        return None


@pytest.mark.parametrize(("kind", "decode"), KINDS, ids=name)
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_sent_is_what_is_read(kind: Struct, decode: Decode, data: st.DataObject) -> None:
    value = data.draw(built(kind))
    read = decode(pack(value))
    assert type(read) is kind
    assert read == value
    assert pack(read) == pack(value)


def test_both_encoders_are_the_common_one() -> None:
    beat = messages.Beat(messages.NOBODY, {AUTHOR: 3}, (), messages.Card("b"))
    assert messages.decode(messages.encode(beat)) == beat
    sealed = entries.Sealed("run", {AUTHOR: 3})
    assert entries.decode(entries.encode(sealed)) == sealed


@given(one=built(entries.Entry))
def test_an_entry_travels_whole(one: entries.Entry) -> None:
    assert msgspec.msgpack.decode(pack(one), type=entries.Entry) == one
    assert one.end == one.seq + one.count


@pytest.mark.parametrize("decode", DECODERS, ids=name)
@settings(max_examples=500)
@given(body=st.binary(max_size=300))
def test_random_bytes(decode: Decode, body: bytes) -> None:
    refused_or_read(decode, body)


@pytest.mark.parametrize("decode", DECODERS, ids=name)
@settings(max_examples=400)
@given(body=any_valid, data=st.data())
def test_mutated_bytes(decode: Decode, body: bytes, data: st.DataObject) -> None:
    """Changed, cut, doubled and joined with others: either refused, or read as something that stays what it is."""
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "double"])):
            case "change":
                changed[at] = data.draw(st.integers(0, 255))
            case "cut":
                changed = changed[: at + 1]
            case "insert":
                changed[at:at] = data.draw(st.binary(min_size=1, max_size=5))
            case "double":
                changed += changed[at:]
    read = refused_or_read(decode, bytes(changed))
    if read is not None:
        again = decode(pack(read))
        assert pack(again) == pack(read)  # compared as bytes: a changed float may be no number


@settings(max_examples=200)
@given(body=any_valid, data=st.data())
def test_every_cut_is_refused(body: bytes, data: st.DataObject) -> None:
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    for decode in DECODERS:
        with pytest.raises(msgspec.DecodeError):
            decode(cut)


@settings(max_examples=100)
@given(body=any_valid, more=st.binary(min_size=1, max_size=5))
def test_nothing_may_follow(body: bytes, more: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(msgspec.DecodeError):
            decode(body + more)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
TAGS = [str(kind.__struct_config__.tag) for kind, _ in KINDS]


@pytest.mark.parametrize("decode", DECODERS, ids=name)
@settings(max_examples=300)
@given(tag=st.sampled_from(TAGS), values=st.lists(ANY, max_size=10))
def test_well_formed_nonsense(decode: Decode, tag: str, values: list[Any]) -> None:
    refused_or_read(decode, pack([tag, *values]))


@pytest.mark.parametrize("decode", DECODERS, ids=name)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        b"\xc1",  # never used by MessagePack
        pack([]),
        pack(["Message"]),
        pack(["Body"]),
        pack(["Nobody", 1]),
        pack([None]),
        pack([5]),
        pack({"type": "Bye", "boot": "b"}),
        b"\x92\xa3Bye\xa2\xc3\x28",  # not UTF-8
        b"\x93\xa3\x00\x00\x80",
        b"\x92\xa3Bye\xa3\xed\xa0\x80",  # half of a surrogate pair
        b"\x92\xa3Bye\xd6\xff\0\0\0\0",  # a time
        b"\x92\xa3Bye\xc7\x01\x05x",  # an extension
    ],
)
def test_nonsense_by_hand(decode: Decode, body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(body)


def slots(kind: Any) -> list[tuple[str, Any]]:
    """Fields of a structure with their types."""
    hints = get_type_hints(kind, include_extras=True)
    return [(field, hints[field]) for field in kind.__struct_fields__]


def example(kind: Struct) -> list[Any]:
    """The smallest valid values of a structure, in their order."""
    return [smallest(hint) for _, hint in slots(kind)]


def smallest(kind: Any) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        meta: Meta = parts[1]
        if meta.pattern:
            return AUTHOR if meta.min_length == 49 else "a" * 32
        if meta.gt is not None:
            return parts[0](meta.gt + 1)
        if meta.ge is not None:
            return parts[0](meta.ge)
        if get_origin(parts[0]) is dict:
            return {}
        if get_origin(parts[0]) is tuple:
            return [smallest(get_args(parts[0])[0])] * (meta.min_length or 0)
        return (b"x" if parts[0] is bytes else "x") * (meta.min_length or 0)
    if origin is tuple:
        return [] if parts[1:] == (...,) else [smallest(part) for part in parts]
    if origin is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        config = kind.__struct_config__
        values = [*([config.tag] if config.tag else []), *example(kind)]
        return values if config.array_like else dict(zip(kind.__struct_fields__, values, strict=True))
    if parts:
        return None if type(None) in parts else parts[0]
    return kind()


def out_of_bounds(kind: Any) -> list[Any]:
    """Values just beyond the bounds of a type."""
    if get_origin(kind) is not Annotated:
        return []
    base, meta = get_args(kind)
    over: list[Any] = []
    low, high = meta.ge, meta.le if meta.lt is None else meta.lt - 1
    if low is not None:
        over.append(base(low) - 1)
    if high is not None:
        over.append(high + 1 if base is int else high * 1.01)
    if base is float:
        over.append(float("nan"))
    item: Any = smallest(get_args(base)[0]) if get_origin(base) is tuple else b"x" if base is bytes else "x"
    if meta.max_length is None:
        return over
    lengths = [meta.max_length + 1, *([meta.min_length - 1] if meta.min_length else [])]
    return over + [[item] * length if get_origin(base) is tuple else item * length for length in lengths]


BEYOND = [
    (kind, decode, number, value)
    for kind, decode in KINDS
    for number, (_, hint) in enumerate(slots(kind))
    for value in out_of_bounds(hint)
]


def test_the_smallest_of_each_is_read() -> None:
    for kind, decode in KINDS:
        assert type(decode(pack(smallest(kind)))) is kind


def test_one_beyond_any_bound_is_refused() -> None:
    assert len(BEYOND) > 100
    for kind, decode, number, value in BEYOND:
        values = smallest(kind)
        values[1 + number] = value
        with pytest.raises(msgspec.DecodeError):
            decode(pack(values))


HEADERS = [b"\xdd", b"\xdf", b"\xc6", b"\xdb"]  # list, map, bytes, text of any number of items up to 2^32


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("length", [1 << 24, (1 << 32) - 1])
def test_lengths_of_what_is_not_there_take_no_memory(header: bytes, length: int) -> None:
    """A few bytes that announce gigabytes, in the place of each field."""
    huge = header + length.to_bytes(4, "big")
    tracemalloc.start()
    try:
        for kind, decode in KINDS:
            values = [pack(value) for value in smallest(kind)]
            for number in range(1, len(values)):
                hostile = [*values[:number], huge, *values[number + 1 :]]
                with pytest.raises(msgspec.DecodeError):
                    decode(bytes([0x90 + len(values)]) + b"".join(hostile))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa1k", b"\x81\x91"])
def test_deep_nesting_is_refused(nest: bytes) -> None:
    """In every field, and where later versions may have further ones, as deep as a message can be."""
    deep = nest * (messages.MAX_MESSAGE // len(nest) - 1000) + b"\xc0"
    for kind, decode in KINDS:
        values = [pack(value) for value in smallest(kind)]
        for number in range(1, len(values) + 1):
            hostile = [*values[:number], deep, *values[number + 1 :]]
            with pytest.raises(msgspec.DecodeError):
                decode(bytes([0x90 + len(hostile)]) + b"".join(hostile))


LARGE = {
    "vector": ["Beat", [0, ""], {f"{i:032x}.{i:016x}": i for i in range(100_000)}, [], ["b"]],
    "pieces": ["ModelOffer", "d", "n", 1, [b"x" * 16] * 400_000],
    "entries": ["Facts", AUTHOR, 0, [[1, b"x" * 2000]] * 4000, False],
    "rows": ["rows", "run", [["id", "x" * 16_000, ""]] * 512],
    "more fields": ["Bye", "b", *([[1, [2, {"a": b"3"}]]] * 700_000)],
}


@pytest.mark.parametrize("values", LARGE.values(), ids=LARGE)
def test_the_largest_messages_are_read_in_bounded_time_and_memory(values: list[Any]) -> None:
    body = pack(values)
    assert len(body) <= messages.MAX_MESSAGE
    begun = time.process_time()
    for decode in DECODERS:
        refused_or_read(decode, body)
    assert time.process_time() - begun < 5
    tracemalloc.start()
    try:
        for decode in DECODERS:
            refused_or_read(decode, body)
        assert tracemalloc.get_traced_memory()[1] < 16 * messages.MAX_MESSAGE
    finally:
        tracemalloc.stop()


@settings(max_examples=30)
@given(body=built(entries.Labeled))
def test_an_outline_is_what_the_whole_entry_says(body: entries.Labeled) -> None:
    outline = entries.outline(entries.encode(body))
    assert isinstance(outline, entries.Outline)
    for field in ("run_id", "block", "at", "failed", "seconds", "about"):
        assert getattr(outline, field) == getattr(body, field)


@settings(max_examples=30)
@given(body=any_body.filter(lambda body: type(body) in BODIES))
def test_a_body_is_well_formed_for_its_own_count_only(body: entries.AnyBody) -> None:
    count = entries.count_of(body)
    assert not entries.well_formed(count + 1, body)
    if not isinstance(body, entries.Labeled):
        assert entries.well_formed(count, body)
