"""What an offer of a model's file says, and what can be wrong with it: size and hash of every piece."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from engine.cluster.messages import PIECE_BYTES, ModelOffer

MAX_OFFER_PIECES = 400_000  # an offer of more would not fit a message


def wrong_with(offer: ModelOffer, name: str) -> str:
    """Why an offer cannot be right, whatever the file; empty when it can."""
    if not offer.pieces or len(offer.pieces) != -(-offer.size // PIECE_BYTES):
        return f"The offer of {name} contradicts itself."
    if len(offer.pieces) > MAX_OFFER_PIECES:
        return f"The file of {name} is too large to be sent."
    return ""


def key(offer: ModelOffer) -> str:
    """The same for offers of the same pieces, whatever else they say."""
    value = hashlib.blake2b(offer.size.to_bytes(8, "big"), digest_size=16)
    for piece in offer.pieces:
        value.update(piece)
    return value.hexdigest()


def length(offer: ModelOffer, piece: int) -> int:
    """Bytes of a piece: all but the last are full."""
    return min(PIECE_BYTES, offer.size - piece * PIECE_BYTES)


def total(offer: ModelOffer, pieces: Collection[int]) -> int:
    """Bytes of these pieces together."""
    last = len(offer.pieces) - 1
    short = PIECE_BYTES - length(offer, last) if last in pieces else 0
    return len(pieces) * PIECE_BYTES - short


def is_piece(offer: ModelOffer, piece: int, data: bytes) -> bool:
    """Whether these bytes are that piece."""
    return (
        piece < len(offer.pieces) and len(data) == length(offer, piece) and piece_hash(data) == offer.pieces[piece]
    )


def piece_hash(data: bytes) -> bytes:
    """BLAKE2b-128, as in offers."""
    return hashlib.blake2b(data, digest_size=16).digest()
