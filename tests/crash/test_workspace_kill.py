"""kill -9 while decisions and facts are written: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.seeding import SENTIMENT, add_rows, spec_of, task_of
from workspace.rows import scalar
from workspace.store import open_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9")

# Goes on where the workspace says it is, sends part of the last events again, and prints what is acknowledged.
WRITER = """
    import sys
    from pathlib import Path
    from tests.seeding import facts_for, ingest
    from workspace import arrivals, decisions, runs
    from workspace.decisions import DecisionEvent
    from workspace.store import open_store
    path, run_id, id = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    store = open_store(path)
    spec = runs.spec(store, run_id)
    acked = decisions.record(
        store, session="s", run_id=run_id, dimension="sentiment", reviewer="ann", events=[])
    known = arrivals.cursors(store).get("node", 0)
    while True:
        first = max(0, acked - 3)
        events = [DecisionEvent(seq, id, "modify", "neutral") for seq in range(first, acked + 4)]
        acked = decisions.record(
            store, session="s", run_id=run_id, dimension="sentiment", reviewer="ann", events=events)
        first = max(0, known - 5)
        ingest(store, facts_for(spec, [id] * 40, author="node", first=first))
        known = first + 40
        print(acked, known, flush=True)
"""


def kill_rounds(folder: Path, rounds: int) -> None:
    path = folder / "w.duckdb"
    store = open_store(path)
    (id,) = add_rows(store, ["a text"])
    spec = spec_of(store, task_of(SENTIMENT))
    store.close()
    chance = random.Random(1)
    acked, known = -1, 0
    for _ in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), spec.run_id, id],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as writer:
            assert writer.stdout
            for _ in range(chance.randrange(1, 25)):
                acked, known = map(int, writer.stdout.readline().split())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:  # printed before it died
                if line.endswith("\n"):
                    acked, known = map(int, line.split())
        store = open_store(path)
        with store.read() as con:
            for table, author, least in (("decisions", "session", acked + 1), ("facts", "author", known)):
                count = scalar(con, f"select count(*) from {table}")
                assert count >= least
                assert scalar(con, f"select count(distinct ({author}, seq)) from {table}") == count
                assert scalar(con, f"select max(seq) + 1 from {table}") == count
        store.close()


def test_no_acknowledged_event_is_lost_and_none_is_there_twice(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 4)


@pytest.mark.soak
def test_no_acknowledged_event_is_lost_in_many_crashes(tmp_path: Path) -> None:
    kill_rounds(tmp_path, 60)
