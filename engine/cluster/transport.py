"""The way of clients to their engine: ZeroMQ over TCP on this machine, encrypted, closed to whoever has no key.

The engine makes one key pair for itself and one for its clients each time it starts and leaves them in a file only
this user can read. TCP rather than a Unix socket: it is the same on Windows, and no folder's path is too long.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType

import msgspec
import zmq
import zmq.asyncio

from engine.cluster.client_messages import MAX_MESSAGE, PROTOCOL
from engine.cluster.sockets import Guard, KeyPair, new_keys, set_closed, set_common, set_server


class Address(msgspec.Struct, frozen=True):
    """What a client needs to reach an engine."""

    endpoint: str
    server_key: str
    client: KeyPair


class LineClosed(Exception):
    """Nobody answered in time, or the other side is gone."""


class Door:
    """The engine's side: a ROUTER on a free loopback port that hands each message of a member to a handler."""

    def __init__(self) -> None:
        self.keys = new_keys()
        client = new_keys()
        self._context = zmq.asyncio.Context()
        self._guard = Guard(self._context, lambda key: key == client.public)
        self._router = self._context.socket(zmq.ROUTER)
        set_common(self._router, self.keys, MAX_MESSAGE)
        set_closed(self._router)
        self._router.router_mandatory = True
        port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.address = Address(f"tcp://127.0.0.1:{port}", self.keys.public, client)

    def close(self) -> None:
        """Close the port; queued replies are dropped."""
        self._router.close(0)
        self._guard.close()
        self._context.term()

    async def guard(self) -> None:
        """Let members in and nobody else. Never returns; should it fail, the engine has to end."""
        await self._guard.run()

    async def serve(self, handle: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        """Pass the body of every message from a member to `handle` and send back what it returns.

        Handlers run one after the other, in order. Messages of another protocol version are answered by our
        version frame and an empty body, anything malformed is dropped.
        """
        while True:
            frames = await self._router.recv_multipart(copy=False)
            if len(frames) != 3 or not self._guard.sender(frames[2]):
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


class Line:
    """A client's side: one DEALER that asks and waits. Not thread-safe; a lock around `ask` makes it so."""

    def __init__(self, address: Address) -> None:
        context = zmq.Context()
        self._dealer = context.socket(zmq.DEALER)
        # Forgotten instead of closed, a context would wait for its socket for ever: both are garbage then, and
        # nobody says which of them goes first.
        self._end = weakref.finalize(self, _end, self._dealer, context)
        self._end.atexit = False  # another thread may still be asking then
        set_common(self._dealer, address.client, MAX_MESSAGE)
        set_server(self._dealer, address.server_key)
        self._dealer.connect(address.endpoint)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._end()

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


def _end(dealer: zmq.Socket[bytes], context: zmq.Context[zmq.Socket[bytes]]) -> None:
    dealer.close(0)
    context.term()


def run(main: Callable[[], Awaitable[int]]) -> int:
    """Run the engine's event loop. The selector loop on every system: ZeroMQ needs `add_reader`."""

    async def whole() -> int:
        return await main()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(whole())
