"""The embedded model, loaded once for all tests of the model side that ask the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engine.models.catalog import embedded
from engine.models.llama_cpp import LlamaScorer
from workspace.facts import DimensionSpec


def spec(
    *words: str,
    name: str = "d",
    kind: str = "single",
    system: str = "What feeling does the message express?",
    **more: object,
) -> DimensionSpec:
    return DimensionSpec(name, kind, words, words, system, "{text}", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def scorer() -> Iterator[LlamaScorer]:
    # A small context: rows that do not fit are short enough to compute.
    made = LlamaScorer(
        embedded().path, [spec("Positive", "Negative", "Neutral")], n_ctx=512, n_batch=256, threads=1
    )
    yield made
    made.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., LlamaScorer]]:
    """Opens scorers of other dimensions, and closes them after the test."""
    made: list[LlamaScorer] = []

    def opening(*dimensions: DimensionSpec, n_ctx: int = 1024, bound: float = 1e-3) -> LlamaScorer:
        # One thread: two that wait for each other take many times longer where other tests run beside them.
        made.append(LlamaScorer(embedded().path, dimensions, n_ctx=n_ctx, n_batch=256, bound=bound, threads=1))
        return made[-1]

    yield opening
    for each in made:
        each.close()
