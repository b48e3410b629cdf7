"""The only door to sockets: ZeroMQ over TCP on this machine, always encrypted, closed to whoever has no key.

The engine makes one key pair for itself and one for its clients each time it starts and leaves them in a file only
this user can read. TCP rather than a Unix socket: it is the same on Windows, and no folder's path is too long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import msgspec
import zmq
import zmq.asyncio
from zmq.utils import z85

from engine.cluster.client_messages import MAX_MESSAGE, PROTOCOL

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"winnow"


class KeyPair(msgspec.Struct, frozen=True):
    """A Curve25519 key pair, both halves Z85 encoded as ZeroMQ wants them."""

    public: str
    secret: str


class Address(msgspec.Struct, frozen=True):
    """What a client needs to reach an engine."""

    endpoint: str
    server_key: str
    client: KeyPair


class LineClosed(Exception):
    """Nobody answered in time, or the other side is gone."""


def new_keys() -> KeyPair:
    """A fresh key pair from the system's randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode("ascii"), secret.decode("ascii"))


def _common(socket: zmq.Socket[Any]) -> None:
    socket.linger = 0  # what must not be lost is in the ledger, never in a queue
    socket.immediate = True  # no queueing for a peer that is not there
    socket.sndhwm = 1000
    socket.rcvhwm = 1000
    socket.maxmsgsize = MAX_MESSAGE
    socket.heartbeat_ivl = 500
    socket.heartbeat_timeout = 1500
    socket.heartbeat_ttl = 3000
    socket.reconnect_ivl = 100
    socket.reconnect_ivl_max = 1000


class Door:
    """The engine's side: a ROUTER on a free loopback port that hands each message of a member to a handler."""

    def __init__(self) -> None:
        self.keys = new_keys()
        client = new_keys()
        self._members = {client.public}
        self._context = zmq.asyncio.Context()
        self._zap = self._context.socket(zmq.REP)
        self._zap.linger = 0
        # Bound before anybody can connect: without a handler at its address ZeroMQ would let every key in,
        # ZAP_ENFORCE_DOMAIN makes it refuse instead.
        self._zap.bind(ZAP_ADDRESS)
        self._router = self._context.socket(zmq.ROUTER)
        _common(self._router)
        self._router.router_mandatory = True
        self._router.curve_server = True
        self._router.curve_publickey = self.keys.public.encode("ascii")
        self._router.curve_secretkey = self.keys.secret.encode("ascii")
        self._router.zap_domain = ZAP_DOMAIN
        self._router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.address = Address(f"tcp://127.0.0.1:{port}", self.keys.public, client)

    def close(self) -> None:
        """Close the port; queued replies are dropped."""
        self._router.close(0)
        self._zap.close(0)
        self._context.term()

    async def guard(self) -> None:
        """Let members in and nobody else (ZMQ RFC 27). Never returns; should it fail, the engine has to end."""
        while True:
            request = await self._zap.recv_multipart()
            await self._zap.send_multipart(self._judge(request))

    async def serve(self, handle: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        """Pass the body of every message from a member to `handle` and send back what it returns.

        Handlers run one after the other, in order. Messages of another protocol version are answered by our
        version frame and an empty body, anything malformed is dropped.
        """
        while True:
            frames = await self._router.recv_multipart(copy=False)
            if len(frames) != 3 or not self._is_member(frames[2]):
                continue
            to, version, body = (frame.bytes for frame in frames)
            answer = await handle(body) if version == PROTOCOL else b""
            if answer is None:
                continue
            try:
                await self._router.send_multipart([to, PROTOCOL, answer], zmq.NOBLOCK)
            except zmq.ZMQError:
                # Gone or not reading: a client asks again, and asking again is always safe.
                continue

    def _is_member(self, frame: zmq.Frame) -> bool:
        # The key is checked at the handshake only; a connection outlives its key, so every message is checked.
        try:
            return frame.get("User-Id") in self._members
        except zmq.ZMQError:
            return False

    def _judge(self, request: list[bytes]) -> list[bytes]:
        request_id = request[1] if len(request) > 1 else b""
        if len(request) == 7 and request[0] == b"1.0" and request[2] == ZAP_DOMAIN and request[5] == b"CURVE":
            key = z85.encode(request[6]).decode("ascii") if len(request[6]) == 32 else ""
            if key in self._members:
                return [b"1.0", request_id, b"200", b"OK", key.encode("ascii"), b""]
        return [b"1.0", request_id, b"400", b"not a member", b"", b""]


class Line:
    """A client's side: one DEALER that asks and waits. Not thread-safe; a lock around `ask` makes it so."""

    def __init__(self, address: Address) -> None:
        self._context = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        _common(self._dealer)
        self._dealer.curve_publickey = address.client.public.encode("ascii")
        self._dealer.curve_secretkey = address.client.secret.encode("ascii")
        self._dealer.curve_serverkey = address.server_key.encode("ascii")
        self._dealer.connect(address.endpoint)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._dealer.close(0)
        self._context.term()

    def ask(
        self, body: bytes, is_reply: Callable[[bytes], bool], alive: Callable[[], bool], timeout: float
    ) -> bytes:
        """Send `body`, wait for the first message that `is_reply` accepts (late replies to others are dropped).

        `alive` is asked now and then whether waiting still makes sense. An empty body means that the engine
        speaks another protocol version. Raises LineClosed when it is not alive or after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        self._wait(zmq.POLLOUT, alive, deadline)
        try:
            self._dealer.send_multipart([PROTOCOL, body], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            raise LineClosed(str(error)) from error
        while True:
            self._wait(zmq.POLLIN, alive, deadline)
            frames = self._dealer.recv_multipart(zmq.NOBLOCK)
            if len(frames) == 2 and (not frames[1] or is_reply(frames[1])):
                return frames[1]

    def _wait(self, event: int, alive: Callable[[], bool], deadline: float) -> None:
        while not self._dealer.poll(100, event):
            if not alive():
                raise LineClosed("the engine process ended")
            if time.monotonic() > deadline:
                raise LineClosed("no answer in time")


def run(main: Callable[[], Awaitable[int]]) -> int:
    """Run the engine's event loop. The selector loop on every system: ZeroMQ needs `add_reader`."""

    async def whole() -> int:
        return await main()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(whole())
