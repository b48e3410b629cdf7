"""Kill what labels, at any moment, and nothing is lost, counted twice, or more than a batch computed again.

Real processes, the real ledger and the embedded model. How the work done twice is measured: an engine logs every
batch before it hands it to the model ("8 rows of run ...") and after its facts are durable ("8 rows durable").
A batch without the second line was interrupted; its rows are the only ones that may have been computed twice.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.client import Engine, EngineOptions
from engine.cluster.entries import Entry, Labeled, decode
from engine.cluster.facts import expand
from engine.models import catalog
from engine.prompt import prompt_for
from tests.unit.cluster.processes import belonging, engines, mark, nobody_left
from tests.waiting import wait_for
from workspace.errors import EngineError
from workspace.facts import Fact, RunSpec, run_id
from workspace.ids import row_id
from workspace.task import parse_task, task_id

ROWS = 48
OPTIONS = EngineOptions(idle_seconds=20, find="none")
FINISH = 240.0  # seconds; a busy machine labels a few rows a second
TASK = """
name: weather
dimensions:
  - {name: mood, question: "Is this good or bad?", labels: [good, bad]}
  - {name: rain, kind: boolean, question: "Does it rain?"}
"""


def weather() -> RunSpec:
    task, model = parse_task(TASK), catalog.embedded()
    prompt = prompt_for(task)
    return RunSpec(
        run_id(task_id(task), prompt.id, model.digest),
        *(task_id(task), task.name, prompt.id, model, prompt.dimensions),
    )


def texts(count: int = ROWS) -> list[tuple[str, str, str]]:
    kinds = ["a storm with rain", "a fine dry day", "fog", "sun at last"]
    found = [f"Report {i}: {kinds[i % len(kinds)]}" for i in range(count)]
    return [(row_id(text), text, "weather") for text in found]


class Witness:
    """Reads facts as a studio would and remembers them: what was read was acknowledged as durable."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.entries: list[Entry] = []
        self.facts: list[Fact] = []

    def read(self, engine: Engine) -> int:
        author = engine.status().author
        while page := engine.entries(author, self.entries[-1].end if self.entries else 0):
            self.entries += page
            for entry in page:
                body = decode(entry.body)
                if isinstance(body, Labeled):
                    self.facts += expand(author, entry.seq, body)
        return len(self.facts)

    def follow(self, until: int) -> None:
        """Follow the run across engines that die, restarting them as a studio does, up to `until` facts."""
        engine = Engine.ensure(self.state_dir, options=OPTIONS)

        def there() -> bool:
            nonlocal engine
            try:
                if self.read(engine) >= until:
                    return True
                run = engine.status().runs[0]
                assert run.state != "paused", run.note
                return False
            except EngineError:
                engine.close()
                engine = Engine.ensure(self.state_dir, options=OPTIONS)
                return False

        try:
            wait_for(there, f"{until} facts", FINISH)
        finally:
            engine.close()

    def check(self, kills: int, rows: int = ROWS) -> None:
        """At the end, the laws: everything once, nothing lost or changed, at most a batch per kill again."""
        remembered = list(self.entries)
        with Engine.ensure(self.state_dir, options=OPTIONS) as engine:
            wait_for(lambda: engine.status().runs[0].state == "done", "the run to be done", FINISH)
            done = engine.status().runs[0]
            self.entries, self.facts = [], []
            self.read(engine)
            assert engine.status().vector == {self.entries[0].author: self.entries[-1].end}
            engine.shutdown()
        assert (done.rows, done.done, done.failed) == (rows, rows, 0)
        assert self.entries[: len(remembered)] == remembered
        assert [entry.seq for entry in self.entries] == [0, *(entry.end for entry in self.entries[:-1])]
        assert len({entry.author for entry in self.entries}) == 1
        answered = [(fact.row_id, fact.dimension) for fact in self.facts]
        expected = {(row, name) for row, _, _ in texts(rows) for name in ("mood", "rain")}
        assert len(answered) == len(set(answered))
        assert set(answered) == expected
        granted, durable = self._batches()
        interrupted = granted.keys() - durable.keys()
        assert len(interrupted) <= kills
        assert sum(granted.values()) - rows == sum(granted[batch] for batch in interrupted)
        assert {fact.claim for fact in self.facts} == durable.keys()

    def _batches(self) -> tuple[dict[str, int], dict[str, int]]:
        log = (self.state_dir / "engine.log").read_text()
        assert "Report" not in log
        assert "storm" not in log
        granted = {batch: int(rows) for batch, rows in re.findall(r"batch (\S+): (\d+) rows of run", log)}
        durable = {batch: int(rows) for batch, rows in re.findall(r"batch (\S+): (\d+) rows durable", log)}
        # A kill can fall between the sync and the line about it; the facts themselves say so.
        for fact in self.facts:
            durable.setdefault(fact.claim, granted[fact.claim])
        return granted, durable


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Witness]:
    mark(monkeypatch, tmp_path)
    state_dir = tmp_path / "w.engine"
    yield Witness(state_dir)
    try:
        with Engine.ensure(state_dir, start=False) as engine:
            engine.set_state(weather().run_id, "cancelled")
            engine.shutdown(timeout=FINISH)
    except EngineError:
        pass
    nobody_left(tmp_path)


def moments(seed: int, kills: int) -> list[int]:
    """Numbers of facts after which to kill."""
    return sorted(random.Random(seed).sample(range(1, ROWS * 2 - 8), kills))


def start(witness: Witness) -> None:
    with Engine.ensure(witness.state_dir, options=OPTIONS) as engine:
        engine.open_run(weather(), texts())


def kill_workers(witness: Witness, seed: int, kills: int) -> None:
    start(witness)
    for moment in moments(seed, kills):
        witness.follow(moment)
        with Engine.ensure(witness.state_dir) as engine:
            before = engine.pid
            pid = engine.status().worker_pid
            # It may be between two workers: then there is nothing to kill just now.
            with contextlib.suppress(psutil.NoSuchProcess):
                if pid:
                    psutil.Process(pid).kill()
    witness.follow(ROWS * 2)
    with Engine.ensure(witness.state_dir) as engine:
        assert engine.pid == before  # the engine itself never went
    witness.check(kills)


def kill_engines(witness: Witness, seed: int, kills: int) -> None:
    start(witness)
    for moment in moments(seed, kills):
        witness.follow(moment)
        with Engine.ensure(witness.state_dir) as engine:
            psutil.Process(engine.pid).kill()
    witness.follow(ROWS * 2)
    witness.check(kills)


STUDIO = """
import sys
from pathlib import Path
from engine.client import Engine
from tests.crash.test_engine_kill import OPTIONS, texts, weather
engine = Engine.ensure(Path(sys.argv[1]), options=OPTIONS)
engine.open_run(weather(), texts())
print(engine.pid, flush=True)
sys.stdin.read()
"""


def test_a_run_completes_by_itself_when_its_worker_is_killed(witness: Witness) -> None:
    kill_workers(witness, seed=1, kills=2)


def test_a_run_goes_on_with_the_next_engine_when_one_is_killed(witness: Witness) -> None:
    kill_engines(witness, seed=2, kills=2)


def test_a_run_goes_on_without_the_studio_that_started_it(witness: Witness, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STUDIO, str(witness.state_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as studio:
        assert studio.stdout is not None
        pid = int(studio.stdout.readline())
        studio.kill()
    # An engine that starts its worker is two processes of one name for a moment.
    wait_for(lambda: [process.pid for process in engines(tmp_path)] == [pid], "the engine alone")
    with Engine.ensure(witness.state_dir, start=False) as engine:
        assert engine.pid == pid
    witness.follow(ROWS * 2)
    with Engine.ensure(witness.state_dir, start=False) as engine:
        assert engine.pid == pid
    witness.check(kills=0)


def test_rows_handed_over_when_the_engine_dies_are_kept(witness: Witness, tmp_path: Path) -> None:
    """The engine is killed while it is given a large run: giving it again adds what is missing, nothing twice."""
    many = [(row_id(f"row {i}"), f"row {i} " + "x" * 2000, "") for i in range(3000)]
    killed = Engine.ensure(witness.state_dir)

    def kill(handed: int) -> None:
        if handed > 1000:
            psutil.Process(killed.pid).kill()

    with killed, pytest.raises(EngineError, match="ended"):
        killed.open_run(weather(), many, progress=kill)
    with Engine.ensure(witness.state_dir) as engine:
        kept = engine.status().runs[0]
        assert 1000 < kept.rows < 3000
        assert kept.state == "paused"
        assert engine.open_run(weather(), many) == 3000
        engine.set_state(weather().run_id, "cancelled")
        engine.shutdown(timeout=FINISH)
    assert not belonging(tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
@pytest.mark.parametrize("victim", ["worker", "engine"])
def test_many_kills(witness: Witness, victim: str, seed: int) -> None:
    kills = 1 + seed % 4
    (kill_workers if victim == "worker" else kill_engines)(witness, seed, kills)


@pytest.mark.soak
@pytest.mark.skipif(os.name == "nt", reason="kill is immediate only on Unix")
@pytest.mark.parametrize("seed", range(5))
def test_kills_that_do_not_wait_for_progress(witness: Witness, seed: int, tmp_path: Path) -> None:
    """Kill engine or worker as soon as there is one, also while it starts or loads."""
    chance = random.Random(seed)
    start(witness)
    kills = 4
    for _ in range(kills):
        Engine.ensure(witness.state_dir).close()
        wait_for(lambda: bool(belonging(tmp_path)), "a process")
        chance.choice(belonging(tmp_path)).kill()
    witness.follow(ROWS * 2)
    witness.check(kills)
