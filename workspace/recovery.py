"""Getting back into a workspace whose write-ahead log or file is damaged."""

from __future__ import annotations

import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from workspace.errors import WinnowError, WorkspaceDamaged
from workspace.store import PRIVATE, connect
from workspace.wal import first_damage, wal_of


class Damage(msgspec.Struct, frozen=True):
    """What is damaged, in words. `part` "log" can be recovered from, "file" cannot."""

    part: Literal["log", "file"]
    sentence: str
    advice: str
    details: str
    position: int | None  # byte of the log up to which it is whole, where that is known


class Recovery(msgspec.Struct, frozen=True):
    """What recovery did: where the damaged files are kept and what may be missing, in words."""

    kept_copy: Path
    advice: str


def inspect(path: Path) -> Damage | None:
    """Look for damage without changing anything; None when the workspace opens.

    Raises WorkspaceBusy while a process has it open, WinnowError when there is no such file.
    """
    path = path.expanduser().resolve()
    if not path.exists():
        raise WinnowError(f"There is no workspace at {path}.", "Check the path.")
    wal = wal_of(path)
    position = first_damage(wal)
    if position is not None:
        return _log_damage(path, position, f"the chain of entries is broken at byte {position}")
    try:
        connect(path, read_only=True).close()
    except WorkspaceDamaged as error:
        if _is_about_log(error.details):
            return _log_damage(path, _position_in(error.details), error.details)
        return Damage(
            "file",
            f"{path.name} itself is damaged and cannot be opened.",
            f"Winnow cannot repair it. Put back a copy of {path.name} from a backup; exported files are not"
            f" affected. Without one, move {path.name} away, keep it, and open Winnow again: rows, labels and"
            " decisions of its runs come back from the engine's folder. What was loaded and never labeled, known"
            " labels and calibrations do not.",
            error.details,
            None,
        )
    return None


def recover(path: Path) -> Recovery:
    """Keep a copy of the file and its damaged log, then open the workspace with what is whole of the log.

    The copies are `<name>.kept-<time>` and `<name>.kept-<time>.wal`. Raises WinnowError when nothing is damaged,
    WorkspaceDamaged when the file itself is (then nothing was changed), WorkspaceBusy when it is open.
    """
    path = path.expanduser().resolve()
    damage = inspect(path)
    if damage is None:
        raise WinnowError(f"{path.name} is not damaged.", "Open it as usual; nothing was changed.")
    if damage.part == "file":
        raise WorkspaceDamaged(damage.sentence, damage.advice, damage.details)
    kept = _keep(path)
    wal = wal_of(path)
    size = wal.stat().st_size
    whole = _shorten(path, damage.position)
    lost = size - whole
    since = datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    missing = (
        f"The last {lost:,} of {size:,} bytes of changes were left out"
        if whole
        else f"Changes made after {since} (the last time the file was brought up to date) were left out"
    )
    return Recovery(
        kept,
        f"{path.name} is open again. {missing}: newest decisions, loaded rows or settings may be missing."
        f" Labels of the models come back by themselves from the engine. The damaged files are kept as"
        f" {kept.name} and {wal_of(kept).name}.",
    )


def _log_damage(path: Path, position: int | None, details: str) -> Damage:
    return Damage(
        "log",
        f"The newest changes of {path.name} cannot be read: its write-ahead log is damaged.",
        "Everything up to the damage is safe. Winnow can keep a copy of both files and open the workspace"
        " without the damaged part; the newest decisions may be missing then.",
        details,
        position,
    )


def _is_about_log(details: str) -> bool:
    return "replaying WAL" in details or "WAL file" in details


def _position_in(details: str) -> int | None:
    found = re.search(r"entry at byte position (\d+)", details)
    return int(found[1]) if found else None


def _keep(path: Path) -> Path:
    """Copy file and log beside themselves, durably and readable by their owner alone."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    kept = path.with_name(f"{path.name}.kept-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.kept-{stamp}-{number}")
    for source, copy in ((path, kept), (wal_of(path), wal_of(kept))):
        descriptor = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE)
        with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
    return kept


def _shorten(path: Path, position: int | None) -> int:
    """Cut the log to what is whole of it, to nothing if need be; returns the bytes left."""
    wal = wal_of(path)
    while position and position < wal.stat().st_size:
        os.truncate(wal, position)
        try:
            connect(path, read_only=True).close()
        except WorkspaceDamaged as error:
            position = _position_in(error.details) if _is_about_log(error.details) else None
        else:
            return position
    wal.unlink()
    connect(path, read_only=True).close()
    return 0
