"""Starting and stopping the studio as a person does, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio import runtime, server
from tests.waiting import wait_for
from workspace.errors import WinnowError, WorkspaceBusy
from workspace.store import open_store

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from pathlib import Path
from workspace.store import open_store
store = open_store(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(arguments: list[str], log: Path, **environment: str) -> subprocess.Popen[str]:
        with log.open("w") as out:
            made = subprocess.Popen(
                arguments,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                text=True,
                env={**os.environ, "PYTHONPATH": "", **environment},
            )
        started.append(made)
        return made

    yield start
    for made in started:
        made.kill()
        made.wait()
        if made.stdin:
            made.stdin.close()


def answer(url: str) -> str:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:
        return str(reply.read().decode())
    return ""


def taken() -> tuple[socket.socket, int]:
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    return holder, int(holder.getsockname()[1])


def test_a_taken_port_is_passed_over() -> None:
    holder, port = taken()
    with holder:
        assert server.free_port(port) > port


def test_a_port_asked_for_is_never_silently_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    holder, port = taken()
    with holder, pytest.raises(WinnowError, match=f"Port {port} is taken"):
        server.serve(tmp_path / "w.duckdb", port, open_browser=False)
    assert not (tmp_path / "w.duckdb").exists()


def test_a_busy_workspace_names_the_process_that_has_it(
    tmp_path: Path, process: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(runtime.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    path, log = tmp_path / "w.duckdb", tmp_path / "log"
    holder = process([sys.executable, "-c", HOLD, str(path)], log, PYTHONPATH=str(ROOT))
    wait_for(lambda: "open" in log.read_text(), log.read_text)
    with pytest.raises(WorkspaceBusy, match=f"process {holder.pid}") as caught:
        server.serve(path, None, open_browser=False)
    assert caught.value.pid == holder.pid


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_streamlit_run_works_and_stops_cleanly(
    tmp_path: Path, process: Callable[..., subprocess.Popen[str]], stop: signal.Signals
) -> None:
    holder, port = taken()
    holder.close()
    path, log = tmp_path / "w.duckdb", tmp_path / "log"
    streamlit = str(Path(sys.executable).with_name("streamlit"))
    studio = process(
        [streamlit, "run", "studio/server.py", "--server.port", str(port)], log, WINNOW_WORKSPACE=str(path)
    )
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: answer(f"{url}/_stcore/health") == "ok", log.read_text)
    status = json.loads(answer(f"{url}/api/v1/status"))
    assert (status["app"], status["workspace"], status["pid"]) == ("winnow", str(path), studio.pid)
    assert "\nwinnow_engine_up 0\n" in answer(f"{url}/metrics") == answer(f"{url}/api/v1/node/metrics")
    note = tmp_path / "w.engine" / "studio.json"
    assert json.loads(note.read_text()) == {"pid": studio.pid, "port": port, "url": url}
    assert note.stat().st_mode & 0o777 == 0o600
    assert note.parent.stat().st_mode & 0o777 == 0o700
    # Loopback only: the same port is free on this machine's other addresses.
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))

    studio.send_signal(stop)
    studio.wait(60)
    assert not note.exists()
    assert not Path(f"{path}.wal").exists(), "closed and checkpointed"
    open_store(path).close()
    assert "Traceback" not in log.read_text().replace("KeyboardInterrupt", "")
