"""The desk of a node: takes a client's request, has it done, says how it went."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from engine.cluster import client_messages as messages
from engine.cluster.ledger import LedgerFailed
from engine.cluster.runs import Runs
from workspace.errors import WinnowError
from workspace.facts import EngineStatus

log = logging.getLogger("engine")


class Desk:
    """Answers requests one after the other. A failure of the ledger ends the engine; all else is a reply."""

    def __init__(self, runs: Runs, status: Callable[[], EngineStatus], stop: Callable[[], None]) -> None:
        self._runs = runs
        self._status = status
        self._stop = stop

    async def answer(self, body: bytes, stopping: bool) -> bytes | None:
        """The reply to a message's body, None for what is not a request. Raises LedgerFailed."""
        try:
            request = messages.decode_request(body)
        except msgspec.DecodeError as error:
            # The reason may quote the content, so only its kind is logged.
            log.warning("a message of %d bytes was not understood: %s", len(body), type(error).__name__)
            return None
        try:
            return messages.encode(await self._do(request, stopping))
        except LedgerFailed:
            raise
        except WinnowError as error:
            return messages.encode(messages.Refused(request.id, error.title, error.advice))

    async def _do(self, request: messages.Ask, stopping: bool) -> messages.Answer:
        runs = self._runs
        if isinstance(request, messages.Status):
            return messages.Standing(request.id, self._status())
        if isinstance(request, messages.ReadFacts):
            ledger = runs.ledger
            bodies = await runs.on_ledger(ledger.facts, request.after, request.limit, messages.PAGE_BYTES)
            return messages.Facts(request.id, tuple(msgspec.Raw(body) for body in bodies))
        if isinstance(request, messages.Shutdown):
            if not stopping:
                log.info("asked to stop")
                self._stop()
            return messages.Stopping(request.id)
        if stopping:
            return messages.Refused(request.id, "The engine is stopping.", "Nothing is lost; ask the next one.")
        if isinstance(request, messages.OpenRun):
            planned = await runs.open(request.spec)
        elif isinstance(request, messages.AddRows):
            planned = await runs.add_rows(request.run_id, request.rows)
        elif isinstance(request, messages.Commit):
            planned = await runs.set_state(request.run_id, "running")
            log.info("run %.8s goes on with %d rows", request.run_id, planned)
        else:
            planned = await runs.set_state(request.run_id, request.state)
            log.info("run %.8s is %s", request.run_id, request.state)
        return messages.Planned(request.id, planned)
