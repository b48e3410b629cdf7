"""What a labeler is: rows in, one answer per row out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import msgspec

from workspace.facts import DimensionSpec

TRUNCATED = "truncated"  # warning: the row did not fit and its end was left out
EMPTY = "empty"  # warning: the row has no characters besides white space

Progress = Callable[[int], None]


Tokens = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """One row's answer to one dimension; the parts of a `workspace.facts.Fact` that the labeler knows.

    `logprobs` are natural log-probabilities of the dimension's labels in task order, `exp` of them sums to one,
    without any correction. Empty, with `error` a sentence, when this row could not be answered; other rows of
    the same batch are not affected. `seconds` is the row's share of the batch by tokens.
    """

    logprobs: tuple[float, ...]
    prompt_tokens: Tokens
    completion_tokens: Tokens
    seconds: float
    warnings: tuple[str, ...] = ()
    error: str = ""


class LoadedModel(msgspec.Struct, frozen=True):
    """A model that is ready, and what it can do here."""

    name: str
    build: str  # library and version, e.g. "llama.cpp 0.3.36"
    n_ctx: int  # tokens of prompt and rows held at once
    row_tokens: int  # tokens of the longest row that fits under the longest of the prompts it was loaded with
    threads: int
    capabilities: tuple[str, ...]  # of "logits", "gpu"
    seconds: float  # it took to load


class Labeler(Protocol):
    """Turns rows into predictions. Answers come back in the order of the rows, one for each."""

    def score(
        self, dimension: DimensionSpec, rows: Sequence[str], progress: Progress | None = None
    ) -> list[Answer]:
        """Answer one dimension for every row; `progress` hears how many rows are done so far.

        Raises ModelError when the dimension itself cannot be asked (its prompt does not fit, for example).
        """
        ...
