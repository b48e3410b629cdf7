"""Models of an Ollama server, through its official client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec
import ollama

from engine.models import addresses
from engine.models.chat import Fault, Reply, Request, Step, TooLarge, bound, retry_after
from engine.models.connecting import Connected, Loading, open_server, unusable
from engine.models.server_labeler import ServerLabeler
from workspace.errors import ModelError
from workspace.facts import RunSpec

DEFAULT = "http://127.0.0.1:11434"
PORT = 11434
CONTEXT_TOKENS = 4096  # asked for at least: Ollama's memory grows with it, for every request at a time
LOADING = 900.0  # seconds a model may take to be read from disk
ASKING = 10.0  # seconds for questions about the server itself
KEPT_FOR = "10m"  # the model stays in memory between batches

Pulling = Callable[[str, int, int], None]  # what is done, bytes done, bytes in all (0 unknown)


class Installed(msgspec.Struct, frozen=True):
    """A model a server has."""

    name: str
    digest: str
    size: int  # bytes, 0 unknown


def default_address() -> str:
    """OLLAMA_HOST, else this machine. An address to listen at (0.0.0.0) is this machine, too.

    Raises ModelError when OLLAMA_HOST is no address.
    """
    typed = os.environ.get("OLLAMA_HOST", "").strip()
    if not typed:
        return DEFAULT
    if typed.startswith(":"):
        typed = f"127.0.0.1{typed}"
    address = addresses.checked(typed, PORT)
    for listening in ("//0.0.0.0", "//[::]"):
        address = address.replace(listening, "//127.0.0.1", 1)
    return address


def installed(address: str = "") -> list[Installed]:
    """The models a server has, by name. Blocks for some seconds at most; not in a running event loop.

    Raises ModelError when it cannot be reached or is no Ollama server.
    """
    return asyncio.run(_listed(address or default_address()))


def pull(name: str, progress: Pulling | None = None, address: str = "") -> None:
    """Have a server download a model; what was downloaded before is not downloaded again.

    Blocks; not in a running event loop. Raises ModelError when it fails.
    """
    asyncio.run(_pull(name, progress or (lambda *_: None), address or default_address()))


def open_ollama(spec: RunSpec, progress: Loading = None) -> ServerLabeler:
    """The labeler of a run whose model is on an Ollama server. Raises ModelError."""
    return open_server(lambda: _connect(spec), spec, progress)


def full_name(name: str) -> str:
    """As Ollama lists it: with its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


# -- the server ---------------------------------------------------------------------------------------------


def _client(address: str, *, bounded: bool = True) -> ollama.AsyncClient:
    ours = addresses.host_of(address) == "ollama.com"

    async def clean(request: httpx.Request) -> None:
        request.headers["accept-encoding"] = "identity"
        if not ours:  # the client sends OLLAMA_API_KEY to every server
            request.headers.pop("authorization", None)

    async def busy(response: httpx.Response) -> None:
        if response.status_code in (429, 503):
            raise Fault("busy", "The server's queue is full.", retry_after(response.headers))

    return ollama.AsyncClient(
        host=address,
        follow_redirects=False,
        trust_env=not addresses.here(address),
        event_hooks={"request": [clean], "response": [busy, bound] if bounded else [busy]},
    )


async def _close(client: ollama.AsyncClient) -> None:
    await client.close()  # type: ignore[no-untyped-call]  # the client leaves out the type of what it returns


async def _faultless(work: Any) -> Any:
    """What `work` returns. Raises Fault for all that can go wrong with a server."""
    try:
        return await work
    except ollama.ResponseError as error:
        raise _fault(error.status_code, str(error.error)) from None
    except httpx.TimeoutException:
        raise Fault("slow", "There was no reply in time.") from None
    except (ConnectionError, httpx.TransportError) as error:
        raise Fault("lost", str(error)) from None
    except (TooLarge, httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Fault("failed", f"What it answered cannot be read: {error}") from None


def _fault(status: int, words: str) -> Fault:
    said = words.casefold()
    if status in (401, 403):
        return Fault("forbidden", "the server wants a key that fits.")
    if status == 404:
        return Fault("forbidden", "the model is not there.")
    if status in (429, 503):
        return Fault("busy", words)
    if "context" in said or "too long" in said:
        return Fault("too_long", words)
    if 300 <= status < 400:
        return Fault("forbidden", "it leads to another address.")
    return Fault("failed" if status >= 500 and status != 501 else "refused", words)


async def _told(address: str, work: Any, seconds: float = ASKING) -> Any:
    """Like `_faultless`, for what people asked for: raises ModelError."""
    place = f"Ollama at {address}"
    try:
        return await asyncio.wait_for(_faultless(work), seconds)
    except TimeoutError:
        raise unusable(place, Fault("slow", f"There was no reply within {seconds:g} seconds.")) from None
    except Fault as fault:
        raise unusable(place, fault) from None


async def _listed(address: str) -> list[Installed]:
    client = _client(address)
    try:
        answer = await _told(address, client.list())
    finally:
        await _close(client)
    found = [
        Installed(model.model, (model.digest or "").removeprefix("sha256:"), int(model.size or 0))
        for model in answer.models
        if model.model
    ]
    return sorted(found, key=lambda one: one.name)


async def _pull(name: str, progress: Pulling, address: str) -> None:
    client = _client(address, bounded=False)

    async def follow() -> None:
        async for part in await client.pull(name, stream=True):
            progress(part.status or "", part.completed or 0, part.total or 0)

    try:
        await _faultless(follow())
    except Fault as fault:
        if fault.kind == "lost":
            raise unusable(f"Ollama at {address}", fault) from None
        raise ModelError(
            f"Ollama at {address} could not get '{name}'.", "Check the name on ollama.com.", fault.words
        ) from None
    finally:
        await _close(client)


async def _connect(spec: RunSpec) -> Connected:
    address, name = spec.model.path, spec.model.name
    have = {one.name: one for one in await _listed(address)}
    found = have.get(full_name(name))
    if found is None:
        raise ModelError(
            f"Ollama at {address} does not have '{name}'.", f"Get it with: ollama pull {name}", ", ".join(have)
        )
    if found.digest and spec.model.digest and found.digest != spec.model.digest:
        raise ModelError(
            f"'{name}' on Ollama at {address} is another model by now than this run began with.",
            "All labels so far are kept. Start a new run with the model as it is now.",
        )
    client = _client(address)
    try:
        shown = await _told(address, client.show(found.name))
        room = _context_length(shown.modelinfo or {}) or CONTEXT_TOKENS
        longest = max((len(one.system.encode()) + len(one.user.encode()) for one in spec.dimensions), default=0)
        n_ctx = min(room, max(CONTEXT_TOKENS, longest + 1024))
        thinking = "thinking" in (shown.capabilities or [])
        chat = OllamaChat(client, address, found.name, n_ctx, quiet=thinking)
        await _told(address, chat.load(), LOADING)
        build = f"Ollama {await _version(address)}".strip()
    except BaseException:
        await _close(client)
        raise
    return Connected(chat, found.name, build, n_ctx, cuts_silently=True)


def _context_length(info: Mapping[str, Any]) -> int:
    for key, value in info.items():
        if key.endswith(".context_length") and isinstance(value, int) and value > 0:
            return value
    return 0


async def _version(address: str) -> str:
    """As the server tells it, "" where it does not."""
    try:
        async with httpx.AsyncClient(
            timeout=ASKING,
            trust_env=not addresses.here(address),
            headers={"accept-encoding": "identity"},
            event_hooks={"response": [bound]},
        ) as client:
            return str((await client.get(f"{address}/api/version")).json()["version"])[:40]
    except (httpx.HTTPError, TooLarge, ValueError, KeyError, TypeError):
        return ""


class OllamaChat:
    """Implements `engine.models.chat.Chat`. `quiet` tells a model that can think aloud not to."""

    def __init__(self, client: ollama.AsyncClient, address: str, model: str, n_ctx: int, *, quiet: bool) -> None:
        self._client = client
        self._model = model
        self._n_ctx = n_ctx
        self._quiet = quiet
        self.place = f"Ollama at {address}"

    async def load(self) -> None:
        """Have the model read into memory: what Ollama does when there is nothing to say."""
        await self._client.chat(self._model, messages=[], options={"num_ctx": self._n_ctx}, keep_alive=KEPT_FOR)

    async def say(self, request: Request) -> Reply:
        """See `Chat`."""
        answer: ollama.ChatResponse = await _faultless(
            self._client.chat(
                self._model,
                messages=[{"role": one.role, "content": one.content} for one in request.messages],
                think=False if self._quiet else None,
                logprobs=True if request.top else None,
                top_logprobs=request.top or None,
                format=dict(request.schema) if request.schema is not None else None,
                options={
                    "temperature": request.temperature,
                    "seed": request.seed,
                    "num_predict": request.max_tokens,
                    "num_ctx": self._n_ctx,
                },
                keep_alive=KEPT_FOR,
            )
        )
        steps = tuple(
            Step(one.token, one.logprob, tuple((top.token, top.logprob) for top in one.top_logprobs or ()))
            for one in answer.logprobs or ()
        )
        return Reply(
            answer.message.content or "",
            _count(answer.prompt_eval_count),
            _count(answer.eval_count),
            steps,
            answer.done_reason == "length",
        )

    def adapt(self) -> bool:
        """See `Chat`."""
        return False

    async def close(self) -> None:
        """See `Chat`."""
        await _close(self._client)


def _count(told: int | None) -> int:
    return told if told is not None and 0 <= told < 1 << 31 else -1
