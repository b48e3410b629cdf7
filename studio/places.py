"""Where things lie on this machine: the engine of a workspace, the helper, and the studio that joins it."""

from __future__ import annotations

import os
from pathlib import Path

from engine.models.catalog import user_data

VARIABLE = "WINNOW_HELPER"
JOINED = "joined.duckdb"


def helper_folder() -> Path:
    """State folder of this machine's helper: WINNOW_HELPER, else `helper` in the user's data folder."""
    chosen = os.environ.get(VARIABLE)
    return (Path(chosen) if chosen else user_data() / "helper").expanduser().absolute()


def joined_workspace(folder: Path) -> Path:
    """The workspace of a studio that is opened on a helper; it lies in the helper's state folder."""
    return folder / JOINED


def joined(workspace: Path) -> bool:
    """Whether a workspace is one opened on a helper, whose engine is not the studio's to start and stop."""
    return workspace.name == JOINED


def engine_folder(workspace: Path) -> Path:
    """State folder of the engine of a workspace: `X.engine` beside `X.duckdb`, for a joined one the helper's."""
    if joined(workspace):
        return workspace.parent
    return workspace.with_name(workspace.name.removesuffix(".duckdb") + ".engine")
