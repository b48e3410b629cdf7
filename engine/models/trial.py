"""One way to load a model, tried where a crash costs nothing: `python -m engine.models.trial REQUEST`.

REQUEST is a `Conversion` or a `Request` as JSON; the last line printed is a `Measured` as JSON. llama.cpp has
kernels that fault on some machines, and a fault takes the process down: `engine.models.tuning` looks at how this
one ends.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Sequence

import llama_cpp
import msgspec
import numpy as np

from engine.models.label_tree import log_softmax
from engine.models.llama_native import MAX_SEQUENCES, Ints, NativeContext, NativeModel, quiet

FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32}  # llama_ftype of llama.h
SECONDS = 4.0  # of timing for each request; the first round is always finished

# What a row of a task may look like, and words labels are made of: enough to see where kernels round.
_TEXTS = (
    "The package arrived broken and nobody answers my mail.",
    "What is the capital of Australia?",
    "def f(x):\n    return x * 2\n",
    "lol thats so cool thx :)",
    "Revenue rose 4.2% to $1.3bn in the third quarter.",
    "Free entry! Text WIN to 80085 now",
    "Could you review this pull request?",
    "I have no strong feelings about the new bus line.",
    "¿Dónde está la biblioteca?",
    "她昨天去了北京。",
    "Error: index out of range (code 17)",
    "Tomorrow will be sunny.",
)
_WORDS = ("Positive", "Negative", "Neutral", "Yes", "No", "Person", "Location", "Number", "A", "B", " no", " spam")
_ASKED = "What is this message?\n- Positive\n- Negative\n- Neutral\nMessage: {}\nAnswer:"


class Conversion(msgspec.Struct, frozen=True, tag=True):
    """Write the weights of `path` to `target` in another format."""

    path: str
    target: str
    form: str  # of FILE_TYPES


class Request(msgspec.Struct, frozen=True, tag=True):
    """Load the weights of `path` and read prompts of `tokens` tokens with each number of threads in turn."""

    path: str
    rearranged: bool
    threads: tuple[int, ...] = (1,)
    tokens: int = 128
    rounds: int = 3
    probe: bool = True  # also tell the log-probabilities of some words after some texts


class Measured(msgspec.Struct, frozen=True):
    """What a trial saw: tokens per second of each number of threads, and log-probabilities [texts, words].

    With one thread alone the time is that of the processor, which does not depend on what else the machine is
    doing; with several it is the clock's.
    """

    tokens_per_s: dict[int, float]
    logprobs: tuple[tuple[float, ...], ...] = ()


def convert(request: Conversion) -> Measured:
    """Raises SystemExit when llama.cpp cannot convert these weights."""
    quiet()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[request.form]
    parameters.allow_requantize = True
    code = llama_cpp.llama_model_quantize(request.path.encode(), request.target.encode(), ctypes.byref(parameters))
    if code != 0:
        raise SystemExit(f"llama_model_quantize: {code}")
    return Measured({})


def measure(request: Request) -> Measured:
    """Raises ModelError when the model cannot be loaded or there is not enough memory."""
    model = NativeModel(request.path, rearranged=request.rearranged)
    contexts = {
        threads: NativeContext(model, n_ctx=2 * MAX_SEQUENCES, n_batch=MAX_SEQUENCES, threads=threads)
        for threads in request.threads
    }
    logprobs = _probe(model, next(iter(contexts.values()))) if request.probe else ()
    clock = time.process_time if request.threads == (1,) else time.perf_counter
    tokens = (np.arange(request.tokens, dtype=np.int32) * 37) % min(model.n_vocab, 30_000)
    best = dict.fromkeys(request.threads, float("inf"))
    ends = time.monotonic() + SECONDS
    for number in range(request.rounds):
        if number and time.monotonic() > ends:
            break
        for threads, context in contexts.items():
            best[threads] = min(best[threads], _seconds(context, tokens, clock))
    for context in contexts.values():
        context.close()
    model.close()
    return Measured({threads: request.tokens / seconds for threads, seconds in best.items()}, logprobs)


def _seconds(context: NativeContext, tokens: Ints, clock: Callable[[], float]) -> float:
    context.clear()
    started = clock()
    place = context.decode([(0, 0, tokens, True)])[0]
    context.logits(place, tokens[:1])  # waits for the result
    return max(clock() - started, 1e-9)


def _probe(model: NativeModel, context: NativeContext) -> tuple[tuple[float, ...], ...]:
    words = np.array([model.tokens(word, special=False)[0] for word in _WORDS], dtype=np.int32)
    found: list[tuple[float, ...]] = []
    for texts in (_TEXTS[start : start + 6] for start in range(0, len(_TEXTS), 6)):
        found += _read(model, context, texts, words)
    return tuple(found)


def _read(
    model: NativeModel, context: NativeContext, texts: Sequence[str], words: Ints
) -> list[tuple[float, ...]]:
    context.clear()
    rows = [np.array(model.tokens(_ASKED.format(text), special=False), dtype=np.int32) for text in texts]
    rows = [row[: context.n_batch // len(rows)] for row in rows]
    places = context.decode([(number, 0, row, True) for number, row in enumerate(rows)])
    return [tuple(log_softmax(context.logits(place, words)).tolist()) for place in places]


def main(arguments: Sequence[str]) -> int:
    """Do what the request says and print what was seen."""
    request = msgspec.json.decode(arguments[0], type=Conversion | Request)
    # What libraries print goes elsewhere: the last line is ours alone.
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    seen = convert(request) if isinstance(request, Conversion) else measure(request)
    channel.write(b"\n" + msgspec.json.encode(seen) + b"\n")
    channel.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
