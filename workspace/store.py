"""The one owner of a workspace's DuckDB file: a cursor for every reader, one thread for every write."""

from __future__ import annotations

import atexit
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import psutil

from workspace.errors import WinnowError, WorkspaceBusy, WorkspaceDamaged
from workspace.migrations import migrate
from workspace.wal import first_damage, wal_of

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection
Write = Callable[[Connection], Any]

# Files stay readable by the DuckDB command line tools people have (1.5), which lag behind the library.
STORAGE_VERSION = "v1.5.0"
# A model shares the machine; DuckDB's default of 80 % of the memory would push it out.
MEMORY_SHARE = 0.25
PRIVATE = 0o600
CLOSE_SECONDS = 5.0  # how long closing waits for readers it has interrupted

# A second connection of this process would share the file without an error, and its writer would conflict.
_open_paths: set[Path] = set()
_open_guard = threading.Lock()


class Store:
    """An open workspace file. Use `open_store`; close it with `close`.

    Concurrent DuckDB writes to the same rows fail with conflicts and a connection shared between threads
    returns other threads' rows, so readers get a cursor each and all writes go through one thread in order.
    """

    def __init__(self, path: Path, con: Connection) -> None:
        self.path = path
        self._con = con
        self._queue: queue.SimpleQueue[tuple[Write, Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._guard = threading.Condition()  # over _closed, _readers and the order of the queue's end
        self._readers: set[Connection] = set()
        self._writer = threading.Thread(target=self._write_forever, name="workspace-writer", daemon=True)
        self._writer.start()
        # A thread inside DuckDB while the interpreter ends takes the process down with an abort.
        atexit.register(self.close)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A cursor for reading, closed at the end of the block. Raises WinnowError once the store is closed."""
        with self._guard:
            self._refuse_if_closed()
            cursor = self._con.cursor()
            self._readers.add(cursor)
        try:
            yield cursor
        finally:
            cursor.close()
            with self._guard:
                self._readers.discard(cursor)
                self._guard.notify_all()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the writer thread; returns its result once it is committed.

        Raises whatever `work` or the commit raises, after rolling back: then nothing of it was kept.
        """
        if threading.current_thread() is self._writer:
            raise RuntimeError("a write within a write would wait for itself")
        return self.submit(work).result()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """As `write`, without waiting. Writes are done in the order of their submission."""
        future: Future[T] = Future()
        with self._guard:
            self._refuse_if_closed()
            self._queue.put((work, future))
        return future

    def close(self) -> None:
        """Finish the writes under way, interrupt readers, checkpoint and release the file. Safe to call twice."""
        with self._guard:
            first = not self._closed
            self._closed = True
            if first:
                self._queue.put(None)
        self._writer.join()
        if not first:
            return
        self._wait_for_readers()
        with suppress(duckdb.Error):  # a reader that could not be interrupted still holds the file
            self._con.close()
        with suppress(OSError):
            _temporary(self.path).rmdir()
        with _open_guard:
            _open_paths.discard(self.path)
        atexit.unregister(self.close)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise WinnowError("The workspace is closed.", "Nothing was changed.")

    def _wait_for_readers(self) -> None:
        deadline = time.monotonic() + CLOSE_SECONDS
        with self._guard:
            while self._readers and time.monotonic() < deadline:
                for cursor in self._readers:
                    cursor.interrupt()  # again and again: between two statements it has no effect
                self._guard.wait(0.02)

    def _write_forever(self) -> None:
        con = self._con.cursor()
        while (item := self._queue.get()) is not None:
            work, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                con.execute("begin")
                result = work(con)
                _make_private(wal_of(self.path))
                con.execute("commit")
            except BaseException as error:  # noqa: BLE001 - delivered to the caller, whatever it is
                _rollback(con)
                future.set_exception(error)
            else:
                future.set_result(result)
        con.close()


def sql_string(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _rollback(con: Connection) -> None:
    # A failed commit has already ended the transaction; then there is nothing to roll back.
    try:
        con.execute("rollback")
    except duckdb.Error:
        return


def moment(microseconds: int) -> datetime:
    """The UTC time `epoch_us(column)` stands for; DuckDB itself needs one more library to hand out time zones."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def open_store(path: Path, *, create: bool = True) -> Store:
    """Open a workspace file, creating it (readable by its owner alone) if it is missing and `create` is true.

    Raises WorkspaceBusy when another process or this one has it open, WorkspaceDamaged when it or its
    write-ahead log cannot be read (see `workspace.recovery`), and WinnowError when it is missing, not
    permitted, of a newer version, or no workspace at all.
    """
    path = path.expanduser().resolve()
    if not path.exists() and not create:
        raise WinnowError(
            f"There is no workspace at {path}.", "Check the path, or start `winnow` there to create one."
        )
    if not path.parent.is_dir():
        raise WinnowError(f"The folder {path.parent} does not exist.", "Create it first; nothing was changed.")
    with _open_guard:
        if path in _open_paths:
            raise WorkspaceBusy(f"{path.name} is already open here.", "Use the one that is open.", pid=os.getpid())
        _open_paths.add(path)
    try:
        return Store(path, _open(path))
    except BaseException:
        with _open_guard:
            _open_paths.discard(path)
        raise


def _open(path: Path) -> Connection:
    damaged_at = first_damage(wal_of(path))
    if damaged_at is not None:
        raise WorkspaceDamaged(
            f"The newest changes of {path.name} cannot be read: its write-ahead log is damaged.",
            "The file was left as it is. Winnow can open it without the damaged part.",
            f"{wal_of(path).name}: damaged at byte {damaged_at}",
        )
    con = connect(path)
    try:
        with suppress(OSError):  # a file system without owners
            os.chmod(path, PRIVATE)
        _refuse_foreign(path, con)
        _make_private(wal_of(path))
        migrate(con)
    except BaseException as error:
        con.close()
        if isinstance(error, ValueError):
            raise WinnowError(
                f"{path.name} was written by a newer Winnow ({error}).",
                "Update Winnow to open it; nothing was changed.",
            ) from error
        if isinstance(error, duckdb.Error):
            raise WorkspaceDamaged(
                f"{path.name} opened, but its tables cannot be brought up to date.",
                "Nothing was changed.",
                str(error),
            ) from error
        raise
    return con


def _refuse_foreign(path: Path, con: Connection) -> None:
    """Keep out of databases people made for something else."""
    tables = {name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()}
    if tables and "migrations" not in tables:
        raise WinnowError(
            f"{path.name} is a DuckDB database, but not a Winnow workspace.",
            "Choose another name for the workspace; nothing was changed.",
        )


def connect(path: Path, *, read_only: bool = False) -> Connection:
    """A bare connection to a file nobody has open, for `open_store` and recovery. Raises as `open_store`."""
    fresh = not path.exists()
    temporary = _temporary(path)
    config: dict[str, str | bool | int | float | list[str]] = {
        "storage_compatibility_version": STORAGE_VERSION,
        "memory_limit": f"{int(psutil.virtual_memory().total * MEMORY_SHARE) >> 20}MiB",
        "temp_directory": str(temporary),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    # DuckDB makes files as the process would by default and refuses an empty one made beforehand, so the file is
    # created under a strict mask. The mask is the whole process's: only for that moment.
    mask = os.umask(0o077) if fresh else 0
    try:
        if not read_only:
            temporary.mkdir(mode=0o700, exist_ok=True)
        return duckdb.connect(str(path), read_only=read_only, config=config)
    except OSError as error:
        raise WinnowError(f"{path.parent} cannot be written to.", "Nothing was changed.", str(error)) from error
    except duckdb.Error as error:
        with suppress(OSError):
            temporary.rmdir()
        raise _explained(path, error) from error
    finally:
        if fresh:
            os.umask(mask)


def _explained(path: Path, error: duckdb.Error) -> WinnowError:
    text = str(error)
    if "Could not set lock" in text or "being used by another process" in text:
        found = re.search(r"PID (\d+)", text)
        pid = int(found[1]) if found else 0
        who = f"process {pid}" if pid else "another process"
        advice = "Close that one, or work through it: nothing was changed."
        return WorkspaceBusy(f"{path.name} is open in {who}.", advice, text, pid)
    if "Permission denied" in text or "Is a directory" in text:
        return WinnowError(f"{path} cannot be opened.", "Choose a file you may write to.", text)
    return WorkspaceDamaged(f"{path.name} cannot be read.", "The file was left as it is.", text)


def _make_private(wal: Path) -> None:
    """Create the write-ahead log before DuckDB does, which would let others read it.

    DuckDB removes it at every checkpoint and makes a new one at the next commit; it appends to an empty file
    that is there. All commits are made here, so no other moment has to be caught.
    """
    with suppress(FileExistsError):
        os.close(os.open(wal, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")
