"""What models proved to do on this machine when they were tested: kept, so that it is known before a run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

from engine.models.catalog import user_cache

_KEPT = 200


class Speed(msgspec.Struct, frozen=True):
    """One test. `readable` is the share of answers that could be read; `tested_at` seconds since 1970 UTC."""

    rows: int
    seconds: float  # for all rows, without loading
    tokens: int  # read and written for all rows
    readable: float
    loading: float  # seconds
    build: str
    capabilities: tuple[str, ...]
    tested_at: float

    @property
    def rows_per_s(self) -> float:
        """Rows per second; 0 when nothing was measured."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0


def known() -> dict[str, Speed]:
    """The last test of each model, by digest."""
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, Speed])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def remember(digest: str, speed: Speed) -> None:
    """Keep a test; only a saving of time, so that a folder that cannot be written is no error."""
    others = {name: other for name, other in known().items() if name != digest}
    kept = dict([*others.items(), (digest, speed)][-_KEPT:])
    file = _file()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(kept))
        os.replace(name, file)


def _file() -> Path:
    return user_cache() / "speeds.json"
