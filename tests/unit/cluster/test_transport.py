"""The door: encrypted, open to its own clients, shut for everybody else, unmoved by garbage."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import msgspec
import pytest
import zmq
from zmq.utils import z85

from engine.cluster import client_messages as messages
from engine.cluster.entries import MAX_TEXT
from engine.cluster.sockets import ENCRYPTION, ZAP_DOMAIN, KeyPair, new_keys
from engine.cluster.transport import Address, Door, Line, LineClosed
from tests.unit.cluster.examples import spec
from workspace.facts import RunSpec

QUIET = 0.5  # seconds a stranger is given to be answered; refused ones never are


class OpenDoor:
    """A door with an echo behind it, in a thread with its own loop."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(30)

    async def _run(self) -> None:
        door = Door()
        self.address = door.address
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        tasks = [asyncio.create_task(door.guard()), asyncio.create_task(door.serve(self._echo))]
        self._ready.set()
        await self._over.wait()
        self.failed = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        door.close()

    async def _echo(self, body: bytes) -> bytes | None:
        self.heard.append(body)
        return None if body == b"silence" else body

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        assert not self.failed


@pytest.fixture
def door() -> Iterator[OpenDoor]:
    door = OpenDoor()
    yield door
    door.close()


def ask(line: Line, body: bytes, timeout: float = 30.0) -> bytes:
    return line.ask(body, lambda reply: reply == body, lambda: True, timeout)


def test_a_client_with_the_keys_is_answered(door: OpenDoor) -> None:
    with Line(door.address) as line:
        for size in (1, 1000, 4 << 20):
            assert len(ask(line, b"x" * size)) == size


def test_two_clients_do_not_get_each_others_replies(door: OpenDoor) -> None:
    with Line(door.address) as first, Line(door.address) as second:
        for number in range(50):
            for line, name in ((first, b"first"), (second, b"second")):
                assert ask(line, b"%s %d" % (name, number)) == b"%s %d" % (name, number)


@pytest.mark.parametrize("case", ["another client key", "another server key", "public key of the engine"])
def test_a_stranger_gets_nothing(door: OpenDoor, case: str) -> None:
    address = door.address
    if case == "another client key":
        stranger = Address(address.endpoint, address.server_key, new_keys())
    elif case == "another server key":
        stranger = Address(address.endpoint, new_keys().public, address.client)
    else:
        stranger = Address(address.endpoint, address.server_key, KeyPair(address.server_key, new_keys().secret))
    with Line(stranger) as line, pytest.raises(LineClosed):
        ask(line, b"let me in", QUIET)
    with Line(address) as line:
        ask(line, b"still open")
    assert door.heard == [b"still open"]


def test_a_client_without_encryption_gets_nothing(door: OpenDoor) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(door.address.endpoint)
        plain.send_multipart([messages.PROTOCOL, b"in plain text"])
        assert not plain.poll(int(QUIET * 1000))
    assert door.heard == []


def raw_client(context: zmq.Context[zmq.Socket[bytes]], address: Address) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.curve_publickey = address.client.public.encode()
    socket.curve_secretkey = address.client.secret.encode()
    socket.curve_serverkey = address.server_key.encode()
    socket.connect(address.endpoint)
    return socket


def test_malformed_and_oversized_messages_leave_the_door_open(door: OpenDoor) -> None:
    with zmq.Context() as context, raw_client(context, door.address) as member:
        for frames in ([b""], [b"one"], [b"a", b"b", b"c"], [messages.PROTOCOL, b"", b""]):
            member.send_multipart(frames)
        member.send_multipart([messages.PROTOCOL, b"x" * (messages.MAX_MESSAGE + ENCRYPTION + 1)])
        with Line(door.address) as line:
            ask(line, b"good")
    assert [body for body in door.heard if body != b"good"] == []


def test_bytes_that_are_no_zeromq_leave_the_door_open(door: OpenDoor) -> None:
    import socket

    port = int(door.address.endpoint.rsplit(":", 1)[1])
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b""):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(rubbish)
    with Line(door.address) as line:
        ask(line, b"good")


def test_another_protocol_version_is_told(door: OpenDoor) -> None:
    with zmq.Context() as context, raw_client(context, door.address) as member:
        member.send_multipart([b"winnow-engine/0", b"hello"])
        assert member.poll(30_000)
        assert member.recv_multipart() == [messages.PROTOCOL, b""]
    assert door.heard == []


def test_waiting_ends_with_the_deadline_or_the_process(door: OpenDoor) -> None:
    with Line(door.address) as line:
        with pytest.raises(LineClosed, match="in time"):
            line.ask(b"silence", lambda _: True, lambda: True, 0.2)
        with pytest.raises(LineClosed, match="ended"):
            line.ask(b"silence", lambda _: True, lambda: False, 30)


FORGETFUL = """
import gc
from engine.cluster.sockets import new_keys
from engine.cluster.transport import Address, Line

for _ in range(20):
    line = Line(Address("tcp://127.0.0.1:9", new_keys().public, new_keys()))
    line.itself = line
    del line
    gc.collect()
print("collected")
"""


def test_a_line_that_nobody_closed_holds_nobody_up() -> None:
    # In a process of its own: what this is about is waiting for ever, in the middle of anything.
    forgetful = [sys.executable, "-c", FORGETFUL]
    done = subprocess.run(forgetful, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("collected\n", "")


def test_the_guard_lets_in_only_the_right_domain_and_mechanism() -> None:
    async def judged() -> list[bytes]:
        door = Door()
        key = z85.decode(door.address.client.public.encode())
        good = [b"1.0", b"7", ZAP_DOMAIN, b"127.0.0.1", b"", b"CURVE", key]
        bad = [
            [],
            good[:6],
            [*good, b"more"],
            [b"2.0", *good[1:]],
            [*good[:2], b"other", *good[3:]],
            [*good[:5], b"NULL", key],
            [*good[:6], b"short"],
            [*good[:6], bytes(32)],
        ]
        codes = [door._guard.judge(request)[2] for request in [good, *bad]]
        door.close()
        return codes

    assert asyncio.run(judged()) == [b"200"] + [b"400"] * 8


def test_messages_are_bounded() -> None:
    chunk = messages.AddRows(1, "run", (("row", "text", "domain"),))
    assert messages.decode_request(messages.encode(chunk)) == chunk
    opened = messages.OpenRun(2, spec("a", "b"))
    decoded = messages.decode_request(messages.encode(opened))
    assert isinstance(decoded, messages.OpenRun)
    assert isinstance(decoded.spec, RunSpec)
    assert decoded == opened
    author = f"{'a' * 32}.{'b' * 16}"
    too_much: list[messages.Ask] = [
        messages.AddRows(1, "run", (("row", "x" * (MAX_TEXT + 1), ""),)),
        messages.AddRows(1, "r" * 200, ()),
        messages.AddRows(1, "run", (("", "text", ""),)),
        messages.ReadEntries(1, author, 0, messages.MAX_PAGE + 1),
        messages.ReadEntries(1, author, -1, 5),
        messages.ReadEntries(1, author, 1 << 63, 5),
        messages.ReadEntries(1, "nobody", 0, 5),
        messages.SetState(1, "run", "done"),  # type: ignore[arg-type]
        messages.Status(-1),
    ]
    for message in too_much:
        with pytest.raises(msgspec.ValidationError):
            messages.decode_request(messages.encode(message))
