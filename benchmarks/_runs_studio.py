"""`python -m benchmarks._runs_studio FOLDER ROWS`: a studio without its pages.

It loads a file of so many rows into a workspace, hands a run of all of them to the engine of FOLDER, and brings
every label home. Prints the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from engine.client import Engine
from studio.runtime import Studio
from workspace import intake, runs, tasks
from workspace.store import open_store
from workspace.task import parse_task

WITHIN = 3600.0  # seconds
TASK = """
name: sentiment
dimensions:
  - {name: sentiment, question: "Which feeling does it express?", labels: [positive, negative, neutral]}
"""


def main() -> None:
    """The whole way of the rows."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    file = folder / "rows.txt"
    with file.open("w", encoding="utf-8") as out:
        out.writelines(
            f"message {number}: what a day, and what else there is to say of it\n" for number in range(count)
        )
    store = open_store(folder / "w.duckdb")
    began = time.perf_counter()
    intake.load(store, file, intake.preview(file).suggestion)
    loaded = time.perf_counter()
    studio = Studio(store, ensure=lambda _folder, _start: Engine.ensure(folder / "engine", start=False))
    try:
        run_id = studio.start_run(tasks.save(store, parse_task(TASK)), "embedding")
        wait_until_done(studio, run_id)
        done = time.perf_counter()
        record = next(one for one in runs.list_runs(store) if one.id == run_id)
        assert (record.rows, record.labeled_rows) == (count, count)
    finally:
        studio.close(stop_engine=False)
    print(json.dumps({"load_s": round(loaded - began, 1), "run_s": round(done - loaded, 1)}), flush=True)


def wait_until_done(studio: Studio, run_id: str) -> None:
    """Until every label is in the workspace."""
    deadline = time.monotonic() + WITHIN
    while (shown := studio.progress().get(run_id)) is None or shown.state != "done":
        if time.monotonic() > deadline or studio.engine_error is not None:
            raise SystemExit(f"the run is not done: {shown} {studio.engine_error}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
