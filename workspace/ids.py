"""Identifiers made from content, so that the same thing has the same name on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

ID_LENGTH = 32  # hexadecimal characters, 128 bits


def row_id(text: str) -> str:
    """Id of a text: the first 128 bits of SHA-256 over its UTF-8 bytes, as 32 hexadecimal characters.

    SHA-256 rather than BLAKE2b because DuckDB computes it inside the load statement, in parallel and
    without moving a million texts through Python; `substr(sha256(text), 1, 32)` is this function in SQL.
    Lone surrogates cannot be encoded and raise UnicodeEncodeError: decode input with replacement first.
    """
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:ID_LENGTH]


def content_id(parts: Iterable[str]) -> str:
    """BLAKE2b-128 over the parts, each preceded by its length, so that ("ab", "c") differs from ("a", "bc")."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8")
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()
