"""What to export and how it will look."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import streamlit as st

from studio.runtime import Studio
from studio.words import percent, plural
from workspace import exports, promises, runs

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
    """What was promised of the labels of each dimension, and where the file says which rows it is about."""
    told = []
    for dimension in runs.spec(studio.store, run_id).dimensions:
        kept = promises.in_force(studio.store, run_id, dimension.name)
        if kept is not None:
            told.append(
                f"{plural(kept.rows, 'row')} {'is' if kept.rows == 1 else 'are'} accepted: with "
                f"{percent(1 - kept.delta)} confidence at most {percent(kept.epsilon)} of their labels are wrong. "
                f"The column {dimension.name}_accepted says which."
            )
    return told


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
