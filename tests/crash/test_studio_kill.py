"""The whole of Winnow killed in the middle of labeling: the studio, its engine, the process with the model.

Each time the run ends with every row labeled exactly once, in the workspace and in the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_for
from workspace.store import open_store

ROWS = 48
WITHIN = 240.0  # seconds, for two busy cores


class Labeling:
    """`winnow label` on a folder, with the processes it brings along."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = ["label", "rows.txt", "--task", "sentiment", "--out", "out.jsonl"]
        with (self.folder / "said.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "studio.cli", *command],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.children.append(child)
        return child

    def engine(self) -> psutil.Process | None:
        try:
            note = json.loads((self.folder / "winnow.engine/engine.json").read_text())
            process = psutil.Process(note["pid"])
            return process if "engine" in " ".join(process.cmdline()) else None
        except (OSError, ValueError, KeyError, psutil.Error):
            return None

    def worker(self) -> psutil.Process | None:
        engine = self.engine()
        try:
            children = engine.children(recursive=True) if engine else []
            return next((child for child in children if "engine.worker" in child.cmdline()), None)
        except psutil.Error:
            return None

    def wait_until_half_way(self) -> None:
        """Some batches are durable and some are not."""
        log = self.folder / "winnow.engine/ledger.sqlite"

        def some_facts() -> bool:
            import sqlite3

            if not log.exists():
                return False
            try:
                with sqlite3.connect(f"file:{log}?mode=ro", uri=True) as db:
                    labels = "select coalesce(sum(count), 0) >= 8 from entry where kind = 'label'"
                    return bool(db.execute(labels).fetchone()[0])
            except sqlite3.Error:
                return False

        wait_for(some_facts, "the first labels", WITHIN)

    def finish(self, child: subprocess.Popen[bytes]) -> None:
        assert child.wait(WITHIN) == 0, (self.folder / "said.log").read_text()

    def check(self) -> None:
        lines = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        assert sorted(line["text"] for line in lines) == sorted(texts())
        assert all(line["sentiment"] for line in lines)
        store = open_store(self.folder / "winnow.duckdb", create=False)
        try:
            with store.read() as con:
                counts = con.execute("select count(*), count(distinct row_id), count(distinct seq) from facts")
                assert counts.fetchone() == (ROWS, ROWS, ROWS)
        finally:
            store.close()


def texts() -> list[str]:
    return [
        f"message number {number}: what a {'lovely' if number % 2 else 'dreadful'} day" for number in range(ROWS)
    ]


def kill(process: psutil.Process | None) -> None:
    """SIGKILL, unless the process was just done."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process is not None:
            process.kill()


@pytest.fixture
def labeling(tmp_path: Path) -> Iterator[Labeling]:
    (tmp_path / "rows.txt").write_text("\n".join(texts()) + "\n")
    labeling = Labeling(tmp_path)
    yield labeling
    for child in labeling.children:
        if child.poll() is None:
            child.kill()
            child.wait()
    engine = labeling.engine()
    if engine is not None:
        processes = [engine, *engine.children(recursive=True)]
        for process in processes:
            kill(process)
        psutil.wait_procs(processes, timeout=10)


def test_studio_killed_and_started_again(labeling: Labeling) -> None:
    first = labeling.start()
    labeling.wait_until_half_way()
    first.kill()
    first.wait()
    labeling.finish(labeling.start())
    labeling.check()


def test_engine_killed_under_a_running_studio(labeling: Labeling) -> None:
    child = labeling.start()
    labeling.wait_until_half_way()
    kill(labeling.engine())
    labeling.finish(child)
    labeling.check()


def test_worker_killed_under_a_running_studio(labeling: Labeling) -> None:
    child = labeling.start()
    labeling.wait_until_half_way()
    kill(labeling.worker())
    labeling.finish(child)
    labeling.check()


def test_everything_killed_at_once(labeling: Labeling) -> None:
    child = labeling.start()
    labeling.wait_until_half_way()
    for process in (labeling.worker(), labeling.engine()):
        kill(process)
    child.kill()
    child.wait()
    labeling.finish(labeling.start())
    labeling.check()


def test_ctrl_c_keeps_what_was_done_and_leaves_nothing_running(labeling: Labeling) -> None:
    child = labeling.start()
    labeling.wait_until_half_way()
    engine = labeling.engine()
    os.kill(child.pid, signal.SIGINT)
    code = child.wait(WITHIN)
    said = (labeling.folder / "said.log").read_text()
    if code == 0:  # it was done just before
        labeling.check()
        return
    assert code == 130, said
    assert "the same command goes on" in said
    assert engine is None or not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
    labeling.finish(labeling.start())
    labeling.check()
