"""Many histories, on all cores, and what is worth telling about them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence

import msgspec

from engine.cluster.testing.cluster import Laws, Outcome, World
from engine.cluster.testing.mutants import MUTANTS
from engine.cluster.testing.profiles import profile_of

CHUNK = 10  # seeds a process takes at a time


class Summary(msgspec.Struct):
    """What became of many histories."""

    seeds: int = 0
    failures: int = 0
    two_leaders: int = 0
    rows: int = 0
    recomputed: int = 0
    events: int = 0
    seconds: float = 0.0  # wall

    def add(self, outcome: Outcome) -> None:
        """Count a history."""
        self.seeds += 1
        self.failures += bool(outcome.violations)
        self.two_leaders += outcome.two_leaders
        self.rows += outcome.rows
        self.recomputed += outcome.recomputed
        self.events += outcome.events

    def line(self) -> str:
        """All of it in one line."""
        share = self.two_leaders / max(1, self.seeds)
        again = self.recomputed / max(1, self.rows)
        return (
            f"seeds={self.seeds} failures={self.failures} two_leaders={share:.1%} rows={self.rows}"
            f" recomputed={again:.1%} events={self.events} wall={self.seconds:.1f}s"
        )


def one(seed: int, kind: str = "", laws: Laws | None = None, story: int = 0) -> Outcome:
    """The history of a seed."""
    return World(seed, profile_of(seed, kind), laws or Laws(), story).run()


def many(start: int, count: int, kind: str = "", mutant: str = "", processes: int = 0) -> Iterator[Outcome]:
    """The histories of `count` seeds from `start` on, in order; one process for each core if nothing is said."""
    processes = processes or os.cpu_count() or 1
    tasks = [
        (first, min(CHUNK, start + count - first), kind, mutant) for first in range(start, start + count, CHUNK)
    ]
    if processes == 1 or len(tasks) == 1:
        for task in tasks:
            yield from _some(task)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for outcomes in pool.imap(_some, tasks):
            yield from outcomes


def told(outcome: Outcome, kind: str = "", mutant: str = "", events: int = 60) -> str:
    """A history that failed, in words: it is run again, with its story."""
    laws = MUTANTS[mutant].laws if mutant else None
    again = one(outcome.seed, kind, laws, story=events)
    return "\n".join([*again.story, f"seed {outcome.seed}, {outcome.machines} machines:", *again.violations])


def run(
    start: int, count: int, kind: str = "", mutant: str = "", processes: int = 0
) -> tuple[Summary, Sequence[Outcome]]:
    """The summary of these histories and those that failed."""
    began, summary, failed = time.perf_counter(), Summary(), []
    for outcome in many(start, count, kind, mutant, processes):
        summary.add(outcome)
        if outcome.violations:
            failed.append(outcome)
    summary.seconds = time.perf_counter() - began
    return summary, failed


def _some(task: tuple[int, int, str, str]) -> list[Outcome]:
    start, count, kind, mutant = task
    laws = MUTANTS[mutant].laws if mutant else None
    return [one(seed, kind, laws) for seed in range(start, start + count)]
