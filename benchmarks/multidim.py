"""Nine questions about every row, forked from what was computed of it, against two JSON calls per row.

The rows are openings of conversations about programming (`sharegpt_first_turns.parquet` with --data, the bundled
questions else). The peer (`benchmarks/_json_loop.py`) gets the same instructions and answers five and four
dimensions a call; its second call about a row finds the row in its cache. The engine's side is a worker process.
The rounds alternate, and the medians are compared.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import benchmarks
from benchmarks._json_loop import JsonLoop, in_turn, rate
from engine.models import catalog
from engine.prompt import prompt_for
from engine.worker_process import WorkerProcess
from workspace.facts import DimensionSpec, ModelSpec, RunSpec
from workspace.task import parse_task

BUNDLED = Path(__file__).resolve().parents[1] / "workspace" / "bundled"
ROUNDS_QUICK, ROUNDS = 3, 5
ROWS_QUICK, ROWS = 6, 16  # the peer labels in a round
MORE = 8  # times as many for the engine
SHORTEST, LONGEST = 120, 400  # characters of a row, where the rows are long enough

TASK = """
name: programming_requests
dimensions:
  - {name: intent, question: "What does the person want?",
     labels: [build, debug, explain, design, modify, decide]}
  - {name: language, question: "Which programming language is it about?",
     labels: [python, javascript, java, sql, other, none]}
  - {name: domain, question: "Which field is it for?",
     labels: [web, data, systems, learning, games, other]}
  - {name: task, question: "What should come of it?",
     labels: [code, bugfix, refactoring, test, document, answer]}
  - {name: difficulty, question: "How hard is it?",
     labels: [beginner, easy, medium, hard, expert]}
  - {name: concept, question: "What is it mainly about?",
     labels: [algorithms, concurrency, interfaces, database, appearance, none]}
  - {name: agentic, question: "How many steps does it take?",
     labels: [single, tools, multiple, none]}
  - {name: constraint, question: "What must be respected?",
     labels: [performance, security, style, version, none]}
  - {name: context, question: "What code comes with it?",
     labels: [snippet, file, repository, none]}
"""


def run(quick: bool, data: Path | None, qwen: Path | None) -> dict[str, object]:
    """Measure; `ratio` is the engine's median rows per second over the peer's, `ratio_qwen` that of `qwen`."""
    texts = _texts(data)
    dimensions = prompt_for(parse_task(TASK)).dimensions
    rounds, count = (ROUNDS_QUICK, ROWS_QUICK) if quick else (ROUNDS, ROWS)
    measured = _measure(catalog.embedded(), dimensions, texts, count, rounds)
    if qwen is not None:
        larger = _measure(catalog.resolve(str(qwen)), dimensions, texts, max(count // 4, 3), rounds)
        measured |= {f"{name}_qwen": value for name, value in larger.items()}
    return {"benchmark": "multidim", "dimensions": len(dimensions), **measured}


def _measure(
    model: ModelSpec, dimensions: tuple[DimensionSpec, ...], texts: list[str], count: int, rounds: int
) -> dict[str, object]:
    rows, more = texts[:count], texts[: count * MORE]
    with tempfile.TemporaryDirectory() as folder, WorkerProcess() as worker:
        spec = RunSpec("", "", "programming_requests", "", model, dimensions)
        loaded = worker.start(spec, Path(folder) / "worker.log")
        peer = JsonLoop(model.path, loaded.threads, [dimensions[:5], dimensions[5:]], n_ctx=4096)
        print(f"{model.name}: {loaded.build}, {loaded.threads} threads, {len(more)} and {count} rows", flush=True)
        worker.score(rows[:2])
        peer.label(rows[:1])
        rows_per_s, json_rows_per_s = in_turn(
            rounds,
            lambda: rate(len(more), lambda: worker.score(more)),
            lambda: rate(count, lambda: peer.label(rows)),
        )
        peer.close()
    return {
        "ratio": round(rows_per_s / json_rows_per_s, 2),
        "rows_per_s": round(rows_per_s, 2),
        "json_rows_per_s": round(json_rows_per_s, 3),
        "model": loaded.name,
        "build": loaded.build,
        "threads": loaded.threads,
        "rows": len(more),
        "json_rows": count,
        "rounds": rounds,
    }


def _texts(data: Path | None) -> list[str]:
    if data is None:
        with (BUNDLED / "questions.csv").open(encoding="utf-8", newline="") as stream:
            return [row["question"] for row in csv.DictReader(stream)]
    file = benchmarks.need(data, "sharegpt_first_turns.parquet")
    found = pq.read_table(file, columns=["text"]).column("text").to_pylist()
    fitting = [text for text in found if SHORTEST <= len(text) <= LONGEST]
    order = np.random.default_rng(1).permutation(len(fitting))
    return [fitting[place] for place in order[: ROWS * MORE]]
