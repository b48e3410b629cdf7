"""The exchange of two machines that share six digits, and everything somebody in the middle may try against it."""

from __future__ import annotations

import collections
from collections.abc import Callable
from functools import cache

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spake2 import SPAKE2_A

from engine.cluster import pairing
from engine.cluster.identity import member_id
from engine.cluster.pairing import (
    HEADER,
    MAX_FRAME,
    TRIES,
    Asking,
    Asks,
    Confirms,
    Denied,
    Introduction,
    Knows,
    PairingRefused,
    Range,
    Said,
    Sealed,
    Showing,
    Shows,
)
from engine.cluster.sockets import new_keys

CODE, WRONG = "482913", "482914"


def introduction(who: str = "studio", **changes: object) -> Introduction:
    made = Introduction(
        key=key_of(who),
        name=who,
        cluster="c" * 32,
        rank=1,
        port=40123,
        addresses=("192.168.1.20:40123",),
        protocols=(1, 1),
        software="winnow 0.1.0",
        members_known=1,
    )
    return msgspec.structs.replace(made, **changes)


@cache
def key_of(name: str) -> str:
    return new_keys().public


def body(frame: bytes) -> bytes:
    assert pairing.size_of(frame[:HEADER]) == len(frame) - HEADER
    return frame[HEADER:]


def said(frame: bytes, kind: type[Said]) -> Said:
    return msgspec.msgpack.decode(body(frame), type=kind)


Meddle = Callable[[int, bytes], bytes]  # number of the frame, from 1, and its bytes


class Conversation:
    """Both sides and a middle through which every frame goes."""

    def __init__(
        self,
        asking: Asking,
        showing: Showing,
        meddle: Meddle = lambda number, frame: frame,
        declined: str = "",
    ) -> None:
        self.asking, self.showing = asking, showing
        self.frames: list[bytes] = []
        self._meddle = meddle
        self._declined = declined

    def _through(self, frame: bytes) -> bytes:
        self.frames.append(frame)
        return body(self._meddle(len(self.frames), frame))

    def run(self) -> None:
        """Raises the first refusal of either side; who refused is told by `refused_by`."""
        heard = self._through(self.asking.start())
        while True:
            self.turn = "showing"
            reply = self.showing.hear(heard)
            if not reply:
                reply = self.showing.decline(self._declined) if self._declined else self.showing.accept()
            heard = self._through(reply)
            self.turn = "asking"
            reply = self.asking.hear(heard)
            if not reply:
                return
            heard = self._through(reply)


def sides(code: str = CODE, other: str = CODE, tries: int = TRIES) -> tuple[Asking, Showing]:
    return Asking(code, introduction("studio")), Showing(other, introduction("helper"), tries)


def refused(asking: Asking, showing: Showing, meddle: Meddle = lambda number, frame: frame) -> PairingRefused:
    """The exchange ends in a refusal of which neither side gets an introduction."""
    with pytest.raises(PairingRefused) as caught:
        Conversation(asking, showing, meddle).run()
    assert asking.introduction is None
    return caught.value


@settings(max_examples=10)
@given(st.text("0123456789", min_size=6, max_size=6))
def test_two_machines_with_the_same_code_know_each_other(code: str) -> None:
    asking, showing = sides(code, code)
    conversation = Conversation(asking, showing)
    conversation.run()
    assert asking.introduction == introduction("helper")
    assert showing.introduction == introduction("studio")
    assert len(conversation.frames) == 6


@settings(max_examples=15)
@given(st.text("0123456789", min_size=6, max_size=6), st.text("0123456789", min_size=6, max_size=6))
def test_two_codes_never_fit(code: str, other: str) -> None:
    if code == other:
        return
    asking, showing = sides(code, other)
    trouble = refused(asking, showing)
    assert (trouble.why, trouble.tries) == ("code", TRIES - 1)
    assert showing.introduction is None
    with pytest.raises(PairingRefused) as told:
        asking.hear(body(trouble.reply))
    assert (told.value.why, told.value.tries) == ("code", TRIES - 1)


def test_the_third_wrong_try_is_told_as_the_end_of_the_code() -> None:
    asking, showing = sides(WRONG, tries=1)
    trouble = refused(asking, showing)
    assert (trouble.why, trouble.tries) == ("code", 0)
    with pytest.raises(PairingRefused) as told:
        asking.hear(body(trouble.reply))
    assert told.value.why == "burnt"


def test_what_was_told_is_read_by_nobody_else() -> None:
    """Neither name nor key, cluster or address of either side is to be seen in anything that was sent."""
    conversation = Conversation(*sides())
    conversation.run()
    everything = b"".join(conversation.frames)
    for one in (introduction("studio"), introduction("helper")):
        for secret in (one.key, one.name, one.cluster, one.addresses[0], one.software):
            assert secret.encode() not in everything
    assert CODE.encode() not in everything


def test_a_wrong_code_is_told_nothing() -> None:
    """All that a guesser gets from the machine with the code is a point, and that the guess was wrong."""
    conversation = Conversation(*sides(WRONG))
    with pytest.raises(PairingRefused) as trouble:
        conversation.run()
    heard = [conversation.frames[1], trouble.value.reply]
    assert isinstance(said(heard[0], Shows), Shows)
    assert said(heard[1], Denied) == Denied("code", TRIES - 1)
    assert len(conversation.frames) == 3


def test_a_machine_without_the_code_that_answers_gets_no_introduction() -> None:
    """Who only pretends to show the code has to prove it before anything is told, and cannot."""
    for echo in (False, True):
        asking, fake = sides(other=WRONG)
        knows = said(asking.hear(body(fake.hear(body(asking.start())))), Knows)
        assert isinstance(knows, Knows)
        with pytest.raises(PairingRefused) as trouble:
            asking.hear(body(pairing.frame(Confirms(knows.proof if echo else bytes(32)))))
        assert trouble.value.why == "proof"
        assert trouble.value.reply == b""


@settings(max_examples=60)
@given(st.integers(1, 6), st.data())
def test_a_changed_byte_anywhere_ends_it(number: int, data: st.DataObject) -> None:
    """A machine in the middle that changes anything is found out by the side it cheats or by the one after."""

    def meddle(at: int, frame: bytes) -> bytes:
        if at != number:
            return frame
        place = data.draw(st.integers(HEADER, len(frame) - 1))
        change = data.draw(st.integers(1, 255))
        return frame[:place] + bytes([frame[place] ^ change]) + frame[place + 1 :]

    asking, showing = sides()
    trouble = refused(asking, showing, meddle)
    assert trouble.why in ("garbled", "code", "proof", "burnt", "busy", "version", "self")
    if number < 6:
        assert showing.introduction is None


def relayed(change: Callable[[Said], Said], number: int, kind: type[Said]) -> Meddle:
    return lambda at, frame: pairing.frame(change(said(frame, kind))) if at == number else frame


@pytest.mark.parametrize("number", [1, 2])
def test_a_swapped_id_is_found_out(number: int) -> None:
    """Somebody in the middle who puts the id of a key of its own in place of the true one gets no further."""
    mallory = introduction("mallory").id
    kind: type[Said] = Asks if number == 1 else Shows
    meddle = relayed(lambda it: msgspec.structs.replace(it, id=mallory), number, kind)
    asking, showing = sides()
    assert refused(asking, showing, meddle).why == "code"
    assert showing.introduction is None


@pytest.mark.parametrize("liar", ["asking", "showing"])
def test_another_key_than_the_one_announced_is_refused(liar: str) -> None:
    """Even somebody who knows the code cannot be introduced under an id that is not of its key."""
    asking, showing = sides()

    def lie_late(number: int, frame: bytes) -> bytes:
        if number == 3:
            side = asking if liar == "asking" else showing
            side.mine = msgspec.structs.replace(side.mine, key=key_of("mallory"))
        return frame

    assert refused(asking, showing, lie_late).why == "garbled"
    assert showing.introduction == (None if liar == "asking" else introduction("studio"))


def test_two_exchanges_with_a_machine_in_the_middle_of_its_own_code_fail() -> None:
    """Mallory plays the helper to the studio and the studio to the helper, guessing: each finds out."""
    to_studio, to_helper = Showing(WRONG, introduction("mallory")), Asking(WRONG, introduction("mallory"))
    assert refused(Asking(CODE, introduction("studio")), to_studio).why == "code"
    showing = Showing(CODE, introduction("helper"))
    assert refused(to_helper, showing).why == "code"
    assert showing.introduction is None


def test_a_replay_of_everything_said_is_refused() -> None:
    """The recording of a pairing that went well is of no use, to either side, with the same code."""
    conversation = Conversation(*sides())
    conversation.run()
    recorded = [body(frame) for frame in conversation.frames]
    showing = Showing(CODE, introduction("helper"))
    showing.hear(recorded[0])
    with pytest.raises(PairingRefused) as trouble:
        showing.hear(recorded[2])
    assert trouble.value.why == "code"
    asking = Asking(CODE, introduction("studio"))
    asking.start()
    asking.hear(recorded[1])
    with pytest.raises(PairingRefused) as trouble:
        asking.hear(recorded[3])
    assert trouble.value.why == "proof"


def test_what_one_side_said_is_not_taken_back_from_the_other() -> None:
    """Reflected frames are refused at every step: each kind has its place, each key its direction."""
    for number in range(1, 7):
        asking, showing = sides()
        frames: list[bytes] = []

        def reflect(at: int, frame: bytes, number: int = number, frames: list[bytes] = frames) -> bytes:
            frames.append(frame)
            return frames[-2] if at == number and at > 1 else frame

        if number == 1:
            with pytest.raises(PairingRefused):
                asking.hear(body(asking.start()))
        else:
            refused(asking, showing, reflect)
    sealed = Conversation(*sides())
    sealed.run()
    asking, showing = sides()
    # The very sealed frame of the asking side as an answer to it: right kind, right secret, wrong direction.
    sent = collections.deque[bytes]()

    def reflect_last(at: int, frame: bytes) -> bytes:
        sent.append(frame)
        return sent[4] if at == 6 else frame

    assert refused(asking, showing, reflect_last).why == "garbled"


def test_a_reflected_element_is_refused() -> None:
    """The point of the showing side sent back to it, turned into one of the asking side."""
    showing = Showing(CODE, introduction("helper"))
    shows = said(showing.hear(body(pairing.frame(Asks((1, 1), introduction("studio").id)))), Shows)
    assert isinstance(shows, Shows)
    with pytest.raises(PairingRefused) as trouble:
        showing.hear(body(pairing.frame(Knows(b"A" + shows.element[1:], bytes(32)))))
    assert trouble.value.why == "garbled"
    assert trouble.value.reply == b""


LOW_ORDER = [
    bytes([1]) + bytes(31),  # the neutral element
    (2**255 - 20).to_bytes(32, "little"),  # of order 2
    bytes(32),  # of order 4
]


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("side", [b"A", b"B", b"S", b"\0"])
def test_points_that_would_make_a_known_secret_are_refused(point: bytes, side: bytes) -> None:
    showing = Showing(CODE, introduction("helper"))
    showing.hear(body(pairing.frame(Asks((1, 1), introduction("studio").id))))
    with pytest.raises(PairingRefused) as trouble:
        showing.hear(body(pairing.frame(Knows(side + point, bytes(32)))))
    assert trouble.value.why == "garbled"


@settings(max_examples=50)
@given(st.binary(min_size=33, max_size=33))
def test_any_element_is_refused_in_words(element: bytes) -> None:
    showing = Showing(CODE, introduction("helper"))
    showing.hear(body(pairing.frame(Asks((1, 1), introduction("studio").id))))
    with pytest.raises(PairingRefused):
        showing.hear(body(pairing.frame(Knows(element, bytes(32)))))


@settings(max_examples=60)
@given(st.integers(1, 6), st.data())
def test_truncated_frames_are_refused(number: int, data: st.DataObject) -> None:
    def cut(at: int, frame: bytes) -> bytes:
        if at != number:
            return frame
        keep = data.draw(st.integers(1, len(frame) - HEADER - 1))
        return keep.to_bytes(HEADER, "big") + frame[HEADER : HEADER + keep]

    asking, showing = sides()
    assert refused(asking, showing, cut).why == "garbled"


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from(["asks", "shows", "knows", "confirms", "sealed", "answered"]))
def test_random_bytes_are_refused_at_every_step_and_get_no_answer(garbage: bytes, step: str) -> None:
    asking, showing = sides()
    side = _at(step, asking, showing)
    with pytest.raises(PairingRefused) as trouble:
        side.hear(garbage)
    assert trouble.value.why == "garbled"
    assert trouble.value.reply == b""


def _at(step: str, asking: Asking, showing: Showing) -> Asking | Showing:
    """The side that waits for this frame."""
    heard = asking.start()
    side: list[Asking | Showing] = [showing, asking]
    for number, waited in enumerate(["asks", "shows", "knows", "confirms", "sealed", "answered"]):
        now = side[number % 2]
        if waited == step:
            return now
        heard = now.hear(body(heard)) or showing.accept()
    raise AssertionError(step)


def test_deep_nesting_is_refused() -> None:
    _, showing = sides()
    with pytest.raises(PairingRefused):
        showing.hear(b"\x91" * (MAX_FRAME - 1) + b"\xc0")


def test_a_side_hears_nothing_after_a_refusal() -> None:
    """One connection, one guess: after a wrong proof the same exchange takes no further one."""
    asking, showing = sides(WRONG)
    knows = asking.hear(body(showing.hear(body(asking.start()))))
    for why in ("code", "garbled", "garbled"):
        with pytest.raises(PairingRefused) as trouble:
            showing.hear(body(knows))
        assert trouble.value.why == why


@pytest.mark.parametrize("header", [b"", b"\x01", b"\0\0", b"GE", b"\xff\xff", (MAX_FRAME + 1).to_bytes(2, "big")])
def test_headers_of_nothing_and_of_too_much_are_refused(header: bytes) -> None:
    with pytest.raises(PairingRefused):
        pairing.size_of(header)
    assert pairing.size_of(MAX_FRAME.to_bytes(2, "big")) == MAX_FRAME


def test_the_largest_introduction_fits_into_a_frame() -> None:
    wide = "\U0001f600"
    largest = introduction(
        name=wide * 80,
        cluster=wide * 128,
        rank=1_000_000,
        addresses=("x" * 262,) * 16,
        protocols=(1000, 1000),
        software=wide * 200,
        members_known=1_000_000,
    )
    asking = Asking(CODE, msgspec.structs.replace(largest, key=key_of("studio")))
    showing = Showing(CODE, msgspec.structs.replace(largest, key=key_of("helper")))
    conversation = Conversation(asking, showing)
    conversation.run()
    assert max(len(frame) for frame in conversation.frames) < HEADER + MAX_FRAME


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "x" * 39},
        {"key": "~" * 40},
        {"name": ""},
        {"name": "x" * 81},
        {"cluster": ""},
        {"rank": -1},
        {"port": 65536},
        {"addresses": ("has space:1",)},
        {"addresses": ("x:1",) * 17},
        {"protocols": (0, 1)},
        {"software": "x" * 201},
        {"members_known": -1},
    ],
)
def test_nobody_is_introduced_out_of_bounds(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        Asking(CODE, introduction("studio", **changes))
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(introduction("studio", **changes)), Introduction)


def test_a_long_reason_is_cut() -> None:
    asking, showing = sides()
    with pytest.raises(PairingRefused) as trouble:
        Conversation(asking, showing, declined="no " * 2000).run()
    assert trouble.value.why == "declined"
    assert trouble.value.detail.startswith("no no")
    assert len(trouble.value.detail) == 2000


@pytest.mark.parametrize(
    ("mine", "theirs", "newest"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 3), (2, 5), 3),
        ((2, 5), (1, 3), 3),
        ((1, 1), (2, 3), None),
        ((4, 4), (1, 3), None),
    ],
)
def test_the_newest_common_version(mine: Range, theirs: Range, newest: int | None) -> None:
    assert pairing.common(mine, theirs) == newest


def test_another_version_is_said_to_both() -> None:
    showing = Showing(CODE, introduction("helper"))
    with pytest.raises(PairingRefused) as trouble:
        showing.hear(body(pairing.frame(Asks((7, 9), introduction("studio").id))))
    assert trouble.value.why == "version"
    asking = Asking(CODE, introduction("studio"))
    asking.start()
    with pytest.raises(PairingRefused) as told:
        asking.hear(body(trouble.value.reply))
    assert told.value.why == "version"
    meddle = relayed(lambda it: msgspec.structs.replace(it, version=7), 2, Shows)
    assert refused(*sides(), meddle).why == "version"


def test_a_machine_is_not_paired_with_itself() -> None:
    mine = introduction("studio")
    asking, showing = Asking(CODE, mine), Showing(CODE, mine)
    trouble = refused(asking, showing)
    assert trouble.why == "self"
    with pytest.raises(PairingRefused) as told:
        asking.hear(body(trouble.reply))
    assert told.value.why == "self"


def test_sealed_frames_are_keyed_by_everything_before() -> None:
    """The sealed introduction of one exchange is of no use in another of the same two machines and code."""
    recorded = Conversation(*sides())
    recorded.run()
    assert refused(*sides(), lambda at, frame: recorded.frames[4] if at == 5 else frame).why == "garbled"
    assert refused(*sides(), lambda at, frame: recorded.frames[5] if at == 6 else frame).why == "garbled"
    assert isinstance(said(recorded.frames[4], Sealed), Sealed)


def test_a_peer_that_knows_one_code_can_test_no_other_from_what_it_saw() -> None:
    """Whatever is seen fits every code as well: the showing side's point under one code is a point under any."""
    _, showing = sides()
    shows = said(showing.hear(body(pairing.frame(Asks((1, 1), introduction("studio").id)))), Shows)
    assert isinstance(shows, Shows)
    for number in range(0, 1_000_000, 250_000):
        guess = SPAKE2_A(b"%06d" % number, b"", b"")
        guess.start()
        assert len(guess.finish(shows.element)) == 32  # no guess is told from another by an error


def test_codes_are_six_digits_and_differ() -> None:
    codes = {pairing.new_code() for _ in range(200)}
    assert len(codes) > 190
    assert all(len(code) == 6 and code.isascii() and code.isdecimal() for code in codes)


@given(st.integers(0, 999_999))
def test_a_code_is_typed_as_it_is_shown(number: int) -> None:
    code = f"{number:06d}"
    for text in (code, pairing.shown(code), f" {code[:3]} {code[3:]}\n", f"{code[:3]}–{code[3:]}"):
        assert pairing.typed(text) == code


@pytest.mark.parametrize(
    "text", ["", "48291", "4829134", "482-91a", "４８２９１３", "+48291", "482.913", "0x4829"]
)
def test_what_is_no_code(text: str) -> None:
    assert pairing.typed(text) is None


def test_an_introduction_names_the_id_of_its_key() -> None:
    assert introduction("studio").id == member_id(key_of("studio"))
