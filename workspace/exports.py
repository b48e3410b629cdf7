"""Current labels go out: CSV, JSONL or Parquet, one line per row, written beside its place and then renamed.

Columns: id, text, domain, external_id, then for each dimension D of the run `D` (the label), for a score `D_value`
and `D_spread`, `D_confidence` (0 to 1, calibrated; 1 for a person's label), `D_decided_by` ('model' or the
reviewer's name) and, if there are any, `D_explanation` and `D_gold`; where a promise was accepted `D_accepted`,
true for the rows it accepted and for the labels of people, and `D_L_accepted` for one about the label L alone:
true where it covers whether that label is rightly given or not. Then, where the task has weights, tiers or rules,
`overall`, `tier` and `broken_rules` (their messages), and at last `warnings`: codes such as truncated, and in
words why a row has no label. The labels of a multi dimension are a list, in CSV joined by "|", "(none)" for
none. A row column whose name a dimension takes becomes `row_domain` and so on.

Rows of the run that nobody has answered yet are not written, nor those a rule of the prefilter left out unless a
person gave them a label. A label that a person rejected is empty.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from workspace import accepted, rules
from workspace.answers import dimension_of, shape_of
from workspace.current import current_sql
from workspace.errors import ExportError
from workspace.expressions import quoted
from workspace.facts import DimensionSpec
from workspace.gold import gold_sql
from workspace.rows import scalar
from workspace.runs import read_spec
from workspace.store import Connection, Store, sql_string
from workspace.task import NO_LABELS, SEPARATOR

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

    A row with several labels counts for each. `checked` of its labels have a gold label beside them; `right` of
    those agree with it, as `workspace.kinds.reader` reads it.
    """

    dimension: str
    shares: list[tuple[str | None, int]]
    checked: int
    right: int


class ExportResult(msgspec.Struct, frozen=True):
    """A file that was written: where, how many rows, in how many seconds, and what it says in sum.

    `dropped` rows are not in it because a rule of the prefilter left them out.
    """

    path: Path
    rows: int
    seconds: float
    dimensions: list[Written] = []
    dropped: int = 0


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
            said = [_sum_up(con, place, asked) for place, asked in enumerate(_asked(con, run_id, dimension))]
            dropped = _left_out(con, len(said), import_id)
        os.replace(half, path)
    except (duckdb.Error, OSError) as error:
        raise ExportError(
            f"{path.name} could not be written.",
            "Check the space and permissions there. A file that was there before is unchanged.",
            str(error),
        ) from error
    finally:
        half.unlink(missing_ok=True)
    return ExportResult(path, int(written[0][0]), time.perf_counter() - started, said, dropped)


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
    asked = _asked(con, run_id, dimension)
    names = [one.name for one in asked]
    # One snapshot for all dimensions; the cursor is closed afterwards, so nothing of this is ever committed.
    con.execute("begin")
    columns = [
        ("row_id" if "id" in names else "id", "r.id"),
        ("row_text" if "text" in names else "text", _cell("r.text", safe)),
        ("row_domain" if "domain" in names else "domain", _cell("coalesce(r.domain, '')", safe)),
        (
            "row_external_id" if "external_id" in names else "external_id",
            _cell("coalesce(r.external_id, '')", safe),
        ),
    ]
    for i, one in enumerate(asked):
        _gather(con, run_id, i, one)
        columns += _columns_of(con, run_id, i, one, joined=joined, safe=safe)
    outcome = rules.prepare(con, run_id, {name: f"label_{i}" for i, name in enumerate(names)})
    columns += _outcome_columns(outcome, joined=joined) if outcome else []
    everyone = range(len(names))
    told = ", ".join(f"coalesce(l{i}.warnings, []), [nullif(l{i}.error, '')]" for i in everyone)
    warnings = f"list_filter(list_distinct(flatten([{told}])), lambda warning: warning is not null)"
    columns.append(
        ("warnings", f"array_to_string(list_sort({warnings}), '; ')" if joined else f"list_sort({warnings})")
    )
    shown = accepted.distinct([name for name, _ in columns])
    listed = ", ".join(f"{sql} as {quoted(name)}" for name, (_, sql) in zip(shown, columns, strict=True))
    conditions = [f"({' or '.join(f'l{i}.dropped = {_NO_RULE}' for i in everyone)})"]
    if min_confidence > 0:
        conditions += [f"coalesce(l{i}.confidence, 0.0) >= {float(min_confidence)!r}" for i in everyone]
    if decided_by is not None:
        by_people = " or ".join(f"coalesce(l{i}.human, false)" for i in everyone)
        conditions.append(f"({by_people})" if decided_by == "human" else f"not ({by_people})")
    joins = " ".join(
        f"left join label_{i} l{i} on l{i}.row_id = r.id left join gold_{i} g{i} on g{i}.row_id = r.id"
        for i in everyone
    )
    joins += " left join outcome o on o.row_id = r.id" if outcome else ""
    return f"""select {listed} from rows r {joins}
        where {" and ".join([*conditions, _of_import(import_id)])} order by r.row_no"""


_NO_RULE = "''"


def _asked(con: Connection, run_id: str, dimension: str | None) -> list[DimensionSpec]:
    spec = read_spec(con, run_id)
    return [dimension_of(spec, dimension)] if dimension else list(spec.dimensions)


def _gather(con: Connection, run_id: str, place: int, asked: DimensionSpec) -> None:
    """The tables `label_0` and `gold_0`, in which `meant` is the gold label as the dimension writes it."""
    cte, parameters = current_sql(con, run_id, asked.name)
    con.execute(
        f"""create temp table label_{place} as {cte}
            select row_id, label, value, spread, confidence, decided_by, human, warnings, error, explanation,
                dropped, {"probabilities" if shape_of(asked) == "score" else "null as probabilities"}
            from current_labels""",
        parameters,
    ).fetchall()
    known, more = gold_sql(con, asked)
    con.execute(
        f"""create temp table gold_{place} as with {known}
            select g.*, k.label as meant from (
                select row_id, arg_max(label, rowid) as label from gold
                where dimension = $dimension and row_id in (select row_id from label_{place}) group by row_id
            ) g left join known k on k.row_id = g.row_id""",
        {**more, "dimension": asked.name},
    ).fetchall()


def _columns_of(
    con: Connection, run_id: str, place: int, asked: DimensionSpec, *, joined: bool, safe: bool
) -> list[tuple[str, str]]:
    """(name, SQL) of the columns of a dimension."""
    name, table = asked.name, f"l{place}"
    label = f"{table}.label"
    if shape_of(asked) == "multi" and not joined:
        label = f"""case when {label} = '{NO_LABELS}' then []::varchar[]
            else string_split({label}, '{SEPARATOR}') end"""
    columns = [(name, label)]
    if shape_of(asked) == "score":
        columns += [(f"{name}_value", f"{table}.value"), (f"{name}_spread", f"{table}.spread")]
    columns += [
        (f"{name}_confidence", f"{table}.confidence"),
        (f"{name}_decided_by", _cell(f"{table}.decided_by", safe)),
    ]
    if con.execute(f"select 1 from label_{place} where explanation <> '' limit 1").fetchall():
        columns.append((f"{name}_explanation", _cell(f"{table}.explanation", safe)))
    if con.execute(f"select 1 from gold_{place} limit 1").fetchall():
        columns.append((f"{name}_gold", _cell(f"g{place}.label", safe)))
    columns += accepted.columns(con, run_id, name, table)
    return columns


def _outcome_columns(outcome: rules.Outcome, *, joined: bool) -> list[tuple[str, str]]:
    columns = [("overall", "o.overall")] if outcome.overall else []
    columns += [("tier", "o.tier")] if outcome.tiers else []
    if outcome.rules:
        messages = ", ".join(sql_string(rule.message) for rule in outcome.task.rules)
        broken = f"list_transform(coalesce(o.broken, []), lambda place: ([{messages}])[place + 1])"
        columns.append(("broken_rules", f"array_to_string({broken}, '; ')" if joined else broken))
    return columns


def _of_import(import_id: str | None) -> str:
    if import_id is None:
        return "true"
    wanted = sql_string(import_id)
    return f"(r.import_id = {wanted} or r.id in (select row_id from repeats where import_id = {wanted}))"


def _left_out(con: Connection, dimensions: int, import_id: str | None) -> int:
    """Rows a rule left out in every dimension that has come to them."""
    every = " union all ".join(f"select row_id, dropped from label_{i}" for i in range(dimensions))
    return scalar(
        con,
        f"""select count(*) from (select row_id from ({every}) group by row_id having bool_and(dropped <> '')) d
            join rows r on r.id = d.row_id where {_of_import(import_id)}""",
    )


def _sum_up(con: Connection, place: int, asked: DimensionSpec) -> Written:
    """From the table `written`, whose first column is the row's id."""
    (id_column, *_), *_ = con.execute("describe written").fetchall()
    here = f"(from label_{place} semi join written on written.{quoted(id_column)} = label_{place}.row_id)"
    label = f"unnest(string_split(label, '{SEPARATOR}'))" if shape_of(asked) == "multi" else "label"
    shares = con.execute(
        f"""select name, count(*) from (
                select {label} as name from {here} where label is not null
                union all select null from {here} where label is null
            ) group by name order by 2 desc, 1"""
    ).fetchall()
    missing = scalar(con, "select count(*) from written") - scalar(con, f"select count(*) from {here}")
    if missing:  # in the file for another dimension's sake
        numbers = dict(shares)
        numbers[None] = numbers.get(None, 0) + missing
        shares = sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0] is None, pair[0]))
    ((checked, right),) = con.execute(
        f"""select count(*), coalesce(count_if(l.label = g.meant), 0)
            from {here} l join gold_{place} g on g.row_id = l.row_id where l.label is not null"""
    ).fetchall()
    return Written(asked.name, shares, checked, right)


def _cell(sql: str, safe: bool) -> str:
    if not safe:
        return sql
    return f"case when regexp_matches({sql}, '^' || {_FORMULA}) then '''' || {sql} else {sql} end"
