"""From a file's bytes to text, nothing silently changed: what cannot be decoded stays recognisable in its line."""

from __future__ import annotations

import codecs
from pathlib import Path

from workspace.errors import IntakeError
from workspace.formats import FileKind, read_head

JSON_BYTES = 1 << 30  # a JSON document is read whole


def decoded_head(path: Path, kind: FileKind, size: int) -> tuple[str, bool]:
    """The start of a file as text, and whether that is all of it. Undecodable bytes become lone surrogates."""
    raw = read_head(path, kind.gzipped, size + 1)
    complete = len(raw) <= size
    if not complete and kind.format == "json":
        raise IntakeError(
            f"{path.name} is larger than a JSON document may be ({size >> 20} MB).",
            "Save it as JSONL, one object on each line: that may have any size.",
        )
    try:
        decoder = codecs.getincrementaldecoder(kind.encoding)(errors=error_handler(kind.encoding))
        return decoder.decode(raw[:size], complete), complete
    except UnicodeError as error:
        raise wrong_encoding(path.name, kind.encoding, error) from error


def error_handler(encoding: str) -> str:
    """How bytes that are wrong in `encoding` are marked so that their line, and no other, is refused."""
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32"))
    return "surrogatepass" if wide else "surrogateescape"


def wrong_encoding(name: str, encoding: str, error: Exception) -> IntakeError:
    """The error for a file that is not in `encoding` at all."""
    return IntakeError(
        f"{name} is not {encoding} text throughout.", "Choose another encoding; nothing was added.", str(error)
    )


def clean(text: str) -> str:
    """The text with what cannot be shown or stored (halves of surrogate pairs) replaced by U+FFFD."""
    return text.encode("utf-8", errors="replace").decode("utf-8") if not text.isascii() else text
