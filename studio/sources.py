"""Files people bring: by path on this machine, or uploaded in the browser and kept on disk, not in memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import streamlit as st

from workspace import intake
from workspace.errors import IntakeError

UPLOADS = "winnow-uploads-"


def chosen_path(text: str) -> Path:
    """The file a person named: quotes around it and `~` are understood. Raises IntakeError if there is none."""
    path = Path(text.strip().strip("\"'")).expanduser()
    if not path.exists():
        raise IntakeError(f"There is no file at {path}.", "Check the path; nothing was loaded.")
    if path.is_dir():
        raise IntakeError(f"{path} is a folder.", "Name one file in it; nothing was loaded.")
    return path.resolve()


def keep_upload(name: str, content: BinaryIO) -> Path:
    """Copy an uploaded file to disk under its own name, so that the browser session need not hold it in memory."""
    folder = Path(tempfile.mkdtemp(prefix=UPLOADS))
    path = folder / (Path(name.replace("\\", "/")).name or "upload")
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
    return path


def drop_upload(path: Path) -> None:
    """Remove a file `keep_upload` made; any other file is left alone."""
    if path.parent.name.startswith(UPLOADS):
        shutil.rmtree(path.parent, ignore_errors=True)


def preview(path: Path, encoding: str | None = None) -> intake.Preview:
    """The first rows of a file and the best guess at its columns; read again only when the file changes."""
    facts = path.stat()
    return _preview(str(path), facts.st_size, facts.st_mtime_ns, encoding)


@st.cache_data(max_entries=8, show_spinner=False)
def _preview(path: str, size: int, changed: int, encoding: str | None) -> intake.Preview:  # noqa: ARG001
    # Size and time of change are there to be part of the cache's key.
    return intake.preview(Path(path), encoding=encoding)
