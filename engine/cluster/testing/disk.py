"""A ledger in memory with the rules of the real one. What it holds was synced: a crash leaves it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.cluster.entries import Block, BlockFound, Entry, RowsPlanned, Vector, decode
from engine.cluster.messages import NOBODY, Epoch

ROWS_TAG = b"rows"


class Disk:
    """The disk of one machine under one author. A machine that loses it gets a new one under a new author."""

    def __init__(self, author: str, cluster: str) -> None:
        self.author = author
        self.cluster = cluster
        self.epoch_max = NOBODY
        self.entries: list[Entry | BlockFound] = []  # in the order they came
        self.logs: dict[str, list[Entry]] = {}
        self.ends: Vector = {}
        self._arrived: list[Entry] = []
        self._rows: dict[Block, RowsPlanned] = {}
        self._planned: dict[tuple[str, str], tuple[Block, int]] = {}  # (run, row): where it was planned first

    def write(self, entries: Sequence[Entry], epoch: Epoch | None) -> list[BlockFound]:
        """Add entries and keep the epoch, all together. Entries that are there already are skipped.

        Raises ValueError on a gap, with nothing written.
        """
        ends = dict(self.ends)
        new: list[Entry] = []
        for entry in entries:
            end = ends.get(entry.author, 0)
            if entry.seq < end:
                self._check_division(entry, new)
                continue
            if entry.seq > end:
                raise ValueError(f"{entry.author} has {end} facts here, the next one is {entry.seq}")
            ends[entry.author] = entry.end
            new.append(entry)
        self.ends = ends
        self.epoch_max = max(self.epoch_max, epoch or NOBODY)
        found: list[BlockFound] = []
        for entry in new:
            self.logs.setdefault(entry.author, []).append(entry)
            self._arrived.append(entry)
            if ROWS_TAG in entry.body[:8] and isinstance(body := decode(entry.body), RowsPlanned):
                found.append(self._index((entry.author, entry.seq), body))
                self.entries.append(found[-1])
            else:
                self.entries.append(entry)
        return found

    def replay(self) -> Iterator[Entry | BlockFound]:
        """Everything, in the order it came; rows as what was found out about them."""
        return iter(list(self.entries))

    def arrived(self) -> list[Entry]:
        """Every entry, in the order they came."""
        return list(self._arrived)

    def everything(self) -> Iterator[Entry]:
        """Every entry, author by author."""
        for log in self.logs.values():
            yield from log

    def read(self, author: str, first: int, limit: int) -> list[Entry]:
        """At most `limit` entries of an author from the fact `first` on."""
        log = self.logs.get(author, [])
        return [entry for entry in log if entry.seq >= first][:limit]

    def rows(self, block: Block, at: Sequence[int]) -> list[tuple[str, str, str]]:
        """(row id, text, domain) at these places; empty if the block is not here."""
        body = self._rows.get(block)
        return [body.rows[place] for place in at] if body else []

    def run_rows(self, run_id: str) -> list[str]:
        """Ids of the rows planned into a run, each once."""
        return [row for run, row in self._planned if run == run_id]

    def unplanned(self, run_id: str, rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """Those not planned into the run yet, each once."""
        new = {row[0]: row for row in rows if (run_id, row[0]) not in self._planned}
        return list(new.values())

    def _check_division(self, entry: Entry, new: Sequence[Entry]) -> None:
        there = [*self.logs.get(entry.author, ()), *new]
        if not any((e.author, e.seq, e.count) == (entry.author, entry.seq, entry.count) for e in there):
            raise ValueError(f"entry {entry.seq} of {entry.author} is divided otherwise here")

    def _index(self, block: Block, body: RowsPlanned) -> BlockFound:
        elsewhere = {}
        for place, (row, _, _) in enumerate(body.rows):
            before = self._planned.setdefault((body.run_id, row), (block, place))
            if before != (block, place):
                elsewhere[place] = before
        self._rows[block] = body
        return BlockFound(body.run_id, block, len(body.rows), elsewhere)
