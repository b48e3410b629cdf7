"""How two machines that share nothing but six digits read off a screen come to know each other's keys.

This is the exchange alone: bytes in, bytes out, no sockets and no clock; `pairing_door` carries it over TCP.
PROTOCOL.md says what goes over the wire and why. In short: SPAKE2 makes of the code and of both machines' ids a
secret nobody in the middle can know or try offline; each side proves it before anything is told; then each tells
who it is, encrypted under a key used once. Every key depends on every byte exchanged before, so whatever is
altered, replayed or left out ends in a refusal.

The SPAKE2 library does not compute in constant time. That is why a code lives for minutes, serves for one pairing
and ends with the third wrong try; nothing else here compares secrets but by `compare_digest`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta
from msgspec.msgpack import Decoder
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from engine.cluster.entries import Id, Line, MemberId
from engine.cluster.identity import member_id

VERSIONS = (1, 1)  # oldest and newest of this exchange spoken here
CODE_DIGITS = 6
TRIES = 3  # wrong ones until a code is void
HEADER = 2  # bytes before each frame: the length of what follows, big-endian
MAX_FRAME = 8192  # bytes after the header
PROOF_BYTES = 32
ELEMENT_BYTES = 33  # of SPAKE2: the side, then a point of Ed25519

Range = tuple[Annotated[int, Meta(ge=1, le=1000)], Annotated[int, Meta(ge=1, le=1000)]]  # oldest, newest
Element = Annotated[bytes, Meta(min_length=ELEMENT_BYTES, max_length=ELEMENT_BYTES)]
Why = Literal["code", "burnt", "busy", "version", "self"]
Trouble = Literal["code", "burnt", "busy", "version", "self", "proof", "declined", "garbled"]
Z85Key = Annotated[str, Meta(pattern=r"^[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}$")]


class Introduction(msgspec.Struct, frozen=True, array_like=True):
    """What a machine tells of itself once the other has proven that it knows the code."""

    key: Z85Key  # Curve25519 public key
    name: Annotated[str, Meta(min_length=1, max_length=80)]
    cluster: Id
    rank: Annotated[int, Meta(ge=0, le=1_000_000)]  # the one given to the other side; 0 if none is given
    port: Annotated[int, Meta(ge=0, le=65535)]  # where it listens for machines
    addresses: Annotated[tuple[Annotated[str, Meta(pattern="^[!-~]{1,262}$")], ...], Meta(max_length=16)]
    protocols: Range  # of the cluster's messages
    software: Annotated[str, Meta(max_length=200)]
    members_known: Annotated[int, Meta(ge=0, le=1_000_000)]

    @property
    def id(self) -> str:
        """The member id that belongs to the key."""
        return member_id(self.key)


class Said(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Anything said in the exchange."""


class Asks(Said, frozen=True, tag="asks"):
    """First, by the machine where the code is typed: who wants to be paired, and in which versions."""

    versions: Range
    id: MemberId


class Shows(Said, frozen=True, tag="shows"):
    """The answer of the machine that shows the code: who it is, and its part of SPAKE2."""

    version: Annotated[int, Meta(ge=1, le=1000)]
    id: MemberId
    element: Element


class Knows(Said, frozen=True, tag="knows"):
    """The asking machine's part of SPAKE2, and its proof that it knows the code."""

    element: Element
    proof: Annotated[bytes, Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]


class Confirms(Said, frozen=True, tag="confirms"):
    """The proof of the machine that shows the code."""

    proof: Annotated[bytes, Meta(min_length=PROOF_BYTES, max_length=PROOF_BYTES)]


class Sealed(Said, frozen=True, tag="sealed"):
    """Encrypted: an Introduction by the asking machine; Accepted or Declined in answer."""

    data: Annotated[bytes, Meta(max_length=MAX_FRAME - 16)]


class Denied(Said, frozen=True, tag="denied"):
    """Instead of Shows or Confirms, the last thing said. Not encrypted, so anybody in between may have said it."""

    why: Why
    tries: Annotated[int, Meta(ge=0, le=TRIES)] = 0  # left with this code
    versions: Range = VERSIONS


class Accepted(Said, frozen=True, tag="accepted"):
    """Sealed: the introduction of the machine that shows the code; it has written the other one down."""

    introduction: Introduction


class Declined(Said, frozen=True, tag="declined"):
    """Sealed: the code was right, and yet there is a reason against it, in words for people."""

    why: Line


class PairingRefused(Exception):
    """This exchange is over without a pairing.

    `why` is one of Denied's, or "proof": the other side does not know the code; "declined" with `detail`;
    "garbled": bytes that do not belong here, whatever they are. `reply` is to be sent before closing, if any.
    """

    def __init__(self, why: Trouble, tries: int = 0, detail: str = "", reply: bytes = b"") -> None:
        super().__init__(why)
        self.why, self.tries, self.detail, self.reply = why, tries, detail, reply


def new_code() -> str:
    """Six digits from the system's randomness."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def shown(code: str) -> str:
    """A code as people read it: 482-913."""
    return f"{code[:3]}-{code[3:]}"


def typed(text: str) -> str | None:
    """The code in what a person typed, with or without hyphens and spaces; None if there is none."""
    code = re.sub(r"[\s\-\u2010-\u2015\u2212]", "", text)
    return code if re.fullmatch(f"[0-9]{{{CODE_DIGITS}}}", code) else None


def frame(said: Said) -> bytes:
    """What goes over the wire for one thing said."""
    body = msgspec.msgpack.encode(said)
    return len(body).to_bytes(HEADER, "big") + body


def size_of(header: bytes) -> int:
    """How many bytes follow a header. Raises PairingRefused for none and for too many."""
    size = int.from_bytes(header, "big")
    if len(header) != HEADER or not 0 < size <= MAX_FRAME:
        raise PairingRefused("garbled")
    return size


def common(mine: tuple[int, int], theirs: tuple[int, int]) -> int | None:
    """The newest version two machines both speak."""
    newest = min(mine[1], theirs[1])
    return newest if newest >= max(mine[0], theirs[0]) else None


T = TypeVar("T")

_asks = Decoder(Asks)
_shows: Decoder[Shows | Denied] = Decoder(Shows | Denied)
_knows = Decoder(Knows)
_confirms: Decoder[Confirms | Denied] = Decoder(Confirms | Denied)
_sealed = Decoder(Sealed)
_introduction = Decoder(Introduction)
_answer: Decoder[Accepted | Declined] = Decoder(Accepted | Declined)


def _read(body: bytes, decoder: Decoder[T]) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PairingRefused("garbled") from error


class _Exchange:
    """One side: what was said so far, and which step comes next. A step that fails was the last."""

    def __init__(self, code: str, mine: Introduction) -> None:
        _introduction.decode(msgspec.msgpack.encode(mine))  # out of its bounds nobody would take it
        self.introduction: Introduction | None = None  # the other side's, once it is proven to be its own
        self._code = code.encode("ascii")
        self.mine = mine
        self._their_id = ""
        self._secret = b""  # of SPAKE2
        self._transcript = hashlib.sha256()
        self._step: Callable[[bytes], bytes] | None = None

    def hear(self, body: bytes) -> bytes:
        """Take what followed a header; returns the frame to send in reply, if any. Raises PairingRefused."""
        step, self._step = self._step, None
        if step is None:
            raise PairingRefused("garbled")
        return step(body)

    def _heard(self, body: bytes) -> None:
        self._transcript.update(len(body).to_bytes(HEADER, "big") + body)

    def _say(self, said: Said) -> bytes:
        sent = frame(said)
        self._transcript.update(sent)
        return sent

    def _derive(self, purpose: bytes) -> bytes:
        """32 bytes that only somebody can know who knows the code, and who heard and said exactly the same."""
        return HKDF(SHA256(), 32, self._transcript.digest(), b"winnow-pairing " + purpose).derive(self._secret)

    def _seal(self, purpose: bytes, said: Said | Introduction) -> bytes:
        # The nonce may stay zero: the key holds for this one message, as every other one has a longer transcript.
        data = ChaCha20Poly1305(self._derive(purpose)).encrypt(bytes(12), msgspec.msgpack.encode(said), None)
        return self._say(Sealed(data))

    def _unseal(self, purpose: bytes, body: bytes) -> bytes:
        data = _read(body, _sealed).data
        try:
            plain = ChaCha20Poly1305(self._derive(purpose)).decrypt(bytes(12), data, None)
        except InvalidTag as error:
            raise PairingRefused("garbled") from error
        self._heard(body)
        return plain

    def _meet(self, other_id: str) -> None:
        if other_id == self.mine.id:
            raise PairingRefused("self", reply=frame(Denied("self")))
        self._their_id = other_id

    def _agree(self, spake: SPAKE2_A | SPAKE2_B, element: bytes) -> None:
        try:
            self._secret = spake.finish(element)
        except (SPAKEError, NotOnCurve, ValueError) as error:
            raise PairingRefused("garbled") from error

    def _check(self, introduction: Introduction) -> Introduction:
        if introduction.id != self._their_id:
            raise PairingRefused("garbled")
        return introduction


class Asking(_Exchange):
    """The machine where the code is typed. `introduction` is there when all is well on both sides."""

    def start(self) -> bytes:
        """The first frame."""
        self._step = self._second
        return self._say(Asks(VERSIONS, self.mine.id))

    def _second(self, body: bytes) -> bytes:
        said = _read(body, _shows)
        if isinstance(said, Denied):
            raise PairingRefused(said.why, said.tries)
        if common(VERSIONS, (said.version, said.version)) is None:
            raise PairingRefused("version")
        self._meet(said.id)
        self._heard(body)
        spake = SPAKE2_A(self._code, self.mine.id.encode(), said.id.encode())
        mine = spake.start()
        self._agree(spake, said.element)
        reply = self._say(Knows(mine, self._derive(b"asking side knows")))
        self._step = self._fourth
        return reply

    def _fourth(self, body: bytes) -> bytes:
        said = _read(body, _confirms)
        if isinstance(said, Denied):
            raise PairingRefused(said.why, said.tries)
        if not hmac.compare_digest(said.proof, self._derive(b"showing side knows")):
            raise PairingRefused("proof")
        self._heard(body)
        reply = self._seal(b"asking side tells", self.mine)
        self._step = self._sixth
        return reply

    def _sixth(self, body: bytes) -> bytes:
        said = _read(self._unseal(b"showing side tells", body), _answer)
        if isinstance(said, Declined):
            raise PairingRefused("declined", detail=said.why)
        self.introduction = self._check(said.introduction)
        return b""


class Showing(_Exchange):
    """The machine that shows the code. After the last frame heard, `introduction` is there and waits to be
    answered by `accept` or `decline`. `tries` are those left with this code, this one included."""

    def __init__(self, code: str, mine: Introduction, tries: int = TRIES) -> None:
        super().__init__(code, mine)
        self._tries = tries
        self._step = self._first

    def _first(self, body: bytes) -> bytes:
        said = _read(body, _asks)
        version = common(VERSIONS, said.versions)
        if version is None:
            raise PairingRefused("version", reply=frame(Denied("version")))
        self._meet(said.id)
        self._heard(body)
        self._spake = SPAKE2_B(self._code, said.id.encode(), self.mine.id.encode())
        reply = self._say(Shows(version, self.mine.id, self._spake.start()))
        self._step = self._third
        return reply

    def _third(self, body: bytes) -> bytes:
        said = _read(body, _knows)
        self._agree(self._spake, said.element)
        # The asking side has to prove it first: who only guesses learns from us whether the guess was right, and
        # nothing else, and cannot hang up before the try is counted.
        proof = self._derive(b"asking side knows")
        if not hmac.compare_digest(said.proof, proof):
            left = self._tries - 1
            denied = Denied("code", left) if left else Denied("burnt")
            raise PairingRefused("code", left, reply=frame(denied))
        self._heard(body)
        reply = self._say(Confirms(self._derive(b"showing side knows")))
        self._step = self._fifth
        return reply

    def _fifth(self, body: bytes) -> bytes:
        self.introduction = self._check(_read(self._unseal(b"asking side tells", body), _introduction))
        return b""

    def accept(self) -> bytes:
        """The last frame: it is written down, and this is who I am (or was, before I wrote it down)."""
        return self._seal(b"showing side tells", Accepted(self.mine))

    def decline(self, why: str) -> bytes:
        """The last frame: no, and why."""
        return self._seal(b"showing side tells", Declined(why[:2000]))
