"""One owner, private files, writes in order, and an end without loose threads."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import duckdb
import pytest

from workspace.errors import WinnowError, WorkspaceBusy
from workspace.migrations import MIGRATIONS
from workspace.rows import scalar
from workspace.store import Connection, Store, open_store

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes of files")


def insert(name: str) -> Callable[[Connection], object]:
    return lambda con: con.execute("insert into nodes values (?, '', now())", [name]).fetchall()


def nodes(store: Store) -> list[str]:
    with store.read() as con:
        return [name for (name,) in con.execute("select id from nodes order by rowid").fetchall()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_write_is_there_when_it_returns_and_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = open_store(path)
    assert store.write(lambda con: con.execute("insert into nodes values ('a', '', now())").fetchall()) == [(1,)]
    assert nodes(store) == ["a"]
    store.close()
    store.close()
    reopened = open_store(path)
    assert nodes(reopened) == ["a"]
    reopened.close()


def test_a_failing_write_keeps_nothing_and_the_next_one_works(store: Store) -> None:
    def work(con: Connection) -> None:
        con.execute("insert into nodes values ('half', '', now())")
        raise LookupError("halfway")

    with pytest.raises(LookupError, match="halfway"):
        store.write(work)
    store.write(insert("whole"))
    assert nodes(store) == ["whole"]


def test_a_failing_commit_is_told_to_the_writer_and_keeps_nothing(store: Store) -> None:
    store.write(lambda con: con.execute("create table once (id integer primary key)").fetchall())
    with store.read() as other:
        other.execute("begin")
        other.execute("insert into once values (1)")

        def work(con: Connection) -> None:
            con.execute("insert into nodes values ('lost', '', now())")
            con.execute("insert into once values (1)")
            other.execute("commit")  # the same key is committed first: ours cannot be

        with pytest.raises(duckdb.Error):
            store.write(work)
    store.write(insert("after"))
    assert nodes(store) == ["after"]


def test_writes_from_many_threads_are_all_kept_in_the_order_of_their_submission(store: Store) -> None:
    submitted: list[str] = []
    guard = threading.Lock()
    futures: list[Future[object]] = []

    def many(thread: int) -> None:
        for number in range(25):
            name = f"{thread}-{number}"
            with guard:
                submitted.append(name)
                futures.append(store.submit(insert(name)))

    threads = [threading.Thread(target=many, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for future in futures:
        future.result(timeout=60)
    assert nodes(store) == submitted


def test_readers_in_threads_get_their_own_answers(store: Store) -> None:
    wrong: list[int] = []

    def read(number: int) -> None:
        for _ in range(50):
            with store.read() as con:
                if scalar(con, "select ?::integer", [number]) != number:
                    wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_cancelled_write_is_not_done_and_does_not_stop_the_writer(store: Store) -> None:
    release = threading.Event()
    first = store.submit(lambda _: release.wait(60))
    second = store.submit(insert("cancelled"))
    assert second.cancel()
    release.set()
    assert first.result(timeout=60)
    store.write(insert("kept"))
    assert nodes(store) == ["kept"]


def test_a_write_within_a_write_is_refused_instead_of_waiting_forever(store: Store) -> None:
    with pytest.raises(RuntimeError, match="within a write"):
        store.write(lambda _: store.write(lambda _: None))


def test_close_finishes_what_was_submitted_and_refuses_what_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = open_store(path)
    for number in range(20):
        store.submit(insert(str(number)))
    store.close()
    with pytest.raises(WinnowError, match="closed"):
        store.write(lambda _: None)
    with pytest.raises(WinnowError, match="closed"), store.read():
        pass
    again = open_store(path)
    assert len(nodes(again)) == 20
    again.close()


def test_close_interrupts_a_long_query_and_releases_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = open_store(path)
    started = threading.Event()
    ended: list[type[BaseException]] = []

    def forever() -> None:
        try:
            with store.read() as con:
                started.set()
                con.execute(
                    "select sum(sqrt(a.range + b.range)) from range(10000000) a, range(10000000) b"
                ).fetchall()
        except duckdb.Error as error:
            ended.append(type(error))

    thread = threading.Thread(target=forever)
    thread.start()
    assert started.wait(60)
    store.close()
    thread.join(60)
    assert ended
    open_store(path).close()


@posix
def test_every_file_is_private_from_the_first_byte_and_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    wal = tmp_path / "w.duckdb.wal"
    old = os.umask(0o022)
    try:
        store = open_store(path)
        assert mode(path) == 0o600
        for _ in range(2):
            store.write(insert("a"))
            assert mode(wal) == 0o600
            with store.read() as con:
                con.execute("checkpoint")
            assert not wal.exists()
        assert mode(tmp_path / "w.duckdb.tmp") == 0o700
        assert os.umask(0o022) == 0o022  # left as it was for the rest of the process
        store.close()
    finally:
        os.umask(old)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["w.duckdb"]


@posix
def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    open_store(path).close()
    path.chmod(0o644)
    open_store(path).close()
    assert mode(path) == 0o600


def test_opening_twice_in_one_process_is_refused_until_closed(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = open_store(path)
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    for other in (path, link):
        with pytest.raises(WorkspaceBusy) as caught:
            open_store(other)
        assert caught.value.pid == os.getpid()
    store.close()
    open_store(link).close()


def test_a_second_process_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    code = """
        import sys
        from pathlib import Path
        from workspace.store import open_store
        store = open_store(Path(sys.argv[1]))
        print("open", flush=True)
        sys.stdin.read()
        store.close()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(WorkspaceBusy, match=str(holder.pid)) as caught:
            open_store(path)
        assert caught.value.pid == holder.pid
        holder.communicate(b"")
    assert holder.returncode == 0
    open_store(path).close()


def test_a_process_that_forgets_to_close_keeps_its_writes_and_ends_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    code = """
        import sys
        from pathlib import Path
        from workspace.store import open_store
        store = open_store(Path(sys.argv[1]))
        for number in range(50):
            store.submit(lambda con: con.execute("insert into nodes values ('x', '', now())").fetchall())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "terminate" not in done.stderr
    store = open_store(path)
    assert len(nodes(store)) == 50
    store.close()


def test_places_that_cannot_hold_a_workspace_are_explained(tmp_path: Path) -> None:
    with pytest.raises(WinnowError, match="no workspace"):
        open_store(tmp_path / "missing.duckdb", create=False)
    with pytest.raises(WinnowError, match="does not exist"):
        open_store(tmp_path / "missing" / "w.duckdb")
    with pytest.raises(WinnowError, match="cannot be opened"):
        open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("create table sales (amount integer)")
    before = path.read_bytes()
    with pytest.raises(WinnowError, match="not a Winnow workspace"):
        open_store(path)
    assert path.read_bytes() == before


def test_a_workspace_of_a_newer_version_is_refused_and_stays_usable(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = open_store(path)
    newer = len(MIGRATIONS) + 1
    store.write(lambda con: con.execute("insert into migrations values (?, now())", [newer]).fetchall())
    store.close()
    with pytest.raises(WinnowError, match="newer Winnow"):
        open_store(path)
    with duckdb.connect(str(path)) as con:
        con.execute("delete from migrations where step = ?", [newer])
    open_store(path).close()


def test_migrations_run_once_and_a_failing_one_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.duckdb"
    open_store(path).close()
    broken = (*MIGRATIONS, "create table extra (a integer); select no_such_column from extra")
    with monkeypatch.context() as patch:
        patch.setattr("workspace.migrations.MIGRATIONS", broken)
        with pytest.raises(WinnowError, match="cannot be brought up to date"):
            open_store(path)
    store = open_store(path)
    with store.read() as con:
        assert scalar(con, "select count(*) from migrations") == len(MIGRATIONS)
        assert scalar(con, "select count(*) from duckdb_tables() where table_name = 'extra'") == 0
    store.close()


def test_the_file_stays_readable_by_the_duckdb_tools_people_have(tmp_path: Path) -> None:
    store = open_store(tmp_path / "w.duckdb")
    with store.read() as con:
        tags = con.execute("select tags from duckdb_databases() where path is not null").fetchall()
    store.close()
    assert [tag["storage_version"] for (tag,) in tags] == ["v1.5.0+"]
