"""What a chat server is told: the instructions first, the row last, what the answer opens with after it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.labeler import Answer
from engine.models.chat import Message, Request
from engine.models.json_asking import instructions_for, schema_for, tokens_for
from engine.models.label_tokens import tokens_needed
from workspace.facts import DimensionSpec
from workspace.kinds import label_of
from workspace.task import split_labels

MARKER = "{text}"
TOPS = (100, 20)  # likeliest tokens asked for: llama-server tells any number, OpenAI and Ollama 20


def token_request(
    dimension: DimensionSpec, text: str, earlier: Sequence[str] = (), *, top: int = TOPS[-1]
) -> Request:
    """Asks one dimension for its first tokens and the `top` likeliest at each place. What was answered before and
    the cue stand after the row."""
    asked = [*earlier, dimension.cue] if dimension.cue else list(earlier)
    tail = "\n\n" + "\n".join(asked) if asked else ""
    messages = _messages(dimension.system, dimension.user.replace(MARKER, text) + tail)
    return Request(messages, tokens_needed(dimension.words), top=top)


def json_request(
    dimensions: Sequence[DimensionSpec],
    text: str,
    earlier: Sequence[str] = (),
    *,
    schema: bool,
    temperature: float = 0.0,
    seed: int = 0,
) -> Request:
    """Asks dimensions with the same instructions for one JSON object."""
    system = dimensions[0].system.strip()
    tail = "\n\n" + "\n".join(earlier) if earlier else ""
    return Request(
        _messages(
            f"{system}\n\n{instructions_for(dimensions, system)}".strip(),
            dimensions[0].user.replace(MARKER, text) + tail,
        ),
        tokens_for(dimensions),
        schema=schema_for(dimensions) if schema else None,
        temperature=temperature,
        seed=seed,
    )


def _messages(system: str, user: str) -> tuple[Message, ...]:
    first = (Message("system", system.strip()),) if system.strip() else ()
    return (*first, Message("user", user))


def in_words(dimension: DimensionSpec, answer: Answer) -> str:
    """An answer as the model would have said it."""
    label, _ = label_of(dimension.kind, dimension.labels, answer.logprobs)
    chosen = split_labels(label) if dimension.kind == "multi" else (label,)
    said = [word for name, word in zip(dimension.labels, dimension.words, strict=True) if name in chosen]
    return ", ".join(said) or "none"
