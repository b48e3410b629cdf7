"""PROTOCOL.md says what the code does: every structure, bound, limit and timer, in both directions."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any, get_args

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from spake2 import SPAKE2_A

from engine.cluster import adverts, entries, messages, pairing
from engine.cluster.identity import member_id
from engine.cluster.peers import Timers
from engine.cluster.sockets import new_keys, set_common
from engine.labeler import Answer
from tests.unit.cluster import protocol
from tests.unit.cluster.protocol import Section
from tests.unit.cluster.test_pairing import introduction
from workspace.facts import DimensionSpec, ModelSpec, Preparation, RowRule, RunSpec, Settings

Struct = type[msgspec.Struct]

TEXT = protocol.DOCUMENT.read_text("utf-8")
SECTIONS = protocol.sections(TEXT)
MESSAGES: set[Struct] = set(get_args(messages.AnyMessage))
ENTRIES: set[Struct] = {*get_args(entries.AnyBody), entries.Entry}
PAIRING = set(protocol.structs(pairing).values()) - {pairing.Said}
PARTS: set[Struct] = {
    *(set(protocol.structs(messages).values()) - MESSAGES - {messages.Message}),
    *(set(protocol.structs(entries).values()) - ENTRIES - {entries.Body, entries.BlockFound, entries.Outline}),
    *(Answer, RunSpec, ModelSpec, DimensionSpec, Preparation, RowRule, Settings),
}
CHAPTERS = {"4": PARTS, "5": MESSAGES, "6": ENTRIES, "10": PAIRING}


def section(title: str) -> Section:
    (found,) = [section for section in SECTIONS if section.title == title]
    return found


def chapter(number: str) -> list[Section]:
    return [section for section in SECTIONS if section.number.startswith(f"{number}.")]


def of_structs() -> list[tuple[Section, Struct | None]]:
    """Each section that describes a structure, and the structure."""
    by_title = {protocol.title(kind): kind for kinds in CHAPTERS.values() for kind in kinds}
    return [
        (one, by_title.get(one.title))
        for number in CHAPTERS
        for one in chapter(number)
        if one.rows and len(one.rows[0]) == 4
    ]


def test_sections_are_numbered_without_a_gap() -> None:
    top, low = 0, 0
    for one in SECTIONS:
        if "." in one.number:
            low += 1
            assert one.number == f"{top}.{low}"
        else:
            top, low = top + 1, 0
            assert one.number == str(top)
    assert top == 15


@pytest.mark.parametrize("number", CHAPTERS)
def test_every_structure_that_travels_is_described_once_and_no_other(number: str) -> None:
    described = [one.title for one, _ in of_structs() if one.number.startswith(f"{number}.")]
    assert sorted(described) == sorted(protocol.title(kind) for kind in CHAPTERS[number])


@pytest.mark.parametrize(("one", "kind"), of_structs(), ids=lambda value: getattr(value, "title", ""))
def test_every_field_has_the_type_bounds_and_default_of_the_code(one: Section, kind: Struct | None) -> None:
    assert kind is not None
    said = [(row[0].strip("`"), row[1], row[2]) for row in one.rows]
    assert said == protocol.fields(kind)
    assert all(row[3] for row in one.rows), "a field without a meaning"
    assert " ".join(one.text).strip(), "a structure without a rule"


def test_every_name_of_a_type_is_defined_as_in_the_code() -> None:
    aliases = protocol.aliases()
    defined = {row[0]: row[1] for row in section("Types").rows}
    assert defined == {name: protocol.words(aliases[name], named=False) for name in defined}
    used = " ".join(row[1] for one, _ in of_structs() for row in one.rows)
    used = " ".join([used, *defined.values()])
    words = set(re.findall(r"\b[A-Z]\w+", re.sub(r"`[^`]*`", "", used)))
    kinds = {kind.__name__ for kind in PARTS | PAIRING}
    assert words - kinds == set(defined)


def test_every_limit_is_the_one_of_the_code() -> None:
    said = {row[0].strip("`"): row[1] for row in section("Limits").rows}
    assert said == {
        f"{module.__name__.rpartition('.')[2]}.{name}": protocol.shown(value)
        for module in protocol.LIMITED
        for name, value in protocol.limits(module).items()
    }


def test_every_timer_is_the_one_of_the_code() -> None:
    said = {row[0].strip("`"): row[1] for row in section("Timers").rows}
    assert said == {field.name: str(field.default) for field in msgspec.structs.fields(Timers)}


def test_every_socket_option_is_the_one_of_the_code() -> None:
    class Recorder:
        def __init__(self) -> None:
            object.__setattr__(self, "options", {})

        def __setattr__(self, name: str, value: Any) -> None:
            vars(self)["options"][name] = value

    recorder: Any = Recorder()
    set_common(recorder, new_keys(), messages.MAX_MESSAGE)
    given = {
        name.upper(): str(int(value)) for name, value in recorder.options.items() if not name.startswith("curve")
    }
    assert {row[0].strip("`"): row[1] for row in section("Socket options").rows} == given


def test_every_name_in_the_rules_is_one_that_is_listed() -> None:
    """Constants, fields and timers the sentences speak of exist."""
    rules = "\n".join(line for one in SECTIONS for line in one.text)
    listed = {row[0].strip("`").rpartition(".")[2] for row in section("Limits").rows}
    options = {row[0].strip("`") for row in section("Socket options").rows}
    for name in re.findall(r"`([A-Z][A-Z_]{3,})`", rules):
        assert name in listed | options | {"ZAP_ENFORCE_DOMAIN"}, name
    kinds = {kind.__name__ for kinds in CHAPTERS.values() for kind in kinds}
    for name in re.findall(r"(?<![.\w] )\b([A-Z][a-z]+[A-Z]\w+)\b", rules):
        assert name in kinds | {"MessagePack", "ZeroMQ"}, name


def test_the_first_frame_is_the_one_that_is_sent() -> None:
    assert f"`{messages.PROTOCOL.decode()}`" in " ".join(section("Topology and framing").text)


def test_structures_travel_as_lists_of_tag_and_fields() -> None:
    hello = messages.Hello("c" * 32, (1, 1), messages.Card("b"), messages.NOBODY, {})
    tag, *values = msgspec.msgpack.decode(messages.encode(hello))
    assert (tag, len(values)) == ("Hello", len(protocol.fields(messages.Hello)))
    # Trailing fields may be missing, and there may be more of them than are known.
    assert messages.decode(msgspec.msgpack.encode([tag, *values[:-1]])) == hello
    assert messages.decode(msgspec.msgpack.encode([tag, *values, "later", 7])) == hello
    with pytest.raises(msgspec.DecodeError):
        messages.decode(msgspec.msgpack.encode([tag, *values[:-2]]))


def test_the_advert_is_the_one_that_is_called_out() -> None:
    quiet = adverts.Advert("ab" * 16, "Study", "c" * 32, "b00t", 5870)
    calling = msgspec.structs.replace(quiet, pairing=5871)
    said = {key.strip("`"): value.strip("`") for key, value in section("Discovery").rows}
    assert list(said) == list(adverts.properties(calling))
    assert set(said) - set(adverts.properties(quiet)) == {"pp"}
    assert said["v"] == adverts.VERSION
    assert adverts.properties(calling)["cl"] == hashlib.blake2b(b"c" * 32, digest_size=8).hexdigest()
    text = " ".join(section("Discovery").text)
    assert f"`{adverts.TYPE}`" in text
    assert f"at most {adverts.LABEL_BYTES} bytes" in text
    assert adverts.instance(quiet) == f"Study-abababab.{adverts.TYPE}"
    assert adverts.host(quiet) == f"{'ab' * 8}.local."


class ByTheBook:
    """The asking side of pairing, made from sections 10.1 to 10.12 alone, without the code that is described."""

    def __init__(self, code: str, me: str) -> None:
        self.code, self.me = code.encode(), me
        self.said = b""
        self.secret = b""

    def frame(self, *values: object) -> bytes:
        body = msgspec.msgpack.encode(values)
        sent = len(body).to_bytes(2, "big") + body
        self.said += sent
        return sent

    def heard(self, frame: bytes) -> list[Any]:
        self.said += frame
        assert int.from_bytes(frame[:2], "big") == len(frame) - 2
        found: list[Any] = msgspec.msgpack.decode(frame[2:])
        return found

    def key(self, purpose: bytes) -> bytes:
        salt = hashlib.sha256(self.said).digest()
        extracted = hmac.digest(salt, self.secret, "sha256")
        return hmac.digest(extracted, b"winnow-pairing " + purpose + b"\1", "sha256")


def test_pairing_by_the_book() -> None:
    mine, theirs = introduction("studio"), introduction("helper")
    book, showing = ByTheBook("482913", mine.id), pairing.Showing("482913", theirs)
    tag, version, their_id, element = book.heard(showing.hear(book.frame("asks", (1, 1), mine.id)[2:]))
    assert (tag, version, their_id) == ("shows", 1, theirs.id)
    spake = SPAKE2_A(b"482913", mine.id.encode("ascii"), their_id.encode("ascii"))
    point = spake.start()
    book.secret = spake.finish(element)
    proof = book.key(b"asking side knows")
    answer = showing.hear(book.frame("knows", point, proof)[2:])
    expected = book.key(b"showing side knows")
    assert book.heard(answer) == ["confirms", expected]
    sealed = ChaCha20Poly1305(book.key(b"asking side tells"))
    told = msgspec.msgpack.encode(msgspec.structs.astuple(mine))
    assert showing.hear(book.frame("sealed", sealed.encrypt(bytes(12), told, None))[2:]) == b""
    assert showing.introduction == mine
    key = book.key(b"showing side tells")
    tag, data = book.heard(showing.accept())
    assert tag == "sealed"
    tag, other = msgspec.msgpack.decode(ChaCha20Poly1305(key).decrypt(bytes(12), data, None))
    assert tag == "accepted"
    assert other[0] == theirs.key
    assert member_id(other[0]) == their_id
    named = [name.strip("`") for name, *_ in section("Introduction").rows]
    assert named == list(pairing.Introduction.__struct_fields__)


def test_the_frames_of_pairing_are_told_in_their_order() -> None:
    frames = [row[0] for row in section("Keys").rows]
    assert frames == ["1 Asks", "2 Shows", "3 Knows", "4 Confirms", "5 Sealed", "6 Sealed"]
    purposes = re.findall(r'`K\("([^"]+)", (\d)\)`', "\n".join("|".join(row) for row in section("Keys").rows))
    source = (protocol.DOCUMENT.parent / "pairing.py").read_text("utf-8")
    assert [int(number) for _, number in purposes] == [2, 3, 4, 5]
    assert {purpose for purpose, _ in purposes} == set(re.findall(r'b"((?:asking|showing) side \w+)"', source))
