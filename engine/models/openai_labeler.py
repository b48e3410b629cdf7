"""Models of any server that speaks OpenAI's chat API (vLLM, LiteLLM, llama-server, LM Studio, OpenAI itself),
through OpenAI's client. Retries are our own, so that they count for all requests together."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import openai

from engine.models import addresses
from engine.models.api_keys import OPENAI_HOST, key_for, without_key
from engine.models.chat import Fault, FaultKind, Reply, Request, Step, TooLarge, bound, retry_after
from engine.models.connecting import Connected, Loading, open_server, unusable
from engine.models.server_labeler import ServerLabeler
from workspace.facts import RunSpec

ASKING = 10.0  # seconds for questions about the server itself
_MOST_MODELS = 2000
_KEPT_HEADERS = frozenset(
    ("host", "content-type", "content-length", "accept", "user-agent", "connection", "transfer-encoding")
)
_OPENAI_HEADERS = frozenset(("openai-organization", "openai-project"))
_TOO_LONG = re.compile(
    r"context.{0,20}(length|size|window)|exceed_context|too (long|large|many tokens)|maximum.{0,40}tokens",
    re.IGNORECASE,
)


class Offered(msgspec.Struct, frozen=True):
    """A model a server names."""

    name: str
    owner: str = ""
    n_ctx: int = 0  # tokens, 0 unknown


class Dialect(msgspec.Struct, frozen=True):
    """What of the API a server understands; found by trying."""

    limit: str = "max_tokens"
    quiet: bool = True  # tell models that can think aloud not to
    temperature: bool = True


_DIALECTS = (
    Dialect(),
    Dialect(quiet=False),
    Dialect("max_completion_tokens", quiet=False),
    Dialect("max_completion_tokens", quiet=False, temperature=False),
)


def offered(server: str, address: str) -> list[Offered]:
    """The models a server names. Blocks for some seconds at most; not in a running event loop.

    Raises ModelError when it cannot be reached or does not tell.
    """
    return asyncio.run(_offered(server, address))


def open_openai(spec: RunSpec, progress: Loading = None) -> ServerLabeler:
    """The labeler of a run whose model is on an OpenAI-compatible server; `spec.model.name` is SERVER/MODEL.

    Raises ModelError.
    """
    return open_server(lambda: _connect(spec), spec, progress)


# -- the server ---------------------------------------------------------------------------------------------


def _client(address: str, key: str) -> openai.AsyncOpenAI:
    kept = _KEPT_HEADERS | (_OPENAI_HEADERS if addresses.host_of(address) == OPENAI_HOST else frozenset())

    async def clean(request: Any) -> None:
        # The client adds what it finds in the environment, whoever the server is.
        for name in [name for name in request.headers if name.lower() not in kept]:
            del request.headers[name]
        request.headers["accept-encoding"] = "identity"
        if key:
            request.headers["authorization"] = f"Bearer {key}"

    base = address if addresses.host_of(address) and _has_path(address) else f"{address}/v1"
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base,
        max_retries=0,
        timeout=None,  # ours is around the whole request
        http_client=openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=not addresses.here(address),
            timeout=None,
            event_hooks={"request": [clean], "response": [bound]},
        ),
    )


def _has_path(address: str) -> bool:
    return "/" in address.partition("://")[2]


async def _faultless(work: Any, key: str) -> Any:
    """What `work` returns. Raises Fault for all that can go wrong with a server, never with the key in it."""
    try:
        return await work
    except openai.APITimeoutError:
        raise Fault("slow", "There was no reply in time.") from None
    except openai.APIConnectionError as error:
        cause = error.__cause__
        kind: FaultKind = "failed" if isinstance(cause, TooLarge) else "lost"
        raise Fault(kind, without_key(f"{error} {cause or ''}".strip(), key)) from None
    except openai.APIStatusError as error:
        raise _fault(error, key) from None
    except (
        openai.OpenAIError,
        TooLarge,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
    ) as error:
        raise Fault("failed", without_key(f"What it answered cannot be read: {error}", key)) from None


def _fault(error: openai.APIStatusError, key: str) -> Fault:
    status, code = error.status_code, f"{error.code} {error.type}"
    words = without_key(" ".join(str(error.message).split()), key)
    if status in (401, 403):
        return Fault("forbidden", "it does not accept the key." if key else "it wants an API key.")
    if "insufficient_quota" in code or status == 402:
        return Fault("forbidden", "the account there has no money left.")
    if status == 404:
        return Fault("forbidden", "it has no such model or address.")
    if 300 <= status < 400:
        return Fault("forbidden", "it leads to another address. Add that one if you trust it.")
    if status in (429, 503, 529):
        return Fault("busy", words, retry_after(error.response.headers))
    if status == 408:
        return Fault("slow", words)
    if status == 413 or _TOO_LONG.search(f"{code} {words}"):
        return Fault("too_long", words)
    if status >= 500 and status != 501:
        return Fault("failed", words, retry_after(error.response.headers))
    return Fault("refused", words)


async def _offered(server: str, address: str) -> list[Offered]:
    key = key_for(server, address)
    client = _client(address, key)
    place = f"The server '{server}' at {address}"
    try:
        page = await asyncio.wait_for(_faultless(client.models.list(), key), ASKING)
        models = [_offer(one) for one in list(page.data or ())[:_MOST_MODELS] if getattr(one, "id", None)]
    except TimeoutError:
        raise unusable(place, Fault("slow", f"There was no reply within {ASKING:g} seconds.")) from None
    except Fault as fault:
        raise unusable(place, fault) from None
    except (AttributeError, TypeError):
        raise unusable(place, Fault("failed", "It does not answer as such a server does.")) from None
    finally:
        await client.close()
    return sorted(models, key=lambda one: one.name)


def _offer(model: Any) -> Offered:
    meta = getattr(model, "meta", None)
    told = (getattr(model, "max_model_len", None), meta.get("n_ctx") if isinstance(meta, dict) else None)
    n_ctx = next((one for one in told if isinstance(one, int) and 0 < one < 1 << 31), 0)
    return Offered(str(model.id)[:300], str(getattr(model, "owned_by", "") or "")[:60], n_ctx)


async def _connect(spec: RunSpec) -> Connected:
    address = spec.model.path
    server, _, model = spec.model.name.partition("/")
    key = key_for(server, address)
    named = {one.name: one for one in await _offered(server, address)}
    offer = named.get(model, Offered(model))
    chat = OpenAIChat(_client(address, key), f"The server '{server}' at {address}", model, key)
    owner = f" ({offer.owner})" if offer.owner else ""
    return Connected(chat, spec.model.name, f"OpenAI API at {addresses.host_of(address)}{owner}", offer.n_ctx)


class OpenAIChat:
    """Implements `engine.models.chat.Chat`. Texts that go out of here do not contain `key`."""

    def __init__(self, client: openai.AsyncOpenAI, place: str, model: str, key: str) -> None:
        self._client = client
        self._model = model
        self._key = key
        own = addresses.host_of(str(client.base_url)) == OPENAI_HOST
        self._dialect, *self._further = _DIALECTS[2:] if own else _DIALECTS
        self.place = place

    def adapt(self) -> bool:
        """See `Chat`."""
        if not self._further:
            return False
        self._dialect, *self._further = self._further
        return True

    async def say(self, request: Request) -> Reply:
        """See `Chat`."""
        options: dict[str, Any] = {self._dialect.limit: request.max_tokens}
        if self._dialect.temperature:
            options["temperature"] = request.temperature
        if request.temperature:
            options["seed"] = request.seed
        if request.top:
            options |= {"logprobs": True, "top_logprobs": request.top}
        if request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._dialect.quiet:
            options["extra_body"] = {"chat_template_kwargs": {"enable_thinking": False}}
        messages: Any = [{"role": one.role, "content": one.content} for one in request.messages]
        sending = self._client.chat.completions.create(model=self._model, messages=messages, **options)
        answer = await _faultless(sending, self._key)
        reply: Reply = await _faultless(self._read(answer), self._key)
        return reply

    async def _read(self, answer: Any) -> Reply:
        # The client takes what it gets without checking it: any attribute may be missing or of another kind.
        choice = answer.choices[0]
        content = choice.message.content
        text = content if isinstance(content, str) else str(getattr(choice.message, "refusal", None) or "")
        told = getattr(choice.logprobs, "content", None) if getattr(choice, "logprobs", None) else None
        steps = tuple(
            Step(
                str(one.token),
                float(one.logprob),
                tuple((str(top.token), float(top.logprob)) for top in one.top_logprobs or ()),
            )
            for one in told or ()
        )
        usage = getattr(answer, "usage", None)
        return Reply(
            without_key(text, self._key),
            _count(getattr(usage, "prompt_tokens", None)),
            _count(getattr(usage, "completion_tokens", None)),
            steps,
            choice.finish_reason == "length",
        )

    async def close(self) -> None:
        """See `Chat`."""
        await self._client.close()


def _count(told: object) -> int:
    return told if isinstance(told, int) and 0 <= told < 1 << 31 else -1
