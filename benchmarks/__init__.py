"""Every number the README claims, each by one command, with its peers measured in the same run."""

from __future__ import annotations

import os
from pathlib import Path

# Work that is measured is done, not remembered, and peers wait for their threads in the same way as the engine's
# worker: threads that spin come to a near standstill when the machine does anything else.
os.environ.setdefault("WINNOW_ANSWERS", "off")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class MissingData(Exception):
    """A benchmark needs a data file that is not there; the message says which one and where it was looked for."""


def need(data: Path | None, name: str) -> Path:
    """The file `name` in the data folder. Raises MissingData when no folder was given or the file is not in it."""
    if data is None:
        raise MissingData(f"This benchmark needs the file {name}: say where it lies with --data DIR.")
    path = data / name
    if not path.is_file():
        raise MissingData(f"This benchmark needs the file {name}, which is not in {data}.")
    return path
