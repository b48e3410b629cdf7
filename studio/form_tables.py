"""Lists of a task document as tables one can edit: a row for each item, a column for each of its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st


def table(
    items: Sequence[Mapping[str, Any]], columns: Mapping[str, Any], *, key: str, alt: str
) -> list[dict[str, Any]]:
    """The items as edited now, without rows that say nothing. `columns` maps settings to Streamlit's columns.

    Texts are stripped; settings left empty are left out.
    """
    frame = pd.DataFrame({name: _series([item.get(name) for item in items], columns[name]) for name in columns})
    edited = st.data_editor(
        frame, key=key, num_rows="dynamic", hide_index=True, alt=alt, column_config=dict(columns), width="stretch"
    )
    kept = []
    for row in edited.to_dict("records"):
        item = {
            str(name): value for name, value in ((name, _plain(value)) for name, value in row.items()) if value
        }
        if item:
            kept.append(item)
    return kept


def joined(values: Sequence[str], separator: str) -> str:
    """Several texts in one cell."""
    return f"{separator} ".join(values)


def parted(cell: str, separator: str, before: Sequence[Sequence[str]]) -> list[str]:
    """The inverse of `joined`. A cell that was not touched keeps its texts, whatever they contain."""
    for values in before:
        if joined(values, separator) == cell:
            return list(values)
    return [part.strip() for part in cell.split(separator) if part.strip()]


def _series(values: list[Any], column: Any) -> pd.Series:
    kind = column["type_config"]["type"]
    if kind == "checkbox":
        return pd.Series([bool(value) for value in values], dtype="bool")
    if kind == "number":
        return pd.Series([float("nan") if value is None else float(value) for value in values], dtype="float64")
    return pd.Series(["" if value is None else str(value) for value in values], dtype="string")


def _plain(value: Any) -> Any:
    """A cell as the document has it; a zero is a figure like others and stays."""
    if isinstance(value, str):
        return value.strip()
    if value is None or pd.isna(value):
        return None
    if isinstance(value, float):
        return _Number(value)
    return value


class _Number(float):
    """A figure that counts as said even where it is zero."""

    def __bool__(self) -> bool:
        return True


def figure(value: float) -> float | int:
    """3.0 as people write it: 3."""
    return int(value) if float(value).is_integer() else float(value)
