"""The thread a ledger lives on: whoever waits while the disk is busy shares the next transaction.

A disk that is slow to sync makes labels wait, never the event loop: beats go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import msgspec

from engine.cluster.effects import Write
from engine.cluster.entries import BlockFound, Entry
from engine.cluster.ledger import Ledger, LedgerFailed
from engine.cluster.messages import Epoch

P = ParamSpec("P")
T = TypeVar("T")

SHARED_ENTRIES = 256  # in one transaction, a single larger write apart
SHARED_BYTES = 2 << 20

Ask = tuple[int, "asyncio.Future[Any]", Callable[[], Any]]  # to be answered after so many writes


class Transaction(msgspec.Struct):
    """Writes that reach the disk together."""

    numbers: list[int]
    entries: list[Entry]
    epoch: Epoch | None


class Disk:
    """Writes in the order given, then answers questions, and so on. All methods belong to the loop's thread.

    `written` is called with the numbers of the writes of each transaction and the blocks found in it, once it
    is on the disk. `failed` is called once, for good, when the ledger raises: nothing is written after that.
    """

    def __init__(
        self,
        ledger: Ledger,
        written: Callable[[Sequence[int], Sequence[BlockFound]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.ledger = ledger
        self._written = written
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._writes: deque[Write] = deque()
        self._asks: deque[Ask] = deque()
        self._given = 0  # writes, ever
        self._taken = 0  # of them, on the disk or on their way
        self._there = threading.Condition()
        self._closing = False
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def write(self, write: Write) -> None:
        """Have it on the disk soon; `written` tells when."""
        with self._there:
            self._writes.append(write)
            self._given += 1
            self._there.notify()

    def ask(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Have `work` done on the ledger's thread, after the writes that wait now."""
        future: asyncio.Future[T] = self._loop.create_future()
        with self._there:
            if self._broken is not None:
                future.set_exception(self._broken)
            else:
                self._asks.append((self._given, future, lambda: work(*args, **kwargs)))
                self._there.notify()
        return future

    def tell(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """The same for what nobody waits for. Should the ledger fail at it, `failed` says so."""
        self.ask(work, *args, **kwargs).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def close(self) -> None:
        """Do what waits, close the ledger, end the thread."""
        with self._there:
            self._closing = True
            self._there.notify()
        await asyncio.to_thread(self._thread.join)
        self.ledger.close()

    # on the thread

    def _run(self) -> None:
        while True:
            with self._there:
                while not (self._writes or self._asks or self._closing):
                    self._there.wait()
                if not self._writes and not self._asks:
                    return
                transaction = self._take()
                asks = [self._asks.popleft() for _ in range(sum(ask[0] <= self._taken for ask in self._asks))]
            found: Sequence[BlockFound] = ()
            try:
                if transaction is not None:
                    found = self.ledger.write(transaction.entries, transaction.epoch)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the loop has to know
                self._break(error, asks)
                return
            answers = [_answer(work) for _, _, work in asks]
            broken = next((error for _, error in answers if isinstance(error, LedgerFailed)), None)
            if broken is not None:
                self._break(broken, asks)
                return
            done = [(future, answer) for (_, future, _), answer in zip(asks, answers, strict=True)]
            self._report(transaction, found, done)

    def _take(self) -> Transaction | None:
        if not self._writes:
            return None
        entries: list[Entry] = []
        epoch: Epoch | None = None
        numbers: list[int] = []
        size = 0
        while self._writes:
            write = self._writes[0]
            size += sum(len(entry.body) for entry in write.entries)
            if numbers and (len(entries) + len(write.entries) > SHARED_ENTRIES or size > SHARED_BYTES):
                break
            self._writes.popleft()
            self._taken += 1
            numbers.append(write.number)
            entries += write.entries
            if write.epoch is not None and (epoch is None or write.epoch > epoch):
                epoch = write.epoch
        return Transaction(numbers, entries, epoch)

    def _report(
        self,
        transaction: Transaction | None,
        found: Sequence[BlockFound],
        done: Sequence[tuple[asyncio.Future[Any], tuple[Any, BaseException | None]]],
    ) -> None:
        def report() -> None:
            if transaction is not None:
                self._written(transaction.numbers, found)
            for future, (answer, error) in done:
                if future.done():
                    continue
                if error is None:
                    future.set_result(answer)
                else:
                    future.set_exception(error)

        self._soon(report)

    def _break(self, error: BaseException, asks: list[Ask]) -> None:
        with self._there:
            self._broken = error
            asks.extend(self._asks)
            self._asks.clear()

        def report() -> None:
            self._failed(error)
            for _, future, _ in asks:
                if not future.done():
                    future.set_exception(error)

        self._soon(report)

    def _soon(self, report: Callable[[], None]) -> None:
        # The loop is gone when the engine ends in disorder; then nobody waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(report)


def _answer(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - it is raised where the question was asked
        return None, error
