"""The mesh: members reach each other whatever breaks, nobody else gets a word in, and nothing piles up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest
import zmq

from engine.cluster.messages import MAX_MESSAGE, PROTOCOL
from engine.cluster.sockets import KeyPair, new_keys
from tests.unit.cluster.meshes import Machine
from tests.waiting import wait_for
from workspace.errors import EngineError

QUIET = 0.5  # seconds a stranger is given to be heard; refused ones never are


@pytest.fixture
def pair() -> Iterator[tuple[Machine, Machine]]:
    with Machine() as a, Machine() as b:
        a.members.add(b.key)
        b.knows(a)
        a.knows(b)
        wait_for(lambda: a.ways and b.ways, "both ways are up", 30)
        yield a, b
        assert a.failed == b.failed == []


def reaches(a: Machine, b: Machine, body: bytes) -> None:
    assert a.send(b.key, body)
    wait_for(lambda: (a.key, body) in b.heard, f"{body[:50]!r} is heard", 30)


def raw(
    context: zmq.Context[zmq.Socket[bytes]], keys: KeyPair, to: Machine, name: bytes = b""
) -> zmq.Socket[bytes]:
    """What somebody who does not run this program may use."""
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    if name:
        dealer.routing_id = name
    dealer.curve_publickey = keys.public.encode()
    dealer.curve_secretkey = keys.secret.encode()
    dealer.curve_serverkey = to.key.encode()
    dealer.connect(f"tcp://{to.address}")
    return dealer


def test_machines_hear_each_other_by_their_keys(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    assert a.ways == ["+" + b.key]
    for size in (1, 1000, 1 << 20, MAX_MESSAGE):
        reaches(a, b, b"x" * size)
    reaches(b, a, b"back")
    assert a.heard == [(b.key, b"back")]
    assert a.ips == {"127.0.0.1"}
    assert a.do(lambda: a.mesh.linked(b.key)) == b.address


def test_messages_arrive_in_order_and_all(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    bodies = [b"%d" % number for number in range(900)]  # fewer than a queue holds
    assert a.do(lambda: all(a.mesh.send(b.key, body) for body in bodies))
    wait_for(lambda: len(b.heard) == len(bodies), "all are heard", 30)
    assert [body for _, body in b.heard] == bodies


def test_a_stranger_gets_nothing() -> None:
    with Machine() as a, Machine() as b, Machine() as stranger:
        b.knows(a)
        a.knows(b)
        stranger.knows(a)  # it knows the public key and the address
        wait_for(lambda: a.key in stranger.do(lambda: stranger.mesh.refused), "the stranger is refused", 30)
        assert not stranger.send(a.key, b"let me in")
        with zmq.Context() as context, raw(context, KeyPair(b.key, new_keys().secret), a) as thief:
            thief.send_multipart([PROTOCOL, b"with the public key of a member"])
            with raw(context, new_keys(), a) as another:
                another.send_multipart([PROTOCOL, b"without any"])
                assert not thief.poll(int(QUIET * 1000))
        wait_for(lambda: b.ways, "the member is let in", 30)
        reaches(b, a, b"a member")
        assert a.heard == [(b.key, b"a member")]
        assert stranger.ways == []


def test_someone_without_encryption_gets_nothing() -> None:
    with Machine() as a, Machine() as b, zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(f"tcp://{a.address}")
        plain.send_multipart([PROTOCOL, b"in plain text"])
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b""):
            with socket.create_connection(("127.0.0.1", a.port)) as connection:
                connection.sendall(rubbish)
        assert not plain.poll(int(QUIET * 1000))
        a.knows(b)
        b.knows(a)
        wait_for(lambda: b.ways, "a member is let in", 30)
        reaches(b, a, b"a member")
        assert a.heard == [(b.key, b"a member")]


def test_a_removed_machine_gets_nothing_more_on_the_connection_it_has(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    reaches(b, a, b"before")
    a.members.remove(b.key)
    assert b.send(a.key, b"after")  # for its end the connection is as before
    wait_for(lambda: b.key in a.turned_away, "it is turned away", 30)
    with Machine() as c:
        a.knows(c)
        c.knows(a)
        wait_for(lambda: c.ways, "another member is let in", 30)
        reaches(c, a, b"still open")
        assert a.heard == [(b.key, b"before"), (c.key, b"still open")]


def test_who_is_not_a_member_yet_comes_in_when_it_is_one() -> None:
    with Machine() as a, Machine() as b:
        b.knows(a)
        wait_for(lambda: b.do(lambda: b.mesh.refused), "it is refused first", 30)
        a.knows(b)
        wait_for(lambda: b.ways, "it is let in", 30)
        assert b.do(lambda: b.mesh.refused) == set()
        reaches(b, a, b"hello")


def test_too_long_a_message_drops_its_sender_only(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    with Machine() as c, zmq.Context() as context, raw(context, c.keys, a) as careless:
        a.members.add(c.key)
        careless.send_multipart([PROTOCOL, b"short"])
        wait_for(lambda: a.heard, "the third is let in", 30)
        broken = careless.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        careless.send_multipart([PROTOCOL, b"x" * (MAX_MESSAGE + 100)])
        assert broken.poll(30_000)
        careless.disable_monitor()
        broken.close(0)
        reaches(b, a, b"another")
        assert b.ways == ["+" + a.key]
        careless.send_multipart([PROTOCOL, b"back"])
        wait_for(lambda: (c.key, b"back") in a.heard, "the sender may come back", 30)
        assert a.heard == [(c.key, b"short"), (b.key, b"another"), (c.key, b"back")]
    with pytest.raises(ValueError, match="attack"):
        a.send(b.key, b"x" * (MAX_MESSAGE + 1))


def test_what_is_no_message_of_ours_is_left_out(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    with zmq.Context() as context, raw(context, b.keys, a) as member:
        for frames in ([b""], [PROTOCOL], [b"a", b"b", b"c"], [PROTOCOL, b""]):
            member.send_multipart(frames)
        member.send_multipart([b"winnow-cluster/0", b"hello"])
        wait_for(lambda: a.heard, "another version is told", 30)
    assert a.heard == [(b.key, b"")]


def test_a_name_given_to_a_connection_is_nobody(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    with Machine() as c, zmq.Context() as context:
        a.members.add(c.key)
        with raw(context, c.keys, a, b"node") as first, raw(context, b.keys, a, b"node") as second:
            for number in range(3):
                first.send_multipart([PROTOCOL, b"c%d" % number])
                second.send_multipart([PROTOCOL, b"b%d" % number])
            wait_for(lambda: len(a.heard) >= 3, "the first of the name is heard", 30)
            reaches(b, a, b"b3")
    assert all(key == {"b": b.key, "c": c.key}[chr(body[0])] for key, body in a.heard)


def test_a_machine_that_stops_reading_does_not_fill_memory() -> None:
    with Machine() as a, Machine(reads=False) as b:
        a.knows(b)
        b.knows(a)
        wait_for(lambda: a.ways, "the way is up", 30)
        process = psutil.Process()
        before = process.memory_info().rss
        body = bytes(20_000)
        sent = 0

        def fill() -> int:
            return sum(a.mesh.send(b.key, body) for _ in range(6000))

        def full() -> bool:
            nonlocal sent
            taken = a.do(fill)
            sent += taken
            return taken == 0

        wait_for(full, "nothing more is taken", 30)  # what the network still takes may come in between
        assert 900 < sent < 5000
        assert process.memory_info().rss - before < 200 << 20  # both ends are in this process
        assert a.ways == ["+" + b.key]  # slow is not gone


def test_many_addresses_of_one_machine_are_one_way() -> None:
    with Machine() as a, Machine() as b, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        second = b.do(lambda: b.mesh.listen("127.0.0.1", 0))
        silent = f"127.0.0.1:{other.getsockname()[1]}"
        b.members.add(a.key)
        addresses = [silent, "127.0.0.1:1", b.address, f"127.0.0.1:{second}", a.address, "name.example:1", "no"]
        a.do(lambda: a.mesh.dial(b.key, addresses))
        wait_for(lambda: a.ways, "the machine is found", 30)
        for _ in range(3):
            a.do(lambda: a.mesh.dial(b.key, addresses))
        bodies = [b"%d" % number for number in range(900)]
        assert a.do(lambda: all(a.mesh.send(b.key, body) for body in bodies))
        wait_for(lambda: len(b.heard) == len(bodies), "all are heard", 30)
        assert [body for _, body in b.heard] == bodies  # two connections would have mixed them
        assert a.ways == ["+" + b.key]


def test_another_address_takes_over_when_one_breaks() -> None:
    with Machine() as a, Machine() as b:
        relay, far = _relay(b.port)
        try:
            b.members.add(a.key)
            a.do(lambda: a.mesh.dial(b.key, [f"127.0.0.1:{far}"]))
            wait_for(lambda: a.ways, "it is reached by the relay", 30)
            a.do(lambda: a.mesh.dial(b.key, [b.address]))
            assert a.do(lambda: a.mesh.linked(b.key)) == f"127.0.0.1:{far}"
        finally:
            relay.kill()
            relay.wait()
        wait_for(lambda: a.ways == ["+" + b.key, "-" + b.key, "+" + b.key], lambda: f"{a.ways}", 30)
        assert a.do(lambda: a.mesh.linked(b.key)) == b.address
        reaches(a, b, b"by the other")


def _relay(port: int) -> tuple[subprocess.Popen[str], int]:
    code = f"""
import asyncio, sys
async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
async def join(reader, writer):
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", {port})
    await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
async def main():
    server = await asyncio.start_server(join, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_restarted_machine_is_reached_again() -> None:
    with Machine() as a:
        with Machine() as b:
            a.knows(b)
            b.knows(a)
            wait_for(lambda: a.ways and b.ways, "both ways are up", 30)
        wait_for(lambda: a.ways[-1] == "-" + b.key, "it is gone", 30)
        assert not a.send(b.key, b"to nobody")
        with Machine(b.keys, b.port) as again:
            again.knows(a)
            wait_for(lambda: a.ways[-1] == "+" + b.key and again.ways, "it is back", 30)
            reaches(a, again, b"welcome back")
            reaches(again, a, b"thank you")
            assert again.heard == [(a.key, b"welcome back")]  # nothing was kept for it


def test_what_waited_for_a_machine_is_not_kept_for_its_next_life() -> None:
    with Machine() as a:
        with Machine(reads=False) as b:
            a.knows(b)
            b.knows(a)
            wait_for(lambda: a.ways, "the way is up", 30)
            body = bytes(20_000)
            while a.send(b.key, body):
                pass
        wait_for(lambda: a.ways[-1] == "-" + b.key, "it is gone", 30)
        with Machine(b.keys, b.port) as again:
            again.members.add(a.key)
            wait_for(lambda: a.ways[-1] == "+" + b.key, "it is back", 30)
            reaches(a, again, b"now")
            assert again.heard == [(a.key, b"now")]


def test_another_machine_at_the_same_port_is_not_taken_for_it() -> None:
    with Machine() as a:
        with Machine() as b:
            a.knows(b)
            b.members.add(a.key)
            wait_for(lambda: a.ways, "the way is up", 30)
        with Machine(port=b.port) as other:
            other.members.add(a.key)
            ways = a.mesh._ways
            wait_for(lambda: a.do(lambda: ways[b.key]._waits), "somebody else was found there", 30)
            assert not a.send(b.key, b"for b only")
            assert other.heard == []
        with Machine(b.keys, b.port) as again:
            again.members.add(a.key)
            wait_for(lambda: a.ways[-1] == "+" + b.key, "the true one is found again", 30)
            assert not a.do(lambda: ways[b.key]._waits)  # and would be tried at once the next time


OTHER_END = """
import asyncio, sys
from engine.cluster.mesh import Mesh
from engine.cluster.sockets import KeyPair
async def main():
    mesh = Mesh(KeyPair(sys.argv[1], sys.argv[2]), lambda key: key == sys.argv[3])
    print(mesh.listen("127.0.0.1", 0), flush=True)
    await asyncio.gather(mesh.guard(), mesh.serve(lambda *_: None))
asyncio.run(main())
"""


@pytest.fixture
def other_process() -> Iterator[tuple[Machine, str, subprocess.Popen[str]]]:
    """A machine here, the key of one in a process of its own, and the process; the way to it is up."""
    keys = new_keys()
    with Machine() as a:
        command = [sys.executable, "-c", OTHER_END, keys.public, keys.secret, a.key]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            address = f"127.0.0.1:{int(process.stdout.readline())}"
            a.do(lambda: a.mesh.dial(keys.public, [address]))
            wait_for(lambda: a.ways == ["+" + keys.public], "the way is up", 30)
            yield a, keys.public, process
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def test_a_killed_process_is_noticed_at_once(
    other_process: tuple[Machine, str, subprocess.Popen[str]],
) -> None:
    a, key, process = other_process
    process.kill()
    killed = time.monotonic()
    wait_for(lambda: a.ways[-1] == "-" + key, "it is noticed", 30)
    # 1 ms usually; anyway before a heartbeat would be missed.
    assert time.monotonic() - killed < 1.4


@pytest.mark.skipif(os.name != "posix", reason="processes cannot be frozen here")
def test_a_frozen_process_is_noticed_by_its_silence(
    other_process: tuple[Machine, str, subprocess.Popen[str]],
) -> None:
    a, key, process = other_process
    process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: a.ways[-1] == "-" + key, "it is noticed", 10)
    finally:
        process.send_signal(signal.SIGCONT)
    wait_for(lambda: a.ways[-1] == "+" + key, "it is back", 30)


def test_hanging_up_closes_the_connection(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    mine = psutil.Process()

    def connections() -> int:
        return sum(
            one.status == psutil.CONN_ESTABLISHED and bool(one.raddr) and one.raddr.port == b.port
            for one in mine.net_connections("tcp")
        )

    assert connections() == 1
    a.do(lambda: a.mesh.hang_up(b.key))
    wait_for(lambda: connections() == 0, "the connection is closed", 30)
    assert not a.send(b.key, b"nothing")
    reaches(b, a, b"the other way is b's")
    a.do(lambda: a.mesh.hang_up(b.key))  # twice is once
    a.knows(b)
    wait_for(lambda: a.ways == ["+" + b.key] * 2, "it can be dialed again", 30)


def test_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Machine(host="::1") as a, Machine(host="::1") as b, Machine(host="") as both:
        a.members.add(b.key)
        b.knows(a)
        a.knows(b)
        wait_for(lambda: a.ways and b.ways, "both ways are up", 30)
        reaches(a, b, b"six")
        assert b.ips == {"::1"}
        both.members |= {a.key, b.key}
        a.do(lambda: a.mesh.dial(both.key, [f"127.0.0.1:{both.port}"]))
        b.do(lambda: b.mesh.dial(both.key, [f"[::1]:{both.port}"]))
        wait_for(lambda: "+" + both.key in a.ways and "+" + both.key in b.ways, "all families are heard", 30)
        reaches(a, both, b"four")
        reaches(b, both, b"six")
        assert both.ips == {"127.0.0.1", "::1"}


def test_a_port_in_use_is_said() -> None:
    with Machine() as a, Machine() as b, pytest.raises(EngineError, match="in use"):
        b.do(lambda: b.mesh.listen("127.0.0.1", a.port))


def test_a_mistake_behind_the_door_ends_the_serving(pair: tuple[Machine, Machine]) -> None:
    a, b = pair
    assert a.send(b.key, b"break")
    wait_for(lambda: b.failed, "it is raised", 30)
    assert isinstance(b.failed[0], ArithmeticError)
    b.failed.clear()


def test_a_guard_that_fails_is_told_and_lets_nobody_in() -> None:
    class Broken(set[str]):
        def __contains__(self, key: object) -> bool:
            raise LookupError("the list of members is gone")

    with Machine() as a, Machine() as b, zmq.Context() as context:
        a.members = Broken()
        b.knows(a)
        wait_for(lambda: a.failed, "it is raised", 30)
        assert isinstance(a.failed[0], LookupError)
        a.members = {b.key}
        with raw(context, b.keys, a) as member:
            member.send_multipart([PROTOCOL, b"is anybody there?"])
            assert not member.poll(int(QUIET * 1000))
        assert a.heard == []
        assert b.ways == []
