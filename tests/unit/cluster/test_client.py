"""Finding, starting and losing engine processes: real ones, without a model."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import pytest

from engine.client import Engine, EngineOptions
from engine.cluster.state_folder import Card, StateFolder
from tests.unit.cluster import examples
from tests.unit.cluster.examples import rows, spec
from tests.unit.cluster.processes import engines, mark, nobody_left
from tests.waiting import wait_for
from workspace.errors import EngineError


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    mark(monkeypatch, tmp_path)
    folder = tmp_path / "w.engine"
    yield folder
    try:
        with Engine.ensure(folder, start=False) as engine:
            engine.shutdown()
    except EngineError:
        pass
    nobody_left(tmp_path)


def card(state_dir: Path) -> Card:
    found = StateFolder(state_dir).card()
    assert found is not None
    return found


def test_one_engine_for_all_clients_and_it_goes_when_told(state_dir: Path, tmp_path: Path) -> None:
    with Engine.ensure(state_dir) as first, Engine.ensure(state_dir) as second:
        assert first.pid == second.pid == first.status().pid
        assert first.status().author == second.status().author
        assert os.name == "nt" or os.getsid(first.pid) == first.pid  # Ctrl-C here does not reach it
        author = first.status().author
        second.shutdown()
        with pytest.raises(EngineError, match="ended"):
            first.status()
    assert not engines(tmp_path)
    with pytest.raises(EngineError, match="not running"):
        Engine.ensure(state_dir, start=False)
    with Engine.ensure(state_dir) as third:
        assert third.status().author == author


@pytest.mark.skipif(os.name == "nt", reason="file modes are Unix")
def test_the_folder_is_for_its_owner_only(state_dir: Path) -> None:
    state_dir.mkdir(mode=0o755)
    with Engine.ensure(state_dir):
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in state_dir.iterdir()}
    assert {"engine.json", "engine.log", "ledger.sqlite"} <= modes.keys()
    assert set(modes.values()) == {0o600}, modes


def test_many_who_start_at_once_meet_at_one_engine(state_dir: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from engine.client import Engine\n"
    code += "with Engine.ensure(Path(sys.argv[1])) as engine: print(engine.status().pid)"
    command = [sys.executable, "-c", code, str(state_dir)]

    def start(_: int) -> int:
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    with ThreadPoolExecutor(4) as pool:
        pids = set(pool.map(start, range(3)))
    assert len(pids) == 1
    wait_for(lambda: len(engines(tmp_path)) == 1, "those who came second to go")


def test_threads_share_one_client(state_dir: Path) -> None:
    with Engine.ensure(state_dir) as engine, ThreadPoolExecutor(4) as pool:
        assert len({status.pid for status in pool.map(lambda _: engine.status(), range(100))}) == 1


def test_a_killed_engine_is_noticed_and_replaced(state_dir: Path) -> None:
    with Engine.ensure(state_dir) as engine:
        old = card(state_dir)
        psutil.Process(engine.pid).kill()
        wait_for(lambda: not engine.alive, "the kill")
        with pytest.raises(EngineError, match="ended"):
            engine.status()
        with pytest.raises(EngineError, match="not running"):
            Engine.ensure(state_dir, start=False)
        with Engine.ensure(state_dir) as next_one:
            assert next_one.status().pid != old.pid
            new = card(state_dir)
    assert new.address.server_key != old.address.server_key
    assert new.address.client != old.address.client


def test_a_card_of_a_process_that_is_another_now_is_not_believed(state_dir: Path) -> None:
    with Engine.ensure(state_dir) as engine:
        left = card(state_dir)
        engine.shutdown()
    alien = msgspec.structs.replace(left, pid=os.getpid())
    for lie in (msgspec.json.encode(alien), b"{", b"", b'{"pid": 1}'):
        (state_dir / "engine.json").write_bytes(lie)
        with pytest.raises(EngineError, match="not running"):
            Engine.ensure(state_dir, start=False)
    with Engine.ensure(state_dir) as engine:
        assert engine.alive


def test_it_goes_by_itself_when_nobody_is_there(state_dir: Path, tmp_path: Path) -> None:
    Engine.ensure(state_dir, options=EngineOptions(idle_seconds=0.5)).close()
    wait_for(lambda: not engines(tmp_path), "the engine to go")
    assert StateFolder(state_dir).card() is None


@pytest.mark.skipif(os.name == "nt", reason="signals are Unix")
def test_signals(state_dir: Path, tmp_path: Path) -> None:
    with Engine.ensure(state_dir) as engine:
        os.kill(engine.pid, signal.SIGINT)
        assert engine.status().pid == engine.pid
        os.kill(engine.pid, signal.SIGTERM)
        wait_for(lambda: not engines(tmp_path), "the engine to go")
    assert StateFolder(state_dir).card() is None


@pytest.mark.skipif(os.name == "nt", reason="no SIGSTOP")
def test_a_frozen_engine_is_an_error_and_no_second_engine(state_dir: Path, tmp_path: Path) -> None:
    with Engine.ensure(state_dir) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match="does not answer"):
            Engine.ensure(state_dir, ready_seconds=1)
        assert len(engines(tmp_path)) == 1
        os.kill(engine.pid, signal.SIGCONT)
        assert engine.status().pid == engine.pid


def test_a_folder_with_a_long_path(state_dir: Path) -> None:
    # Beyond the 107 bytes a Unix socket's path may have; SQLite's own bound is 512.
    deep = state_dir / ("ä" * 60) / ("long " * 20 + "path")
    with Engine.ensure(deep) as engine:
        status = engine.status()
        assert status.vector == {status.author: 1}  # this machine itself is the first fact
        engine.shutdown()
    shutil.rmtree(state_dir)


def test_why_it_did_not_start_is_said(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "ledger.sqlite").write_bytes(b"a letter, not a ledger. " * 500)
    with pytest.raises(EngineError, match="could not be started") as error:
        Engine.ensure(state_dir)
    assert "not a database" in error.value.advice


def test_a_file_where_the_folder_should_be(state_dir: Path) -> None:
    state_dir.write_text("here first")
    with pytest.raises(EngineError, match="cannot be used"):
        Engine.ensure(state_dir)


def test_a_model_that_is_not_there_pauses_the_run(state_dir: Path) -> None:
    gone = msgspec.structs.replace(
        examples.MODEL, backend="llama_cpp", path=str(state_dir / "gone.gguf"), digest="0" * 32
    )
    run = spec(model=gone)
    with Engine.ensure(state_dir) as engine:
        engine.open_run(run, rows(3))
        wait_for(lambda: engine.status().runs[0].state == "paused", "the run to pause")
        assert engine.status().runs[0].note
        assert engine.status().worker_pid == 0
