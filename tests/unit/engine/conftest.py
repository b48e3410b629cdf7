"""The embedded model, loaded once for all tests of the model side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.models.catalog import embedded
from engine.models.llama_cpp import LlamaScorer
from workspace.facts import DimensionSpec


def spec(*words: str, name: str = "d", system: str = "What feeling does the message express?") -> DimensionSpec:
    return DimensionSpec(name, "single", words, words, system, "{text}")


@pytest.fixture(scope="session")
def scorer() -> Iterator[LlamaScorer]:
    # A small context: rows that do not fit are short enough to compute.
    made = LlamaScorer(embedded().path, [spec("Positive", "Negative", "Neutral")], n_ctx=512, n_batch=256)
    yield made
    made.close()
