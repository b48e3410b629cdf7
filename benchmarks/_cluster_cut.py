"""The leader's cable pulled in the middle of a run, in network namespaces: who leads then, what is done twice.

Both sides go on, each with the blocks of its own machines first. The cable is back before either is through with
them: what is done twice then is what was out in claims when it was pulled. (Were it never back, both sides would
in the end do everything, which is what one wants of a machine that is cut off.)
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks._cluster_lab import HERE, Lab, spec_and_rows, until
from engine.cluster import entries as log
from engine.cluster.entries import Labeled
from tests.cluster.network import Network, NetworkMachine

MACHINES = 3
ROWS = 12_000
AWAY = 4.0  # seconds from the new leader until the cable is back
SECONDS_PER_ROW = 0.005
PORT = 47100


def cut_rounds(rounds: int) -> dict[str, object]:
    """`new_leader_cut_s` (worst), `rows_twice` and `rows_leased` (sums over all rounds)."""
    seconds: list[float] = []
    twice = leased = 0
    try:
        for number in range(rounds):
            with Network() as network, tempfile.TemporaryDirectory() as folder:
                took, again, out = _round(network, Path(folder), f"cut {number}")
            seconds.append(took)
            twice, leased = twice + again, leased + out
            print(f"cut: new leader after {took:.2f} s, {again} rows twice, {out} leased", flush=True)
    except pytest.skip.Exception as skipped:
        return {"new_leader_cut_s": f"not measured: {skipped}"}
    return {"new_leader_cut_s": round(max(seconds), 2), "rows_twice": twice, "rows_leased": leased}


def _round(network: Network, folder: Path, tag: str) -> tuple[float, int, int]:
    cables = [network.machine(f"m{number}") for number in range(MACHINES)]
    with Lab(folder, SECONDS_PER_ROW) as lab:
        for number, cable in enumerate(cables):
            _add(lab, cable)
            if number:
                lab.join(number, f"{cable.ip}")
        everyone = range(MACHINES)
        until(lambda: all(lab.knows(number) == MACHINES for number in everyone), 30, "the machines to meet")
        until(lambda: lab.leader(everyone) is not None, 30, "a leader")
        leader = lab.leader(everyone)
        assert leader is not None
        others = [number for number in everyone if number != leader]
        spec, rows = spec_and_rows(ROWS, tag)
        lab.engines[0].open_run(spec, rows)
        until(lambda: lab.engines[leader].status().runs[-1].done > ROWS // 8, 60, "the first rows")
        leased = _leased(lab, leader)
        cables[leader].cut()
        took = until(lambda: lab.leader(others) is not None, 30, "a new leader")
        time.sleep(AWAY)
        cables[leader].mend()
        until(lambda: all(engine.status().runs[-1].done == ROWS for engine in lab.engines), 120, "the run to end")
        until(lambda: len({str(sorted(e.status().vector.items())) for e in lab.engines}) == 1, 120, "one truth")
        answered = _answered(lab)
    return took, sum(answered.values()) - len(answered), leased


def _add(lab: Lab, cable: NetworkMachine) -> None:
    def start(command: list[str]) -> subprocess.Popen[bytes]:
        return cable.run(command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)})

    cable.do(lambda: lab.add(f"{cable.ip}:{PORT}", start))


def _leased(lab: Lab, leader: int) -> int:
    """Rows that are out in claims, at most: the claims each machine holds times the rows of its last one."""
    sizes: dict[str, int] = {}
    for entry in _entries(lab, leader):
        body = log.decode(entry.body)
        if isinstance(body, Labeled):
            sizes[log.member_of(entry.author)] = len(body.at)
    return 2 * sum(sizes.values())


def _answered(lab: Lab) -> Counter[str]:
    counted: Counter[str] = Counter()
    for entry in _entries(lab, 0):
        body = log.decode(entry.body)
        if isinstance(body, Labeled):
            counted.update(body.rows)
    return counted


def _entries(lab: Lab, number: int) -> list[log.Entry]:
    engine = lab.engines[number]
    found: list[log.Entry] = []
    for author, end in engine.status().vector.items():
        first = 0
        while first < end:
            page = engine.entries(author, first)
            found += page
            first = page[-1].end
    return found
