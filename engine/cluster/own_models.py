"""The models of this machine: where each lies, which it cannot run and why, and how it comes by those it lacks.

A model that is a file is found by its content or fetched from another machine. Embeddings come with the program. A
model of Ollama can be used where Ollama has it; one of another server, which may cost money, only where somebody
on this machine started a run with it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from pathlib import Path

import msgspec

from engine.cluster.capacity import Capacity, look
from engine.cluster.messages import AnyMessage, Refusal
from engine.cluster.model_transfer import MODEL_MESSAGES, ModelTraveler, words
from engine.models import catalog
from workspace.errors import ModelError
from workspace.facts import ModelSpec

LOOK_AGAIN = 30.0  # seconds until it is looked again whether a model is where it was, or somewhere else
FILES = "llama_cpp"  # the backend whose models are files, which can be found by their content and travel
WITHOUT_FILES = ("embedding", "ollama", "openai")


class OwnModels:
    """Known by digest; a path is each machine's own. `remember` is told what should outlast this process."""

    def __init__(
        self,
        known: dict[str, str],
        remember: Callable[[str, str], None],
        send: Callable[[str, AnyMessage], object],
    ) -> None:
        self._paths = dict(known)
        self._remember = remember
        self._refused: dict[str, str] = {}
        self._elsewhere: dict[str, str] = {}  # by digest: why a model that is no file cannot be used here
        self._looked: dict[str, float] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._size = Capacity(os.cpu_count() or 1, 0, 0)
        self._measuring: asyncio.Task[None] | None = None
        self._traveler = ModelTraveler(send, self._arrived, find=self._find, fits=self._fits)

    @property
    def size(self) -> Capacity:
        """What this machine is; little is known until it was measured."""
        return self._size

    def here(self) -> tuple[str, ...]:
        """Digests of the models this machine has."""
        return tuple(self._paths)

    def path(self, digest: str) -> str | None:
        """Where a model lies; None if it is not here."""
        return self._paths.get(digest)

    def local(self, model: ModelSpec) -> ModelSpec:
        """The same model, with the path it has here."""
        return msgspec.structs.replace(model, path=self._paths.get(model.digest, ""))

    def hand_over(self, model: ModelSpec) -> None:
        """Somebody on this machine says where it lies."""
        if model.path:
            self._refused.pop(model.digest, None)
            self._elsewhere.pop(model.digest, None)
            self._keep(model.digest, model.path)

    def refuse(self, digest: str, why: str) -> None:
        """It was tried here and cannot be used."""
        self._refused[digest] = why

    def retry(self, digest: str) -> None:
        """It may be tried again."""
        self._refused.pop(digest, None)

    def refusals(self) -> tuple[Refusal, ...]:
        """Models this machine cannot run, and why."""
        why_not = {**self._elsewhere, **self._refused}
        return (*(Refusal(digest, why[:2000]) for digest, why in why_not.items()), *self._traveler.refusals())

    def doing(self) -> dict[str, str]:
        """What is being done about models that are not here, in words, by digest."""
        return {transfer.digest: words(transfer) for transfer in self._traveler.transfers()}

    def tick(self, wanted: Iterable[ModelSpec], others: Collection[str]) -> None:
        """About once a second: `wanted` are the models of runs that go on, `others` members within reach."""
        every = {model.digest: model for model in wanted if model.backend in (FILES, *WITHOUT_FILES)}
        files = {digest: model for digest, model in every.items() if model.backend == FILES}
        self._elsewhere = {digest: why for digest, why in self._elsewhere.items() if digest in every}
        for model in every.values():
            if time.monotonic() - self._looked.get(model.digest, float("-inf")) > LOOK_AGAIN:
                self._looked[model.digest] = time.monotonic()
                self._later(self._look_for(model) if model.backend == FILES else self._ask_for(model))
        for transfer in self._traveler.transfers():
            if transfer.digest not in files:
                self._looked.pop(transfer.digest, None)
                self._traveler.drop(transfer.digest)
        self._traveler.tick(others)

    def hear(self, sender: str, message: AnyMessage) -> None:
        """A message of a member about models; others are left alone."""
        if isinstance(message, MODEL_MESSAGES):
            self._traveler.hear(sender, message)

    def gone(self, member: str) -> None:
        """The connection to a member broke."""
        self._traveler.gone(member)

    def measure(self) -> None:
        """Look at this machine, which takes up to seconds the first time."""
        if self._measuring is None or self._measuring.done():
            self._measuring = self._later(self._measure())

    async def _measure(self) -> None:
        self._size = await asyncio.to_thread(look)

    async def close(self) -> None:
        """Stop looking and fetching."""
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        await self._traveler.close()

    async def _look_for(self, model: ModelSpec) -> None:
        if self._measuring is not None:
            await asyncio.shield(self._measuring)
        found, why_not = await asyncio.to_thread(self._find_fitting, model.digest)
        if found is None:
            self._traveler.want(model.digest, model.name)
        elif why_not and model.digest not in self._paths:
            self.refuse(model.digest, why_not)  # nobody on this machine asked for it to be tried all the same
        else:
            self._keep(model.digest, str(found))

    async def _ask_for(self, model: ModelSpec) -> None:
        """A model that is no file: here, or in words why not."""
        if model.backend != "embedding" and model.digest in self._paths:
            return  # somebody on this machine said where
        try:
            path, why_not = await asyncio.to_thread(_without_file, model)
        except ModelError as error:
            path, why_not = None, str(error)
        if path is None:
            self._paths.pop(model.digest, None)
            self._elsewhere[model.digest] = why_not
        else:
            self._paths[model.digest] = path
            self._elsewhere.pop(model.digest, None)

    def _find_fitting(self, digest: str) -> tuple[Path | None, str]:
        found = self._find(digest)
        return found, "" if found is None else self._fits(found.stat().st_size)

    def _find(self, digest: str) -> Path | None:
        known = self._paths.get(digest)
        found = catalog.find(digest, [known] if known else [])
        return Path(found.path) if found is not None else None

    def _fits(self, size: int) -> str:
        return self._size.fits(size) if self._size.memory else ""

    def _arrived(self, digest: str, path: Path) -> None:
        self._refused.pop(digest, None)
        self._keep(digest, str(path))

    def _keep(self, digest: str, path: str) -> None:
        if self._paths.get(digest) != path:
            self._paths[digest] = path
            self._remember(digest, path)
        self._traveler.drop(digest)

    def _later(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
        return task


def _without_file(model: ModelSpec) -> tuple[str | None, str]:
    """Where a model that is no file can be asked from here, or why it cannot. Blocks; raises ModelError."""
    if model.backend == "embedding":
        here = catalog.likeness().digest == model.digest
        return ("", "") if here else (None, f"{model.name} is of another version here: update Winnow.")
    if model.backend == "ollama":
        from engine.models import servers

        own = servers.own(model)
        return (own.path, "") if own is not None else (None, f"Ollama has no {model.name} here.")
    return None, f"{model.name} is asked at a server: start the run on this machine too if it should do so."
