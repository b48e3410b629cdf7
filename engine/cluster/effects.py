"""What the core asks its surroundings to do, and what it remembers of a claim it works on."""

from __future__ import annotations

import msgspec

from engine.cluster.entries import Entry
from engine.cluster.messages import AnyMessage, Epoch, Work


class Effect(msgspec.Struct, frozen=True):
    """Something to be done, in the order given."""


class Send(Effect, frozen=True):
    """Send to a member; may be lost."""

    to: str
    message: AnyMessage


class Write(Effect, frozen=True):
    """Add entries to the ledger and keep the epoch, all in one synced transaction; then call `Core.written` with
    `number`. Writes are done in order; several may share a transaction."""

    number: int
    entries: tuple[Entry, ...]
    epoch: Epoch | None = None


class Serve(Effect, frozen=True):
    """Send a member one Facts message with this author's durable entries from `first` on."""

    to: str
    author: str
    first: int


class Claim(msgspec.Struct, frozen=True):
    """Work granted to this machine."""

    epoch: Epoch
    number: int
    work: Work
    failures: int = 0

    @property
    def key(self) -> tuple[Epoch, int]:
        """Tells it from every other claim."""
        return self.epoch, self.number

    @property
    def name(self) -> str:
        """For logs and facts."""
        return claim_name(self.epoch, self.number)


def claim_name(epoch: Epoch, number: int) -> str:
    """Name of a claim in logs and facts."""
    return f"{epoch.number}.{epoch.author[-8:]}.{number}"


class Start(Effect, frozen=True):
    """Work on this claim after those started before; end with `Core.finished` or `Core.failed`."""

    claim: Claim


class Abandon(Effect, frozen=True):
    """Do not begin this claim, if it has not begun; if it has, its result stays welcome."""

    claim: Claim


class HangUp(Effect, frozen=True):
    """Close the connection to a machine that is no member any more, or not of this cluster."""

    to: str


class GiveUp(Effect, frozen=True):
    """A row ended the model process again and again: `Core.append` an error for it, with the `deaths` in words."""

    work: Work
    deaths: int


AnyEffect = Send | Write | Serve | Start | Abandon | HangUp | GiveUp
