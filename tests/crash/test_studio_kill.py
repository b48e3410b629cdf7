"""The whole of Winnow killed in the middle of labeling: the studio, its engine, the process with the model.

Each time the run ends with every row labeled exactly once, in the workspace, in the file, and in the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.cluster.entries import Labeled, decode
from engine.cluster.ledger_view import LedgerView
from tests.waiting import wait_for
from workspace.store import open_store

ROWS = 48
MANY = 160  # rows of a run that is struck several times
VICTIMS = ("studio", "engine", "worker", "everything")
WITHIN = 240.0  # seconds, for two busy cores


class Labeling:
    """`winnow label` on a folder, with the processes it brings along."""

    def __init__(self, folder: Path, rows: int = ROWS) -> None:
        self.folder = folder
        self.rows = rows
        folder.mkdir(exist_ok=True)
        (folder / "rows.txt").write_text("\n".join(texts(rows)) + "\n")
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

    def durable(self) -> int:
        """Labels that are on the disk."""
        log = self.folder / "winnow.engine/ledger.sqlite"
        if not log.exists():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(f"file:{log}?mode=ro", uri=True)) as db:
                labels = "select coalesce(sum(count), 0) from entry where kind = 'label'"
                return int(db.execute(labels).fetchone()[0])
        except sqlite3.Error:
            return 0

    def wait_until_half_way(self) -> None:
        """Some batches are durable and some are not."""
        assert self.reaches(self.children[-1], 8), (self.folder / "said.log").read_text()

    def reaches(self, child: subprocess.Popen[bytes], moment: int) -> bool:
        """Wait for so many labels; False if the command ended before."""
        wait_for(lambda: self.durable() >= moment or child.poll() is not None, f"{moment} labels", WITHIN)
        return child.poll() is None and self.durable() < self.rows

    def strike(self, victim: str, child: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Kill; returns the studio that goes on."""
        if victim in ("worker", "everything"):
            kill(self.worker())
        if victim in ("engine", "everything"):
            kill(self.engine())
        if victim in ("engine", "worker"):
            return child
        child.kill()
        child.wait()
        return self.start()

    def end(self) -> None:
        """Leave nothing running."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()
        engine = self.engine()
        if engine is not None:
            processes = [engine, *engine.children(recursive=True)]
            for process in processes:
                kill(process)
            psutil.wait_procs(processes, timeout=10)

    def finish(self, child: subprocess.Popen[bytes]) -> None:
        assert child.wait(WITHIN) == 0, (self.folder / "said.log").read_text()

    def check(self) -> None:
        lines = [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]
        assert sorted(line["text"] for line in lines) == sorted(texts(self.rows))
        assert all(line["sentiment"] for line in lines)
        store = open_store(self.folder / "winnow.duckdb", create=False)
        try:
            with store.read() as con:
                counts = con.execute("select count(*), count(distinct row_id), count(distinct seq) from facts")
                assert counts.fetchone() == (self.rows, self.rows, self.rows)
        finally:
            store.close()
        answered: Counter[str] = Counter()
        with LedgerView(self.folder / "winnow.engine/ledger.sqlite") as view:
            for author, end in view.ends().items():
                for entry in view.entries(author, 0, end):
                    body = decode(entry.body)
                    if isinstance(body, Labeled):
                        answered.update(body.rows)
        assert (len(answered), answered.total()) == (self.rows, self.rows)


def texts(rows: int) -> list[str]:
    return [
        f"message number {number}: what a {'lovely' if number % 2 else 'dreadful'} day" for number in range(rows)
    ]


def kill(process: psutil.Process | None) -> None:
    """SIGKILL, unless the process was just done."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process is not None:
            process.kill()


@pytest.fixture
def labeling(tmp_path: Path) -> Iterator[Labeling]:
    labeling = Labeling(tmp_path)
    yield labeling
    labeling.end()


def kill_rounds(folder: Path, rounds: int, seed: int) -> None:
    """Strike so many times, at random moments of runs under way; as many runs as that takes."""
    chance = random.Random(seed)
    victims = [victim for _ in range(rounds) for victim in chance.sample(VICTIMS, len(VICTIMS))]
    struck = number = 0
    while struck < rounds:
        labeling = Labeling(folder / f"run{number}", MANY)
        number += 1
        try:
            child = labeling.start()
            while struck < rounds and labeling.reaches(child, labeling.durable() + chance.randrange(30)):
                child = labeling.strike(victims[struck], child)
                struck += 1
            labeling.finish(child)
            labeling.check()
        finally:
            labeling.end()


def test_killed_at_random_moments(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 5, seed=5)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_very_many_random_moments(tmp_path: Path, seed: int) -> None:
    kill_rounds(tmp_path, 5, seed=100 + seed)


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
