"""What every chat server is to the labeler: messages in, a reply with its first tokens' probabilities out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

LARGEST_BODY = 8 << 20  # bytes of a server's answer that are read; a reply with its tokens takes some kilobytes
LONGEST_WORDS = 300  # characters of what a server says about an error

FaultKind = Literal["busy", "failed", "lost", "slow", "refused", "too_long", "forbidden"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Request(msgspec.Struct, frozen=True):
    """One question to a model."""

    messages: tuple[Message, ...]
    max_tokens: int
    top: int = 0  # likeliest tokens wanted at each place, 0 none
    schema: Mapping[str, Any] | None = None  # that the reply must satisfy
    temperature: float = 0.0
    seed: int = 0

    def most_tokens(self) -> int:
        """No prompt of these messages has more tokens: every token is a byte at least, and turns have marks."""
        return 64 + sum(16 + len(message.content.encode(errors="replace")) for message in self.messages)


class Step(msgspec.Struct, frozen=True):
    """One token of a reply with its natural log-probability, and the likeliest at its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Reply(msgspec.Struct, frozen=True):
    """What a server says. Token counts are -1 where it does not tell them."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    steps: tuple[Step, ...] = ()
    cut: bool = False  # it ended at the limit of tokens


class Fault(Exception):
    """A request that brought no reply.

    busy: the server asks to come back (429, 503). failed: an error of its own, or an answer that is none. lost: no
    connection. slow: no reply in time. refused: this request is not accepted. too_long: its prompt does not fit.
    forbidden: no request will be accepted (key, model, quota).
    """

    def __init__(self, kind: FaultKind, words: str, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.kind = kind
        self.words = words[:LONGEST_WORDS]
        self.retry_after = retry_after
        self.alone = False  # the server answered other requests while this one was tried


class Chat(Protocol):
    """A server's model to talk to."""

    @property
    def place(self) -> str:
        """The server in words, e.g. "Ollama at http://127.0.0.1:11434"."""
        ...

    async def say(self, request: Request) -> Reply:
        """The reply to one request, tried once. Raises Fault."""
        ...

    def adapt(self) -> bool:
        """Ask in another way from now on, because this one was refused; False where none is left."""
        ...

    async def close(self) -> None:
        """Give back its connections."""
        ...


class TooLarge(Exception):
    """A server's answer is larger than any that was asked for."""


async def bound(response: Any) -> None:
    """Response hook of httpx and its like: the body is read up to LARGEST_BODY bytes, and never unpacked."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TooLarge("the answer is compressed, which was not asked for")
    read = response.aiter_raw

    async def bounded(chunk_size: int | None = None) -> Any:
        size = 0
        async for chunk in read(chunk_size):
            size += len(chunk)
            if size > LARGEST_BODY:
                await response.aclose()
                raise TooLarge(f"the answer is larger than {LARGEST_BODY >> 20} MB")
            yield chunk

    response.aiter_raw = bounded


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    import email.utils
    import math
    import time

    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            seconds = float(headers["retry-after"])
    except KeyError:
        return None
    except ValueError:
        when = email.utils.parsedate_tz(headers.get("retry-after", ""))
        if when is None:
            return None
        seconds = email.utils.mktime_tz(when) - time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else None
