"""Parquet files as DuckDB reads them: every column as text."""

from __future__ import annotations

from pathlib import Path

from workspace.errors import IntakeError
from workspace.store import Connection, sql_string


def read_parquet_sql(path: Path) -> str:
    """The table function that reads this file."""
    return f"read_parquet({sql_string(str(path))})"


def parquet_columns(con: Connection, path: Path) -> dict[str, str]:
    """Names of a Parquet file's columns, each with the SQL that gives it as text."""
    result: dict[str, str] = {}
    for name, kind, *_ in con.execute(f"describe select * from {read_parquet_sql(path)}").fetchall():
        column = '"' + name.replace('"', '""') + '"'
        if kind == "VARCHAR":
            result[name] = column
        elif kind == "BLOB":
            result[name] = f"decode({column})"
        elif kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
            result[name] = f"to_json({column})::varchar"
        else:
            result[name] = f"{column}::varchar"
    return result


def not_parquet(name: str, error: Exception) -> IntakeError:
    """The error for a Parquet file DuckDB cannot read."""
    return IntakeError(
        f"{name} cannot be read as Parquet; it may be damaged or cut short.", "Nothing was added.", str(error)
    )
