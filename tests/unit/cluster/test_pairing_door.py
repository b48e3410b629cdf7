"""The door machines are paired through: real sockets on loopback, honest machines, clumsy and hostile ones."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import psutil
import pytest

from engine.cluster import pairing, pairing_door
from engine.cluster.pairing import HEADER, TRIES, Asks, Denied, Introduction, Said, Showing
from engine.cluster.pairing_door import MAX_EXCHANGES, MAX_WAITING, PairingDoor, pair
from tests.unit.cluster.test_pairing import introduction
from tests.waiting import wait_for
from workspace.errors import EngineError, RunError

HERE = "127.0.0.1"
STUDIO, HELPER = introduction("studio"), introduction("helper")


class House:
    """A machine with a door: whom it accepted, and what it says to those who ask."""

    def __init__(self, why_not: str = "", connection_seconds: float = 10.0) -> None:
        self.now = 1000.0
        self.accepted: list[Introduction] = []
        self.why_not = why_not
        self.before_accepting: Callable[[], Awaitable[None]] | None = None
        self.door = PairingDoor(lambda: HELPER, self._accept, lambda: self.now, connection_seconds)

    async def _accept(self, other: Introduction) -> str:
        if self.before_accepting is not None:
            await self.before_accepting()
        if not self.why_not:
            self.accepted.append(other)
        return self.why_not

    async def open(self, seconds: float = 120.0) -> tuple[str, str]:
        """Address and code."""
        shown = await self.door.open(HERE, seconds=seconds)
        return f"{HERE}:{shown.port}", shown.code

    @property
    def tries(self) -> int:
        assert self.door.state is not None
        return self.door.state.tries_left


@asynccontextmanager
async def house(**options: Any) -> AsyncIterator[House]:
    made = House(**options)
    try:
        yield made
    finally:
        await made.door.close()
        assert not made.door._connections
        assert not [c for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]


def within(test: Callable[[], Awaitable[None]], seconds: float = 60.0) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await test()

    asyncio.run(limited())


async def until(condition: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_for, condition, what)


def wrong(code: str) -> str:
    return f"{(int(code.replace('-', '')) + 1) % 1_000_000:06d}"


class Raw:
    """A connection that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, address: str) -> Raw:
        host, port = address.split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def hear(self, kind: type[Said]) -> Said:
        size = pairing.size_of(await self.reader.readexactly(HEADER))
        return msgspec.msgpack.decode(await self.reader.readexactly(size), type=kind)

    async def rest(self) -> bytes:
        """All that still comes until the other side hangs up."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def close(self) -> None:
        self.writer.transport.abort()


async def refused(address: str, code: str, mine: Introduction = STUDIO, timeout: float = 10.0) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await pair(address, code, mine, timeout)
    assert caught.value.title
    assert caught.value.advice
    return caught.value


def test_a_machine_is_paired_by_its_code_and_the_door_closes() -> None:
    async def test() -> None:
        async with house() as helper:
            assert helper.door.state is None
            address, code = await helper.open()
            assert await pair(address, code, STUDIO) == HELPER
            assert helper.accepted == [STUDIO]
            assert helper.door.state is None
            assert helper.door.ending == "paired"
            assert "No machine waits" in (await refused(address, code)).title

    within(test)


def test_the_code_shown_is_six_digits_with_its_time_and_tries() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open(seconds=120)
            assert pairing.shown(pairing.typed(code) or "") == code
            helper.now += 50
            state = helper.door.state
            assert state is not None
            assert (state.code, state.seconds_left, state.tries_left) == (code, 70, TRIES)
            assert address.endswith(f":{state.port}")

    within(test)


def test_three_wrong_codes_end_the_code() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            first = await refused(address, wrong(code))
            assert (first.title, helper.tries) == ("The code was not right.", 2)
            assert "2 tries are left" in first.advice
            assert "1 try is left" in (await refused(address, wrong(code))).advice
            last = await refused(address, wrong(code))
            assert "void" in last.title
            assert helper.door.state is None
            assert helper.door.ending == "burnt"
            assert "No machine waits" in (await refused(address, code)).title
            assert helper.accepted == []

    within(test)


def test_the_right_code_after_two_wrong_ones() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            for _ in range(2):
                await refused(address, wrong(code))
            assert await pair(address, code, STUDIO) == HELPER

    within(test)


def test_a_code_typed_too_late_is_void() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open(seconds=120)
            helper.now += 120
            assert helper.door.state is None
            error = await refused(address, code)
            assert "broke off" in error.title
            assert "No machine waits" in (await refused(address, code)).title
            assert (helper.accepted, helper.door.ending) == ([], "late")

    within(test)


def test_a_code_that_ends_in_the_middle_is_void() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open(seconds=120)
            raw = await Raw.to(address)
            asking = pairing.Asking(code.replace("-", ""), STUDIO)
            raw.writer.write(asking.start())
            shows = await raw.hear(pairing.Shows)
            helper.now += 120
            raw.writer.write(asking.hear(msgspec.msgpack.encode(shows)))
            assert await raw.rest() == b""
            raw.close()
            assert (helper.accepted, helper.door.ending) == ([], "late")

    within(test)


def test_the_door_closes_by_itself() -> None:
    async def test() -> None:
        helper = PairingDoor(lambda: HELPER, House()._accept)
        await helper.open(HERE, seconds=0.05)
        await until(lambda: helper.ending == "late", "the door closed")
        assert helper.state is None
        await helper.close()

    within(test)


def test_a_new_code_voids_the_one_before() -> None:
    async def test() -> None:
        async with house() as helper:
            before, old = await helper.open()
            address, code = await helper.open()
            assert helper.tries == TRIES
            assert "No machine waits" in (await refused(before, old)).title or before == address
            if old != code:
                assert "The code was not right" in (await refused(address, old)).title
            assert await pair(address, code, STUDIO) == HELPER

    within(test)


def test_opened_twice_at_once_there_is_one_door() -> None:
    async def test() -> None:
        async with house() as helper:
            await asyncio.gather(*(helper.open() for _ in range(5)))
            listening = [c for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            assert len(listening) == 1

    within(test)


def test_a_port_in_use_is_said() -> None:
    async def test() -> None:
        async with house() as helper, house() as other:
            address, _ = await helper.open()
            with pytest.raises(EngineError) as caught:
                await other.door.open(HERE, int(address.split(":")[1]))
            assert "cannot wait" in caught.value.title
            assert other.door.state is None
            await helper.door.close()

    within(test)


def test_closed_in_the_middle_the_other_side_is_told_and_nothing_stays() -> None:
    async def test() -> None:
        async with house() as helper:
            address, _ = await helper.open()
            raw = await Raw.to(address)
            raw.writer.write(pairing.frame(Asks((1, 1), STUDIO.id)))
            await raw.hear(pairing.Shows)
            await helper.door.close()
            assert await raw.rest() == b""
            raw.close()
            assert (helper.accepted, helper.door.ending) == ([], "closed")

    within(test)


def test_cancelled_in_the_middle_the_code_still_serves() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            reached = asyncio.Event()
            go_on = asyncio.Event()

            async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readexactly(HEADER)
                reached.set()
                await go_on.wait()
                writer.close()

            silent = await asyncio.start_server(slow, HERE, 0)
            port = silent.sockets[0].getsockname()[1]
            pairing_up = asyncio.create_task(pair(f"{HERE}:{port}", code, STUDIO))
            await reached.wait()
            pairing_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pairing_up
            go_on.set()
            silent.close()
            await silent.wait_closed()
            # The same, seen from the door: whoever asked is gone in the middle, the next one is served.
            raw = await Raw.to(address)
            raw.writer.write(pairing.frame(Asks((1, 1), STUDIO.id)))
            await raw.hear(pairing.Shows)
            raw.close()
            await until(lambda: helper.door._talking is None, "the door noticed")
            assert helper.tries == TRIES
            assert await pair(address, code, STUDIO) == HELPER

    within(test)


def test_what_is_being_accepted_is_finished_and_answered_though_the_door_closes() -> None:
    async def test() -> None:
        async with house() as helper:
            begun, go_on = asyncio.Event(), asyncio.Event()

            async def wait() -> None:
                begun.set()
                await go_on.wait()

            helper.before_accepting = wait
            address, code = await helper.open()
            pairing_up = asyncio.create_task(pair(address, code, STUDIO))
            await begun.wait()
            closing = asyncio.create_task(helper.door.close())
            await until(lambda: helper.door.state is None, "the door closed")
            go_on.set()
            await closing
            assert await pairing_up == HELPER
            assert (helper.accepted, helper.door.ending) == ([STUDIO], "paired")

    within(test)


def test_two_machines_at_once_the_second_is_asked_to_wait() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            first = await Raw.to(address)
            first.writer.write(pairing.frame(Asks((1, 1), introduction("first").id)))
            await first.hear(pairing.Shows)
            error = await refused(address, code)
            assert "being paired with another" in error.title
            assert helper.tries == TRIES
            first.close()
            await until(lambda: helper.door._talking is None, "the door noticed")
            assert await pair(address, code, STUDIO) == HELPER
            assert helper.accepted == [STUDIO]

    within(test)


def test_of_many_with_the_right_code_one_is_paired() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            asking = [pair(address, code, introduction(f"studio {number}")) for number in range(6)]
            ends = await asyncio.gather(*asking, return_exceptions=True)
            assert [end for end in ends if not isinstance(end, EngineError)] == [HELPER]
            assert len(helper.accepted) == 1

    within(test)


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: helper\r\n\r\n",
    b"\0\0",
    b"\xff\xff" + b"x" * 70_000,
    b"\0\x05hello",
    b"\x1f\xff" + b"\x91" * 0x1FFF,
    pairing.frame(Denied("busy")),
    pairing.frame(Asks((1, 1), "not an id")),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_not_answered_with_a_single_byte(garbage: bytes) -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            raw = await Raw.to(address)
            raw.writer.write(garbage)
            assert await raw.rest() == b""
            raw.close()
            assert helper.tries == TRIES
            assert await pair(address, code, STUDIO) == HELPER

    within(test)


def test_a_megabyte_is_not_read() -> None:
    async def test() -> None:
        async with house() as helper:
            address, _ = await helper.open()
            raw = await Raw.to(address)
            raw.writer.write(b"\x20\x00" + b"x" * (8 << 20))
            with contextlib.suppress(ConnectionError):
                await raw.writer.drain()
            assert await raw.rest() == b""
            raw.close()

    within(test)


STARTS = {
    "nothing": b"",
    "a byte": b"\0",
    "half a header": b"\0\x28\x93",
    "a question": pairing.frame(Asks((1, 1), STUDIO.id)),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_who_says_nothing_more_is_hung_up_on(start: bytes) -> None:
    async def test() -> None:
        async with house(connection_seconds=0.2) as helper:
            address, _ = await helper.open()
            raw = await Raw.to(address)
            raw.writer.write(start)
            await raw.rest()  # ends
            raw.close()
            await until(lambda: not helper.door._connections, "the door forgot it")
            assert helper.tries == TRIES

    within(test)


def test_one_byte_at_a_time_does_not_hold_the_door_open() -> None:
    async def test() -> None:
        async with house(connection_seconds=0.3) as helper:
            address, _ = await helper.open()
            raw = await Raw.to(address)

            async def drip() -> None:
                with contextlib.suppress(ConnectionError):
                    for byte in b"\x1f\xff" + bytes(0x1FFF):
                        raw.writer.write(bytes([byte]))
                        await raw.writer.drain()
                        await asyncio.sleep(0.01)  # what a slow-loris does

            dripping = asyncio.create_task(drip())
            await raw.rest()
            dripping.cancel()
            raw.close()
            await until(lambda: not helper.door._connections, "the door forgot it")
            assert helper.tries == TRIES

    within(test)


def test_many_silent_connections_hinder_nobody() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            silent = await asyncio.gather(*(Raw.to(address) for _ in range(100)))
            await until(lambda: len(helper.door._connections) <= MAX_WAITING, "the oldest made room")
            assert await pair(address, code, STUDIO) == HELPER
            for raw in silent:
                assert await raw.rest() == b""
                raw.close()

    within(test)


def test_connections_reset_at_once_leave_nothing() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            for _ in range(30):
                raw = await Raw.to(address)
                linger = struct.pack("ii", 1, 0)
                raw.writer.get_extra_info("socket").setsockopt(1, 13, linger)  # SOL_SOCKET, SO_LINGER: RST
                raw.close()
            await until(lambda: not helper.door._connections, "nobody is left")
            assert await pair(address, code, STUDIO) == HELPER

    within(test)


def test_nobody_keeps_a_machine_computing_for_ever() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            for _ in range(MAX_EXCHANGES):
                raw = await Raw.to(address)
                raw.writer.write(pairing.frame(Asks((1, 1), STUDIO.id)))
                await raw.hear(pairing.Shows)
                raw.close()
                await until(lambda: helper.door._talking is None, "the door noticed")
            assert "void" in (await refused(address, code)).title
            assert helper.door.ending == "burnt"

    within(test)


def test_a_guess_counts_though_the_guesser_does_not_wait_for_the_answer() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            for left in (2, 1):
                raw = await Raw.to(address)
                asking = pairing.Asking(wrong(code), STUDIO)
                raw.writer.write(asking.start())
                raw.writer.write(asking.hear(msgspec.msgpack.encode(await raw.hear(pairing.Shows))))
                await raw.writer.drain()
                raw.writer.close()
                await until(partial(_counted, helper, left), "the try was counted")
                await until(lambda: helper.door._talking is None, "the door is free")

    within(test)


def _counted(helper: House, left: int) -> bool:
    return helper.tries == left


def test_not_accepted_is_said_with_the_reason() -> None:
    async def test() -> None:
        async with house(why_not="This machine works in another cluster.") as helper:
            address, code = await helper.open()
            error = await refused(address, code)
            assert error.title == "The other machine did not accept."
            assert "works in another cluster" in error.advice
            assert helper.door.state is not None

    within(test)


def test_an_error_with_words_while_accepting_is_said() -> None:
    async def test() -> None:
        async with house() as helper:

            async def fail() -> None:
                raise RunError("The disk is full.", "Free some space.")

            helper.before_accepting = fail
            address, code = await helper.open()
            assert "The disk is full. Free some space." in (await refused(address, code)).advice

    within(test)


def test_any_other_error_while_accepting_is_not_hidden() -> None:
    async def test() -> None:
        raised: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        async with house() as helper:
            broken = ZeroDivisionError()

            async def fail() -> None:
                raise broken

            helper.before_accepting = fail
            address, code = await helper.open()
            assert "broke off" in (await refused(address, code)).title
            assert raised == [broken]

    within(test)


def test_machines_that_could_not_speak_with_each_other_are_not_paired() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            newer = msgspec.structs.replace(STUDIO, protocols=(2, 3), software="winnow 9.0")
            error = await refused(address, code, newer)
            assert "winnow 9.0" in error.advice
            assert helper.accepted == []

    within(test)


def test_a_machine_is_not_paired_with_itself() -> None:
    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()
            assert "the same key" in (await refused(address, code, HELPER)).title

    within(test)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abc-def"])
def test_what_is_no_code_is_said_before_anything_is_sent(code: str) -> None:
    within(lambda: _expect_title("127.0.0.1:1", code, "six digits"))


@pytest.mark.parametrize(
    "address", ["", "helper", ":80", "helper:", "helper:x", "helper:0", "helper:65536", "h:-1"]
)
def test_what_is_no_address_is_said(address: str) -> None:
    within(lambda: _expect_title(address, "482913", "is no address of a machine"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1"])
def test_where_nobody_is(address: str) -> None:
    within(lambda: _expect_title(address, "482913", "No machine waits"))


async def _expect_title(address: str, code: str, words: str) -> None:
    assert words in (await refused(address, code)).title


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _pair_with(answer: Handler, timeout: float = 10.0, code: str = "482913") -> EngineError:
    """What pairing with a machine that behaves like this ends in."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await answer(reader, writer)
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(serve, HERE, 0)
    try:
        return await refused(f"{HERE}:{server.sockets[0].getsockname()[1]}", code, timeout=timeout)
    finally:
        server.close()
        await server.wait_closed()


def test_a_machine_that_never_answers_is_given_up() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def test() -> None:
        assert "did not answer in time" in (await _pair_with(silence, timeout=0.2)).title

    within(test)


@pytest.mark.parametrize("garbage", GARBAGE[:5])
def test_whatever_else_listens_there_is_no_machine(garbage: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)

    async def test() -> None:
        assert "not a machine to be paired" in (await _pair_with(answer)).title

    within(test)


def swap_id(body: bytes) -> bytes:
    """The id of a key the machine in the middle has, in place of the true one."""
    for true in (STUDIO, HELPER):
        body = body.replace(true.id.encode(), introduction("mallory").id.encode())
    return body


def flip_bit(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize(("frame", "meddle"), [(1, swap_id), (2, swap_id), *((n, flip_bit) for n in range(1, 7))])
def test_a_machine_in_the_middle_pairs_with_nobody(frame: int, meddle: Callable[[bytes], bytes]) -> None:
    """Between both, it passes everything on but for what it changes in one frame."""

    async def test() -> None:
        async with house() as helper:
            address, code = await helper.open()

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                door = await Raw.to(address)
                ends = [(reader, door.writer), (door.reader, writer)]
                try:
                    for number in range(1, 7):
                        source, sink = ends[(number + 1) % 2]
                        body = await pairing_door._receive(source)
                        if number == frame:
                            body = meddle(body)
                        sink.write(len(body).to_bytes(HEADER, "big") + body)
                        await sink.drain()
                finally:
                    door.close()

            error = await _pair_with(relay, code=code)
            assert error.title
            if frame < 6:
                assert helper.accepted == []

    within(test)


def test_a_machine_that_hangs_up_is_said() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def test() -> None:
        assert "broke off" in (await _pair_with(answer)).title

    within(test)


def test_a_machine_that_only_pretends_to_know_the_code_is_found_out() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        showing = Showing("111111", HELPER)
        writer.write(showing.hear(await pairing_door._receive(reader)))
        await pairing_door._receive(reader)
        writer.write(pairing.frame(pairing.Confirms(bytes(32))))

    async def test() -> None:
        assert "does not know the code" in (await _pair_with(answer)).title

    within(test)
