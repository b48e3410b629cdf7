"""Labels from a chat server, whichever it is: by the probabilities of its next token, else by JSON.

Where the server tells log-probabilities, every dimension is one request for one token, and the answer is how
likely its labels are there. Where it does not, or the labels cannot be told apart by their first tokens, all
dimensions that share their instructions are asked for in one JSON object, several times if draws are wanted.
A chat server renders its own template, so phrasings other than the label words do not apply.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from engine.labeler import EMPTY, TRUNCATED, Answer, LoadedModel, Progress
from engine.models.asking_plan import Stage, Step, stages_of
from engine.models.chat import Chat, Fault, Message, Reply, Request
from engine.models.chat_prompts import in_words, json_request, token_request
from engine.models.json_asking import (
    NO_PROBABILITIES,
    REPAIRED,
    SAMPLED,
    Given,
    frequencies,
    read_reply,
    repair_words,
)
from engine.models.label_tokens import label_logprobs
from engine.models.narrowing import narrowed
from engine.models.traffic import Traffic
from workspace.errors import ModelError
from workspace.facts import DimensionSpec, Settings

ROWS_AT_ONCE = 256  # rows begun and not finished, far more than requests at a time
BEAT = 1.0  # seconds between signs of life
REPEATED = 2000  # characters of a reply that could not be read, told again to the model that made it
CUTS = 6  # times a row that does not fit is halved
GIVES_UP_AFTER = 3  # rows in a row that failed for the server's sake
DRAWN_AT = 1.0  # temperature of draws where none was chosen: at 0 all draws would be the same


class Abilities(msgspec.Struct, frozen=True):
    """What a server's model can do, as it proved when it was connected."""

    logprobs: bool
    json_schema: bool
    parallel: bool
    n_ctx: int = 0  # tokens, 0 unknown
    row_characters: int = 1 << 20  # longer rows are cut before they are sent
    top: int = 0  # likeliest tokens it tells of each place


class _Row:
    """One text on its way through the stages."""

    def __init__(self, text: str, dimensions: Sequence[DimensionSpec], most: int) -> None:
        self.text = text[:most]
        self.asked = [narrowed(dimension, self.text) for dimension in dimensions]
        self.warnings: list[str] = [EMPTY] if not text.strip() else []
        if len(text) > most:
            self.warnings.append(TRUNCATED)
        self.answers: list[Answer | None] = [None] * len(dimensions)

    def halve(self) -> None:
        self.text = self.text[: len(self.text) // 2]
        if TRUNCATED not in self.warnings:
            self.warnings.append(TRUNCATED)


class _Spent:
    """Tokens of the requests for one answer or one JSON object."""

    def __init__(self) -> None:
        self.prompt = self.completion = 0

    def add(self, reply: Reply) -> None:
        self.prompt += max(0, reply.prompt_tokens)
        self.completion += max(0, reply.completion_tokens)

    def shares(self, count: int) -> list[dict[str, Any]]:
        """What each of `count` answers took, which adds up to the whole; its seconds are told in the end."""
        return [
            {
                "prompt_tokens": self.prompt // count + (place < self.prompt % count),
                "completion_tokens": self.completion // count + (place < self.completion % count),
                "seconds": 0.0,
            }
            for place in range(count)
        ]


class ServerLabeler:
    """Implements `engine.labeler.Labeler` over a `Chat`. One thread at a time, not in a running event loop.

    `runner` is the loop `chat` lives in. `told` are the dimensions asked by probabilities. Texts that appear
    several times are asked once; the copies have the same answer and cost nothing.
    """

    def __init__(
        self,
        chat: Chat,
        traffic: Traffic,
        runner: asyncio.Runner,
        dimensions: Sequence[DimensionSpec],
        settings: Settings,
        loaded: LoadedModel,
        abilities: Abilities,
        told: Sequence[bool],
        on_close: Callable[[], None],
    ) -> None:
        self.loaded = loaded
        self._chat = chat
        self._traffic = traffic
        self._runner = runner
        self._dimensions = tuple(dimensions)
        self._settings = settings
        self._abilities = abilities
        self._stages: tuple[Stage, ...] = stages_of(self._dimensions, told)
        self._on_close = on_close
        self._closed = False
        self._failed_in_a_row = 0

    def close(self) -> None:
        """See `engine.labeler.Labeler`."""
        if self._closed:
            return
        self._closed = True
        self._runner.run(self._chat.close())
        self._runner.close()
        self._on_close()

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """See `engine.labeler.Labeler`. A ModelError carries what was answered before it."""
        return self._runner.run(self._ask(rows, progress or (lambda _: None)))

    async def _ask(self, rows: Sequence[str], progress: Progress) -> list[tuple[Answer, ...]]:
        places: dict[str, list[int]] = {}
        for place, text in enumerate(rows):
            places.setdefault(text, []).append(place)
        began = time.perf_counter()
        answers: dict[int, tuple[Answer, ...]] = {}
        waiting = iter(places.items())
        under_way: dict[asyncio.Task[tuple[Answer, ...]], list[int]] = {}
        try:
            while True:
                while len(under_way) < ROWS_AT_ONCE and (following := next(waiting, None)) is not None:
                    text, copies = following
                    under_way[asyncio.ensure_future(self._row(text))] = copies
                if not under_way:
                    break
                done, _ = await asyncio.wait(under_way, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
                failed: ModelError | None = None
                for task in done:
                    copies = under_way.pop(task)
                    try:
                        answer = task.result()
                    except ModelError as error:
                        failed = failed or error
                        continue
                    answers[copies[0]] = answer
                    free = tuple(_free(one) for one in answer)
                    answers.update(dict.fromkeys(copies[1:], free))
                if failed is not None:
                    raise failed
                progress(len(answers))
        except ModelError as error:
            error.answered = {
                place: answer for place, answer in answers.items() if not any(one.error for one in answer)
            }
            raise
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return _timed([answers[place] for place in range(len(rows))], time.perf_counter() - began)

    async def _row(self, text: str) -> tuple[Answer, ...]:
        row = _Row(text, self._dimensions, self._abilities.row_characters)
        for stage in self._stages:
            await _all([self._step(row, step) for step in stage])
        answers = [
            asked.widened(answer, len(dimension.labels))
            for answer, asked, dimension in zip(row.answers, row.asked, self._dimensions, strict=True)
            if answer is not None
        ]
        assert len(answers) == len(self._dimensions)
        warned = tuple(row.warnings)
        return tuple(msgspec.structs.replace(one, warnings=warned + one.warnings) for one in answers)

    async def _step(self, row: _Row, step: Step) -> None:
        spent = _Spent()
        if not step.told or not await self._by_tokens(row, step.places[0], spent):
            await self._by_json(row, step.places, spent)

    # -- by probabilities ---------------------------------------------------------------------------------

    async def _by_tokens(self, row: _Row, place: int, spent: _Spent) -> bool:
        """Answer one dimension by the tokens; False where they do not tell and JSON is to be asked."""
        dimension = row.asked[place].dimension

        def request() -> Request:
            return token_request(dimension, row.text, self._earlier(row, dimension), top=self._abilities.top)

        reply = await self._send(row, [place], request, spent)
        if reply is None:
            return True  # its error is the answer
        logprobs = label_logprobs(reply.steps, dimension.words, cut=reply.cut)
        if logprobs is None:
            return False
        row.answers[place] = Answer(logprobs=logprobs, **spent.shares(1)[0])
        return True

    def _earlier(self, row: _Row, dimension: DimensionSpec) -> list[str]:
        """What the model is told of the dimensions before this one, a line each."""
        lines = []
        for one, answer in zip(row.asked, row.answers, strict=True):
            earlier = one.dimension
            if earlier.name in dimension.after and answer is not None and answer.logprobs:
                lines.append(f"{earlier.cue or earlier.name + ':'} {in_words(earlier, answer)}")
        return lines

    # -- by JSON ------------------------------------------------------------------------------------------

    async def _by_json(self, row: _Row, places: Sequence[int], spent: _Spent) -> None:
        dimensions = [row.asked[place].dimension for place in places]
        count = self._settings.samples
        draws: dict[str, list[Given]] = {one.name: [] for one in dimensions}
        problems: dict[str, str] = {}
        unread = ""
        for sample in range(count):
            given, wrong, text = await self._object(row, places, sample, spent)
            if row.answers[places[0]] is not None:
                return  # the request itself failed
            for name, answer in given.items():
                draws[name].append(answer)
            problems.update(wrong)
            unread = text or unread
        for place, dimension, share in zip(places, dimensions, spent.shares(len(places)), strict=True):
            drawn = draws[dimension.name]
            warnings = [SAMPLED if count > 1 else NO_PROBABILITIES] if drawn else []
            warnings += [REPAIRED] if unread and drawn else []
            row.answers[place] = Answer(
                logprobs=frequencies(dimension, [one.chosen for one in drawn]) if drawn else (),
                warnings=tuple(warnings),
                error="" if drawn else f"The reply could not be read: {problems[dimension.name]}",
                reply=unread,
                explanation=next((one.explanation for one in drawn if one.explanation), ""),
                **share,
            )

    async def _object(
        self, row: _Row, places: Sequence[int], sample: int, spent: _Spent
    ) -> tuple[dict[str, Given], dict[str, str], str]:
        """One draw: the answers, what stayed unreadable and why, and the last reply that could not be read."""
        wanted = [row.asked[place].dimension for place in places]
        given: dict[str, Given] = {}
        problems: dict[str, str] = {}
        unread = ""
        for attempt in range(self._settings.repairs + 1):
            seed = sample * (self._settings.repairs + 1) + attempt
            asking = functools.partial(self._json, row, tuple(wanted), seed, problems, unread)
            reply = await self._send(row, places, asking, spent)
            if reply is None:
                break
            got, problems = read_reply(reply.text, wanted, cut=reply.cut)
            given.update(got)
            wanted = [one for one in wanted if one.name in problems]
            if not wanted:
                break
            unread = reply.text
        return given, problems, unread

    def _json(
        self,
        row: _Row,
        wanted: Sequence[DimensionSpec],
        seed: int,
        problems: Mapping[str, str],
        unread: str,
    ) -> Request:
        """Asks for one JSON object, or for a better one than `unread`."""
        first = json_request(
            wanted,
            row.text,
            list(dict.fromkeys(line for one in wanted for line in self._earlier(row, one))),
            schema=self._abilities.json_schema,
            temperature=(self._settings.temperature or DRAWN_AT) if self._settings.samples > 1 else 0.0,
            seed=seed,
        )
        if not problems:
            return first
        repair = repair_words(problems, wanted, wanted[0].system)
        more = (Message("assistant", unread[:REPEATED] or "."), Message("user", repair))
        return msgspec.structs.replace(first, messages=first.messages + more)

    # -- requests -----------------------------------------------------------------------------------------

    async def _send(
        self, row: _Row, places: Sequence[int], request: Callable[[], Request], spent: _Spent
    ) -> Reply | None:
        """A reply, or None after the error was written down as the answer to these dimensions.

        Raises ModelError where the server is the reason and no other row would fare better.
        """
        for attempt in range(CUTS + 1):
            try:
                reply = await self._traffic.send(request())
            except Fault as fault:
                if fault.kind == "too_long" and attempt < CUTS and row.text:
                    row.halve()
                    continue
                self._judge(fault)
                for place, share in zip(places, spent.shares(len(places)), strict=True):
                    row.answers[place] = Answer(logprobs=(), error=fault.words, **share)
                return None
            self._failed_in_a_row = 0
            spent.add(reply)
            return reply
        raise AssertionError("unreachable: the last try returns or raises")

    def _judge(self, fault: Fault) -> None:
        """Raises ModelError unless the row is the reason."""
        if fault.kind in ("refused", "too_long"):
            return
        self._failed_in_a_row += 1
        if fault.kind == "forbidden":
            raise ModelError(f"{self._chat.place} does not do this: {fault.words}", "All labels so far are kept.")
        if fault.alone:
            return
        # A row that takes too long or makes the server fail is that row's; several after each other are not.
        if fault.kind in ("busy", "lost") or self._failed_in_a_row >= GIVES_UP_AFTER:
            raise ModelError(
                f"{self._chat.place} does not answer any more.",
                "All labels so far are kept. Is it running? Continue the run when it is.",
                fault.words,
            )


def _free(answer: Answer) -> Answer:
    return msgspec.structs.replace(answer, prompt_tokens=0, completion_tokens=0)


def _timed(answers: Sequence[tuple[Answer, ...]], seconds: float) -> list[tuple[Answer, ...]]:
    """With each answer's share of the seconds, by tokens: requests overlap, so that their own say little."""
    total = sum(one.prompt_tokens + one.completion_tokens for row in answers for one in row) or 1
    return [
        tuple(
            msgspec.structs.replace(one, seconds=seconds * (one.prompt_tokens + one.completion_tokens) / total)
            for one in row
        )
        for row in answers
    ]


async def _all(steps: Sequence[Any]) -> None:
    """Run them at the same time; the first that fails ends the others."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
