"""Answers this machine has computed before, so that the same question about the same text costs nothing again.

One SQLite file in the user's cache folder, for all workspaces and processes of this user and readable by nobody
else: the answers say something about people's rows. Rows themselves are not in it, only hashes of them.

The key of a row's answers, all dimensions together, is a BLAKE2b-128 hash of everything they depend on: the
model's digest and what runs it, the dimensions with their instructions word for word, how many answers are drawn
at which temperature, and the text as the model reads it. Rows with an error are never kept. A hit says so by the
warning "cached"; no seconds and no tokens were spent on it.

A cache is never a reason to stop: what cannot be read is asked, what cannot be written is not kept, a damaged file
is set aside and another begun.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import msgspec

from engine.labeler import Answer, Labeler, LoadedModel, Progress
from engine.models.catalog import user_cache
from workspace.errors import ModelError
from workspace.facts import RunSpec

log = logging.getLogger("engine")

CACHED = "cached"  # warning of an answer that was computed before
SWITCH = "WINNOW_ANSWERS"  # environment; "off" leaves the cache alone
MAX_BYTES = 512 << 20  # of answers; some millions of rows with one dimension

_FORMAT = "answers-1"  # of keys and values; a change forgets everything
_USED_AGAIN = 3600  # seconds until a use is noted again
_AT_ONCE = 400  # keys in one statement
_PATIENCE = 5.0  # seconds another process may write
_CHECK = 8  # bytes of a hash before each value

_values = msgspec.msgpack.Decoder(tuple[Answer, ...])


def wanted(spec: RunSpec) -> bool:
    """Whether the answers of a run may come from the cache and go there.

    Likeness is computed faster than it is looked up.
    """
    return spec.settings.cache and spec.model.backend != "embedding" and os.environ.get(SWITCH) != "off"


class Cached:
    """Implements `engine.labeler.Labeler` around another one: asks it only for rows that were never asked."""

    def __init__(self, inner: Labeler, spec: RunSpec, file: Path | None = None, most: int = MAX_BYTES) -> None:
        self._inner = inner
        self._widths = [len(dimension.labels) for dimension in spec.dimensions]
        self._question = question_of(spec, inner.loaded)
        self._answers = Answers(file or user_cache() / "answers.sqlite", most)

    @property
    def loaded(self) -> LoadedModel:
        """See `engine.labeler.Labeler`."""
        return self._inner.loaded

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """See `engine.labeler.Labeler`."""
        keys = [key_of(self._question, row) for row in rows]
        found = {key: answers for key, answers in self._answers.get(keys).items() if self._fit(answers)}
        missing = [place for place, key in enumerate(keys) if key not in found]
        hits = len(rows) - len(missing)
        if progress is not None and hits:
            progress(hits)
        heard = None if progress is None else lambda done: progress(hits + done)
        try:
            asked = self._inner.ask([rows[place] for place in missing], heard) if missing else []
        except ModelError as error:
            # What was answered before it may have cost money: the next try finds it here.
            self._answers.put({keys[missing[at]]: tuple(row) for at, row in error.answered.items()})
            raise
        self._answers.put({keys[place]: row for place, row in zip(missing, asked, strict=True) if _is_kept(row)})
        fresh = dict(zip(missing, asked, strict=True))
        return [fresh[place] if place in fresh else _as_hit(found[key]) for place, key in enumerate(keys)]

    def close(self) -> None:
        """See `engine.labeler.Labeler`."""
        self._answers.close()
        self._inner.close()

    def _fit(self, answers: tuple[Answer, ...]) -> bool:
        return [len(answer.logprobs) for answer in answers] == self._widths


def question_of(spec: RunSpec, loaded: LoadedModel) -> bytes:
    """A hash of all that the answers of a run depend on besides the text."""
    settings = spec.settings
    parts = (
        _FORMAT,
        spec.model.backend,
        spec.model.digest,
        loaded.build,
        loaded.row_tokens,  # longer rows are cut there
        spec.dimensions,
        (settings.samples, settings.temperature),
    )
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()


def key_of(question: bytes, text: str) -> bytes:
    """The key of one row's answers; the text cannot be read from it."""
    raw = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, key=question, digest_size=16).digest()


def _is_kept(answers: tuple[Answer, ...]) -> bool:
    return not any(answer.error or answer.dropped for answer in answers)


def _as_hit(answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    return tuple(
        msgspec.structs.replace(
            answer, warnings=(*answer.warnings, CACHED), seconds=0.0, prompt_tokens=0, completion_tokens=0
        )
        for answer in answers
    )


class Answers:
    """The file of kept answers, bounded by forgetting what was not used for longest. No method raises for what
    is wrong with the file. For one thread; other processes may use the same file."""

    def __init__(self, file: Path, most: int = MAX_BYTES) -> None:
        self._file = file
        self._most = most
        self._inode = 0
        self._con: sqlite3.Connection | None = None
        with self._surviving():
            self._con = self._open()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, tuple[Answer, ...]]:
        """The answers that are known, by key."""
        found: dict[bytes, tuple[Answer, ...]] = {}
        stale: list[bytes] = []
        now = int(time.time())
        with self._surviving():
            for part in _parts(list(dict.fromkeys(keys))):
                for key, value, used in self._run(
                    f"select key, value, used from answers where key in ({_marks(part)})",  # noqa: S608
                    part,
                ):
                    answers = _read(value)
                    if answers is not None:
                        found[key] = answers
                        if now - used > _USED_AGAIN:
                            stale.append(key)
            for part in _parts(stale):
                self._run(f"update answers set used = {now} where key in ({_marks(part)})", part)  # noqa: S608
        return found

    def put(self, answers: Mapping[bytes, tuple[Answer, ...]]) -> None:
        """Keep these, and forget the least recently used beyond the bound."""
        if not answers or self._con is None:
            return
        now = int(time.time())
        with self._surviving():
            self._con.execute("begin immediate")
            try:
                self._con.executemany(
                    "insert or replace into answers values (?, ?, ?)",
                    [(key, _written(row), now) for key, row in answers.items()],
                )
                self._forget()
            except BaseException:
                self._con.rollback()
                raise
            self._con.commit()
        # Outside the transaction, and only what is free: gives a few pages back each time.
        with self._surviving():
            self._run("pragma incremental_vacuum(2000)")

    def close(self) -> None:
        """Let go of the file."""
        if self._con is not None:
            with contextlib.suppress(sqlite3.Error):
                self._con.close()
            self._con = None

    def _forget(self) -> None:
        while self._bytes() > self._most:
            (count,) = self._run("select count(*) from answers")[0]
            if not count:
                return
            oldest = "select key from answers order by used, key limit ?"
            self._run(f"delete from answers where key in ({oldest})", (max(1, count // 8),))  # noqa: S608

    def _bytes(self) -> int:
        pages, free, size = (
            self._run(f"pragma {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        return self._con.execute(sql, parameters).fetchall() if self._con is not None else []

    def _open(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Before SQLite makes it for everybody to read; its journals get the same mode.
        os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
        self._inode = self._file.stat().st_ino
        con = sqlite3.connect(self._file, timeout=_PATIENCE, isolation_level=None)
        try:
            con.execute("pragma auto_vacuum = incremental")
            con.execute("pragma journal_mode = wal")
            con.execute("pragma synchronous = off")  # a torn file costs a recomputation, see `_surviving`
            con.execute(
                "create table if not exists answers (key blob primary key, value blob, used integer) without rowid"
            )
            con.execute("create index if not exists by_use on answers (used)")
        except BaseException:
            con.close()
            raise
        return con

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """What is wrong with the file ends the block, not the run."""
        try:
            yield
        except sqlite3.OperationalError as error:
            # Busy, full or not writable: this time without.
            log.warning("the cache of answers cannot be used now: %s", error)
        except sqlite3.DatabaseError as error:
            log.warning("the cache of answers is damaged and begun anew: %s", error)
            self.close()
            with contextlib.suppress(OSError, sqlite3.Error, filelock.Timeout):
                self._set_aside()
                self._con = self._open()
        except OSError as error:
            log.warning("the cache of answers cannot be used: %s", error)

    def _set_aside(self) -> None:
        """Rename the damaged file, unless another process already did."""
        with filelock.FileLock(f"{self._file}.lock", timeout=_PATIENCE, mode=0o600):
            if not self._file.exists() or self._file.stat().st_ino != self._inode:
                return
            for ending in ("-wal", "-shm"):
                Path(f"{self._file}{ending}").unlink(missing_ok=True)
            os.replace(self._file, f"{self._file}.damaged")


def _written(answers: tuple[Answer, ...]) -> bytes:
    body = msgspec.msgpack.encode(answers)
    return hashlib.blake2b(body, digest_size=_CHECK).digest() + body


def _read(value: object) -> tuple[Answer, ...] | None:
    """The answers, None where these are not the bytes that were written."""
    if not isinstance(value, bytes):
        return None
    check, body = value[:_CHECK], value[_CHECK:]
    if hashlib.blake2b(body, digest_size=_CHECK).digest() != check:
        return None
    try:
        return _values.decode(body)
    except msgspec.DecodeError:
        return None


def _parts(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), _AT_ONCE):
        yield keys[start : start + _AT_ONCE]


def _marks(keys: Sequence[bytes]) -> str:
    return ", ".join("?" * len(keys))
