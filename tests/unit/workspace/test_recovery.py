"""Damaged files and logs: noticed, explained, and opened again with as much as is whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workspace.errors import WinnowError, WorkspaceBusy, WorkspaceDamaged
from workspace.recovery import inspect, recover
from workspace.rows import scalar
from workspace.store import open_store
from workspace.wal import first_damage, wal_of

WRITES = 400

posix = pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
pytestmark = posix


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose process was killed after 400 commits, all of them still in the log."""
    path = tmp_path_factory.mktemp("crashed") / "w.duckdb"
    code = """
        import os, signal, sys
        from pathlib import Path
        from workspace.store import open_store
        store = open_store(Path(sys.argv[1]))
        for number in range(int(sys.argv[2])):
            store.write(lambda con: con.execute(
                "insert into nodes values (?, 'some node or other', now())", [str(number)]).fetchall())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path), str(WRITES)], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert wal_of(path).stat().st_size > 10_000
    return path


@pytest.fixture
def path(crashed: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "w.duckdb"
    shutil.copy(crashed, copy)
    shutil.copy(wal_of(crashed), wal_of(copy))
    return copy


def overwrite(file: Path, position: int, content: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(position)
        stream.write(content)


def written(path: Path) -> int:
    store = open_store(path)
    try:
        with store.read() as con:
            count = scalar(con, "select count(*) from nodes")
            # What is there is the beginning of what was written, without holes.
            assert scalar(con, "select count(*) from nodes where id::integer < ?", [count]) == count
        return count
    finally:
        store.close()


def test_a_crash_alone_damages_nothing(path: Path) -> None:
    assert inspect(path) is None
    assert written(path) == WRITES
    with pytest.raises(WinnowError, match="not damaged"):
        recover(path)


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 40, 90])
def test_a_torn_tail_opens_by_itself_and_loses_only_the_last_commit(path: Path, cut: int) -> None:
    wal = wal_of(path)
    os.truncate(wal, wal.stat().st_size - cut)
    assert first_damage(wal) is None
    assert inspect(path) is None
    assert WRITES - 2 <= written(path) < WRITES


@pytest.mark.parametrize("content", [b"\0", b"\1", b"\xff", None], ids=["zeros", "ones", "full", "random"])
def test_damage_in_the_middle_of_the_log_is_told_and_recovered_from(path: Path, content: bytes | None) -> None:
    wal = wal_of(path)
    size = wal.stat().st_size
    filling = random.Random(3).randbytes(64) if content is None else content * 64
    overwrite(wal, size // 2, filling)
    file_before, log_before = path.read_bytes(), wal.read_bytes()

    with pytest.raises(WorkspaceDamaged):
        open_store(path)
    damage = inspect(path)
    assert damage is not None
    assert damage.part == "log"
    assert (path.read_bytes(), wal.read_bytes()) == (file_before, log_before)  # looking changes nothing

    recovery = recover(path)
    kept = recovery.kept_copy
    assert kept.name.startswith("w.duckdb.kept-")
    assert (kept.read_bytes(), wal_of(kept).read_bytes()) == (file_before, log_before)
    assert stat.S_IMODE(kept.stat().st_mode) == stat.S_IMODE(wal_of(kept).stat().st_mode) == 0o600
    assert kept.name in recovery.advice
    assert "may be missing" in recovery.advice
    assert WRITES * 0.4 < written(path) < WRITES * 0.6  # what was before the damage is there
    assert inspect(path) is None


def test_no_damage_of_the_log_loses_commits_without_a_word(crashed: Path, tmp_path: Path) -> None:
    """DuckDB alone opens about one in seven of these, silently without the commits behind the damage."""
    chance = random.Random(20)
    size = wal_of(crashed).stat().st_size
    path = tmp_path / "w.duckdb"
    for _ in range(20):
        shutil.copy(crashed, path)
        shutil.copy(wal_of(crashed), wal_of(path))
        filling = chance.choice([b"\0" * 64, b"\xff" * 64, b"\1" * 64, chance.randbytes(64), chance.randbytes(8)])
        overwrite(wal_of(path), chance.randrange(6, size - 1000), filling)
        try:
            assert written(path) == WRITES
        except WorkspaceDamaged:
            recover(path)
            written(path)
            for kept in tmp_path.glob("*.kept-*"):
                kept.unlink()


def test_a_log_without_a_beginning_is_left_out_as_a_whole(path: Path) -> None:
    overwrite(wal_of(path), 0, b"\xff" * 64)
    recovery = recover(path)
    assert "Changes made after" in recovery.advice
    assert written(path) == 0


def test_the_log_of_another_workspace_is_left_out(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    open_store(other).close()
    shutil.copy(wal_of(path), wal_of(other))
    with pytest.raises(WorkspaceDamaged):
        open_store(other)
    recover(other)
    assert written(other) == 0


@pytest.mark.parametrize(("position", "length"), [(0, 64), (4096, 8192)])
def test_a_damaged_file_cannot_be_opened_and_the_advice_says_what_is_left(
    path: Path, position: int, length: int
) -> None:
    wal_of(path).unlink()
    overwrite(path, position, b"\x5a" * length)
    before = path.read_bytes()
    with pytest.raises(WorkspaceDamaged):
        open_store(path)
    damage = inspect(path)
    assert damage is not None
    assert damage.part == "file"
    assert "backup" in damage.advice
    with pytest.raises(WorkspaceDamaged, match="backup"):
        recover(path)
    assert path.read_bytes() == before
    assert list(path.parent.glob("*.kept-*")) == []


def test_something_that_is_no_database_is_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.duckdb"
    path.write_text("buy milk\n" * 1000)
    with pytest.raises(WorkspaceDamaged):
        open_store(path)
    damage = inspect(path)
    assert damage is not None
    assert damage.part == "file"


def test_two_recoveries_in_one_second_keep_two_copies(path: Path) -> None:
    size = wal_of(path).stat().st_size
    log = wal_of(path).read_bytes()
    overwrite(wal_of(path), size // 2, b"\xff" * 64)
    first = recover(path).kept_copy
    wal_of(path).write_bytes(log)
    overwrite(wal_of(path), size // 3, b"\xff" * 64)
    second = recover(path).kept_copy
    assert first != second
    assert first.exists()
    assert second.exists()


def test_an_open_or_missing_workspace_is_not_inspected(tmp_path: Path) -> None:
    with pytest.raises(WinnowError, match="no workspace"):
        inspect(tmp_path / "w.duckdb")
    code = """
        import sys
        from pathlib import Path
        from workspace.store import open_store
        store = open_store(Path(sys.argv[1]))
        print("open", flush=True)
        sys.stdin.read()
    """
    path = tmp_path / "w.duckdb"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(WorkspaceBusy):
            inspect(path)
        holder.communicate(b"")
