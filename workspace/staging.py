"""Where a file waits before it enters the workspace: a database in memory beside the workspace's own.

Reading happens there, on the loader's own cursor, so that the one thread that writes is held only for the final
insert and nothing of a broken load is ever in the file. Clean CSV and Parquet are read by DuckDB, in parallel;
everything else by the careful readers of `records`, which know the line of every record.
"""

from __future__ import annotations

import gzip
import io
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa

from workspace.columns import Mapping, text_of
from workspace.decoding import JSON_BYTES, clean, decoded_head, error_handler, wrong_encoding
from workspace.errors import IntakeError
from workspace.formats import FileKind, Scan
from workspace.ids import row_id
from workspace.meter import Meter
from workspace.parquet import not_parquet, parquet_columns, read_parquet_sql
from workspace.records import BLANK, Dialect, Record, csv_records, json_records, jsonl_records, text_records
from workspace.store import Connection, Store, sql_string

EMPTY = "empty text"
EXCERPT = 200  # characters of a refused line that are kept
BATCH_ROWS = 50_000
BATCH_CHARACTERS = 1 << 25
_BLANK_SQL = "' ' || chr(9) || chr(13) || chr(10) || chr(11) || chr(12)"


class _NeedsCare(Exception):
    """The quick way may not read this file rightly."""


@dataclass
class Staged:
    """A file read. `good` records have a text, `rejected` have none; `distinct` counts different good texts."""

    schema: str
    good: int
    rejected: int
    distinct: int
    dense: bool  # n counts 0, 1, 2 ... without gaps
    gold: tuple[str, ...]  # dimensions, in the order of the columns g0, g1 ...

    @property
    def lines(self) -> int:
        """Records of the file."""
        return self.good + self.rejected

    def insert(self, con: Connection, import_id: str) -> int:
        """Add what is new to the workspace, in the order of the file; returns how many rows that was."""
        good, quoted = f"{self.schema}.good", sql_string(import_id)
        base = _number(con, "select coalesce(max(row_no) + 1, 0) from rows")
        known = base and _number(con, f"select count(*) from (select id from {good}) semi join rows using (id)")
        if self.distinct == self.good and self.dense and not known:
            added = self.good
            con.execute(f"insert into rows select {base} + n, id, text, domain, ext, {quoted} from {good}")
        else:
            con.execute(
                f"""create temp table seen as
                    select id, min(n) as n, count(*) as times, id in (select id from rows) as known
                    from {good} group by id"""
            )
            con.execute(
                """create temp table fresh as
                    select n, row_number() over (order by n) - 1 as place from seen where not known"""
            )
            added = _number(con, "select count(*) from fresh")
            con.execute(
                f"""insert into rows select {base} + place, id, text, domain, ext, {quoted}
                    from {good} join fresh using (n) order by place"""
            )
            con.execute(
                f"""insert into repeats select id, {quoted}, times - (not known)::bigint from seen
                    where times > (not known)::bigint order by n"""
            )
            con.execute("drop table seen")
            con.execute("drop table fresh")
        for i, dimension in enumerate(self.gold):
            con.execute(
                f"""insert into gold select id, {sql_string(dimension)}, g{i}, {quoted} from {good}
                    where g{i} <> '' group by id, g{i} order by count(*), max(n)"""
            )
        con.execute(
            f"insert into rejects select {quoted}, line, reason, content from {self.schema}.refused order by line"
        )
        return added


class Staging:
    """A place for one load; use it as a context manager. What it held is gone afterwards, whatever happened."""

    def __init__(self, store: Store, meter: Meter) -> None:
        self._store = store
        self._meter = meter
        self._schema = f"stage_{secrets.token_hex(8)}"
        self._reading = store.read()

    def __enter__(self) -> Staging:
        self._con = self._reading.__enter__()
        self._con.execute(f"attach ':memory:' as {self._schema}")
        self._con.execute(f"create table {self._schema}.refused (line bigint, reason varchar, content varchar)")
        return self

    def __exit__(self, *error: Any) -> None:
        # After an interrupt the database may still be held; it is in memory and goes with the process then.
        with suppress(duckdb.Error):
            self._con.execute(f"detach {self._schema}")
        self._reading.__exit__(None, None, None)

    def parquet(self, path: Path, mapping: Mapping) -> Staged:
        """Read a Parquet file. Raises IntakeError when it cannot be read or lacks a column."""
        try:
            with self._meter.watch(self._con, 0.1, 0.5):
                columns = parquet_columns(self._con, path)
                _require(mapping, tuple(columns), path.name)
                source = read_parquet_sql(path)
                # The first load of distinct texts needs no copy: the insert reads the file itself.
                if (
                    not _number(self._con, "select count(*) from rows limit 1")
                    and "file_row_number" not in columns
                ):
                    numbered = f"read_parquet({sql_string(str(path))}, file_row_number = true)"
                    select = _select(mapping, columns, numbered, "file_row_number as n, ")
                    self._con.execute(f"create view {self._schema}.good as {select}")
                    staged = self._counted(mapping, "hash(text)")
                    if staged.distinct == staged.good and not self._blank():
                        return staged
                    self._con.execute(f"drop view {self._schema}.good")
                self._con.execute(f"create table {self._schema}.s as {_select(mapping, columns, source, '')}")
                return self._finish(mapping, 1)
        except duckdb.OutOfMemoryException as error:
            raise _too_big(error) from error
        except duckdb.InterruptException as error:
            raise self._meter.stopped() from error
        except duckdb.Error as error:
            raise not_parquet(path.name, error) from error

    def text(
        self, path: Path, name: str, kind: FileKind, found: Scan, dialect: Dialect | None, mapping: Mapping
    ) -> Staged:
        """Read any other file. `path` is where it lies, `name` what people call it."""
        if dialect is not None:
            _require(mapping, dialect.columns, name)
            try:
                return self._quick_csv(path, kind, found, dialect, mapping)
            except (_NeedsCare, duckdb.Error) as error:
                if isinstance(error, duckdb.InterruptException):
                    raise self._meter.stopped() from error
                for what in (f"view if exists {self._schema}.good", f"table if exists {self._schema}.s"):
                    self._con.execute(f"drop {what}")
                self._con.execute(f"delete from {self._schema}.refused")
        elif kind.format == "text":
            _require(mapping, ("text",), name)
        try:
            return self._careful(path, name, kind, dialect, mapping)
        except UnicodeError as error:
            raise wrong_encoding(name, kind.encoding, error) from error
        except duckdb.InterruptException as error:
            raise self._meter.stopped() from error
        except duckdb.OutOfMemoryException as error:
            raise _too_big(error) from error

    def _quick_csv(self, path: Path, kind: FileKind, found: Scan, dialect: Dialect, mapping: Mapping) -> Staged:
        plain = kind.encoding in ("utf-8", "utf-8-sig", "ascii") and not kind.gzipped
        if not plain or not found.valid or not found.one_line_end or found.nuls:
            raise _NeedsCare
        names = ", ".join(f"c{i}: 'varchar'" for i in range(len(dialect.columns)))
        source = (
            f"read_csv({sql_string(str(path))}, auto_detect = false, delim = {sql_string(dialect.delimiter)}, "
            f"quote = {sql_string(dialect.quote)}, escape = {sql_string(dialect.quote)}, compression = 'none', "
            f"header = {str(dialect.header).lower()}, columns = {{{names}}}, strict_mode = true)"
        )
        columns = {name: f"c{i}" for i, name in enumerate(dialect.columns)}
        with self._meter.watch(self._con, 0.15, 0.5):
            self._con.execute(f"create table {self._schema}.s as {_select(mapping, columns, source, '')}")
            records = _number(self._con, f"select count(*) from {self._schema}.s")
            on_lines_of_their_own = records + dialect.header == found.lines
            if not on_lines_of_their_own and (not found.quotes or not dialect.quote):
                raise _NeedsCare
            if not on_lines_of_their_own and _number(
                self._con, f"select count(*) from {self._schema}.s where blank"
            ):
                raise _NeedsCare
            return self._finish(mapping, 1 + dialect.header)

    def _finish(self, mapping: Mapping, first_line: int) -> Staged:
        """Move records without text from `s` to the rejects and count the others."""
        stage = self._schema
        self._con.execute(
            f"insert into {stage}.refused select rowid + {first_line}, '{EMPTY}', '' from {stage}.s where blank"
        )
        refused = _number(self._con, f"select count(*) from {stage}.refused")
        rest = "where not blank" if refused else ""
        self._con.execute(f"create view {stage}.good as select rowid as n, * from {stage}.s {rest}")
        return self._counted(mapping, "id")

    def _counted(self, mapping: Mapping, key: str) -> Staged:
        found = self._con.execute(f"select count(*), count(distinct {key}) from {self._schema}.good").fetchall()
        good, distinct = found[0]
        refused = _number(self._con, f"select count(*) from {self._schema}.refused")
        return Staged(self._schema, good, refused, distinct, not refused, tuple(mapping.gold))

    def _blank(self) -> int:
        return _number(self._con, f"select count(*) from {self._schema}.good where blank")

    def _careful(self, path: Path, name: str, kind: FileKind, dialect: Dialect | None, mapping: Mapping) -> Staged:
        batch = _Batch(self._con, self._schema, len(mapping.gold))
        tick = self._meter.span(0.15, 0.5)
        with path.open("rb") as raw:
            for record in _records(raw, path, name, kind, dialect):
                if batch.add(record, mapping):
                    tick(min(1.0, raw.tell() / max(1, kind.size)) if not raw.closed else 1.0)
        batch.flush()
        refused = _number(self._con, f"select count(*) from {self._schema}.refused")
        self._con.execute(f"create view {self._schema}.good as select rowid as n, * from {self._schema}.s")
        staged = self._counted(mapping, "id")
        return Staged(self._schema, staged.good, refused, staged.distinct, True, tuple(mapping.gold))


class _Batch:
    """Records on their way from Python into the staging tables, some tens of thousands at a time."""

    def __init__(self, con: Connection, stage: str, gold: int) -> None:
        self._con, self._stage = con, stage
        names = ["id", "text", "domain", "ext", *(f"g{i}" for i in range(gold))]
        self._schema = pa.schema([(name, pa.string()) for name in names])
        self._good: list[list[str | None]] = []
        self._refused: list[tuple[int, str, str]] = []
        self._characters = 0
        con.execute(f"create table {stage}.s ({', '.join(f'{name} varchar' for name in names)})")

    def add(self, record: Record, mapping: Mapping) -> bool:
        """Take a record in; true when the batch was full and has been written."""
        values = record.values
        if values is None:
            self._refuse(record.line, record.reason, record.content)
        else:
            text = text_of(values, mapping)
            told = [
                values.get(mapping.domain) if mapping.domain else None,
                values.get(mapping.id) if mapping.id else None,
            ]
            cells = [text, *told, *(values.get(column) for column in mapping.gold.values())]
            try:
                for cell in cells:
                    if cell is not None and not cell.isascii():
                        cell.encode("utf-8")
            except UnicodeEncodeError as error:
                broken = 0xDC80 <= ord(error.object[error.start]) <= 0xDCFF
                reason = "holds bytes that are wrong in this encoding" if broken else "holds half a surrogate pair"
                self._refuse(record.line, reason, text)
            else:
                if any((values.get(column) or "").strip(BLANK) for column in mapping.text):
                    self._characters += len(text)
                    self._good.append([row_id(text), text, *cells[1:]])
                else:
                    self._refuse(record.line, EMPTY, "")
        if len(self._good) + len(self._refused) < BATCH_ROWS and self._characters < BATCH_CHARACTERS:
            return False
        self.flush()
        return True

    def _refuse(self, line: int, reason: str, content: str) -> None:
        self._refused.append((line, reason, clean(content[:EXCERPT])))

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._good:
            columns = list(zip(*self._good, strict=True))
            arrays = [pa.array(column, pa.string()) for column in columns]
            self._write("s", pa.Table.from_arrays(arrays, schema=self._schema))
        if self._refused:
            lines, reasons, contents = zip(*self._refused, strict=True)
            self._write(
                "refused", pa.table({"line": pa.array(lines, pa.int64()), "reason": reasons, "content": contents})
            )
        self._good, self._refused, self._characters = [], [], 0

    def _write(self, table: str, rows: pa.Table) -> None:
        self._con.register("batch", rows)
        self._con.execute(f"insert into {self._stage}.{table} select * from batch")
        self._con.unregister("batch")


def _records(raw: IO[bytes], path: Path, name: str, kind: FileKind, dialect: Dialect | None) -> Iterator[Record]:
    if kind.format == "json":
        text, _ = decoded_head(path, kind, JSON_BYTES)
        yield from json_records(text, name)
        return
    data: Any = gzip.GzipFile(fileobj=raw) if kind.gzipped else raw
    lines = io.TextIOWrapper(data, encoding=kind.encoding, errors=error_handler(kind.encoding), newline="")
    reader: Callable[[Any], Iterator[Record]] = jsonl_records if kind.format == "jsonl" else text_records
    try:
        yield from csv_records(lines, dialect) if dialect is not None else reader(lines)
    finally:
        lines.detach()


def _select(mapping: Mapping, columns: dict[str, str], source: str, extra: str) -> str:
    """SQL giving n (if `extra` asks for it), id, text, domain, ext, g0 ..., blank for each record of `source`."""
    pieces = [columns[part] if column else sql_string(part) for column, part in mapping.pieces()]
    joined = [columns[name] for name in mapping.text]
    text = f"coalesce({pieces[0]}, '')" if len(pieces) == 1 else f"concat({', '.join(pieces)})"
    # What must not be blank: the columns alone, without the words of a template.
    plain = f"concat({', '.join(joined)})"
    told = [
        f"nullif({columns[mapping.domain]}, '')" if mapping.domain else "null::varchar",
        f"nullif({columns[mapping.id]}, '')" if mapping.id else "null::varchar",
    ]
    gold = "".join(f", {columns[name]} as g{i}" for i, name in enumerate(mapping.gold.values()))
    passed = "".join(f", g{i}" for i in range(len(mapping.gold)))
    # Texts from '!' on start with a character that is no space; only the few others are worth trimming.
    blank = f"case when plain >= '!' then false else trim(plain, {_BLANK_SQL}) = '' end as blank"
    number = "n, " if extra else ""
    return (
        f"select {number}substr(sha256(text), 1, 32) as id, text, domain, ext{passed}, {blank} from "
        f"(select {extra}{text} as text, {plain} as plain, {told[0]} as domain, {told[1]} as ext{gold} "
        f"from {source})"
    )


def _require(mapping: Mapping, columns: tuple[str, ...], name: str) -> None:
    missing = [column for column in mapping.used() if column not in columns]
    if missing:
        there = ", ".join(columns[:20]) + (" ..." if len(columns) > 20 else "")
        raise IntakeError(f"{name} has no column {missing[0]!r}.", f"Its columns are: {there}. Nothing was added.")


def _too_big(error: Exception) -> IntakeError:
    return IntakeError(
        "There is not enough memory or disk space to load this file.", "Nothing was added.", str(error)
    )


def _number(con: Connection, sql: str) -> int:
    return int(con.execute(sql).fetchall()[0][0])
