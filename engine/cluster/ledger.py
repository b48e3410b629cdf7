"""The memory of a machine that survives everything: one SQLite file with the logs of all authors it knows.

Nothing is counted, sent or called saved before the transaction holding it has been synced to the disk. Beside the
entries as they came the file holds what is looked up in them (which rows are planned where), and a few things of
this machine alone: which cluster it belongs to, where models lie, where other machines were reached.
"""

from __future__ import annotations

import bisect
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.cluster.entries import BlockFound, Entry, MemberSet, RowsPlanned, decode, member_of
from engine.cluster.ledger_file import open_file
from engine.cluster.messages import NOBODY, Epoch
from engine.cluster.planned import PlannedRows, Row, elsewhere
from workspace.errors import EngineError

T = TypeVar("T")
MAX_ADDRESSES = 16  # remembered for each machine; a peer cannot fill the file with them
AUDIT_STEP = 1024  # entries between the sums an audit remembers
PAGE = 256  # entries fetched at once


class LedgerFailed(EngineError):
    """The ledger could not be written or synced. It takes no further use in this process, for good:
    after a failed sync nobody knows what the disk holds until the file is opened again."""


class Ledger:
    """An open ledger file. One thread at a time; raises LedgerFailed for every use after a failed write."""

    def __init__(self, path: Path, member: str) -> None:
        self.path = path
        self._failed: LedgerFailed | None = None
        self._audited: dict[str, list[tuple[int, int, int]]] = {}  # author -> (end, entries before it, their sum)
        try:
            self._con = open_file(path)
            self._planned = PlannedRows(self._con)
            self._authors = dict(self._con.execute("select name, number from author").fetchall())
            self._ends = self._read_ends()
            self._last: int = self._con.execute("select coalesce(max(number), 0) from entry").fetchone()[0]
        except sqlite3.Error as error:
            raise self._stop(error) from error
        self.epoch_max = msgspec.json.decode(self.setting("epoch") or msgspec.json.encode(NOBODY), type=Epoch)
        self.cluster = self.setting("cluster")
        if not self.cluster:
            self._set_cluster(secrets.token_hex(16))
        self.author = self._author(member)

    def close(self) -> None:
        """Close the file; everything committed is in it."""
        self._con.close()

    # the logs

    def write(self, entries: Sequence[Entry], epoch: Epoch | None = None) -> list[BlockFound]:
        """Add entries of any authors and keep a higher epoch, in one transaction that is on the disk on return.

        Entries that are there already are skipped, whatever they say: the first stays. Returns what became of
        the new RowsPlanned. Raises ValueError, and changes nothing, for an entry that does not follow the log of
        its author (a gap, or another division into entries) or rows that cannot be read.
        """
        self._check()
        new = self._new(entries)
        plans = [(i, self._rows_of(entry)) for i, entry in enumerate(new, 1) if tag_of(entry.body) == "rows"]
        higher = epoch if epoch is not None and epoch > self.epoch_max else None
        if not new and higher is None:
            return []

        def insert() -> tuple[dict[str, int], list[BlockFound]]:
            if higher is not None:
                self._put("epoch", msgspec.json.encode(higher).decode())
            authors = self._numbers(new)
            self._con.executemany(
                "insert into entry (number, author, seq, count, kind, body) values (?, ?, ?, ?, ?, ?)",
                [
                    (self._last + i, authors[e.author], e.seq, e.count, tag_of(e.body), e.body)
                    for i, e in enumerate(new, 1)
                ],
            )
            return authors, [self._planned.plan(self._last + i, new[i - 1], body) for i, body in plans]

        self._authors, found = self._transaction(insert)
        self._last += len(new)
        self._ends.update((entry.author, entry.end) for entry in new)  # in order, so the last one stays
        self.epoch_max = higher or self.epoch_max
        return found

    def vector(self) -> dict[str, int]:
        """How many facts of each author are held, all from the first on."""
        return dict(self._ends)

    def replay(self) -> Iterator[Entry | BlockFound]:
        """Everything in the order it came, with a BlockFound for each RowsPlanned: texts are not read."""
        names = {number: name for name, number in self._authors.items()}
        blocks: dict[int, tuple[str, int]] = {}
        number = 0
        while page := self._read(
            "select e.number, author, seq, count, case when kind <> 'rows' then body end, id, rows, elsewhere"
            " from entry e left join block b on b.number = e.number left join run r on r.number = b.run"
            " where e.number > ? order by e.number limit ?",
            [number, PAGE],
        ):
            for number, author, seq, count, body, run_id, rows, places in page:
                if body is not None:
                    yield Entry(names[author], seq, count, body)
                    continue
                blocks[number] = names[author], seq
                yield BlockFound(run_id, blocks[number], rows, elsewhere(places, blocks))

    def read(self, author: str, first: int, max_bytes: int, limit: int = 4096) -> list[Entry]:
        """Entries of a log from the one with fact `first` on, whole ones, up to `max_bytes` but at least one."""
        if first >= self._ends.get(author, 0):
            return []

        def work() -> list[Entry]:
            cursor = self._con.execute(
                "select seq, count, body from entry where author = ?1 and seq >="
                " (select max(seq) from entry where author = ?1 and seq <= ?2) order by seq limit ?3",
                [self._authors[author], max(first, 0), limit],
            )
            entries: list[Entry] = []
            left = max_bytes
            for seq, count, body in cursor:
                left -= len(body)
                if entries and left < 0:
                    break
                entries.append(Entry(author, seq, count, body))
            cursor.close()  # or it would hold on to the state of this moment
            return entries

        return self._guarded(work)

    def audit(self, author: str, end: int) -> tuple[int, bytes]:
        """How many entries of a log end at or before `end`, and the sum modulo 2^128 of their BLAKE2b-128.

        The first audit of a log reads all of it; later ones start at sums remembered on the way.
        """
        marks = self._audited.setdefault(author, [(0, 0, 0)]) if author in self._ends else [(0, 0, 0)]
        start, count, total = marks[bisect.bisect_right(marks, end, key=lambda mark: mark[0]) - 1]
        while page := self.read(author, start, PAGE * 4096, PAGE):
            for entry in page:
                if entry.end > end:
                    return count, total.to_bytes(16, "big")
                start, count, total = entry.end, count + 1, (total + entry_hash(entry)) % (1 << 128)
                if count % AUDIT_STEP == 0 and start > marks[-1][0]:
                    marks.append((start, count, total))
        return count, total.to_bytes(16, "big")

    # rows

    def rows(self, block: tuple[str, int], at: Sequence[int]) -> list[Row]:
        """(row id, text, domain) at these places of a block. Raises LookupError for what is not there."""
        return self._guarded(lambda: self._planned.rows(block, at))

    def unplanned(self, run_id: str, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that are not planned into the run yet, each once, in their order."""
        return self._guarded(lambda: self._planned.unplanned(run_id, rows))

    # of this machine alone

    def new_log(self) -> str:
        """Begin another log of this machine, because others hold more of its log than this file: it was set
        back to an earlier state. Returns the new author; what the file holds stays."""
        self.author = self._begin(member_of(self.author), self.setting("file"))
        return self.author

    def join(self, cluster: str) -> None:
        """Belong to this cluster from now on. Raises EngineError when other machines are known already."""
        if cluster != self.cluster:
            if self._knows_others():
                raise EngineError(
                    "This engine belongs to another cluster already.",
                    "Its runs and labels stay there. Start the helper with a new folder to join this one.",
                )
            self._set_cluster(cluster)

    def models(self) -> dict[str, str]:
        """Where the files of models lie on this machine, by digest."""
        return dict(self._read("select digest, path from model", []))

    def remember_model(self, digest: str, path: str) -> None:
        """The model of this digest lies there."""
        if self.models().get(digest) != path:
            self._transaction(lambda: self._con.execute("replace into model values (?, ?)", [digest, path]))

    def addresses(self) -> dict[str, list[str]]:
        """host:port at which each member was reached, the latest first."""
        found: dict[str, list[str]] = {}
        for member, address in self._read("select member, address from address order by number desc", []):
            found.setdefault(member, []).append(address)
        return found

    def remember_address(self, member: str, address: str) -> None:
        """The member was just reached there."""
        known = self.addresses().get(member, [])
        if known[:1] == [address]:
            return

        def write() -> None:
            gone = [address, *[old for old in known if old != address][MAX_ADDRESSES - 1 :]]
            self._con.executemany(
                "delete from address where member = ? and address = ?", [(member, old) for old in gone]
            )
            self._con.execute("insert into address (member, address) values (?, ?)", [member, address])

        self._transaction(write)

    def setting(self, name: str) -> str:
        """What was set under this name; empty if nothing was."""
        found = self._read("select value from setting where name = ?", [name])
        return str(found[0][0]) if found else ""

    def set_setting(self, name: str, value: str) -> None:
        """Durably keep a word of this machine."""
        self._transaction(lambda: self._put(name, value))

    # inside

    def _new(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that are not there yet, each following its log."""
        new: list[Entry] = []
        ends: dict[str, int] = {}
        for entry in entries:
            end = ends.get(entry.author, self._ends.get(entry.author, 0))
            if entry.seq == end:
                new.append(entry)
                ends[entry.author] = entry.end
            elif entry.seq > end:
                raise ValueError(f"{entry.author}: entry {entry.seq} leaves a gap, the log ends before {end}")
            elif (entry.seq, entry.count) not in self._there(entry, new):
                raise ValueError(f"{entry.author}: entry {entry.seq} is divided otherwise in this log")
        return new

    def _there(self, entry: Entry, new: Sequence[Entry]) -> list[tuple[int, int]]:
        if entry.seq >= self._ends.get(entry.author, 0):
            return [(other.seq, other.count) for other in new if other.author == entry.author]
        return self._read(
            "select seq, count from entry where author = ? and seq = ?", [self._authors[entry.author], entry.seq]
        )

    def _numbers(self, entries: Sequence[Entry]) -> dict[str, int]:
        """Numbers of all authors, with those of entries that have none yet."""
        authors = self._authors
        for name in dict.fromkeys(entry.author for entry in entries):
            if name not in authors:
                added = self._con.execute("insert into author (name) values (?) returning number", [name])
                authors = authors | {name: added.fetchall()[0][0]}
        return authors

    def _rows_of(self, entry: Entry) -> RowsPlanned:
        try:
            body = decode(entry.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{entry.author}: entry {entry.seq} cannot be read: {error}") from error
        assert isinstance(body, RowsPlanned)
        return body

    def _read_ends(self) -> dict[str, int]:
        ends = {}
        for name, number in self._authors.items():
            seq, count = self._con.execute(
                "select seq, count from entry where author = ? order by seq desc limit 1", [number]
            ).fetchone()
            ends[name] = seq + count
        return ends

    def _author(self, member: str) -> str:
        """The name under which this file's own log goes on, or begins.

        Another key is another machine. And a file that was copied or brought back from a backup may lack what
        its log held elsewhere; numbering on would give two facts the same name, so it begins a log of its own.
        """
        author, here = self.setting("author"), str(os.stat(self.path).st_ino)
        if member_of(author) == member and (self.setting("file") == here or not self._ends.get(author)):
            return author
        return self._begin(member, here)

    def _begin(self, member: str, here: str) -> str:
        fresh = f"{member}.{secrets.token_hex(8)}"

        def write() -> None:
            self._put("author", fresh)
            self._put("file", here)

        self._transaction(write)
        return fresh

    def _knows_others(self) -> bool:
        me = member_of(self.author)
        members = {member_of(author) for author in self._ends}
        for (body,) in self._read("select body from entry where kind = 'member'", []):
            said = decode(body)
            assert isinstance(said, MemberSet)
            members.add(said.member.id)
        return bool(members - {me})

    def _set_cluster(self, cluster: str) -> None:
        self.set_setting("cluster", cluster)
        self.cluster = cluster

    def _put(self, name: str, value: str) -> None:
        self._con.execute("replace into setting values (?, ?)", [name, value])

    def _read(self, sql: str, values: Sequence[object]) -> list[Any]:
        return self._guarded(lambda: self._con.execute(sql, list(values)).fetchall())

    def _guarded(self, work: Callable[[], T]) -> T:
        self._check()
        try:
            return work()
        except sqlite3.Error as error:
            raise self._stop(error) from error

    def _transaction(self, work: Callable[[], T]) -> T:
        self._check()
        try:
            self._con.execute("begin immediate")
            result = work()
            self._con.execute("commit")
        except sqlite3.Error as error:
            raise self._stop(error) from error
        except BaseException:
            self._con.execute("rollback")
            raise
        return result

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _stop(self, error: sqlite3.Error) -> LedgerFailed:
        self._failed = LedgerFailed(
            f"The engine's ledger could not be written: {error}.",
            "Every label saved before is safe. Make room on the disk or repair it, then start the run again.",
            str(self.path),
        )
        return self._failed


def tag_of(body: bytes) -> str:
    """Which kind of entry this is: a look at the first bytes, whatever its size."""
    if len(body) > 1 and body[0] & 0xF0 == 0x90 and body[1] & 0xE0 == 0xA0:  # short array that begins with a word
        return body[2 : 2 + (body[1] & 0x1F)].decode("utf-8", "replace")
    try:
        # The same in other words: whoever reads it as rows must find it among the rows.
        return str(msgspec.msgpack.decode(body)[0])
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, RecursionError):
        return ""


def entry_hash(entry: Entry) -> int:
    """BLAKE2b-128 of an entry: its seq and count in 8 bytes each, big-endian, then its body."""
    place = entry.seq.to_bytes(8, "big") + entry.count.to_bytes(8, "big")
    return int.from_bytes(hashlib.blake2b(place + entry.body, digest_size=16).digest(), "big")
