"""`python -m benchmarks._cluster_peers NAME ROWS CLAIM WORKERS`: the same empty work by another engine.

Each hands claims of CLAIM rows to WORKERS processes and collects one answer per row in memory. None of them writes
anything to a disk or encrypts; that is said where the figures are. Prints the seconds it took.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable

Claim = list[tuple[str, str]]
Answers = list[tuple[float, float]]


def work(claim: Claim) -> Answers:
    """One answer per row."""
    return [(-0.1, -2.35)] * len(claim)


def _dask(claims: list[Claim], workers: int) -> Callable[[], int]:
    distributed = importlib.import_module("distributed")
    importlib.import_module("dask").config.set({"distributed.worker.daemon": True})
    cluster = distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
    )
    client = distributed.Client(cluster)
    client.gather(client.map(work, claims[:workers], pure=False))
    return lambda: sum(len(found) for found in client.gather(client.map(work, claims, pure=False)))


def _ray(claims: list[Claim], workers: int) -> Callable[[], int]:
    ray = importlib.import_module("ray")
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    task = ray.remote(work)
    ray.get([task.remote(claim) for claim in claims[:workers]])
    return lambda: sum(len(found) for found in ray.get([task.remote(claim) for claim in claims]))


def _ipyparallel(claims: list[Claim], workers: int) -> Callable[[], int]:
    ipyparallel = importlib.import_module("ipyparallel")
    cluster = ipyparallel.Cluster(n=workers, log_level=40)
    view = cluster.start_and_connect_sync(activate=False).load_balanced_view()
    view.map_sync(work, claims[:workers])
    return lambda: sum(len(found) for found in view.map_sync(work, claims))


PEERS = {"dask": _dask, "ray": _ray, "ipyparallel": _ipyparallel}
PACKAGES = {"dask": "distributed", "ray": "ray", "ipyparallel": "ipyparallel"}


def main() -> int:
    """Run one of the peers."""
    name, rows, size, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    texts = [(f"{number:032x}", f"text number {number}") for number in range(rows)]
    claims = [texts[start : start + size] for start in range(0, rows, size)]
    run = PEERS[name](claims, workers)
    began = time.perf_counter()
    answered = run()
    seconds = time.perf_counter() - began
    if answered != rows:
        raise SystemExit(f"{name} answered {answered} of {rows} rows")
    print(seconds, flush=True)
    return 0


if __name__ == "__main__":
    # Its functions are looked up by name in the worker processes.
    from benchmarks import _cluster_peers

    raise SystemExit(_cluster_peers.main())
