"""The ledger's thread: order, shared transactions, and a clear end when the disk fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.cluster.disk import SHARED_ENTRIES, Disk
from engine.cluster.effects import Write
from engine.cluster.entries import BlockFound, Entry, RowsPlanned, StateSet, encode
from engine.cluster.ledger import Ledger, LedgerFailed
from engine.cluster.messages import Epoch
from tests.unit.cluster.examples import rows

ME = "a" * 32


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path / "ledger.sqlite", ME)
    yield found
    found.close()


class Listener:
    """What a disk says, in the order it says it."""

    def __init__(self) -> None:
        self.transactions: list[list[int]] = []
        self.found: list[BlockFound] = []
        self.failures: list[BaseException] = []

    def written(self, numbers: Sequence[int], found: Sequence[BlockFound]) -> None:
        self.transactions.append(list(numbers))
        self.found += found


def entry(ledger: Ledger, seq: int) -> Entry:
    return Entry(ledger.author, seq, 1, encode(StateSet("run", "paused", "", seq)))


def on_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner() as runner:
        runner.run(work())


def hold(disk: Disk) -> Callable[[], None]:
    """Keep the thread busy until the returned function is called."""
    free, busy = threading.Event(), threading.Event()

    def wait() -> None:
        busy.set()
        free.wait(30)

    disk.tell(wait)
    busy.wait(30)
    return free.set


def test_who_waits_while_the_disk_is_busy_shares_a_transaction(ledger: Ledger) -> None:
    async def work() -> None:
        heard = Listener()
        disk = Disk(ledger, heard.written, heard.failures.append)
        go_on = hold(disk)
        for number in range(SHARED_ENTRIES + 10):
            disk.write(Write(number, (entry(ledger, number),), Epoch(number + 1, ledger.author)))
        vector = disk.ask(ledger.vector)
        go_on()
        # Asked after all of them were given, answered when all are on disk, and after they were told.
        assert await vector == {ledger.author: SHARED_ENTRIES + 10}
        assert heard.transactions == [
            list(range(SHARED_ENTRIES)),
            list(range(SHARED_ENTRIES, SHARED_ENTRIES + 10)),
        ]
        assert ledger.epoch_max.number == SHARED_ENTRIES + 10
        await disk.close()
        assert not heard.failures

    on_loop(work)


def test_blocks_are_told_with_their_transaction_and_closing_loses_nothing(ledger: Ledger) -> None:
    async def work() -> None:
        heard = Listener()
        disk = Disk(ledger, heard.written, heard.failures.append)
        block = RowsPlanned("run", tuple(rows(3)))
        go_on = hold(disk)
        disk.write(Write(1, (Entry(ledger.author, 0, 1, encode(block)),)))
        disk.write(Write(2, (Entry(ledger.author, 1, 1, encode(block)),)))
        closing = asyncio.ensure_future(disk.close())
        go_on()
        await closing
        assert heard.transactions == [[1, 2]]
        first, second = heard.found
        assert (first.block, first.elsewhere) == ((ledger.author, 0), {})
        assert second.elsewhere == {at: ((ledger.author, 0), at) for at in range(3)}

    on_loop(work)


def test_a_question_that_fails_is_the_askers_affair(ledger: Ledger) -> None:
    async def work() -> None:
        heard = Listener()
        disk = Disk(ledger, heard.written, heard.failures.append)
        with pytest.raises(LookupError):
            await disk.ask(ledger.rows, (ledger.author, 5), [0])
        cancelled = disk.ask(ledger.vector)
        cancelled.cancel()
        assert await disk.ask(ledger.vector) == {}
        assert not heard.failures
        await disk.close()

    on_loop(work)


def test_a_disk_that_fails_says_so_once_and_writes_nothing_more(ledger: Ledger) -> None:
    async def work() -> None:
        heard = Listener()
        failed = asyncio.Event()

        def broke(error: BaseException) -> None:
            heard.failures.append(error)
            failed.set()

        disk = Disk(ledger, heard.written, broke)
        await disk.ask(ledger._con.execute, "pragma max_page_count = 1")
        go_on = hold(disk)
        big = tuple(
            Entry(ledger.author, seq, 1, encode(StateSet("run", "paused", "x" * 2000, 1))) for seq in range(99)
        )
        disk.write(Write(1, big))
        waiting = disk.ask(ledger.vector)
        go_on()
        await asyncio.wait_for(failed.wait(), 30)
        with pytest.raises(LedgerFailed):
            await waiting
        with pytest.raises(LedgerFailed):
            await disk.ask(ledger.vector)
        disk.write(Write(2, (entry(ledger, 0),)))
        await disk.close()
        assert len(heard.failures) == 1
        assert isinstance(heard.failures[0], LedgerFailed)
        assert heard.transactions == []

    on_loop(work)
