"""Tokens per second of the engine while it labels, over what a bare `llama_decode` of 512 tokens reaches.

Same weights, same threads, same process, in turn. The bare call is one sequence of 512 tokens from an empty cache
with the logits of its last token, as a benchmark of llama.cpp measures prompts. The engine's side is all it does
with rows: tokens of texts, forks of the prompt, batches, logits, probabilities; its rows attend to the prompt
besides, and every one needs logits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks._json_loop import in_turn, rate
from engine.models import catalog
from engine.models.llama_cpp import BATCH_TOKENS, LlamaScorer
from engine.models.llama_native import NativeContext, NativeModel
from engine.models.tuning import fastest_form
from engine.prompt import prompt_for
from workspace.facts import ModelSpec
from workspace.task import parse_task

BUNDLED = Path(__file__).resolve().parents[1] / "workspace" / "bundled"
ROUNDS_QUICK, ROUNDS = 5, 11
ROWS = 160  # a round of the embedded model, about nine batches
FEWER = 8  # times fewer of a larger model


def run(quick: bool, qwen: Path | None) -> dict[str, object]:
    """Measure; `ratio` is the engine's median over the bare call's, `ratio_qwen` the same for `qwen`."""
    rounds = ROUNDS_QUICK if quick else ROUNDS
    measured = _measure(catalog.embedded(), ROWS, rounds)
    if qwen is not None:
        larger = _measure(catalog.resolve(str(qwen)), ROWS // FEWER, rounds)
        measured |= {f"{name}_qwen": value for name, value in larger.items()}
    return {"benchmark": "ceiling", **measured}


def _measure(model: ModelSpec, count: int, rounds: int) -> dict[str, object]:
    task = parse_task((BUNDLED / "sentiment.yaml").read_text(encoding="utf-8"))
    texts = pq.read_table(BUNDLED / "tweets.parquet").column("text").to_pylist()[:count]
    form = fastest_form(model.path)
    scorer = LlamaScorer(model.path, prompt_for(task).dimensions, name=model.name)
    weights = NativeModel(form.path, rearranged=form.rearranged)
    context = NativeContext(weights, n_ctx=2 * BATCH_TOKENS, n_batch=BATCH_TOKENS, threads=scorer.threads)
    tokens = (np.arange(BATCH_TOKENS, dtype=np.int32) * 37) % min(weights.n_vocab, 30_000)

    def bare() -> None:
        context.clear()
        place = context.decode([(0, 0, tokens, True)])[0]
        context.logits(place, tokens[:1])  # waits for the result

    scorer.ask(texts)  # computes the prompt, which later rounds do not do again
    before = scorer.tokens
    scorer.ask(texts)
    computed = scorer.tokens - before
    bare()
    print(f"{model.name}: {scorer.loaded.build}, {scorer.threads} threads, {computed} tokens a round", flush=True)
    ours, ceiling = in_turn(
        rounds, lambda: rate(computed, lambda: scorer.ask(texts)), lambda: rate(BATCH_TOKENS, bare)
    )
    loaded = scorer.loaded
    scorer.close()
    context.close()
    weights.close()
    return {
        "ratio": round(ours / ceiling, 3),
        "tokens_per_s": round(ours, 1),
        "bare_tokens_per_s": round(ceiling, 1),
        "model": loaded.name,
        "build": loaded.build,
        "threads": loaded.threads,
        "rows": count,
        "tokens": computed,
        "rounds": rounds,
    }
