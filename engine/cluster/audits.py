"""Once a minute a log is compared with another machine's copy: what is on disk there and here has to be the same.

Catching up compares only how long logs are. This finds a defect or a rotten disk, whose work would otherwise be
noticed when it is too late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from engine.cluster import steady
from engine.cluster.driver import Driver
from engine.cluster.identity import key_words
from engine.cluster.messages import Audit

log = logging.getLogger("engine")

AUDIT_EVERY = 60.0  # seconds
MOST_WAITING = 4  # audits of others that are being answered; the rest comes again


class Audits:
    """Asks one peer about one log at a time, all of them in turn."""

    def __init__(self, driver: Driver, tell: Callable[[str], None], every: float = AUDIT_EVERY) -> None:
        """`tell` is told in words what differs."""
        self._driver = driver
        self._tell = tell
        self._every = every
        self._next = steady.now() + every
        self._turn = 0
        self._waiting: set[asyncio.Future[tuple[int, bytes]]] = set()

    def look(self) -> None:
        """Called now and then: send an audit if it is time to."""
        now, core = steady.now(), self._driver.core
        pairs = [
            (member, author)
            for author in sorted(core.vector)
            for member, peer in sorted(core.peers.all.items())
            if peer.vector.get(author, 0) and core.peers.alive(member, now)
        ]
        if now < self._next or not pairs:
            return
        self._next = now + self._every
        self._turn += 1
        member, author = pairs[self._turn % len(pairs)]
        end = min(core.vector[author], core.peers.all[member].vector[author])
        disk = self._driver.disk
        self._later(
            disk.ask(disk.ledger.audit, author, end),
            lambda found: self._driver.send(member, Audit(author, end, *found)),
        )

    def hear(self, sender: str, theirs: Audit) -> None:
        """Another machine's sum of a log: compare it with the one here."""
        disk, author, end = self._driver.disk, theirs.author, theirs.end
        if self._driver.core.vector.get(author, 0) >= end and len(self._waiting) < MOST_WAITING:
            self._later(disk.ask(disk.ledger.audit, author, end), lambda mine: self._compare(sender, theirs, mine))

    def _compare(self, sender: str, theirs: Audit, mine: tuple[int, bytes]) -> None:
        if mine != (theirs.count, theirs.sum):
            member = self._driver.core.members.get(sender)
            name = member.name if member is not None else key_words(sender)
            problem = (
                f"The labels of {key_words(theirs.author)} on this machine differ from those on {name}: "
                "one of the two disks cannot be trusted."
            )
            self._tell(problem)
            log.error("%s (author %s, before %d)", problem, theirs.author, theirs.end)

    def _later(
        self, found: asyncio.Future[tuple[int, bytes]], then: Callable[[tuple[int, bytes]], object]
    ) -> None:
        def done(future: asyncio.Future[tuple[int, bytes]]) -> None:
            self._waiting.discard(future)
            if not future.cancelled() and future.exception() is None:
                then(future.result())

        self._waiting.add(found)
        found.add_done_callback(done)
