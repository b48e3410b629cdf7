"""Current labels go out: CSV, JSONL or Parquet, one line per row, written beside its place and then renamed.

Columns: id, text, domain, external_id, then for each dimension D of the run `D` (the label), `D_confidence`
(0 to 1, calibrated; 1 for a person's label), `D_decided_by` ('model' or the reviewer's name) and, if there is any,
`D_gold`, and at last `warnings`: codes such as truncated, and in words why a row has no label. A row column whose
name a dimension takes becomes `row_domain` and so on. Rows of the run that nobody has answered yet are not
written. A label that a person rejected is empty.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from workspace.current import current_sql, dimension_of
from workspace.errors import ExportError
from workspace.records import unique_names
from workspace.runs import read_spec
from workspace.store import Connection, Store, sql_string

Format = Literal["csv", "jsonl", "parquet"]
DecidedBy = Literal["human", "model"]
_OPTIONS: dict[str, str] = {
    "csv": "format csv, header",
    "jsonl": "format json",
    "parquet": "format parquet, compression zstd",
}
# A cell that starts with one of these is a formula to a spreadsheet.
_FORMULA = "'[=+@\\t\\r-]'"


class Written(msgspec.Struct, frozen=True):
    """What a file says in one dimension: rows per label, most frequent first, None for no label.

    `checked` of its labels have a gold label beside them; `right` of those agree with it.
    """

    dimension: str
    shares: list[tuple[str | None, int]]
    checked: int
    right: int


class ExportResult(msgspec.Struct, frozen=True):
    """A file that was written: where, how many rows, in how many seconds, and what it says in sum."""

    path: Path
    rows: int
    seconds: float
    dimensions: list[Written] = []


def export(
    store: Store,
    run_id: str,
    path: Path,
    format: Format,
    *,
    min_confidence: float = 0.0,
    decided_by: DecidedBy | None = None,
    dimension: str | None = None,
    import_id: str | None = None,
    spreadsheet_safe: bool = False,
) -> ExportResult:
    """Write the current labels of a run, in loading order; replaces the file at `path` only when all is written.

    min_confidence: only rows whose every dimension is at least that sure (no label counts as 0).
    decided_by: 'human' keeps rows a person decided in at least one dimension, 'model' those nobody decided.
    dimension: only this one. import_id: only rows that load brought, or found to be here already.
    spreadsheet_safe: in CSV, puts ' before cells that start with = + - @ tab or carriage return, which
    spreadsheets would run as formulas. Off by default, since it changes the text.

    Raises RunError for an unknown run or dimension, ExportError when the file cannot be written.
    """
    started = time.perf_counter()
    if format not in _OPTIONS:
        raise ExportError(f"{format!r} is no format Winnow writes.", f"It writes {', '.join(_OPTIONS)}.")
    path = path.expanduser()
    if path.is_dir():
        raise ExportError(f"{path} is a folder.", "Name a file in it; nothing was written.")
    if not path.parent.is_dir():
        raise ExportError(f"The folder {path.parent} does not exist.", "Create it first; nothing was written.")
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with store.read() as con:
            select = _prepare(
                con,
                run_id,
                dimension,
                import_id,
                min_confidence,
                decided_by,
                joined=format == "csv",
                safe=spreadsheet_safe and format == "csv",
            )
            con.execute(f"create temp table written as {select}")
            copy = f"copy (from written order by rowid) to {sql_string(str(half))} ({_OPTIONS[format]})"
            written = con.execute(copy).fetchall()
            said = [_sum_up(con, name) for name in _dimensions(con, run_id, dimension)]
        os.replace(half, path)
    except (duckdb.Error, OSError) as error:
        raise ExportError(
            f"{path.name} could not be written.",
            "Check the space and permissions there. A file that was there before is unchanged.",
            str(error),
        ) from error
    finally:
        half.unlink(missing_ok=True)
    return ExportResult(path, int(written[0][0]), time.perf_counter() - started, said)


def preview(
    store: Store,
    run_id: str,
    *,
    min_confidence: float = 0.0,
    decided_by: DecidedBy | None = None,
    dimension: str | None = None,
    import_id: str | None = None,
    limit: int = 8,
) -> list[dict[str, Any]]:
    """The first lines of the file as `export` would write it now. Raises RunError as `export`."""
    with store.read() as con:
        select = _prepare(con, run_id, dimension, import_id, min_confidence, decided_by, joined=True, safe=False)
        found = con.execute(f"{select} limit {int(limit)}")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _prepare(
    con: Connection,
    run_id: str,
    dimension: str | None,
    import_id: str | None,
    min_confidence: float,
    decided_by: DecidedBy | None,
    *,
    joined: bool,
    safe: bool,
) -> str:
    """Gather each dimension's labels in temporary tables of this cursor; the select of the lines, in order."""
    names = _dimensions(con, run_id, dimension)
    # One snapshot for all dimensions; the cursor is closed afterwards, so nothing of this is ever committed.
    con.execute("begin")
    golden: list[bool] = []
    for i, name in enumerate(names):
        cte, parameters = current_sql(con, run_id, name)
        con.execute(
            f"""create temp table label_{i} as {cte}
                select row_id, label, confidence, decided_by, human, warnings, error from current_labels""",
            parameters,
        )
        con.execute(
            f"""create temp table gold_{i} as select row_id, arg_max(label, rowid) as label from gold
                where dimension = $name and row_id in (select row_id from label_{i}) group by row_id""",
            {"name": name},
        )
        golden.append(bool(con.execute(f"select 1 from gold_{i} limit 1").fetchall()))
    everyone = range(len(names))
    told = ", ".join(f"coalesce(l{i}.warnings, []), [nullif(l{i}.error, '')]" for i in everyone)
    warnings = f"list_filter(list_distinct(flatten([{told}])), lambda warning: warning is not null)"
    columns = [
        ("row_id" if "id" in names else "id", "r.id"),
        ("row_text" if "text" in names else "text", _cell("r.text", safe)),
        ("row_domain" if "domain" in names else "domain", _cell("coalesce(r.domain, '')", safe)),
        (
            "row_external_id" if "external_id" in names else "external_id",
            _cell("coalesce(r.external_id, '')", safe),
        ),
    ]
    for i, name in enumerate(names):
        columns += [
            (name, f"l{i}.label"),
            (f"{name}_confidence", f"l{i}.confidence"),
            (f"{name}_decided_by", _cell(f"l{i}.decided_by", safe)),
        ]
        columns += [(f"{name}_gold", _cell(f"g{i}.label", safe))] if golden[i] else []
    columns.append(
        ("warnings", f"array_to_string(list_sort({warnings}), '; ')" if joined else f"list_sort({warnings})")
    )
    shown = unique_names(name for name, _ in columns)
    listed = ", ".join(f"{sql} as {_quoted(name)}" for name, (_, sql) in zip(shown, columns, strict=True))
    some = " or ".join(f"l{i}.row_id is not null" for i in everyone)
    conditions = [f"({some})"]
    if min_confidence > 0:
        conditions += [f"coalesce(l{i}.confidence, 0.0) >= {float(min_confidence)!r}" for i in everyone]
    if decided_by is not None:
        by_people = " or ".join(f"coalesce(l{i}.human, false)" for i in everyone)
        conditions.append(f"({by_people})" if decided_by == "human" else f"not ({by_people})")
    if import_id is not None:
        wanted = sql_string(import_id)
        conditions.append(
            f"(r.import_id = {wanted} or r.id in (select row_id from repeats where import_id = {wanted}))"
        )
    joins = " ".join(
        f"left join label_{i} l{i} on l{i}.row_id = r.id left join gold_{i} g{i} on g{i}.row_id = r.id"
        for i in everyone
    )
    return f"select {listed} from rows r {joins} where {' and '.join(conditions)} order by r.row_no"


def _dimensions(con: Connection, run_id: str, dimension: str | None) -> list[str]:
    spec = read_spec(con, run_id)
    return [dimension_of(spec, dimension).name] if dimension else [d.name for d in spec.dimensions]


def _sum_up(con: Connection, dimension: str) -> Written:
    """From the table `written`. A dimension keeps its name as a column: row columns give way, not it."""
    label = _quoted(dimension)
    shares = con.execute(f"select {label}, count(*) from written group by 1 order by 2 desc, 1").fetchall()
    columns = {row[0] for row in con.execute("describe written").fetchall()}
    if f"{dimension}_gold" not in columns:
        return Written(dimension, shares, 0, 0)
    gold = _quoted(f"{dimension}_gold")
    agree = f"lower({label}) = lower({gold})"
    ((checked, right),) = con.execute(
        f"select count({agree}), count_if({agree}) from written where {label} is not null"
    ).fetchall()
    return Written(dimension, shares, checked, right)


def _cell(sql: str, safe: bool) -> str:
    if not safe:
        return sql
    return f"case when regexp_matches({sql}, '^' || {_FORMULA}) then '''' || {sql} else {sql} end"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
