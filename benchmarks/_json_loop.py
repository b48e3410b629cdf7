"""The peer of the benchmarks of labeling: the same model asked for JSON, row by row, as well as that can be done.

It is what one writes with llama-cpp-python in ten lines: its `Llama` class on the model file as shipped, the same
instructions and rows, greedy decoding under a JSON schema whose fields are the dimensions and whose values are the
labels, and the common beginning of one prompt and the next kept, as that class does by itself: of a second call
about the same row only the names of the fields are new.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp

from engine.models.llama_native import quiet
from engine.models.tuning import rearranging_works
from engine.prompt import MARKER
from workspace.facts import DimensionSpec


class JsonLoop:
    """A model file that answers rows with JSON; `calls` are the dimensions of each call about a row.

    The dimensions have one choice each and equal instructions.
    """

    def __init__(
        self, path: str, threads: int, calls: Sequence[Sequence[DimensionSpec]], n_ctx: int = 2048
    ) -> None:
        default = llama_cpp.llama_cpp.llama_model_default_params
        rearranged = rearranging_works(path)

        def parameters() -> Any:
            # `Llama` has no setting for this, and without it the process dies where AMX is announced but faults.
            made = default()
            made.use_extra_bufts = rearranged
            return made

        llama_cpp.llama_cpp.llama_model_default_params = parameters
        try:
            self._llama = llama_cpp.Llama(
                path,
                n_ctx=n_ctx,
                n_batch=512,
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=-1,
                verbose=False,
            )
        finally:
            llama_cpp.llama_cpp.llama_model_default_params = default
        quiet()
        self._calls = [(dimensions, _grammar(dimensions)) for dimensions in calls]

    def label(self, rows: Sequence[str]) -> list[list[str]]:
        """The labels of each row, in the order of the dimensions."""
        return [
            [label for call, grammar in self._calls for label in self._ask(row, call, grammar)] for row in rows
        ]

    def close(self) -> None:
        """Give back the memory."""
        self._llama.close()

    def _ask(self, row: str, call: Sequence[DimensionSpec], grammar: Any) -> list[str]:
        user = call[0].user.replace(MARKER, row)
        if len(call) > 1:
            user += "\nAnswer in JSON with: " + ", ".join(dimension.name for dimension in call)
        answer: Any = self._llama.create_chat_completion(
            [{"role": "system", "content": call[0].system}, {"role": "user", "content": user}],
            grammar=grammar,
            max_tokens=32 * len(call),
            temperature=0.0,
        )
        said = json.loads(answer["choices"][0]["message"]["content"])
        return [dimension.labels[dimension.words.index(said[dimension.name])] for dimension in call]


def _grammar(dimensions: Sequence[DimensionSpec]) -> Any:
    schema = {
        "type": "object",
        "properties": {dim.name: {"type": "string", "enum": list(dim.words)} for dim in dimensions},
        "required": [dimension.name for dimension in dimensions],
        "additionalProperties": False,
    }
    return llama_cpp.llama_grammar.LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)


def in_turn(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """Run the sides in turn, round after round; the median of what each returned. Noise meets all alike."""
    seen: list[list[float]] = [[] for _ in sides]
    for number in range(rounds):
        for side, found in zip(sides, seen, strict=True):
            found.append(side())
        print(f"round {number + 1}: " + ", ".join(f"{found[-1]:.2f}" for found in seen), flush=True)
    return [statistics.median(found) for found in seen]


def rate(count: int, work: Callable[[], object]) -> float:
    """So many things done per second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)
