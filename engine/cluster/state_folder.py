"""The folder beside a workspace in which its engine lives: ledger, lock, address and logs, for this user only."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

import msgspec
import psutil

from engine.cluster import identity
from engine.cluster.transport import Address
from workspace.errors import EngineError

ERRORS_MAX = 256 << 10  # bytes of uncaught output kept before the file is set aside
TAIL_BYTES = 2000


class Card(msgspec.Struct, frozen=True):
    """What a running engine leaves for its clients. `started` tells it from a later process of the same number."""

    pid: int
    started: float
    address: Address

    def alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class StateFolder:
    """Names of the files in a state folder, and the card in it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.ledger = self.path / "ledger.sqlite"
        self.lock = self.path / "engine.lock"
        self.log = self.path / "engine.log"
        self.errors = self.path / "engine.err"  # what the process prints when it cannot log
        self.worker_log = self.path / "worker.log"
        self._card = self.path / "engine.json"

    def make(self) -> None:
        """Make the folder, open to this user only. Raises EngineError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # It may be there from before, or from an archive that was unpacked with other rights.
            os.chmod(self.path, 0o700)
        except OSError as error:
            raise EngineError(
                f"The folder {self.path} cannot be used for the engine.",
                "It needs a folder beside the workspace that you may write to.",
                str(error),
            ) from error

    def card(self) -> Card | None:
        """The card that lies there, None if there is none or it is not one."""
        try:
            return msgspec.json.decode(self._card.read_bytes(), type=Card)
        except (OSError, msgspec.DecodeError):
            return None

    def lay_card(self, address: Address) -> Card:
        """Leave this process's card: never half written, never readable by others."""
        card = Card(os.getpid(), psutil.Process().create_time(), address)
        half = self._card.with_name(f".engine-{secrets.token_hex(4)}.json")
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(card))
        os.replace(half, self._card)
        return card

    def take_card(self) -> None:
        """Remove this process's card, so that clients look for another engine."""
        card = self.card()
        if card is not None and card.pid == os.getpid():
            with contextlib.suppress(OSError):
                self._card.unlink()

    def set_aside(self) -> Path:
        """Move what makes this machine a member of its cluster, keys and ledger, into a folder of their own.

        Nothing is deleted, and the next engine here is a new machine. Only while no engine runs.
        """
        aside = self.path / f"removed-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        aside.mkdir(mode=0o700)
        # The keys last: with new keys an old ledger begins another log, so any order is safe.
        for name in (f"{self.ledger.name}-wal", f"{self.ledger.name}-shm", self.ledger.name, identity.FILE):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path / name, aside / name)
        return aside

    def open_errors(self) -> int:
        """A descriptor for the output of a new engine process."""
        with contextlib.suppress(OSError):
            if self.errors.stat().st_size > ERRORS_MAX:
                os.replace(self.errors, self.errors.with_suffix(".err.1"))
        return os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tail(self) -> str:
        """The ends of the logs, for people looking for a cause."""
        parts = []
        for file in (self.log, self.errors):
            with contextlib.suppress(OSError), open(file, "rb") as log:
                log.seek(max(0, file.stat().st_size - TAIL_BYTES))
                parts.append(log.read().decode("utf-8", "replace").strip())
        return "\n".join(part for part in parts if part)
