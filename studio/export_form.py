"""What to export and how it will look."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import streamlit as st

from studio import accepting
from studio.runtime import Studio
from workspace import accepted as promised
from workspace import exports, runs

FORMATS: dict[str, Literal["csv", "jsonl", "parquet"]] = {"CSV": "csv", "JSONL": "jsonl", "Parquet": "parquet"}
ROWS: dict[str, Literal["human", "model"] | None] = {
    "All": None,
    "Decided by people": "human",
    "Confidence at least": None,
}
COLUMNS: dict[str, Any] = {
    "id": st.column_config.TextColumn(width=90),
    "text": st.column_config.TextColumn(width=330),
}


class Choice(NamedTuple):
    """One export as chosen on the page."""

    run_id: str
    format: Literal["csv", "jsonl", "parquet"]
    decided_by: Literal["human", "model"] | None
    min_confidence: float
    monitored: bool = True  # what the run took is written beside it


def usual_path(studio: Studio, choice: Choice) -> str:
    """Beside the workspace, named after the task."""
    name = runs.spec(studio.store, choice.run_id).task_name
    return str(studio.path.parent / f"{name}_labels.{choice.format}")


def accepted(studio: Studio, run_id: str) -> list[str]:
    """What was promised of the labels of the run, and which column says of which rows."""
    return [
        f"{accepting.accepted_words(one.kept)} The column {one.column} says which."
        for one in promised.told(studio.store, run_id)
    ]


def write(studio: Studio, choice: Choice, path: Path) -> exports.ExportResult:
    """Write the file. Raises ExportError."""
    return studio.export(
        choice.run_id,
        path,
        choice.format,
        min_confidence=choice.min_confidence,
        decided_by=choice.decided_by,
        monitored=choice.monitored,
    )


def as_bytes(studio: Studio, choice: Choice) -> bytes:
    """The file's content, for a download in the browser."""
    with tempfile.TemporaryDirectory(prefix="winnow-export-") as folder:
        alone = choice._replace(monitored=False)
        return write(studio, alone, Path(folder) / f"labels.{choice.format}").path.read_bytes()


def preview(studio: Studio, choice: Choice, limit: int = 8) -> list[dict[str, Any]]:
    """The first rows of the file as it would be written now."""
    return exports.preview(
        studio.store,
        choice.run_id,
        min_confidence=choice.min_confidence,
        decided_by=choice.decided_by,
        limit=limit,
    )
