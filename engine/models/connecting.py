"""Connecting to a chat server: what it can do is tried out, with the very dimensions it will be asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TypeVar

import msgspec

from engine.labeler import LoadedModel
from engine.models.catalog import user_data
from engine.models.chat import Chat, Fault, Message, Reply, Request
from engine.models.chat_prompts import MARKER, TOPS, json_request, token_request
from engine.models.json_asking import read_reply
from engine.models.label_tokens import label_logprobs
from engine.models.narrowing import narrowed
from engine.models.server_labeler import Abilities, ServerLabeler
from engine.models.spending import Purse
from engine.models.traffic import MOST, Lanes, Traffic
from workspace.errors import ModelError
from workspace.facts import DimensionSpec, RunSpec, Settings

PROBE_TEXT = "This is an example of a text, neither long nor short, about nothing in particular."
CHATTER = 8  # tokens of a reply whose words do not matter
PARALLEL_BELOW = 1.6  # times the seconds of one request that two at a time may take
SERIAL_LANES = 2  # requests at a time to a server that works them off one by one: the next is there when one ends
TRIES = 2  # of a request while connecting: a server that is not there should be told soon
BEAT = 1.0  # seconds between signs of life
_TELLING = ("single", "boolean", "score")  # kinds whose labels exclude each other, so that one token can tell

_T = TypeVar("_T")
Loading = Callable[[float], None] | None


class Connected(msgspec.Struct, frozen=True):
    """What a backend knows of its server once it is connected."""

    chat: Chat
    name: str  # of the model, as people see it
    build: str  # server and version
    n_ctx: int = 0  # tokens of prompt and reply, 0 unknown
    cuts_silently: bool = False  # too long prompts lose their end without a word, so rows are cut before


class _Proof(msgspec.Struct, frozen=True):
    told: tuple[bool, ...]
    top: int
    json_schema: bool
    parallel: bool


def open_server(connect: Callable[[], Awaitable[Connected]], spec: RunSpec, progress: Loading) -> ServerLabeler:
    """The labeler of a run on a server. `connect` is called in the loop the labeler will live in; `progress` hears
    at least every second. Raises ModelError when the server, the model or a dimension cannot be used."""
    started = time.perf_counter()
    runner = asyncio.Runner()
    purse = Purse(user_data() / "spending", spec.run_id, spec.settings)
    connected: Connected | None = None
    try:
        connected = runner.run(_beating(connect(), progress, 0.0))
        proof = runner.run(_beating(_prove(connected, spec, purse), progress, 0.5))
        return _labeler(connected, proof, spec, runner, purse, time.perf_counter() - started)
    except BaseException:
        if connected is not None:
            runner.run(connected.chat.close())
        runner.close()
        purse.close()
        raise


async def _beating(work: Awaitable[_T], progress: Loading, share: float) -> _T:
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            if progress is not None:
                progress(share)
            await asyncio.wait([task], timeout=BEAT)
        return task.result()
    finally:
        task.cancel()


def _labeler(
    connected: Connected, proof: _Proof, spec: RunSpec, runner: asyncio.Runner, purse: Purse, seconds: float
) -> ServerLabeler:
    settings, dimensions = spec.settings, spec.dimensions
    prompt = max((json_request([one], "", schema=False).most_tokens() for one in dimensions), default=0)
    # Three bytes a token is fewer than English takes, and about what other scripts and code do.
    room = max(32, connected.n_ctx - prompt // 3) if connected.n_ctx else 0
    abilities = Abilities(
        proof.top > 0,
        proof.json_schema,
        proof.parallel,
        connected.n_ctx,
        min(1 << 20, (3 if connected.cuts_silently else 16) * room) if room else 1 << 20,
        proof.top,
    )
    lanes = Lanes(settings.concurrency, first=SERIAL_LANES, most=MOST if proof.parallel else SERIAL_LANES)
    capabilities = [
        *(["logprobs"] if proof.top else []),
        *(["json_schema"] if proof.json_schema else []),
        *(["parallel"] if proof.parallel else []),
    ]
    by_json = sum(not told for told in proof.told)
    loaded = LoadedModel(
        name=connected.name,
        build=f"{connected.build}{f', {by_json} of {len(dimensions)} by JSON' if by_json else ''}",
        n_ctx=connected.n_ctx,
        row_tokens=room,
        threads=0,
        capabilities=tuple(capabilities),
        seconds=seconds,
    )
    traffic = Traffic(connected.chat, settings, lanes, purse)
    return ServerLabeler(
        connected.chat, traffic, runner, dimensions, settings, loaded, abilities, proof.told, purse.close
    )


async def _prove(connected: Connected, spec: RunSpec, purse: Purse) -> _Proof:
    """Try out each dimension by its tokens, one JSON object, and two requests at a time."""
    for one in spec.dimensions:
        if one.user.count(MARKER) != 1:
            raise ModelError(
                f"The prompt of '{one.name}' must contain {MARKER} exactly once.",
                "It marks where the row goes. Put it at the end.",
            )
    dimensions = [narrowed(one, PROBE_TEXT).dimension for one in spec.dimensions]
    place = connected.chat.place
    hurried = msgspec.structs.replace(spec.settings, retries=min(spec.settings.retries, TRIES - 1))
    traffic = Traffic(connected.chat, hurried, Lanes(2), purse)
    await _plain(traffic, connected.chat)
    top, told = await _telling(traffic, place, dimensions)
    schema = await _schema(traffic, place, dimensions[:1])
    return _Proof(told, top, schema, await _parallel(traffic, place, spec.settings))


async def _plain(traffic: Traffic, chat: Chat) -> None:
    """The model says anything at all, in one of the ways to ask it; it is in memory after this."""
    while True:
        try:
            await traffic.send(_chatter("Say OK."))
            return
        except Fault as fault:
            if fault.kind != "refused" or not chat.adapt():
                raise unusable(chat.place, fault) from None


async def _telling(
    traffic: Traffic, place: str, dimensions: Sequence[DimensionSpec]
) -> tuple[int, tuple[bool, ...]]:
    """How many of the likeliest tokens are told, and of which dimensions they tell the labels."""
    top, told = 0, []
    for number, dimension in enumerate(dimensions):
        for wanted in (top,) if number else TOPS:
            reply = await _tried(traffic, place, token_request(dimension, PROBE_TEXT, top=wanted))
            if reply is not None and any(step.top for step in reply.steps):
                top = wanted
                break
        if not top:
            return 0, (False,) * len(dimensions)
        asked = dimension.kind in _TELLING and not dimension.explain
        steps, cut = (reply.steps, reply.cut) if reply is not None else ((), False)
        told.append(asked and label_logprobs(steps, dimension.words, cut=cut, least=0.0) is not None)
    return top, tuple(told)


async def _schema(traffic: Traffic, place: str, dimensions: Sequence[DimensionSpec]) -> bool:
    reply = await _tried(traffic, place, json_request(dimensions, PROBE_TEXT, schema=True))
    if reply is None:
        return False
    text = reply.text.strip()
    given, _ = read_reply(text, dimensions)
    return text.startswith("{") and len(given) == len(dimensions)


async def _parallel(traffic: Traffic, place: str, settings: Settings) -> bool:
    """Whether two requests at a time take clearly less than twice as long as one; the better of two trials."""
    if settings.concurrency == 1:
        return False
    one = two = float("inf")
    for trial in range(2):
        one = min(one, await _timed(traffic, place, [f"Count to ten. {trial}"]))
        two = min(two, await _timed(traffic, place, [f"Count to nine. {trial}", f"Count to six. {trial}"]))
    return two < PARALLEL_BELOW * one


async def _timed(traffic: Traffic, place: str, texts: Sequence[str]) -> float:
    began = time.perf_counter()
    sending: list[Coroutine[None, None, Reply]] = [traffic.send(_chatter(text)) for text in texts]
    try:
        await asyncio.gather(*sending)
    except Fault as fault:
        raise unusable(place, fault) from None
    return time.perf_counter() - began


def _chatter(text: str) -> Request:
    return Request((Message("user", text),), CHATTER)


async def _tried(traffic: Traffic, place: str, request: Request) -> Reply | None:
    """The reply, or None where the server refuses just this request."""
    try:
        return await traffic.send(request)
    except Fault as fault:
        if fault.kind == "too_long":
            raise ModelError(
                "The instructions are too long for this model.",
                "Shorten them or choose another model.",
                fault.words,
            ) from None
        if fault.kind in ("refused", "failed"):
            return None
        raise unusable(place, fault) from None


def unusable(place: str, fault: Fault) -> ModelError:
    """A fault while connecting, as people read it."""
    titles = {
        "busy": f"{place} is busy.",
        "failed": f"{place} fails.",
        "lost": f"{place} cannot be reached.",
        "slow": f"{place} does not reply in time.",
        "refused": f"{place} does not accept this request.",
        "too_long": f"{place} has too little room for this.",
        "forbidden": f"{place} does not do this: {fault.words}",
    }
    advice = {
        "busy": "Try again later.",
        "lost": "Is it running, and is the address right?",
        "slow": "Is it loading a large model? Try again, or allow more seconds for a reply.",
    }.get(fault.kind, "Check the server and the model.")
    return ModelError(titles[fault.kind], advice, fault.words)
