"""What every socket of the engine has in common: keys, options, the guard before the door, how it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import zmq
from zmq.utils import z85

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"winnow"
ENCRYPTION = 64  # bytes by which it makes a message longer, and a few
AT_ONCE = 64  # messages taken from one socket before others and timers have their turn


class KeyPair(msgspec.Struct, frozen=True):
    """A Curve25519 key pair, both halves Z85 encoded as ZeroMQ wants them."""

    public: str
    secret: str


def new_keys() -> KeyPair:
    """A fresh key pair from the system's randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode("ascii"), secret.decode("ascii"))


def are_a_pair(keys: KeyPair) -> bool:
    """Whether the public half belongs to the secret half."""
    try:
        return bytes(zmq.curve_public(keys.secret.encode("ascii"))) == keys.public.encode("ascii")
    except (ValueError, zmq.ZMQError):
        return False


def set_common(socket: zmq.Socket[Any], keys: KeyPair, max_message: int) -> None:
    """The options of every socket that reaches another process."""
    socket.linger = 0  # what must not be lost is in the ledger, never in a queue
    socket.immediate = True  # no queueing for a peer that is not there
    socket.sndhwm = 1000
    socket.rcvhwm = 1000
    socket.maxmsgsize = max_message + ENCRYPTION
    socket.heartbeat_ivl = 500
    socket.heartbeat_timeout = 1500
    socket.heartbeat_ttl = 3000
    socket.reconnect_ivl = 100
    socket.reconnect_ivl_max = 1000
    socket.connect_timeout = 3000  # where nobody answers at all, not even to refuse
    socket.handshake_ivl = 10_000
    socket.curve_publickey = keys.public.encode("ascii")
    socket.curve_secretkey = keys.secret.encode("ascii")


def set_closed(socket: zmq.Socket[Any]) -> None:
    """Make a socket one that is connected to, and only through a Guard: without one it lets nobody in."""
    socket.curve_server = True
    socket.zap_domain = ZAP_DOMAIN
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def set_server(socket: zmq.Socket[Any], key: str) -> None:
    """Make a socket one that connects, and only to the holder of this public key."""
    socket.curve_serverkey = key.encode("ascii")


class Guard:
    """Who may connect to the closed sockets of a context (ZMQ RFC 27).

    Made before the first of them is bound: without anybody at its address ZeroMQ would let every key in, were it
    not for ZAP_ENFORCE_DOMAIN. It looks at keys at the handshake only, so a connection outlives its membership:
    whoever reads has to ask `sender` of every message.
    """

    def __init__(self, context: zmq.Context[Any], is_member: Callable[[str], bool]) -> None:
        self._is_member = is_member
        self._zap = context.socket(zmq.REP, socket_class=zmq.Socket)
        self._zap.linger = 0
        self._zap.bind(ZAP_ADDRESS)

    def close(self) -> None:
        """Leave the door: from now on nobody gets in."""
        self._zap.close(0)

    async def run(self) -> None:
        """Let members in and nobody else. Never returns; should it fail, the engine has to end."""
        await drain(self._zap, self._answer)

    def sender(self, frame: zmq.Frame) -> str:
        """The key of the connection a frame came by; empty unless its holder is a member at this moment."""
        try:
            key = frame.get("User-Id")
        except zmq.ZMQError:
            return ""
        return key if isinstance(key, str) and self._is_member(key) else ""

    def _answer(self) -> None:
        self._zap.send_multipart(self.judge(self._zap.recv_multipart(zmq.NOBLOCK)))

    def judge(self, request: list[bytes]) -> list[bytes]:
        """The reply to a request of RFC 27."""
        request_id = request[1] if len(request) > 1 else b""
        if len(request) == 7 and request[0] == b"1.0" and request[2] == ZAP_DOMAIN and request[5] == b"CURVE":
            key = z85.encode(request[6]).decode("ascii") if len(request[6]) == 32 else ""
            if key and self._is_member(key):
                return [b"1.0", request_id, b"200", b"OK", key.encode("ascii"), b""]
        return [b"1.0", request_id, b"400", b"not a member", b"", b""]


class Reader:
    """Calls `take` for every message of a socket on the running event loop, a few at a time, until closed.

    `take` takes one message without waiting; zmq.Again from it says that there is none. Any other error of it goes
    to `over`, and nothing is read from then on. Plain sockets on the loop's own `add_reader` cost a third of what
    zmq.asyncio does. The descriptor of a socket tells of news only, so whatever is there is always taken.
    """

    def __init__(self, socket: zmq.Socket[Any], take: Callable[[], None], over: asyncio.Future[None]) -> None:
        self._take = take
        self._over = over
        self._loop = asyncio.get_running_loop()
        descriptor = socket.getsockopt(zmq.FD)
        assert isinstance(descriptor, int)
        self._descriptor = descriptor
        self._closed = False
        self._loop.add_reader(descriptor, self._some)
        self._loop.call_soon(self._some)

    def close(self) -> None:
        """Take no more. To be called before the socket is closed."""
        if not self._closed:
            self._loop.remove_reader(self._descriptor)
            self._closed = True

    def _stopped(self) -> bool:
        return self._closed or self._over.done()

    def _some(self) -> None:
        if self._stopped():
            return
        try:
            for _ in range(AT_ONCE):
                self._take()
                if self._stopped():  # by what was taken
                    return
        except zmq.Again:
            return
        except Exception as error:  # noqa: BLE001 - raised by whoever awaits `over`
            self._over.set_exception(error)
            return
        self._loop.call_soon(self._some)


async def drain(socket: zmq.Socket[Any], take: Callable[[], None]) -> None:
    """Call `take` for every message of a socket, for ever. Raises what it raises."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    reader = Reader(socket, take, over)
    try:
        await over
    finally:
        reader.close()
