"""What many machines cost and what the loss of one costs, with real engine processes on this machine.

Every node is the production engine: CURVE between machines, SQLite synced before anything counts, paired by code.
Only the model is replaced by one that takes a given time per row. Figures:

- `us_per_row`: microseconds per row over 3 nodes with claims of 64 rows and a model that takes no time, from the
  start of the run until every node has every fact on disk. Beside it the same work by other engines (`peers`, in
  microseconds per row), which neither sync nor encrypt nor replicate; those installed for the Python named by
  WINNOW_PEERS_PYTHON (default: this one) are measured, in rounds that alternate with ours.
- `efficiency`: rows per second at 5 ms per row over what 1, 2, 3 machines could do at best.
- `new_leader_kill_s`, `new_leader_freeze_s`, `new_leader_cut_s`: from SIGKILL, SIGSTOP or a pulled cable until
  another machine leads, the worst of some rounds. Cables are pulled in network namespaces, which takes root.
- `rows_twice` and `rows_leased`: rows computed twice because of a cut, and rows out in claims when it was made.
- `second_machine_s`: from the first machine labeling with the embedded model to the second one labeling too, all
  by commands: `winnow label`, `winnow helper`, the code typed.
- `catch_up_s`: from the moment a machine that was away answers until it has 200,000 facts on disk.
"""

from __future__ import annotations

import functools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._cluster_cut import cut_rounds
from benchmarks._cluster_lab import HERE, Lab, done, facts_held, spec_and_rows, until
from benchmarks._cluster_peers import PACKAGES, PEERS
from benchmarks._cluster_second import second_machine_s
from engine.cluster.entries import BLOCK_ROWS

CLAIM = 64
NODES = 3
SECONDS_PER_ROW = 0.005


def run(quick: bool, data: Path | None) -> dict[str, object]:
    """Measure everything; `data` is not needed."""
    del data
    rounds = 3 if quick else 5
    overheads, peers = _overhead(rounds, 30_000 if quick else 100_000)
    result: dict[str, object] = {
        "us_per_row": round(statistics.median(overheads), 2),
        "us_per_row_rounds": [round(value, 2) for value in overheads],
        "efficiency": {str(count): _efficiency(count) for count in range(1, NODES + 1)},
    }
    result |= _leader_lost(rounds)
    result |= cut_rounds(rounds)
    result["catch_up_s"] = _catch_up(200_000)
    result["second_machine_s"] = round(second_machine_s(), 1)
    result["peers"] = {name: round(statistics.median(found), 2) for name, found in peers.items()}
    result |= {"nodes": NODES, "claim_rows": CLAIM, "cores": os.cpu_count(), "rounds": rounds}
    return result


def _overhead(rounds: int, rows: int) -> tuple[list[float], dict[str, list[float]]]:
    """Microseconds per row of each round, ours and the peers'."""
    ours: list[float] = []
    peers: dict[str, list[float]] = {name: [] for name in PEERS if _installed(PACKAGES[name])}
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder), batch=CLAIM).together(NODES) as lab:
        for number in range(rounds):
            spec, texts = spec_and_rows(rows, f"overhead {number}")
            before = [facts_held(engine.status()) for engine in lab.engines]
            # Nothing is labeled before all rows are there; what spreads meanwhile is the rows.
            lab.engines[0].open_run(spec, texts)
            began = time.perf_counter()
            planned = 1 + -(-rows // BLOCK_ROWS) + 1  # the run, its blocks of rows, its state
            _everywhere(lab, [count + planned + rows for count in before], "every fact on every machine")
            ours.append((time.perf_counter() - began) / rows * 1e6)
            print(f"round {number + 1}: {ours[-1]:.1f} us per row", flush=True)
            for name, found in peers.items():
                found.append(_peer(name, rows))
                print(f"round {number + 1}: {name} {found[-1]:.1f} us per row", flush=True)
    return ours, peers


def _everywhere(lab: Lab, wanted: list[int], what: str) -> None:
    until(
        lambda: all(
            facts_held(engine.status()) >= count for engine, count in zip(lab.engines, wanted, strict=True)
        ),
        300,
        what,
    )


def _efficiency(count: int) -> float:
    rows = 4000 * count
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder), SECONDS_PER_ROW).together(count) as lab:
        # What a machine learns of its speed from its first claims is not what is measured.
        spec, texts = spec_and_rows(500 * count, f"warm {count}")
        lab.engines[0].open_run(spec, texts)
        until(lambda: done(lab.engines[0]) == 500 * count, 60, "the first rows")
        spec, texts = spec_and_rows(rows, f"scale {count}")
        began = time.perf_counter()
        lab.engines[0].open_run(spec, texts)
        until(lambda: lab.engines[0].status().runs[-1].done == rows, 300, "the run to end")
        seconds = time.perf_counter() - began
    share = rows * SECONDS_PER_ROW / count / seconds
    print(f"{count} machines: {rows / seconds:.0f} rows/s, {share:.1%} of the best there could be", flush=True)
    return round(share, 4)


def _leader_lost(rounds: int) -> dict[str, object]:
    """Seconds until another machine leads, after the leader's process is killed or frozen."""
    worst: dict[str, object] = {}
    for name, blow in (("kill", signal.SIGKILL), ("freeze", signal.SIGSTOP)):
        found = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)).together(NODES) as lab:
                leader = _settled_leader(lab)
                lab.processes[leader].send_signal(blow)
                others = [number for number in range(NODES) if number != leader]
                found.append(until(functools.partial(_led, lab, others), 30, "a new leader"))
        print(f"{name}: {', '.join(f'{value:.2f}' for value in found)} s", flush=True)
        worst[f"new_leader_{name}_s"] = round(max(found), 2)
    return worst


def _led(lab: Lab, numbers: list[int]) -> bool:
    return lab.leader(numbers) is not None


def _settled_leader(lab: Lab) -> int:
    until(lambda: lab.leader(range(len(lab.engines))) is not None, 30, "a leader")
    leader = lab.leader(range(len(lab.engines)))
    assert leader is not None
    return leader


def _catch_up(facts: int) -> float:
    """Seconds from the moment a machine that was away answers again until it has everything on disk."""
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder), batch=CLAIM).together(NODES) as lab:
        lab.halt(NODES - 1)
        spec, texts = spec_and_rows(facts, "catch up")
        lab.engines[0].open_run(spec, texts)
        until(lambda: lab.engines[0].status().runs[-1].done == facts, 300, "the facts to be made")
        wanted = facts_held(lab.engines[0].status())
        lab.again(NODES - 1)
        engine = lab.engines[NODES - 1]
        seconds = until(lambda: facts_held(engine.status()) >= wanted, 120, "the machine that was away")
    print(f"{facts:,} facts caught up in {seconds:.2f} s", flush=True)
    return round(seconds, 2)


def _python() -> str:
    return os.environ.get("WINNOW_PEERS_PYTHON", sys.executable)


def _installed(package: str) -> bool:
    return subprocess.run([_python(), "-c", f"import {package}"], capture_output=True, check=False).returncode == 0


def _peer(name: str, rows: int) -> float:
    """Microseconds per row of another engine."""
    command = [_python(), "-m", "benchmarks._cluster_peers", name, str(rows), str(CLAIM), str(NODES)]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "RAY_USAGE_STATS_ENABLED": "0"}
    said = subprocess.run(
        command, cwd=HERE, env=environment, capture_output=True, text=True, check=True, timeout=600
    )
    return float(said.stdout.split()[-1]) / rows * 1e6
