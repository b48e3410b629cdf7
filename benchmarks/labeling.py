"""Rows labeled per second by the engine against a loop that asks the same model for JSON, row by row.

The engine's side is its real path: a worker process, frames over pipes, the model file in the form found fastest
on this machine. The peer is `benchmarks/_json_loop.py` on the model file as shipped. Both use the same number of
threads. The rounds alternate, and the medians are compared. Accuracy is against the majority of 20 human ratings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import benchmarks
from benchmarks._json_loop import JsonLoop, in_turn, rate
from calibration import correct_label_bias
from engine.models import catalog
from engine.prompt import prompt_for
from engine.worker_process import WorkerProcess
from workspace.facts import DimensionSpec, ModelSpec, RunSpec
from workspace.task import parse_task

BUNDLED = Path(__file__).resolve().parents[1] / "workspace" / "bundled"
ROUNDS_QUICK, ROUNDS = 3, 5
ROWS_QUICK, ROWS = 6, 128  # the peer labels in a round
MORE = 8  # times as many for the engine, so that both are measured for about as long
CLAIM = 128  # rows handed to the engine at once


def run(quick: bool, data: Path | None, qwen: Path | None) -> dict[str, object]:
    """Measure; `ratio` is the engine's median rows per second over the peer's, `ratio_qwen` the same for `qwen`.

    The accuracies are of `accuracy_rows` rows: all of the sample, or with `quick` those of a round.
    """
    texts, gold = _sample(data)
    task = parse_task((BUNDLED / "sentiment.yaml").read_text(encoding="utf-8"))
    dimension = prompt_for(task).dimensions[0]
    rounds = ROUNDS_QUICK if quick else ROUNDS
    count = ROWS_QUICK if quick else ROWS
    if quick:
        texts = texts[: count * MORE]
    measured = _measure(catalog.embedded(), dimension, texts, gold, count, rounds)
    if qwen is not None:
        model = catalog.resolve(str(qwen))
        larger = _measure(model, dimension, texts[:128], gold, 2 if quick else count // 8, rounds)
        measured |= {f"{name}_qwen": value for name, value in larger.items()}
    return {"benchmark": "labeling", **measured}


def _measure(
    model: ModelSpec, dimension: DimensionSpec, texts: list[str], gold: list[str], count: int, rounds: int
) -> dict[str, object]:
    rows, more = texts[:count], texts[: count * MORE]
    with tempfile.TemporaryDirectory() as folder, WorkerProcess() as worker:
        spec = RunSpec("", "", "sentiment", "", model, (dimension,))
        loaded = worker.start(spec, Path(folder) / "worker.log")
        peer = JsonLoop(model.path, loaded.threads, [[dimension]])
        print(f"{model.name}: {loaded.build}, {loaded.threads} threads, {len(more)} and {count} rows", flush=True)
        worker.score(rows[:4])
        peer.label(rows[:2])
        said: list[list[str]] = []  # the same in every round
        rows_per_s, json_rows_per_s = in_turn(
            rounds,
            lambda: rate(len(more), lambda: worker.score(more)),
            lambda: rate(count, lambda: said.extend(peer.label(rows))),
        )
        peer.close()
        parts = [worker.score(texts[start : start + CLAIM]) for start in range(0, len(texts), CLAIM)]
    logprobs = np.array([answer.logprobs for part in parts for (answer,) in part])
    truth = np.array([dimension.labels.index(label) for label in gold[: len(texts)]])
    return {
        "ratio": round(rows_per_s / json_rows_per_s, 2),
        "rows_per_s": round(rows_per_s, 2),
        "json_rows_per_s": round(json_rows_per_s, 2),
        "accuracy_raw": round(float((logprobs.argmax(axis=1) == truth).mean()), 4),
        "accuracy_corrected": round(float((correct_label_bias(logprobs).argmax(axis=1) == truth).mean()), 4),
        "json_accuracy_of_round": round(float(np.mean([a == [b] for a, b in zip(said, gold, strict=False)])), 4),
        "accuracy_rows": len(truth),
        "model": loaded.name,
        "build": loaded.build,
        "threads": loaded.threads,
        "rows": len(more),
        "json_rows": count,
        "rounds": rounds,
    }


def _sample(data: Path | None) -> tuple[list[str], list[str]]:
    """Texts and labels of the bundled sample, or of hutto_tweets.parquet (first 1,024) in `data`."""
    bundled = BUNDLED / "tweets.parquet"
    file = bundled if data is None and bundled.is_file() else benchmarks.need(data, "hutto_tweets.parquet")
    table = pq.read_table(file)
    column = "majority" if "majority" in table.column_names else "sentiment"
    return table.column("text").to_pylist()[:1024], table.column(column).to_pylist()[:1024]
