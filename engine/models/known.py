"""Six small instruct models that label well for their size, as GGUF files on the Hugging Face Hub.

Sizes are approximate; what counts is what the Hub says when one is added, its checksum included. All are the
four-bit form Q4_K_M, which loses little and fits most machines.
"""

from __future__ import annotations

import msgspec

from engine.cluster.capacity import CONTEXT_BYTES, SYSTEM_BYTES, WEIGHTS_FACTOR


class KnownModel(msgspec.Struct, frozen=True):
    """A model that can be added by its name."""

    name: str  # what `winnow models add` takes
    title: str
    repository: str  # on the Hugging Face Hub
    file: str
    size: int  # bytes, approximately
    parameters: str
    licence: str
    good_for: str

    @property
    def memory(self) -> int:
        """Bytes a machine needs altogether to run it, by the rule the engine goes by."""
        return int(self.size * WEIGHTS_FACTOR) + min(self.size, CONTEXT_BYTES) + SYSTEM_BYTES


KNOWN = (
    KnownModel(
        "qwen2.5-0.5b",
        "Qwen2.5 0.5B Instruct",
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        "qwen2.5-0.5b-instruct-q4_k_m.gguf",
        491_000_000,
        "0.5 billion",
        "Apache-2.0",
        "many rows on a slow machine; clear-cut labels",
    ),
    KnownModel(
        "qwen2.5-1.5b",
        "Qwen2.5 1.5B Instruct",
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
        "qwen2.5-1.5b-instruct-q4_k_m.gguf",
        1_120_000_000,
        "1.5 billion",
        "Apache-2.0",
        "a good start: many languages, topics and tone at a fair speed",
    ),
    KnownModel(
        "smollm2-1.7b",
        "SmolLM2 1.7B Instruct",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
        "smollm2-1.7b-instruct-q4_k_m.gguf",
        1_060_000_000,
        "1.7 billion",
        "Apache-2.0",
        "English texts, everyday topics",
    ),
    KnownModel(
        "gemma-2-2b",
        "Gemma 2 2B Instruct",
        "bartowski/gemma-2-2b-it-GGUF",
        "gemma-2-2b-it-Q4_K_M.gguf",
        1_710_000_000,
        "2.6 billion",
        "Gemma Terms of Use",
        "tone, nuance and European languages",
    ),
    KnownModel(
        "llama-3.2-3b",
        "Llama 3.2 3B Instruct",
        "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "Llama-3.2-3B-Instruct-Q4_K_M.gguf",
        2_019_000_000,
        "3.2 billion",
        "Llama 3.2 Community License",
        "many labels with long descriptions",
    ),
    KnownModel(
        "phi-3.5-mini",
        "Phi 3.5 mini Instruct",
        "bartowski/Phi-3.5-mini-instruct-GGUF",
        "Phi-3.5-mini-instruct-Q4_K_M.gguf",
        2_390_000_000,
        "3.8 billion",
        "MIT",
        "hard questions, code and reasoning; the slowest of these",
    ),
)


def find(name: str) -> KnownModel | None:
    """The known model of that name or title, in any case."""
    wanted = name.strip().casefold()
    return next((model for model in KNOWN if wanted in (model.name, model.title.casefold())), None)
