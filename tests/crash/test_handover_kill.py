"""kill -9 while logs come home and decisions go out: nothing is lost, and nothing is there twice on either side.

The workspace and the ledger are real; only the engine's process is stood in for, so that one kill takes it, the
studio's link and the person's decisions at once, in the middle of whatever they do.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from engine.cluster.entries import Labeled, RowsPlanned
from tests.on_disk import OnDisk
from tests.seeding import SENTIMENT, add_rows, spec_of, task_of
from workspace import arrivals, runs
from workspace.store import open_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9")

ROWS = 40

# A person decides without end while answers of another machine come in; prints what is acknowledged. With "end"
# it stops as soon as all of it has gone its way.
STUDIO = """
    import sys, time
    from pathlib import Path
    from studio import link
    from tests.on_disk import OnDisk
    from tests.waiting import wait_for
    from workspace import arrivals, carried, decisions, runs
    from workspace.decisions import DecisionEvent
    from workspace.store import open_store
    folder, run_id, end = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "end"
    link.BUSY_PAUSE = 0.001
    store, engine = open_store(folder / "w.duckdb"), OnDisk(folder / "ledger.sqlite")
    spec = runs.spec(store, run_id)
    ids = [row for row, _ in runs.planned(store, run_id)]
    linked = link.EngineLink(store, folder, lambda _folder, _start: engine, stays=True)
    linked.start()
    def record(events):
        return decisions.record(
            store, session="s", run_id=run_id, dimension="sentiment", reviewer="ann", events=events)
    acked = record([])
    while not end:
        events = [DecisionEvent(acked + 1 + i, ids[(acked + i) % len(ids)], "modify", "neutral") for i in range(3)]
        acked = record(events)
        print(acked, flush=True)
        engine.hear_labels(2, spec, ids[: 1 + acked % 7])
        linked.nudge()
    def settled():
        held = engine.status().vector
        return not carried.outgoing(store, held, 1) and arrivals.cursors(store) == held
    wait_for(settled, "everything handed over and brought home", 30)
    linked.close(stop_engine=False)
    store.close()
"""


def kill_rounds(folder: Path, rounds: int) -> None:
    store = open_store(folder / "w.duckdb")
    add_rows(store, [f"text {number}" for number in range(ROWS)])
    spec = spec_of(store, task_of(SENTIMENT))
    runs.plan(store, spec.run_id, limit=None)
    # The engine knows the run; from here on only decisions and answers travel.
    OnDisk(folder / "ledger.sqlite").open_run(
        spec, [(row, text, "") for row, text in runs.planned(store, spec.run_id)]
    )
    store.close()
    chance = random.Random(1)
    acked = -1
    for _ in range(rounds):
        with studio(folder, spec.run_id, "go on") as child:
            assert child.stdout
            for _ in range(chance.randrange(1, 40)):
                acked = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:  # printed before it died
                if line.endswith("\n"):
                    acked = int(line)
    with studio(folder, spec.run_id, "end") as child:
        assert child.wait(120) == 0
    check(folder, acked)


def studio(folder: Path, run_id: str, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STUDIO), str(folder), run_id, what],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def check(folder: Path, acked: int) -> None:
    engine = OnDisk(folder / "ledger.sqlite")
    handed = sorted(msgspec.json.decode(one.event)["seq"] for one in engine.decided())
    answers = [
        (entry.author, entry.seq + i)
        for entry, body in engine.bodies()
        if isinstance(body, Labeled)
        for i in range(entry.count)
    ]
    store = open_store(folder / "w.duckdb")
    try:
        with store.read() as con:
            decided = [seq for (seq,) in con.execute("select seq from decisions order by seq").fetchall()]
            facts = con.execute("select author, seq from facts order by all").fetchall()
            carried = con.execute("select count(*) from carried").fetchall()[0][0]
        assert decided == list(range(len(decided)))
        assert len(decided) > acked
        assert handed == decided, "each decision is in the log exactly once"
        assert carried == len(decided)
        assert facts == sorted(answers)
        assert arrivals.cursors(store) == engine.status().vector
        assert sum(isinstance(body, RowsPlanned) for _, body in engine.bodies()) == 1
    finally:
        store.close()


def test_killed_while_handing_over_and_reading(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 4)


@pytest.mark.soak
def test_killed_many_times_while_handing_over_and_reading(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 60)
