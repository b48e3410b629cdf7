"""`winnow helper` as a person and a service manager use it: real processes, real signals, a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from engine.client import Engine
from engine.cluster.options import EngineOptions
from studio.helper import TRIES, Codes
from tests.shown_machines import ALONE, ATTIC, CODE, cluster_of
from tests.unit.cluster.processes import belonging, engines, mark, nobody_left
from tests.waiting import wait_for
from workspace.machines import Cluster, Pairing

COMMAND = [sys.executable, "-m", "studio.cli", "helper"]
ALONE_HERE = ["--find=none", "--listen=127.0.0.1:0"]  # nothing of a test is told to the network
STUDIO = EngineOptions(name="studio", find="none", listen="127.0.0.1:0", idle_seconds=3600)
replace = msgspec.structs.replace


class Running:
    """A helper in a process of its own, and what it has said so far."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.state = folder / "helper"
        self._log = folder / "helper.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, f"--state={self.state}", *ALONE_HERE, *arguments], stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def says(self, words: str, within: float = 60.0) -> str:
        wait_for(lambda: words in self.said, lambda: f"{words!r} in\n{self.said}", within)
        return self.said

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return winnow(f"--state={self.state}", *arguments)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def winnow(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=90, env=environment)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """`start(*arguments)` starts the helper of this test; nothing of it is left afterwards."""
    mark(monkeypatch, tmp_path)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    started: list[Running] = []

    def run(*arguments: str) -> Running:
        helper = Running(tmp_path, *arguments)
        started.append(helper)
        helper.says("key ")
        return helper

    yield run
    for helper in started:
        if helper.process.poll() is None:
            helper.end()
    nobody_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_runs_until_it_is_told_to_stop(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    helper = start("--name", "attic")
    assert "attic, key " in helper.said
    helper.says("Not paired yet. A code for the studio: winnow helper --code")
    assert len(engines(tmp_path)) == 1
    assert helper.end(number) == 0
    assert "Stopped. What was labeled here is kept" in helper.said
    assert not engines(tmp_path)
    assert "Traceback" not in helper.said


def test_told_twice_it_stops_at_once(start: Start, tmp_path: Path) -> None:
    helper = start()
    engine = engines(tmp_path)[0]
    engine.suspend()  # as one deep in a long computation
    helper.process.send_signal(signal.SIGINT)
    helper.process.send_signal(signal.SIGTERM)
    helper.process.wait(20)
    wait_for(lambda: not engine.is_running() or engine.status() == "zombie", "the engine to be gone")
    assert "Traceback" not in helper.said


def test_an_engine_that_dies_is_started_again_and_that_is_said(start: Start, tmp_path: Path) -> None:
    helper = start()
    first = engines(tmp_path)[0]
    first.kill()
    helper.says("The engine process ended. It is started again in 1 s.")
    wait_for(lambda: any(one.pid != first.pid for one in engines(tmp_path)), "a new engine")
    wait_for(lambda: helper.ask("--status").returncode == 0, "the new engine to answer")
    assert helper.process.poll() is None


def test_a_helper_that_was_killed_is_taken_up_where_it_was(start: Start, tmp_path: Path) -> None:
    first = start()
    engine = engines(tmp_path)[0]
    first.end(signal.SIGKILL)
    assert engine.is_running(), "the engine goes on with its rows"
    second = start()
    second.says("it keeps the options it was started with")
    assert [one.pid for one in engines(tmp_path)] == [engine.pid]
    assert second.end() == 0


def test_a_second_helper_on_the_same_folder_is_told_so(start: Start) -> None:
    helper = start()
    second = helper.ask()
    assert second.returncode == 1
    assert f"already, process {helper.process.pid}." in second.stderr
    assert "--state FOLDER" in second.stderr
    assert helper.process.poll() is None


def test_without_a_helper_there_is_no_status_and_no_way_to_guess(tmp_path: Path) -> None:
    done = winnow(f"--state={tmp_path}", "--status")
    assert done.returncode == 1
    assert "No helper runs" in done.stderr
    assert "winnow helper" in done.stderr


@pytest.mark.parametrize("option", ["--api-port={port}", "--listen=127.0.0.1:{port}"])
def test_a_port_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    mark(monkeypatch, tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = winnow(f"--state={tmp_path / 'helper'}", *ALONE_HERE, option.format(port=port))
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
    assert not belonging(tmp_path)


def test_its_status_is_served_on_this_machine(start: Start) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start("--name", "attic", f"--api-port={port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        assert json.load(answer)["node"] == "attic"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"winnow" in answer.read()


def test_paired_once_it_asks_no_more(start: Start, tmp_path: Path) -> None:
    helper = start("--name", "attic")
    with Engine.ensure(tmp_path / "studio", options=STUDIO) as engine:
        paired(helper, engine)
        status = helper.ask("--status").stdout
        assert "studio (" in status
        assert re.search(r"^Name +attic$", status, re.MULTILINE)
        assert helper.end() == 0
        again = Running(tmp_path)
        try:
            again.says("Works with studio")
            wait_for(
                lambda: all(machine.alive for machine in engine.status().cluster.machines),
                "both to hear each other",
            )
            assert again.said.count("Not paired yet") == 1  # of the first start only
            new = again.ask("--code")  # a third machine may be paired at any time
            assert re.search(r"Code \d{3}-\d{3}", new.stdout), new.stdout + new.stderr
        finally:
            again.end()
            engine.shutdown()


def paired(helper: Running, engine: Engine) -> None:
    """Pair a running helper with this engine, as a studio does."""
    found = re.search(r"Code (\d{3}-\d{3}), .* By address: (\S+)\.", helper.ask("--code").stdout)
    assert found is not None, helper.said
    engine.pair(found[2], found[1])
    helper.says("Paired with studio")


def test_a_removed_helper_says_so_and_can_start_over(start: Start, tmp_path: Path) -> None:
    helper = start("--name", "attic")
    assert helper.ask("--start-over").returncode == 1, "it belongs to nobody yet"
    with Engine.ensure(tmp_path / "studio", options=STUDIO) as engine:
        paired(helper, engine)
        other = next(machine for machine in engine.status().cluster.machines if not machine.me)
        engine.revoke(other.id)
        helper.says("winnow helper --start-over")
        assert "--start-over" in helper.ask("--status").stdout
        done = helper.ask("--start-over")
        assert done.returncode == 0, done.stderr
        assert "nothing was deleted" in done.stdout
        key = f"attic, key {other.key_words}"
        wait_for(lambda: helper.said.count("attic, key ") == 2, lambda: helper.said)
        assert helper.said.count(key) == 1, "a new machine has a new key"
        assert "studio was removed" not in helper.said
        paired(helper, engine)
        engine.shutdown()


def test_in_a_terminal_the_code_is_shown_and_counts_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark(monkeypatch, tmp_path)
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    helper = subprocess.Popen(
        [*COMMAND, f"--state={tmp_path / 'helper'}", *ALONE_HERE, "--name=attic"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(inner)
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal goes away with the helper
            while piece := os.read(outer, 1 << 16):
                shown.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(lambda: b"1:57 left" in shown, lambda: shown.decode())
        helper.send_signal(signal.SIGINT)
        assert helper.wait(60) == 0
    finally:
        helper.kill()
        helper.wait()
        reader.join(10)
        os.close(outer)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"Name +attic", text)
    assert re.search(r"Key +[0-9a-f]{4}-[0-9a-f]{4}", text)
    assert len(set(re.findall(r"\d{3}-\d{3}  ", text))) == 1
    assert "Stopped." in text
    nobody_left(tmp_path)


def test_install_service_prints_a_file_and_nothing_else() -> None:
    done = winnow("--install-service", "--name", "attic", "--peers", "10.0.0.5:4001", "--api-port", "8601")
    assert done.returncode == 0
    assert done.stdout.startswith(("[Unit]", "<?xml"))
    for words in ("--name=attic", "--peers=10.0.0.5:4001", "--api-port=8601", "--state="):
        assert words in done.stdout
    assert "winnow helper --install-service >" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prefer-leader", "--mode", "client"], "contradict each other"),
        (["--peers", "10.0.0.5"], "10.0.0.5"),
        (["--listen", "here"], "here"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = winnow(f"--state={tmp_path / 'helper'}", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "helper").exists()


# When a new code is shown by itself


def codes(*seen: Pairing | None, cluster: Cluster = ALONE) -> Codes:
    book = Codes()
    for pairing in seen:
        book.look(replace(cluster, pairing=pairing))
    return book


def test_a_code_that_ran_out_unused_is_replaced() -> None:
    book = codes(CODE, replace(CODE, seconds_left=0.3))
    assert book.look(ALONE)
    assert not book.burnt


def test_a_code_that_was_guessed_at_is_not_replaced_for_ever() -> None:
    wrong_once = [replace(CODE, code=f"000-00{n}", tries_left=TRIES - 1, seconds_left=0.3) for n in range(TRIES)]
    book = codes(*[pairing for code in wrong_once for pairing in (code, None)])
    assert book.burnt
    assert not book.look(ALONE)


def test_a_code_that_vanished_early_was_burnt() -> None:
    book = codes(CODE, None)
    assert book.burnt


def test_a_paired_machine_shows_no_code_by_itself() -> None:
    assert not Codes().look(cluster_of(ALONE.machines[0], ATTIC))
    assert not Codes().look(replace(ALONE, removed=True))
    assert Codes().look(ALONE)
