"""The second door to sockets beside the ZeroMQ ones: a plain TCP port for two machines that have no keys yet.

It is there only while this machine shows a code: for two minutes at most, for one machine at a time, until the
third wrong try. What goes through is `pairing`'s exchange, bounded in bytes and in time; a connection that says
nothing costs nobody anything, and one that says what does not belong here is closed without a word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from engine.cluster import addresses, pairing
from engine.cluster.pairing import HEADER, MAX_FRAME, TRIES, Asking, Introduction, PairingRefused, Showing
from workspace.errors import EngineError, WinnowError
from workspace.machines import Pairing

CODE_SECONDS = 120.0  # a code is good for
CONNECTION_SECONDS = 10.0  # a machine may take to be paired, the writing down apart
MAX_WAITING = 8  # connections that have not said a word; the oldest makes room for the next
BACKLOG = 128  # connections the system keeps until they are looked at; beyond it would keep them hanging
MAX_EXCHANGES = 32  # begun with one code, so that nobody keeps this machine computing

Ending = Literal["", "paired", "burnt", "late", "closed"]


class PairingDoor:
    """On the machine that shows the code. `ending` says how the last opening came to its end.

    `introduction` is what this machine tells of itself; `accept` writes the other machine down and returns an
    empty string, or why not. Accepting is never cut short: it is answered even when the door closes meanwhile.
    """

    def __init__(
        self,
        introduction: Callable[[], Introduction],
        accept: Callable[[Introduction], Awaitable[str]],
        clock: Callable[[], float] = time.monotonic,
        connection_seconds: float = CONNECTION_SECONDS,
    ) -> None:
        self.ending: Ending = ""
        self._introduction = introduction
        self._accept = accept
        self._clock = clock
        self._connection_seconds = connection_seconds
        self._opening = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._code = ""
        self._port = 0
        self._until = 0.0
        self._tries = 0
        self._exchanges = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._waiting: dict[asyncio.Task[None], None] = {}  # in the order they came
        self._talking: asyncio.Task[None] | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def state(self) -> Pairing | None:
        """The code to type elsewhere; None while there is none."""
        left = self._until - self._clock()
        if self._server is None or left <= 0:
            return None
        return Pairing(pairing.shown(self._code), self._port, left, self._tries)

    async def open(self, host: str, port: int = 0, seconds: float = CODE_SECONDS) -> Pairing:
        """Show a new code and wait at this one address (0: any free port). A code shown before is void."""
        async with self._opening:
            await self.close()
            try:
                self._server = await asyncio.start_server(
                    self._arrived, host, port, limit=HEADER + MAX_FRAME, backlog=BACKLOG
                )
            except OSError as error:
                raise EngineError(
                    f"This machine cannot wait at {host}:{port} to be paired.",
                    "Nothing was changed. Close the program that uses this port, or ask for another port.",
                    str(error),
                ) from error
            self.ending = ""
            self._code = pairing.new_code()
            self._port = int(self._server.sockets[0].getsockname()[1])
            self._until = self._clock() + seconds
            self._tries, self._exchanges = TRIES, 0
            self._wait_until_late()
            return Pairing(pairing.shown(self._code), self._port, seconds, self._tries)

    async def close(self) -> None:
        """The code is void and the port closed. Returns when every connection is gone."""
        self._shut("closed")
        others = self._connections - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def _shut(self, ending: Ending) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._code = ""
        self.ending = ending
        if self._timer is not None:
            self._timer.cancel()
        for task in self._connections - {self._accepting, asyncio.current_task()}:
            task.cancel()

    def _wait_until_late(self) -> None:
        left = self._until - self._clock()
        if left <= 0:
            self._shut("late")
        else:
            self._timer = asyncio.get_running_loop().call_later(left, self._wait_until_late)

    def _arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.state is None:
            self._shut("late")
            writer.transport.abort()
            return
        if len(self._waiting) >= MAX_WAITING:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        self._waiting[task] = None
        task.add_done_callback(lambda task: self._left(task, writer))

    def _left(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        self._connections.discard(task)
        self._waiting.pop(task, None)
        if self._talking is task:
            self._talking = None
        if not task.cancelled() and (error := task.exception()):
            task.get_loop().call_exception_handler({"message": "pairing failed", "exception": error})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._connection_seconds):
                showing = await self._exchange(reader, writer)
            if showing is not None:
                last = await self._answer(showing)
                async with asyncio.timeout(self._connection_seconds):
                    await _send_and_close(writer, last)
        except (OSError, EOFError):
            return  # gone, or too slow

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Showing | None:
        """Up to the other machine's introduction; None if it did not come to that."""
        try:
            body = await _receive(reader)
            showing = self._begin()
            while showing.introduction is None:
                if self.state is None:
                    self._shut("late")
                    return None
                if reply := showing.hear(body):
                    writer.write(reply)
                    body = await _receive(reader)
            return showing
        except PairingRefused as refused:
            if refused.why == "code":
                self._tries = refused.tries
                if not self._tries:
                    self._shut("burnt")
            if refused.reply:
                await _send_and_close(writer, refused.reply)
            return None

    def _begin(self) -> Showing:
        task = asyncio.current_task()
        assert task is not None
        if self._talking is not None:
            raise PairingRefused("busy", reply=pairing.frame(pairing.Denied("busy")))
        self._waiting.pop(task, None)
        self._talking = task
        self._exchanges += 1
        if self._exchanges > MAX_EXCHANGES:
            self._shut("burnt")
            raise PairingRefused("burnt", reply=pairing.frame(pairing.Denied("burnt")))
        return Showing(self._code, self._introduction(), self._tries)

    async def _answer(self, showing: Showing) -> bytes:
        assert showing.introduction is not None
        ours, theirs = showing.mine, showing.introduction
        if pairing.common(ours.protocols, theirs.protocols) is None:
            return showing.decline(f"It runs {ours.software}, which does not speak with {theirs.software}.")
        self._accepting = asyncio.current_task()
        try:
            why_not = await self._accept(theirs)
        except WinnowError as error:
            why_not = str(error)
        finally:
            self._accepting = None
        if why_not:
            return showing.decline(why_not)
        self._shut("paired")
        self.ending = "paired"  # also if the door was closed while it was written down
        return showing.accept()


async def pair(address: str, code: str, mine: Introduction, timeout: float = 10.0) -> Introduction:
    """Be paired with the machine at `host:port` that shows this code; returns what it tells of itself.

    When it returns, the other machine has written this one down. Raises EngineError.
    """
    digits = pairing.typed(code)
    if digits is None:
        raise EngineError(
            "A code has six digits.", "Nothing was changed. Type it as the other machine shows it, like 482-913."
        )
    place = addresses.parse(address)
    asking = Asking(digits, mine)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                place.host, place.port, limit=HEADER + MAX_FRAME, happy_eyeballs_delay=0.25
            )
            return await _ask(asking, reader, writer)
    except PairingRefused as refused:
        raise _explained(refused, address) from refused
    except (OSError, EOFError, ValueError) as error:
        raise _unreachable(error, address, connected=writer is not None) from error
    finally:
        if writer is not None:
            writer.transport.abort()


async def _ask(asking: Asking, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Introduction:
    writer.write(asking.start())
    while asking.introduction is None:
        if reply := asking.hear(await _receive(reader)):
            writer.write(reply)
    return asking.introduction


async def _receive(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(pairing.size_of(await reader.readexactly(HEADER)))


async def _send_and_close(writer: asyncio.StreamWriter, last: bytes) -> None:
    writer.write(last)
    writer.close()
    await writer.wait_closed()


def _unreachable(error: Exception, address: str, connected: bool) -> EngineError:
    if isinstance(error, TimeoutError) and connected:
        title = f"The machine at {address} did not answer in time."
    elif connected:
        title = f"The machine at {address} broke off the pairing."
    else:
        title = f"No machine waits to be paired at {address}."
    return EngineError(
        title,
        "Nothing was changed here. Check the address, that the other machine shows a code now, and that no "
        "firewall stands between; then try again with the code it shows.",
        f"{type(error).__name__}: {error}",
    )


def _explained(refused: PairingRefused, address: str) -> EngineError:
    match refused.why:
        case "code":
            left = f"{refused.tries} {'try is' if refused.tries == 1 else 'tries are'} left"
            words = "The code was not right.", f"Nothing was exchanged. Compare it with the other screen; {left}."
        case "burnt":
            words = (
                "The code was not right and is void now.",
                "Nothing was exchanged. Let the other machine show a new code.",
            )
        case "proof":
            words = (
                f"The machine at {address} does not know the code.",
                "Nothing was exchanged. Check that this is the address of the machine whose code you read; if it "
                "is, somebody may stand between: let it show a new code.",
            )
        case "busy":
            words = (
                "The other machine is being paired with another one at this moment.",
                "Nothing was exchanged. Try again in ten seconds with the same code.",
            )
        case "version":
            words = (
                "The other machine runs another version of Winnow that this one cannot be paired with.",
                "Nothing was exchanged. Install the same version on both.",
            )
        case "self":
            words = (
                "The other machine has the same key as this one.",
                "Nothing was exchanged. It is this machine itself, or its folder was copied from here: delete the "
                "copy there, it gets a key of its own at the next start.",
            )
        case "declined":
            words = "The other machine did not accept.", f"Nothing was changed here. It says: {refused.detail}"
        case "garbled":
            words = (
                f"What answers at {address} is not a machine to be paired, or somebody altered what it said.",
                "Nothing was changed here. Check the address; if it is right, let the machine show a new code.",
            )
    return EngineError(*words)
