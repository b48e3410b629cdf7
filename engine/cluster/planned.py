"""Which rows are planned into which run and where: the index of the blocks in a ledger file.

Written in the transaction that adds the blocks themselves. A row that two authors planned into a run stays where
this file saw it first, and the other block is told so.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from engine.cluster.entries import BlockFound, Entry, RowsPlanned, decode

Row = tuple[str, str, str]  # id, text, domain
Place = tuple[tuple[str, int], int]  # a block and a place in it

CACHED_BLOCKS = 8  # decoded, in memory; a machine works on two at a time, a block is a message at most


class PlannedRows:
    """The blocks of an open ledger file. Whatever SQLite raises is for the ledger to handle."""

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con
        self._cache: OrderedDict[tuple[str, int], tuple[Row, ...]] = OrderedDict()

    def plan(self, number: int, entry: Entry, body: RowsPlanned) -> BlockFound:
        """Index an entry, which the file keeps under this number. Only in a transaction."""
        con = self._con
        con.execute("insert or ignore into run (id) values (?)", [body.run_id])
        run: int = con.execute("select number from run where id = ?", [body.run_id]).fetchone()[0]
        before = con.total_changes
        con.executemany(
            "insert or ignore into planned values (?, ?, ?, ?)",
            [(run, row_id, number, place) for place, (row_id, _, _) in enumerate(body.rows)],
        )
        places: dict[int, tuple[int, int]] = {}
        found: dict[int, Place] = {}
        if con.total_changes - before < len(body.rows):
            for at, (row_id, _, _) in enumerate(body.rows):
                there, place, author, seq = con.execute(
                    "select p.block, p.place, a.name, e.seq from planned p join entry e on e.number = p.block"
                    " join author a on a.number = e.author where p.run = ? and p.row = ?",
                    [run, row_id],
                ).fetchone()
                if (there, place) != (number, at):
                    places[at], found[at] = (there, place), ((author, seq), place)
        con.execute(
            "insert into block values (?, ?, ?, ?)",
            [number, run, len(body.rows), msgspec.msgpack.encode(places) if places else None],
        )
        return BlockFound(body.run_id, (entry.author, entry.seq), len(body.rows), found)

    def rows(self, block: tuple[str, int], at: Sequence[int]) -> list[Row]:
        """The rows at these places. Raises LookupError for what is not there."""
        rows = self._cache.get(block)
        if rows is None:
            found = self._con.execute(
                "select body from author a join entry e on e.author = a.number"
                " where a.name = ? and seq = ? and kind = 'rows'",
                block,
            ).fetchone()
            if found is None:
                raise LookupError(f"there are no rows {block[1]} of {block[0]}")
            planned = decode(found[0])
            assert isinstance(planned, RowsPlanned)
            rows = self._cache[block] = planned.rows
            if len(self._cache) > CACHED_BLOCKS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(block)
        return [rows[place] for place in at]

    def unplanned(self, run_id: str, rows: Sequence[Row]) -> list[Row]:
        """Those that are not planned into the run yet, each once, in their order."""
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(row[0], row)
        there = self._con.execute(
            # A cross join is never reordered: each row is looked up, instead of all of the run being searched.
            "select j.value from run r cross join json_each(?) j"
            " cross join planned p on p.run = r.number and p.row = j.value where r.id = ?",
            [msgspec.json.encode(list(first)).decode(), run_id],
        )
        for (row_id,) in there.fetchall():
            del first[row_id]
        return list(first.values())


def elsewhere(stored: bytes | None, blocks: Mapping[int, tuple[str, int]]) -> dict[int, Place]:
    """`BlockFound.elsewhere` from what the file keeps, given the names of the blocks before."""
    places = _places.decode(stored) if stored else {}
    return {at: (blocks[block], place) for at, (block, place) in places.items()}


_places = msgspec.msgpack.Decoder(dict[int, tuple[int, int]])
