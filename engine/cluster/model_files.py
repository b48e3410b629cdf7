"""Model files on the disk of this machine: one that is being put together, and those others may have.

Everything here reads and writes files and takes its time: it is called in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import filelock

from engine.cluster.capacity import gigabytes
from engine.cluster.messages import PIECE_BYTES, ModelOffer, ModelPart
from engine.cluster.model_offers import MAX_OFFER_PIECES, piece_hash
from engine.models import catalog
from workspace.errors import ModelError

SPARE_BYTES = 256 << 20  # a model never takes the last of a disk: labels need it
KEPT_DAYS = 30  # for which a file that was not completed is kept
LOCK_SECONDS = 2.0  # a fetch that was dropped and is wanted again may just be letting go
MAX_OFFERED = 16  # files whose pieces are remembered

Find = Callable[[str], Path | None]


class Closing(Exception):
    """The engine ends; what is on disk is enough to go on later."""


class PartFile:
    """A file that is being fetched, in the models folder under a name no program takes for a model.

    What it holds is known by its content alone: after a crash, a power cut or a change by somebody else its pieces
    are checked again. One process of this machine writes it at a time. Raises ModelError and OSError.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        self._digest = digest
        self._path = folder / f".{digest}.part"
        self._lock = filelock.FileLock(folder / f".{digest}.lock", mode=0o600, thread_local=False)
        self._file: BinaryIO | None = None
        self._closing = threading.Event()

    def open(self, offer: ModelOffer) -> frozenset[int]:
        """The pieces of `offer` that are there already."""
        _check_digest(self._digest)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        if self._file is None:
            _forget_abandoned(self._folder)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
        file = self._file
        if os.fstat(file.fileno()).st_size > offer.size:
            file.truncate(offer.size)
        held = set()
        for piece, expected in enumerate(offer.pieces):
            self._check_closing()
            file.seek(piece * PIECE_BYTES)
            data = _read(file, min(PIECE_BYTES, offer.size - piece * PIECE_BYTES))
            if not data:
                break
            if piece_hash(data) == expected:
                held.add(piece)
        needed = (len(offer.pieces) - len(held)) * PIECE_BYTES + SPARE_BYTES
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise ModelError(
                f"There is not enough room for the model: {gigabytes(needed)} are needed in {self._folder}, "
                f"{gigabytes(free)} are free.",
                "Make room; it goes on by itself.",
            )
        return frozenset(held)

    def store(self, piece: int, data: bytes) -> None:
        """Write a piece."""
        self._check_closing()
        assert self._file is not None
        self._file.seek(piece * PIECE_BYTES)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def conclude(self, name: str) -> Path | None:
        """Give the complete file its place among the models; None when it is not the file that was wanted."""
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(0)
        value = hashlib.blake2b(digest_size=16)
        while block := self._file.read(PIECE_BYTES):
            self._check_closing()
            value.update(block)
        if value.hexdigest() != self._digest:
            return None
        catalog.check_file(self._path)
        self._file.close()
        self._file = None
        place = _free_place(self._folder, name, self._digest)
        os.replace(self._path, place)
        _sync_folder(self._folder)
        catalog.remember_digest(place, self._digest)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()
        return place

    def stop(self) -> None:
        """From any thread: what is under way ends with Closing."""
        self._closing.set()

    def close(self) -> None:
        """What was stored stays for the next time."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def _take_lock(self) -> None:
        try:
            if not self._lock.is_locked:
                self._lock.acquire(timeout=LOCK_SECONDS)
        except filelock.Timeout:
            raise ModelError(
                "Another Winnow on this machine is fetching the model.", "It is waited for."
            ) from None

    def _check_closing(self) -> None:
        if self._closing.is_set():
            raise Closing


class Library:
    """Offers and pieces of this machine's models: of those `find` finds by their digest, and of no other file.

    `offer` is called by one thread and `part` by another: reading a large file whole, which is done before it is
    offered, keeps nobody from their pieces. A file that has changed since is not there any more.
    """

    def __init__(self, find: Find) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._offers: dict[str, tuple[Path, os.stat_result, ModelOffer]] = {}

    def offer(self, digest: str) -> ModelOffer | None:
        """What to answer to a machine that wants this model; None when it is not here."""
        with contextlib.suppress(OSError):
            known = self._offers.get(digest)
            if known is not None and _unchanged(known[0], known[1]):
                return known[2]
            self._forget(digest)
            path = self._find(digest)
            if path is None:
                return None
            stat, value, pieces = path.stat(), hashlib.blake2b(digest_size=16), []
            if stat.st_size > MAX_OFFER_PIECES * PIECE_BYTES:
                return None
            with path.open("rb", buffering=0) as file:
                while data := _read(file, PIECE_BYTES):
                    value.update(data)
                    pieces.append(piece_hash(data))
            if value.hexdigest() != digest or not pieces or not _unchanged(path, stat):
                return None
            offer = ModelOffer(digest, path.stem[:200], stat.st_size, tuple(pieces))
            with self._lock:
                while len(self._offers) >= MAX_OFFERED:
                    del self._offers[next(iter(self._offers))]
                self._offers[digest] = (path, stat, offer)
            return offer
        return None

    def part(self, digest: str, piece: int) -> ModelPart:
        """A piece of a file offered before; empty when it is not there (any more)."""
        known = self._offers.get(digest)
        with contextlib.suppress(OSError):
            if known is not None and piece < len(known[2].pieces) and _unchanged(known[0], known[1]):
                with known[0].open("rb", buffering=0) as file:
                    file.seek(piece * PIECE_BYTES)
                    return ModelPart(digest, piece, _read(file, PIECE_BYTES))
        self._forget(digest)
        return ModelPart(digest, piece, b"")

    def _forget(self, digest: str) -> None:
        with self._lock:
            self._offers.pop(digest, None)


def file_name(name: str) -> str:
    """A model's name as that of a file, whatever characters it has: no folder, nothing hidden, not too long."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name)[:80].strip(".-") or "model"


def _free_place(folder: Path, name: str, digest: str) -> Path:
    """A name of its own: a file that is there is somebody's."""
    stem = file_name(name)
    plain = folder / f"{stem}.gguf"
    if not plain.exists() and name.casefold() not in (catalog.EMBEDDED, catalog.EMBEDDED_TITLE.casefold()):
        return plain
    number, place = 1, folder / f"{stem}-{digest[:8]}.gguf"
    while place.exists():
        number += 1
        place = folder / f"{stem}-{digest[:8]}-{number}.gguf"
    return place


def _forget_abandoned(folder: Path) -> None:
    oldest = time.time() - KEPT_DAYS * 86_400
    for path in [*folder.glob(".*.part"), *folder.glob(".*.lock")]:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _check_digest(digest: str) -> None:
    # It becomes part of a file's name.
    if not re.fullmatch("[0-9a-f]{32}", digest):
        raise ModelError("The run names its model in a way that is not known here.", "Start the run again.")


def _unchanged(path: Path, stat: os.stat_result) -> bool:
    now = path.stat()
    return (now.st_size, now.st_mtime_ns, now.st_ino) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _read(file: BinaryIO, size: int) -> bytes:
    parts = []
    while size > 0 and (data := file.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _sync_folder(folder: Path) -> None:
    # So that the new name survives a power cut; systems on which a folder cannot be opened do it by themselves.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
