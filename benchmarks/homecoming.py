"""How fast a studio reads what machines wrote: rows and answers from the entries of a log into the workspace.

This is what happens when a studio is opened on a helper, or comes back after others went on without it. The log
is in memory; disk and decoding are the workspace's own.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import cast

from engine import client
from engine.cluster.entries import (
    BLOCK_ROWS,
    About,
    AnyBody,
    Entry,
    Labeled,
    RowsPlanned,
    RunOpened,
    count_of,
    encode,
)
from engine.labeler import Answer
from studio.homecoming import Homecoming
from workspace import runs
from workspace.facts import DimensionSpec, EngineStatus, ModelSpec, RunSpec
from workspace.ids import row_id
from workspace.machines import Cluster
from workspace.store import Store, open_store

AUTHOR = f"{1:032x}.{1:016x}"
CLAIM = 64  # rows of one claim
PAGE_BYTES = 4 << 20  # of entries an engine sends at a time
LABELS = ("positive", "negative", "neutral")


def run(quick: bool) -> dict[str, object]:
    """Read a run of 200,000 rows and one answer for each into an empty workspace; the median of three rounds."""
    count, rounds = (50_000, 1) if quick else (200_000, 3)
    planned, labeled = log_of(count)
    seconds = []
    for number in range(rounds):
        seconds.append(one_round(planned, labeled, count))
        print(f"round {number + 1}: rows {seconds[-1][0]:.2f} s, answers {seconds[-1][1]:.2f} s", flush=True)
    rows_s, facts_s = (sorted(times)[rounds // 2] for times in zip(*seconds, strict=True))
    return {
        "rows": count,
        "rows_per_s": round(count / rows_s),
        "facts_per_s": round(count / facts_s),
        "catch_up_s": round(rows_s + facts_s, 2),
    }


def one_round(planned: list[Entry], labeled: list[Entry], count: int) -> tuple[float, float]:
    """Seconds for the rows, and for the answers."""
    with tempfile.TemporaryDirectory(prefix="winnow-bench-") as folder:
        store = open_store(Path(folder) / "w.duckdb")
        try:
            seconds = read(store, planned), read(store, labeled)
            assert runs.list_runs(store)[0].labeled_rows == count
        finally:
            store.close()
    return seconds


class Engine:
    """Hands out the entries of a log as an engine does, a page at a time."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries
        self._at = 0

    def entries(self, _author: str, _first: int, _limit: int) -> list[Entry]:
        size, first = 0, self._at
        while self._at < len(self._entries) and size < PAGE_BYTES:
            size += len(self._entries[self._at].body)
            self._at += 1
        return self._entries[first : self._at]


def read(store: Store, entries: list[Entry]) -> float:
    """Bring the entries into a workspace; the seconds it takes."""
    cluster = Cluster("c" * 32, 1, "", 1, "", False, (), (), None)
    status = EngineStatus(1, "node", AUTHOR, {AUTHOR: entries[-1].end}, 0, (), cluster)
    engine = cast(client.Engine, Engine(entries))
    began = time.perf_counter()
    caught_up, _ = Homecoming(store).bring(engine, status, 3600, lambda: False)
    seconds = time.perf_counter() - began
    assert caught_up
    return seconds


def log_of(count: int) -> tuple[list[Entry], list[Entry]]:
    """The entries of a run and its rows, and those of the answers to all of them."""
    asked = DimensionSpec("sentiment", "single", LABELS, LABELS, "Which feeling?", "{text}")
    model = ModelSpec("llama_cpp", "model", "", "d" * 32)
    spec = RunSpec("r" * 32, "t" * 32, "sentiment", "p" * 32, model, (asked,))
    words = "what a day, and what else there is to say about it in so many words"
    texts = [f"message {number}: {words}" for number in range(count)]
    rows = [(row_id(text), text, "messages") for text in texts]
    about = About(
        (("sentiment", "single", LABELS),), "model", model.digest, spec.prompt_id, "node", "1.a", 1, 1.7e9
    )
    answer = Answer((math.log(0.7), math.log(0.2), math.log(0.1)), 60, 0, 0.01)
    end = 0

    def entry(body: AnyBody) -> Entry:
        nonlocal end
        made = Entry(AUTHOR, end, count_of(body), encode(body))
        end = made.end
        return made

    blocks = [RowsPlanned(spec.run_id, tuple(rows[at : at + BLOCK_ROWS])) for at in range(0, count, BLOCK_ROWS)]
    planned = [entry(RunOpened(spec)), *map(entry, blocks)]
    labeled = []
    for start in range(0, count, CLAIM):
        ids = tuple(row for row, _, _ in rows[start : start + CLAIM])
        places = tuple(range(len(ids)))
        labeled.append(
            entry(Labeled(spec.run_id, (AUTHOR, 1), places, (), 0.6, ids, ((answer,),) * len(ids), about))
        )
    return planned, labeled
