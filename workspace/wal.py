"""Damage in a write-ahead log that DuckDB would not notice.

A log is a header and then entries: length (8 bytes, little endian), checksum (8 bytes), content. DuckDB checks
the content of an entry and refuses a wrong one. But where the *length* is damaged it takes the rest of the file
for an entry that was being written when the power failed, opens without it and deletes the log: committed
changes are gone without a word (seen with DuckDB 2.0.0). So the lengths are looked at first.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import numpy as np

_START = b"\x64\x00\x62\x65\x00"  # field 100: entry of kind 98, "version"; then field 101, the number itself
_KNOWN_VERSION = 2  # what DuckDB 2.0 writes for files of storage version 1.5
_TERMINATOR = b"\xff\xff"  # ends the header, and every entry
_ENTRY = struct.Struct("<QQ")
_LARGEST_ENTRY = 1 << 30  # bytes; no chunk of rows comes near it
_SEARCHED = 8 << 20  # bytes after a break that are searched for entries going on


def wal_of(path: Path) -> Path:
    """Where DuckDB keeps the write-ahead log of a database."""
    return path.with_name(path.name + ".wal")


def first_damage(wal: Path) -> int | None:
    """The byte at which the chain of entries is broken, or None.

    None for a log that is missing, empty, whole, or torn at its end: the last is what a crash leaves behind,
    and nothing that was committed is lost by it. Contents are not checked, DuckDB does that.
    """
    try:
        if wal.stat().st_size == 0:
            return None
    except FileNotFoundError:
        return None
    with wal.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
        return _first_break(log)


def _first_break(log: mmap.mmap) -> int | None:
    if log[: len(_START)] != _START[: len(log)]:
        return 0
    if len(log) > len(_START) and log[len(_START)] != _KNOWN_VERSION:
        return None  # of another DuckDB, which has to judge it
    start = _end_of_header(log)
    if start is None:
        return 0 if len(log) > 1024 else None  # a header torn while it was written has nothing behind it
    position = _follow(log, start)
    if len(log) - position < _ENTRY.size:
        return None
    length, _ = _ENTRY.unpack_from(log, position)
    if length > _LARGEST_ENTRY or _goes_on(log, position + 1):
        return position
    return None


def _end_of_header(log: mmap.mmap) -> int | None:
    """Behind the version: field 102, a list of 16 numbers (which database), field 103, a number (checkpoints)."""
    try:
        position = len(_START) + 1
        if log[position : position + 3] == b"\x66\x00\x10":
            position += 3
            for _ in range(16):
                position = _behind_number(log, position)
        if log[position : position + 2] == b"\x67\x00":
            position = _behind_number(log, position + 2)
    except IndexError:
        return None
    return position + 2 if log[position : position + 2] == _TERMINATOR else None


def _behind_number(log: mmap.mmap, position: int) -> int:
    # Seven bits to a byte, the eighth says that more follow.
    while log[position] & 0x80:
        position += 1
    return position + 1


def _follow(log: mmap.mmap, position: int) -> int:
    """Where the chain of whole entries that begins at `position` ends."""
    while position + _ENTRY.size <= len(log):
        length, _ = _ENTRY.unpack_from(log, position)
        if length == 0 or position + _ENTRY.size + length > len(log):
            break
        position += _ENTRY.size + length
    return position


def _goes_on(log: mmap.mmap, start: int) -> bool:
    """Whether whole entries that end exactly with the file follow somewhere after `start`.

    By chance a length fits into the rest of the file about once in 2**40 places, so a hit is no accident.
    """
    stop = min(len(log), start + _SEARCHED)
    if stop - start < _ENTRY.size or log[-2:] != _TERMINATOR:
        return False
    zero = np.frombuffer(log[start:stop], dtype=np.uint8) == 0
    # The upper four of the eight bytes of any real length.
    small = zero[4:-3] & zero[5:-2] & zero[6:-1] & zero[7:]
    return any(_follow(log, start + int(place)) == len(log) for place in np.flatnonzero(small))
