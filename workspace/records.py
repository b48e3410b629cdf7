"""Careful readers: every record of a text file with the physical line it starts on, or why it is none.

DuckDB reads clean files much faster; these read the others. A physical line ends at LF, CRLF or CR. Texts keep
every character, terminators inside quotes included.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from workspace.errors import IntakeError

MAX_TEXT = 1 << 24  # characters in one field; what is longer is damage, most often a quote never closed
BLANK = " \t\r\n\v\f"  # a text of nothing but these is empty
NO_DELIMITER = "\x1f"  # for files of one column: a separator that is never in text
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"[-+]?[0-9][0-9.,eE+-]*")


@dataclass(frozen=True)
class Record:
    """`values` by column (None = missing), or None with the `reason` it was refused and its `content`."""

    line: int
    values: dict[str, str | None] | None
    reason: str = ""
    content: str = ""


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written. `quote` is empty when quotes are ordinary characters."""

    delimiter: str
    quote: str
    header: bool
    columns: tuple[str, ...]


class _Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_Number)


class _Feed(Iterator[str]):
    """Physical lines for the csv module, able to take lines back when a record turns out broken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._back: deque[str] = deque()
        self.taken: list[str] = []
        self.line = 0  # physical line taken last, from 1

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        self.taken.append(line)
        self.line += 1
        return line

    def give_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.line -= len(lines)


def sniff_dialect(head: str, complete: bool, prefer: str | None = None) -> Dialect:
    """Delimiter, quoting, header and column names from the start of a file.

    `complete` says that `head` is the whole file; otherwise its last line is left out. `prefer` is the
    delimiter the file's format names. The first record is the header unless it looks like data: a number
    or a very long text in it. Repeated names get _1, _2; missing ones become column1, column2.
    """
    lines = list(io.StringIO(head, newline=""))[:500]
    if not complete and len(lines) > 1:
        lines = lines[:-1]
    best: tuple[float, int] | None = None
    chosen = ((prefer or NO_DELIMITER), '"')
    first: list[str] = []
    for place, delimiter in enumerate([prefer] if prefer else [",", "\t", ";", "|", NO_DELIMITER]):
        # Tab-separated files are often written without any quoting, so that a quote is just a character.
        for quote in ('"', "") if delimiter == "\t" else ('"',):
            rows, errors = _try(lines, delimiter, quote)
            if not rows:
                continue
            width = len(rows[0])
            even = sum(len(row) == width for row in rows) / (len(rows) + errors)
            # More than one column beats one, sound quoting beats raw quotes, and the common delimiter wins a tie.
            alone = 0.01 if width == 1 and delimiter != NO_DELIMITER and not prefer else 0.0
            score = ((width > 1) + even - (0.3 if not quote else 0.0) - alone, -place)
            if best is None or score > best:
                best, chosen, first = score, (delimiter, quote), rows[0]
    header = not any(_NUMBER.fullmatch(cell.strip()) or len(cell) > 200 for cell in first)
    return Dialect(chosen[0], chosen[1], header, unique_names(first if header else [""] * len(first)))


def _try(lines: list[str], delimiter: str, quote: str) -> tuple[list[list[str]], int]:
    dialect = Dialect(delimiter, quote, False, ())
    rows: list[list[str]] = []
    errors = 0
    for _, row, _, _ in _raw_records(lines, dialect):
        if row is None:
            errors += 1
        else:
            rows.append(row)
    return rows, errors


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Column names made usable: trimmed, missing ones numbered, repeated ones (`text`) suffixed (`text_1`)."""
    result: list[str] = []
    for place, name in enumerate(names, start=1):
        base = name.strip().lstrip("\ufeff") or f"column{place}"
        candidate, suffix = base, 0
        while candidate in result:
            suffix += 1
            candidate = f"{base}_{suffix}"
        result.append(candidate)
    return tuple(result)


def csv_records(lines: Iterable[str], dialect: Dialect) -> Iterator[Record]:
    """The records of a CSV file. Blank lines between records are no records; neither is the header.

    A record whose quotes are broken costs only its first line: reading goes on with the next one.
    """
    skip = dialect.header
    width = len(dialect.columns)
    for line, row, reason, content in _raw_records(lines, dialect):
        if skip:
            skip = False
        elif row is None:
            yield Record(line, None, reason, content)
        elif len(row) != width:
            plural = "column" if width == 1 else "columns"
            yield Record(line, None, f"has {len(row)} of {width} {plural}", content)
        else:
            yield Record(line, dict(zip(dialect.columns, row, strict=True)))


def _raw_records(lines: Iterable[str], dialect: Dialect) -> Iterator[tuple[int, list[str] | None, str, str]]:
    csv.field_size_limit(MAX_TEXT)
    feed = _Feed(lines)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
    quote = dialect.quote or None

    def reader() -> Any:
        return csv.reader(feed, delimiter=dialect.delimiter, quotechar=quote, quoting=quoting, strict=True)

    rows = reader()
    while True:
        feed.taken.clear()
        start = feed.line + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            # An open quote swallows the lines after it. Only the first line is to blame.
            feed.give_back(feed.taken[1:])
            yield start, None, _csv_reason(str(error)), feed.taken[0]
            rows = reader()
            continue
        if row:
            yield start, row, "", feed.taken[0]


def _csv_reason(message: str) -> str:
    if "field larger" in message:
        return f"a field is longer than {MAX_TEXT >> 20} million characters, or its quote is never closed"
    if "end of data" in message:
        return "a quote is opened and never closed"
    return "a quoted field is followed by more characters before the next column"


def text_records(lines: Iterable[str]) -> Iterator[Record]:
    """One record for each physical line, in the column `text`; the line end is not part of the text."""
    for number, line in enumerate(lines, start=1):
        yield Record(number, {"text": _without_end(line)})


def jsonl_records(lines: Iterable[str]) -> Iterator[Record]:
    """One record for each physical line; a blank or broken line is refused with its number."""
    for number, line in enumerate(lines, start=1):
        body = line.strip(" \t\r\n\ufeff") if number == 1 else line.strip(" \t\r\n")
        if not body:
            yield Record(number, None, "blank line", "")
            continue
        try:
            yield _json_record(number, _DECODER.decode(body), body)
        except json.JSONDecodeError as error:
            yield Record(number, None, f"broken JSON at character {error.pos + 1}: {error.msg}", body)
        except RecursionError:
            yield Record(number, None, "nested too deeply", body)
        except ValueError:
            yield Record(number, None, "holds a number too long to read", body)


def json_records(text: str, name: str) -> Iterator[Record]:
    """The elements of a JSON array, or of the longest list inside a JSON object, in order.

    Raises IntakeError with the line where the document is broken: the elements after it cannot be trusted.
    """
    text = text.removeprefix("\ufeff")
    try:
        start = _list_start(text)
        if start is None:
            raise IntakeError(
                f"{name} holds no list of records.",
                "Winnow reads an array of objects, or an object with such a list inside.",
            )
        line, counted = 1, 0
        for begin, end, value in _elements(text, start):
            line += _line_ends(text, counted, begin)
            counted = begin
            yield _json_record(line, value, text[begin : min(end, begin + 1000)])
    except json.JSONDecodeError as error:
        raise IntakeError(
            f"{name} is broken JSON at line {error.lineno}, column {error.colno}: {error.msg}.",
            "Nothing was added. If each line is an object of its own, load it as JSONL.",
        ) from error
    except (RecursionError, ValueError) as error:
        raise IntakeError(f"{name} is nested too deeply or holds a number too long to read.") from error


def _list_start(text: str) -> int | None:
    place = _skip(text, 0)
    if text[place : place + 1] == "[":
        return place
    if text[place : place + 1] != "{":
        _DECODER.raw_decode(text, place)
        return None
    best, longest = None, -1
    place = _skip(text, place + 1)
    while text[place : place + 1] == '"':
        _, place = _DECODER.raw_decode(text, place)
        place = _skip(text, place)
        if text[place : place + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, place)
        start = _skip(text, place + 1)
        value, place = _DECODER.raw_decode(text, start)
        if isinstance(value, list) and len(value) > longest:
            best, longest = start, len(value)
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
    if text[place : place + 1] != "}":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
    return best


def _elements(text: str, start: int) -> Iterator[tuple[int, int, Any]]:
    place = _skip(text, start + 1)
    if text[place : place + 1] == "]":
        return
    while True:
        value, end = _DECODER.raw_decode(text, place)
        yield place, end, value
        place = _skip(text, end)
        mark = text[place : place + 1]
        if mark == "]":
            return
        if mark != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
        place = _skip(text, place + 1)


def _line_ends(text: str, start: int, end: int) -> int:
    feeds = text.count("\n", start, end)
    return feeds or text.count("\r", start, end)


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _json_record(line: int, value: Any, source: str) -> Record:
    if type(value) is str:
        return Record(line, {"text": value})
    if not isinstance(value, dict):
        return Record(line, None, "not an object", source)
    return Record(line, {str(name): _as_text(item) for name, item in value.items()})


def _as_text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _dump(value)


def _dump(value: Any) -> str:
    # Numbers keep the digits they were written with, which json.dumps cannot do.
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{_dump(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_dump(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _without_end(line: str) -> str:
    if line.endswith("\r\n"):
        return line[:-2]
    return line[:-1] if line.endswith(("\n", "\r")) else line
