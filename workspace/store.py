"""The one owner of a workspace's DuckDB file: a cursor for every reader, one thread for every write."""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from workspace.errors import WinnowError, WorkspaceBusy, WorkspaceDamaged
from workspace.migrations import migrate

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection
Write = Callable[[Connection], Any]

# Files stay readable by the DuckDB command line tools people have (1.5), which lag behind the library.
STORAGE_VERSION = "v1.5.0"
# A model shares the machine; DuckDB's default of 80 % of the memory would push it out.
MEMORY_SHARE = 0.25


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
        self._writer = threading.Thread(target=self._write_forever, name="workspace-writer", daemon=True)
        self._writer.start()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A cursor for reading, closed at the end of the block."""
        cursor = self._con.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the writer thread; returns its result once it is committed.

        Raises whatever `work` raises, after rolling back: then nothing of it was kept.
        """
        return self.submit(work).result()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """As `write`, without waiting. Writes are done in the order of their submission."""
        if self._closed:
            raise WinnowError("The workspace is closed.", "Nothing was changed.")
        future: Future[T] = Future()
        self._queue.put((work, future))
        return future

    def close(self) -> None:
        """Finish the writes under way, checkpoint and release the file. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        self._con.close()

    def _write_forever(self) -> None:
        con = self._con.cursor()
        while (item := self._queue.get()) is not None:
            work, future = item
            try:
                con.execute("begin")
                result = work(con)
                con.execute("commit")
            except BaseException as error:  # noqa: BLE001 - delivered to the caller, whatever it is
                _rollback(con)
                future.set_exception(error)
            else:
                future.set_result(result)
        con.close()


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
    """Open a workspace file, creating it (mode 0600) if it is missing and `create` is true.

    Raises WorkspaceBusy when another process has it, WorkspaceDamaged when it cannot be read, and
    WinnowError when it is missing, of a newer version, or no workspace at all.
    """
    path = path.expanduser().resolve()
    if not path.exists() and not create:
        raise WinnowError(
            f"There is no workspace at {path}.", "Check the path, or start `winnow` there to create one."
        )
    if not path.parent.is_dir():
        raise WinnowError(f"The folder {path.parent} does not exist.", "Create it first; nothing was changed.")
    con = _connect(path)
    try:
        os.chmod(path, 0o600)
        migrate(con)
    except ValueError as error:
        con.close()
        raise WinnowError(
            f"{path.name} was written by a newer Winnow ({error}).",
            "Update Winnow to open it; nothing was changed.",
        ) from error
    except duckdb.Error as error:
        con.close()
        raise WorkspaceDamaged(
            f"{path.name} opened, but its tables cannot be brought up to date.",
            "Nothing was changed.",
            str(error),
        ) from error
    return Store(path, con)


def _connect(path: Path) -> Connection:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 << 30
    config: dict[str, str | bool | int | float | list[str]] = {
        "storage_compatibility_version": STORAGE_VERSION,
        "memory_limit": f"{int(memory * MEMORY_SHARE) >> 20}MiB",
        "temp_directory": str(path) + ".tmp",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    try:
        return duckdb.connect(str(path), config=config)
    except duckdb.IOException as error:
        text = str(error)
        if "lock" in text:
            found = re.search(r"PID (\d+)", text)
            pid = int(found[1]) if found else 0
            who = f"process {pid}" if pid else "another process"
            raise WorkspaceBusy(
                f"{path.name} is open in {who}.",
                "Close that one, or work through it: nothing was changed.",
                text,
                pid,
            ) from error
        raise WorkspaceDamaged(f"{path.name} cannot be read.", "The file was left as it is.", text) from error
    except duckdb.Error as error:
        raise WorkspaceDamaged(
            f"{path.name} cannot be read.", "The file was left as it is.", str(error)
        ) from error
