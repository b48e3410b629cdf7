"""What the engine itself costs: a run with a model that costs nothing, in real processes with a real ledger.

`us_per_row`: from the moment a run of rows that are all planned is set running until the last answer is durable,
by row: starting the worker process, granting, the way there and back, the log and its syncs to the disk.
`peak_mib`: the largest resident set of any process (the studio's with its workspace, the engine, the worker) while
a file is loaded, labeled and brought home. With --quick there are fewer rows, and the object says how many.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks._cluster_lab import HERE, connect, until
from engine.client import Engine
from engine.models.catalog import likeness
from workspace.facts import DimensionSpec, RunSpec, run_id
from workspace.ids import row_id

LABELS = ("positive", "negative", "neutral")
WITHIN = 3600.0  # seconds
LOOK_EVERY = 0.1  # seconds between looks at the memory


def run(quick: bool) -> dict[str, object]:
    """The overhead with 200,000 rows, then the memory with 1,000,000; 100,000 each if `quick`."""
    few, many = (100_000, 100_000) if quick else (200_000, 1_000_000)
    with engine_in_a_folder() as (folder, engine, process):
        handing, labeling = engine_alone(engine, few)
        print(f"{few} rows: handed over in {handing:.1f} s, labeled in {labeling:.1f} s", flush=True)
    with engine_in_a_folder() as (folder, engine, process):
        seconds, peaks = whole_way(folder, process, many)
    return {
        "us_per_row": round(labeling / few * 1e6, 1),
        "us_per_row_rows": few,
        "handing_us_per_row": round(handing / few * 1e6, 1),
        "peak_mib": max(peaks.values()),
        "peak_mib_rows": many,
        "peaks_mib": peaks,
        "whole_us_per_row": round(seconds["run_s"] / many * 1e6, 1),
        **seconds,
    }


@contextmanager
def engine_in_a_folder() -> Iterator[tuple[Path, Engine, psutil.Popen]]:
    """A new engine, a client of it, and its process; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as name:
        folder = Path(name)
        process = psutil.Popen([sys.executable, "-m", "benchmarks._runs_node", str(folder / "engine")], cwd=HERE)
        try:
            engine = connect(folder / "engine", process)
            try:
                yield folder, engine, process
                engine.shutdown(wait=False)
                process.wait(60)
            finally:
                engine.close()
        finally:
            if process.is_running():
                process.kill()
                process.wait()


def engine_alone(engine: Engine, count: int) -> tuple[float, float]:
    """Seconds to hand rows over, and to have all of them labeled."""
    asked = DimensionSpec("sentiment", "single", LABELS, LABELS, "Which feeling?", "{text}")
    model = likeness()
    spec = RunSpec(run_id("bench", "runs", model.digest), "bench", "sentiment", "runs", model, (asked,))
    texts = (f"message {number}: what a day, and what else there is to say of it" for number in range(count))
    began = time.perf_counter()
    engine.open_run(spec, ((row_id(text), text, "") for text in texts))
    handed = time.perf_counter()
    until(lambda: _done(engine, count), WITHIN, "the labels", every=0.1)
    return handed - began, time.perf_counter() - handed


def _done(engine: Engine, count: int) -> bool:
    (shown,) = engine.status().runs
    if shown.state == "paused":
        raise RuntimeError(shown.note)
    return shown.done == count


def whole_way(folder: Path, engine: psutil.Popen, count: int) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds and the largest resident sets, in MiB, of a studio's whole run."""
    command = [sys.executable, "-m", "benchmarks._runs_studio", str(folder), str(count)]
    studio = psutil.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True)
    peaks = dict.fromkeys(("studio", "engine", "worker"), 0)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY):
            for name, process in (("studio", studio), ("engine", engine), ("worker", _worker(engine))):
                peaks[name] = max(peaks[name], _peak_mib(process))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        said, _ = studio.communicate(timeout=WITHIN)
    finally:
        ended.set()
        looking.join()
        if studio.is_running():
            studio.kill()
            studio.wait()
    if studio.returncode:
        raise RuntimeError("the studio did not come to its end")
    seconds: dict[str, float] = json.loads(said.splitlines()[-1])
    return seconds, peaks


def _worker(engine: psutil.Popen) -> psutil.Process | None:
    try:
        return next(iter(engine.children()), None)
    except psutil.Error:
        return None


def _peak_mib(process: psutil.Process | None) -> int:
    """The resident set, or what the system says was the largest so far."""
    if process is None:
        return 0
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text("ascii", "replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10
    except (OSError, StopIteration):
        try:
            return int(process.memory_info().rss) >> 20
        except psutil.Error:
            return 0
