"""The ways between machines: what comes in by one door, what goes out by one way for each machine.

All of it is encrypted and open to members only. Everything comes in by one ROUTER, which never answers; to each
machine leads one DEALER, which never listens. Who sent a message is the key of its connection, never anything it
says. Messages may be lost, doubled and late; whoever speaks here has to live with that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import struct
from collections.abc import Callable, Iterable

import zmq

from engine.cluster.addresses import MAX_TRIED, plain_ip, valid
from engine.cluster.messages import MAX_MESSAGE, PROTOCOL
from engine.cluster.sockets import Guard, KeyPair, Reader, drain, set_closed, set_common, set_server
from workspace.errors import EngineError

SOON = 0.1  # seconds until an address that worked is tried again
LATER, LATEST = 1.0, 10.0  # and one where somebody else answered; doubled each time
BACKWARDS = 4096  # bytes of the longest message a DEALER takes: only the handshake comes that way

_BROKEN = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

Hear = Callable[[str, bytes, str], None]


class Mesh:
    """This machine's end of all ways to the others. Used from one event loop, in one thread."""

    def __init__(self, keys: KeyPair, is_member: Callable[[str], bool]) -> None:
        """`is_member` says of a public key (Z85) whether its holder may speak to this machine at this moment."""
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._guard = Guard(self._context, is_member)
        self._router = self._context.socket(zmq.ROUTER)
        set_common(self._router, keys, MAX_MESSAGE)
        set_closed(self._router)
        self._router.ipv6 = True
        self._ways: dict[str, _Way] = {}
        self._numbered = 0
        self._up: Callable[[str], None] = _nothing
        self._down: Callable[[str], None] = _nothing
        self._over: asyncio.Future[None] | None = None

    def listen(self, host: str, port: int) -> int:
        """Let members in at `port` (0: any free one) of `host` (a number; empty: all interfaces). Returns the
        port. Raises EngineError. Nobody is heard before `guard` and `serve` run."""
        place = f"[{host}]" if ":" in host else host or "*"
        try:
            self._router.bind(f"tcp://{place}:{port or '*'}")
        except zmq.ZMQError as error:
            taken = error.errno in (errno.EADDRINUSE, zmq.EADDRINUSE)
            raise EngineError(
                f"This machine cannot listen at {host or 'any address'}, port {port}"
                + (": the port is in use." if taken else "."),
                "Choose another port, or leave the choice to Winnow.",
                str(error),
            ) from error
        bound = self._router.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        return int(bound.rpartition(b":")[2])

    def close(self) -> None:
        """Hang up everywhere and close the door; whatever is on its way is lost. Call it when `guard`, `serve` and
        `watch` have ended."""
        for key in list(self._ways):
            self.hang_up(key)
        self._router.close(0)
        self._guard.close()
        self._context.term()

    async def guard(self) -> None:
        """Let members in and nobody else. Never returns; should it raise, this process has to end."""
        await self._guard.run()

    async def serve(self, hear: Hear) -> None:
        """Call `hear` with the key, message and IP address of each sender, members only. Never returns.

        An empty message means that a member speaks another version of the protocol. Raises what `hear` raises.
        """
        router, sender = self._router, self._guard.sender

        def take() -> None:
            frames = [router.recv(zmq.NOBLOCK, copy=False)]
            while frames[-1].more:
                frames.append(router.recv(zmq.NOBLOCK, copy=False))
            if len(frames) != 3:
                return
            key = sender(frames[2])
            body = frames[2].bytes
            if not key or not body:
                return
            hear(key, body if frames[1].bytes == PROTOCOL else b"", plain_ip(str(frames[2].get("Peer-Address"))))

        await drain(router, take)

    async def watch(self, up: Callable[[str], None], down: Callable[[str], None]) -> None:
        """Call `up` with the key of each machine that can be sent to from now on (at once for those that are
        already), `down` when the connection broke. Never returns. Not told: what `hang_up` ends."""
        self._up, self._down = up, down
        for key, way in list(self._ways.items()):
            if way.linked:
                up(key)
        await self._trouble()

    def dial(self, key: str, addresses: Iterable[str]) -> None:
        """Reach the holder of `key` at these addresses (numeric host:port; others are left out) from now on.

        They are tried side by side and again and again; the first one that answers is used until it breaks. May be
        repeated, with more addresses: of more than fit, those named last stay.
        """
        way = self._ways.get(key)
        if way is None:
            dealer = self._context.socket(zmq.DEALER)
            set_common(dealer, self._keys, BACKWARDS)
            set_server(dealer, key)
            dealer.rcvhwm = 1
            self._numbered += 1
            monitor = dealer.get_monitor_socket(
                zmq.EVENT_HANDSHAKE_SUCCEEDED | _BROKEN, f"inproc://way-{self._numbered}"
            )
            way = self._ways[key] = _Way(
                dealer, monitor, lambda: self._up(key), lambda: self._down(key), self._trouble()
            )
        for address in valid(addresses)[:MAX_TRIED]:
            if address.ip is not None:
                way.add(f"tcp://{address}")

    def hang_up(self, key: str) -> None:
        """Close the way to the holder of `key`. What it sends is still heard while it is a member."""
        way = self._ways.pop(key, None)
        if way is not None:
            way.close()

    def send(self, key: str, body: bytes) -> bool:
        """Put a message on its way, at once. False when there is no connection or its queue is full."""
        if len(body) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(body)} bytes would be taken for an attack")
        way = self._ways.get(key)
        return way is not None and bool(way.linked) and way.send(body)

    def linked(self, key: str) -> str:
        """The address by which the holder of `key` is connected now; empty when it is not."""
        way = self._ways.get(key)
        return way.linked.removeprefix("tcp://") if way else ""

    @property
    def refused(self) -> set[str]:
        """The keys of the machines that do not let this one in: to them it is no member, or no longer one."""
        return {key for key, way in self._ways.items() if way.refused}

    def _trouble(self) -> asyncio.Future[None]:
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        return self._over


class _Way:
    """The DEALER to one machine, connected by one of its addresses.

    One, because ZeroMQ would deal the messages out to all that are connected, and they would arrive in any order.
    Trying again is done here and not left to ZeroMQ: after a refusal it never tries again, and where somebody else
    answers it asks ten times a second.
    """

    def __init__(
        self,
        dealer: zmq.Socket[bytes],
        monitor: zmq.Socket[bytes],
        up: Callable[[], None],
        down: Callable[[], None],
        over: asyncio.Future[None],
    ) -> None:
        self.linked = ""  # the endpoint in use
        self.refused = False
        self._dealer = dealer
        self._monitor = monitor
        self._up = up
        self._down = down
        self._trying: dict[str, bool] = {}  # every known endpoint, and whether the DEALER has it
        self._waits: dict[str, float] = {}
        self._again: dict[str, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(monitor, self._take, over)

    def close(self) -> None:
        for timer in self._again.values():
            timer.cancel()
        self._reader.close()
        self._dealer.disable_monitor()
        self._monitor.close(0)
        self._dealer.close(0)

    def add(self, endpoint: str) -> None:
        if endpoint in self._trying:
            return
        while len(self._trying) >= MAX_TRIED:
            oldest = next(known for known in self._trying if known != self.linked)
            self._rest(oldest)
            del self._trying[oldest]
        self._trying[endpoint] = False
        if not self.linked:
            self._try(endpoint)

    def send(self, body: bytes) -> bool:
        dealer = self._dealer
        try:
            dealer.send(PROTOCOL, zmq.NOBLOCK | zmq.SNDMORE)
        except zmq.Again:
            # ZeroMQ looks at what its own thread has to tell now and then only, unless it is asked for events.
            events = dealer.getsockopt(zmq.EVENTS)
            if not isinstance(events, int) or not events & zmq.POLLOUT:
                return False
            dealer.send(PROTOCOL, zmq.NOBLOCK | zmq.SNDMORE)
        dealer.send(body, zmq.NOBLOCK)
        return True

    def _take(self) -> None:
        frames = self._monitor.recv_multipart(zmq.NOBLOCK)
        event, _ = struct.unpack("=Hi", frames[0])
        endpoint = frames[1].decode("ascii", "replace")
        if not self._trying.get(endpoint):
            return  # of a connection given up since
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._connected(endpoint)
        else:
            self._broke(endpoint, event == zmq.EVENT_HANDSHAKE_FAILED_AUTH)

    def _connected(self, endpoint: str) -> None:
        self.linked = endpoint
        self.refused = False
        for other in self._trying:
            if other != endpoint:
                self._rest(other)
        self._waits.clear()
        self._up()

    def _broke(self, endpoint: str, refused: bool) -> None:
        self._rest(endpoint)
        if endpoint == self.linked:
            self.linked = ""
            for other in self._trying:
                if other != endpoint:
                    self._try(other)
            self._try_in(SOON, endpoint)
            self._down()
            return
        if refused:
            self.refused = True
            self._waits.pop(endpoint, None)
        wait = self._waits.get(endpoint, LATER)
        self._waits[endpoint] = min(2 * wait, LATEST)
        self._try_in(wait, endpoint)

    def _try_in(self, seconds: float, endpoint: str) -> None:
        self._again[endpoint] = self._loop.call_later(seconds, self._try, endpoint)

    def _try(self, endpoint: str) -> None:
        self._forget_timer(endpoint)
        if self._trying[endpoint] or self.linked:
            return
        self._dealer.ipv6 = "[" in endpoint
        self._dealer.connect(endpoint)
        self._trying[endpoint] = True

    def _rest(self, endpoint: str) -> None:
        self._forget_timer(endpoint)
        if self._trying[endpoint]:
            self._trying[endpoint] = False
            with contextlib.suppress(zmq.ZMQError):  # ZeroMQ may have given it up itself
                self._dealer.disconnect(endpoint)

    def _forget_timer(self, endpoint: str) -> None:
        timer = self._again.pop(endpoint, None)
        if timer is not None:
            timer.cancel()


def _nothing(_: str) -> None:
    """Nobody watches."""
