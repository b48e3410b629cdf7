"""Rows labeled per second by the engine against a loop that asks the same model for JSON, row by row.

The engine's side is its real path: a worker process, frames over pipes, the model file in the form found fastest.
The peer is what one writes with llama-cpp-python in ten lines: its `Llama` class on the model file, the same
instructions and rows, greedy decoding under a JSON schema whose only field is the label, and the prompt prefix
kept between rows, as that class does by itself. Both use the same number of threads. The rounds alternate, and the
medians are compared. Accuracy is against the majority of 20 human ratings.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pyarrow.parquet as pq

import benchmarks
from calibration import correct_label_bias
from engine.models.catalog import embedded
from engine.models.llama_native import quiet
from engine.models.tuning import rearranging_works
from engine.prompt import prompt_for
from engine.worker_process import WorkerProcess
from workspace.facts import DimensionSpec, RunSpec
from workspace.task import parse_task

BUNDLED = Path(__file__).resolve().parents[1] / "workspace" / "bundled"
ROUNDS_QUICK, ROUNDS = 3, 5
ROWS_QUICK, ROWS = 32, 128  # of each side per round
CLAIM = 128  # rows handed to the engine at once


def run(quick: bool, data: Path | None) -> dict[str, object]:
    """Measure; `ratio` is the engine's median rows per second over the peer's. All rows of the sample are
    labeled once for the accuracy, the rounds use the first of them."""
    texts, gold = _sample(data)
    task = parse_task((BUNDLED / "sentiment.yaml").read_text(encoding="utf-8"))
    dimension = prompt_for(task).dimensions[0]
    rows = texts[: ROWS_QUICK if quick else ROWS]
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder, WorkerProcess() as worker:
        spec = RunSpec("", "", task.name, "", embedded(), (dimension,))
        loaded = worker.start(spec, Path(folder) / "worker.log")
        peer = _JsonLoop(dimension, loaded.threads)
        print(f"{loaded.build}, {loaded.threads} threads, {len(rows)} rows a round", flush=True)
        worker.score(rows[:4])
        peer.label(rows[:2])
        for number in range(ROUNDS_QUICK if quick else ROUNDS):
            ours.append(_rate(rows, lambda: worker.score(rows)))
            theirs.append(_rate(rows, lambda: peer.label(rows)))
            print(f"round {number + 1}: engine {ours[-1]:.2f}, JSON {theirs[-1]:.2f} rows/s", flush=True)
        said = peer.label(rows)
        answers = [
            answer
            for start in range(0, len(texts), CLAIM)
            for (answer,) in worker.score(texts[start : start + CLAIM])
        ]
    logprobs = np.array([answer.logprobs for answer in answers])
    truth = np.array([dimension.labels.index(label) for label in gold])
    rows_per_s, json_rows_per_s = statistics.median(ours), statistics.median(theirs)
    return {
        "benchmark": "labeling",
        "ratio": round(rows_per_s / json_rows_per_s, 2),
        "rows_per_s": round(rows_per_s, 2),
        "json_rows_per_s": round(json_rows_per_s, 2),
        "accuracy_raw": round(float((logprobs.argmax(axis=1) == truth).mean()), 4),
        "accuracy_corrected": round(float((correct_label_bias(logprobs).argmax(axis=1) == truth).mean()), 4),
        "json_accuracy_of_round": round(float(np.mean([a == b for a, b in zip(said, gold, strict=False)])), 4),
        "model": loaded.name,
        "build": loaded.build,
        "threads": loaded.threads,
        "rows": len(rows),
        "rounds": len(ours),
    }


class _JsonLoop:
    """The peer: one chat completion per row, constrained to {"label": one of the words}."""

    def __init__(self, dimension: DimensionSpec, threads: int) -> None:
        model = embedded()
        self._dimension = dimension
        default = llama_cpp.llama_cpp.llama_model_default_params
        rearranged = rearranging_works(model.path)

        def parameters() -> Any:
            # `Llama` has no setting for this, and without it the process dies where AMX is announced but faults.
            made = default()
            made.use_extra_bufts = rearranged
            return made

        llama_cpp.llama_cpp.llama_model_default_params = parameters
        try:
            self._llama = llama_cpp.Llama(
                model.path,
                n_ctx=2048,
                n_batch=512,
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=-1,
                verbose=False,
            )
        finally:
            llama_cpp.llama_cpp.llama_model_default_params = default
        quiet()
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(dimension.words)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        self._grammar = llama_cpp.llama_grammar.LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)

    def label(self, rows: Sequence[str]) -> list[str]:
        """The label of each row, in task order names."""
        found = []
        for row in rows:
            answer: Any = self._llama.create_chat_completion(
                [
                    {"role": "system", "content": self._dimension.system},
                    {"role": "user", "content": self._dimension.user.replace("{text}", row)},
                ],
                grammar=self._grammar,
                max_tokens=32,
                temperature=0.0,
            )
            word = json.loads(answer["choices"][0]["message"]["content"])["label"]
            found.append(self._dimension.labels[self._dimension.words.index(word)])
        return found


def _rate(rows: Sequence[str], work: Any) -> float:
    started = time.perf_counter()
    work()
    return len(rows) / (time.perf_counter() - started)


def _sample(data: Path | None) -> tuple[list[str], list[str]]:
    """Texts and labels of the bundled sample, or of hutto_tweets.parquet (first 500) in `data`."""
    bundled = BUNDLED / "tweets.parquet"
    file = bundled if data is None and bundled.is_file() else benchmarks.need(data, "hutto_tweets.parquet")
    table = pq.read_table(file)
    column = "majority" if "majority" in table.column_names else "sentiment"
    return table.column("text").to_pylist()[:500], table.column(column).to_pylist()[:500]
