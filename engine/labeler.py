"""What a labeler is: rows in, one answer per row out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import msgspec

TRUNCATED = "truncated"  # warning: the row did not fit and its end was left out
EMPTY = "empty"  # warning: the row has no characters besides white space

LONGEST_TEXT = 4000  # characters of an error, a reply or an explanation; what is longer is cut
LONGEST_WARNING = 200
MOST_WARNINGS = 16

Progress = Callable[[int], None]


Tokens = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """One row's answer to one dimension; the parts of a `workspace.facts.Fact` that the labeler knows.

    `logprobs` are natural log-probabilities of the dimension's labels in task order, without any correction:
    `exp` of them sums to one, but for the kind `multi`, where each is the probability that this label applies.
    With more than one phrasing they are the normalised mean of `phrasings` (for `multi` the mean of the
    log-odds), and `phrasings` has the numbers of each, in the order of `DimensionSpec.phrasings`; otherwise it is
    empty. Empty, with `error` a sentence, when this row could not be answered; other rows of the same batch are
    not affected. Empty without an error when a rule left the row out (`dropped`). `seconds` is the row's share of
    the batch by tokens. `reply` is what the model said where it could not be read.
    """

    logprobs: tuple[float, ...]
    prompt_tokens: Tokens
    completion_tokens: Tokens
    seconds: float
    warnings: tuple[str, ...] = ()
    error: str = ""
    phrasings: tuple[tuple[float, ...], ...] = ()
    reply: str = ""
    explanation: str = ""
    dropped: bool = False


def bounded(answer: Answer) -> Answer:
    """The answer itself, or with its texts cut to what is kept of them."""
    if (
        max(len(answer.error), len(answer.reply), len(answer.explanation)) <= LONGEST_TEXT
        and len(answer.warnings) <= MOST_WARNINGS
        and all(len(warning) <= LONGEST_WARNING for warning in answer.warnings)
    ):
        return answer
    return msgspec.structs.replace(
        answer,
        error=answer.error[:LONGEST_TEXT],
        reply=answer.reply[:LONGEST_TEXT],
        explanation=answer.explanation[:LONGEST_TEXT],
        warnings=tuple(warning[:LONGEST_WARNING] for warning in answer.warnings[:MOST_WARNINGS]),
    )


class LoadedModel(msgspec.Struct, frozen=True):
    """A model that is ready, and what it can do here."""

    name: str
    build: str  # library and version, e.g. "llama.cpp 0.3.36"
    n_ctx: int  # tokens of prompt and rows held at once
    row_tokens: int  # tokens of the longest row that fits under the longest of the prompts it was loaded with
    threads: int
    capabilities: tuple[str, ...]  # of "logits", "logprobs", "json_schema", "parallel", "gpu"
    seconds: float  # it took to load


class Labeler(Protocol):
    """Turns rows into predictions: everything that labels is one of these, opened by `engine.models.opening`."""

    @property
    def loaded(self) -> LoadedModel:
        """What is ready and what it can do here."""
        ...

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """The answers of each row to every dimension it was opened with, in their order.

        `progress` hears how many rows are done so far, and is called at least every few seconds: silence is taken
        for a hang. Raises ModelError when nothing can be asked at all; a row that fails alone carries its `error`.
        """
        ...

    def close(self) -> None:
        """Give back memory and connections."""
        ...
