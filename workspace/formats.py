"""What kind of file somebody brought: its format, compression, encoding and line ends, found by looking at it."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from workspace.errors import IntakeError

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "text")
HEAD_BYTES = 1 << 20
CHUNK_BYTES = 1 << 22

_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".log": "text",
}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Bytes cp1252 leaves undefined: a file that has them is read as Latin-1, which defines all 256.
_NOT_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_CONTROL = bytes(b for b in range(32) if b not in (9, 10, 11, 12, 13, 26, 27))
Tick = Callable[[float], None]


@dataclass(frozen=True)
class FileKind:
    """`format` is one of FORMATS; `encoding` a Python codec name, empty for Parquet."""

    format: str
    encoding: str
    gzipped: bool
    size: int  # bytes on disk


@dataclass(frozen=True)
class Scan:
    """What one pass over the whole file found; the numbers are of the raw bytes, meaningful for UTF-8."""

    digest: str  # BLAKE2b-128 of the file as it lies on disk
    encoding: str
    valid: bool  # every byte decodes in `encoding`
    lines: int  # physical lines
    feeds: int  # line feeds
    returns: int  # carriage returns
    pairs: int  # carriage return + line feed
    quotes: int
    nuls: int

    @property
    def one_line_end(self) -> bool:
        """True when all lines end the same way."""
        if not self.returns:
            return True
        return self.returns == self.feeds == self.pairs or not self.feeds


def check_file(path: Path) -> Path:
    """The path when it is a readable, non-empty file; raises IntakeError saying what is wrong otherwise."""
    path = path.expanduser()
    try:
        if not path.exists():
            raise IntakeError(f"There is no file at {path}.", "Check the path; nothing was added.")
        if path.is_dir():
            raise IntakeError(f"{path} is a folder.", "Choose one file in it; nothing was added.")
        if not path.is_file():
            raise IntakeError(f"{path} is not a regular file.", "Save its content to a file first.")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise IntakeError(
            f"{path} cannot be read: {error.strerror}.", "Check its permissions; nothing was added.", str(error)
        ) from error
    if empty:
        raise IntakeError(f"{path.name} is empty.", "There is nothing in it to load.")
    return path


def identify(path: Path, format: str | None = None, encoding: str | None = None) -> FileKind:
    """Format and encoding of a file from its name and first megabyte; what is given is believed.

    Raises IntakeError for what is missing, unreadable, empty, of an unknown format, or no text at all.
    """
    path = check_file(path)
    size = path.stat().st_size
    if format is not None and format not in FORMATS:
        raise IntakeError(f"{format!r} is no format Winnow reads.", f"It reads {', '.join(FORMATS)}.")
    with path.open("rb") as file:
        magic = file.read(8)
    if format == "parquet" or (format is None and magic.startswith(b"PAR1")):
        return FileKind("parquet", "", False, size)
    if magic.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")) and format is None:
        raise IntakeError(
            f"{path.name} is an Excel workbook or another archive, which Winnow does not read.",
            "Save the sheet as CSV and load that; nothing was added.",
        )
    gzipped = magic.startswith(b"\x1f\x8b")
    head = read_head(path, gzipped)
    if not head:
        raise IntakeError(f"{path.name} is empty.", "There is nothing in it to load.")
    if encoding is not None:
        _check_codec(encoding)
    found = encoding or _guess_encoding(head, path.name)
    text = head.decode(found, errors="replace")
    return FileKind(format or _guess_format(path, gzipped, text), found, gzipped, size)


def read_head(path: Path, gzipped: bool, size: int = HEAD_BYTES) -> bytes:
    """The first `size` bytes of the content, decompressed."""
    with open_bytes(path, gzipped) as file:
        return read_some(file, size, path.name)


def read_some(file: IO[bytes], size: int, name: str) -> bytes:
    """Read up to `size` bytes; damage in a compressed file becomes an IntakeError."""
    try:
        return file.read(size)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IntakeError(
            f"{name} is compressed with gzip, but damaged or cut short.",
            "Fetch or compress it again; nothing was added.",
            str(error),
        ) from error


@contextmanager
def open_bytes(path: Path, gzipped: bool) -> Iterator[IO[bytes]]:
    """The content of a file as bytes, decompressed when `gzipped`."""
    if gzipped:
        with gzip.open(path, "rb") as packed:
            yield packed  # type: ignore[misc]  # GzipFile reads bytes like any other file
    else:
        with path.open("rb") as plain:
            yield plain


def scan(path: Path, kind: FileKind, given_encoding: str | None, tick: Tick) -> Scan:
    """Read the whole file once: digest, line ends, and whether the guessed encoding holds to the end.

    `tick` is called with the share of the file read, 0 to 1, and may raise to stop. A file that starts as
    UTF-8 and turns out not to be is taken as Windows-1252 (or Latin-1), unless most of its other characters
    are sound UTF-8: then it is UTF-8 with damaged lines, and those lines become rejects.
    """
    counted = _Counter(kind.encoding)
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as raw:
        if kind.gzipped:
            while block := raw.read(CHUNK_BYTES):
                digest.update(block)
            raw.seek(0)
        with open_bytes(path, kind.gzipped) as file:
            done = 0
            while block := read_some(file, CHUNK_BYTES, path.name):
                if not kind.gzipped:
                    digest.update(block)
                counted.add(block)
                done += len(block)
                tick(min(1.0, done / max(1, kind.size)))
    found = counted.result(digest.hexdigest())
    if found.valid or given_encoding is not None or kind.encoding not in ("utf-8", "utf-8-sig"):
        return found
    if counted.bad * 10 <= counted.good:
        return found
    return replace(found, encoding="latin-1" if counted.beyond_cp1252 else "cp1252", valid=True)


def digest_of(path: Path, tick: Tick) -> str:
    """BLAKE2b-128 of a file's bytes."""
    digest = hashlib.blake2b(digest_size=16)
    size = max(1, path.stat().st_size)
    done = 0
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
            done += len(block)
            tick(min(1.0, done / size))
    return digest.hexdigest()


class _Counter:
    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
        self._lenient: codecs.IncrementalDecoder | None = None
        self._last = b""
        self.feeds = self.returns = self.pairs = self.quotes = self.nuls = 0
        self.bad = self.good = 0
        self.valid = True
        self.beyond_cp1252 = False

    def add(self, block: bytes) -> None:
        self.feeds += block.count(b"\n")
        self.quotes += block.count(b'"')
        self.nuls += block.count(b"\0")
        if b"\r" in block:
            self.returns += block.count(b"\r")
            self.pairs += block.count(b"\r\n")
        if self._last == b"\r" and block.startswith(b"\n"):
            self.pairs += 1
        self._last = block[-1:]
        if self.encoding in ("utf-8", "utf-8-sig") and block.isascii() and not self._pending():
            return
        if not self.beyond_cp1252 and _NOT_CP1252.search(block):
            self.beyond_cp1252 = True
        if self._lenient is None:
            before = self._decoder.getstate()
            try:
                text = self._decoder.decode(block)
            except UnicodeError:
                self.valid = False
                self._lenient = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
                if self.encoding in ("utf-8", "utf-8-sig"):
                    self._lenient.setstate((before[0], 0))
            else:
                self.good += sum(1 for _ in re.finditer(r"[^\x00-\x7f]", text)) if self.good < 1 << 20 else 0
                return
        text = self._lenient.decode(block)
        escaped = len(re.findall(r"[\udc80-\udcff]", text))
        self.bad += escaped
        self.good += len(re.findall(r"[^\x00-\x7f]", text)) - escaped

    def _pending(self) -> bool:
        return self._lenient is not None or bool(self._decoder.getstate()[0])

    def result(self, digest: str) -> Scan:
        if self.valid:
            try:
                self._decoder.decode(b"", True)
            except UnicodeError:
                self.valid = False
                self.bad += 1
        ends = self.feeds + self.returns - self.pairs
        lines = ends + (self._last not in (b"\n", b"\r", b""))
        return Scan(
            digest, self.encoding, self.valid, lines, self.feeds, self.returns, self.pairs, self.quotes, self.nuls
        )


def _check_codec(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
        b"".decode(encoding)
    except LookupError as error:
        raise IntakeError(
            f"{encoding!r} is no text encoding this machine knows.", 'Common ones are "utf-8" and "cp1252".'
        ) from error


def _guess_encoding(head: bytes, name: str) -> str:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    sample = head[: 1 << 16]
    # UTF-16 of mostly Latin text has a NUL in every other byte; UTF-8 text has none.
    half = max(1, len(sample) // 2)
    even, odd = sample[0::2].count(0) / half, sample[1::2].count(0) / half
    if odd > 0.3 and even < 0.1:
        return "utf-16-le"
    if even > 0.3 and odd < 0.1:
        return "utf-16-be"
    controls = len(sample) - len(sample.translate(None, _CONTROL))
    if controls > 0.05 * len(sample):
        raise IntakeError(
            f"{name} is not a text file.",
            f"Winnow reads {', '.join(FORMATS)}. If this is text in an unusual encoding, name the encoding.",
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        escaped = head.decode("utf-8", errors="surrogateescape")
        bad = len(re.findall(r"[\udc80-\udcff]", escaped))
        good = len(re.findall(r"[^\x00-\x7f]", escaped)) - bad
        if bad * 10 <= good:
            return "utf-8"
        return "latin-1" if _NOT_CP1252.search(head) else "cp1252"
    return "utf-8"


def _guess_format(path: Path, gzipped: bool, head: str) -> str:
    name = path.name.lower()
    if gzipped and name.endswith((".gz", ".gzip")):
        name = name.rsplit(".", 1)[0]
    found = _BY_SUFFIX.get(Path(name).suffix)
    start = head.lstrip("\ufeff \t\r\n")
    if found == "json" or (found is None and start.startswith(("{", "["))):
        return "jsonl" if _looks_like_lines(start) else "json"
    if found is not None:
        return found
    first = head.split("\n", 1)[0]
    if "\t" in first:
        return "tsv"
    return "csv" if "," in first or ";" in first else "text"


def _looks_like_lines(start: str) -> bool:
    # Two objects, each complete on its own line, are JSONL whatever the file is called.
    lines = [line.strip() for line in start.splitlines()[:2]]
    if len(lines) < 2:
        return False
    return all(line.startswith("{") and line.endswith("}") for line in lines)
