"""The desk of a node: takes a client's request, has it done, says how it went."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from engine.cluster import client_messages as messages
from engine.cluster.driver import Driver
from engine.cluster.joining import Joining
from engine.cluster.ledger import LedgerFailed
from engine.cluster.machines import Machines
from engine.cluster.runs import Runs
from workspace.errors import WinnowError
from workspace.facts import EngineStatus

log = logging.getLogger("engine")


class Desk:
    """Answers requests one after the other. A failure of the ledger ends the engine; all else is a reply."""

    def __init__(
        self,
        driver: Driver,
        runs: Runs,
        machines: Machines,
        joining: Joining,
        status: Callable[[], EngineStatus],
        stop: Callable[[], None],
        start_over: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._runs = runs
        self._machines = machines
        self._joining = joining
        self._status = status
        self._stop = stop
        self._start_over = start_over

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
        match request:
            case messages.Status():
                return messages.Standing(request.id, self._status())
            case messages.ReadEntries():
                disk, author, first = self._driver.disk, request.author, request.first
                read = disk.ask(disk.ledger.read, author, first, messages.PAGE_BYTES, request.limit)
                return messages.Entries(request.id, tuple(await read))
            case messages.Shutdown():
                if not stopping:
                    log.info("asked to stop")
                    self._stop()
                return messages.Stopping(request.id)
            case messages.StartOver():
                self._start_over()
                return messages.Stopping(request.id)
        if stopping:
            return messages.Refused(request.id, "The engine is stopping.", "Nothing is lost; ask the next one.")
        return await self._change(request)

    async def _change(self, request: messages.Ask) -> messages.Answer:
        number, runs = request.id, self._runs
        match request:
            case messages.OpenRun():
                return messages.Planned(number, await runs.open(request.spec, request.task))
            case messages.AddRows():
                return messages.Planned(number, await runs.add_rows(request.run_id, request.rows))
            case messages.Commit():
                planned = await runs.set_state(request.run_id, "running")
                log.info("run %.8s goes on with %d rows", request.run_id, planned)
                return messages.Planned(number, planned)
            case messages.SetState():
                planned = await runs.set_state(request.run_id, request.state)
                log.info("run %.8s is %s", request.run_id, request.state)
                return messages.Planned(number, planned)
            case messages.Decide():
                return messages.Written(number, await runs.decide(request.decisions))
            case messages.Seal():
                return messages.SealedAt(number, await runs.seal(request.run_id))
            case messages.OpenPairing():
                return messages.Open(number, await self._joining.open())
            case messages.ClosePairing():
                await self._joining.close()
            case messages.Pair():
                return messages.Pairs(number, self._joining.pair(request.address, request.code))
            case messages.SetMember():
                await self._machines.set_member(request.member, request.name, request.paused)
            case messages.Revoke():
                await self._machines.revoke(request.member)
            case messages.AddAddress():
                await self._machines.add_address(request.address)
            case messages.LookAround():
                self._machines.look_around()
        return messages.Done(number)
