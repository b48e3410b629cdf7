"""Texts that have gone wrong somewhere: what examples and laws are drawn from."""

from __future__ import annotations

import json

from hypothesis import strategies as st

HARD = (
    "👩‍💻👨‍👩‍👧‍👦",
    "👋🏽",
    "🇩🇪🇫🇷",
    "❤️",
    "1️⃣",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "\u200d",
    "\ufe0f",
    "\r\n",
    "\r",
    "\n\n",
    "\u2028",
    "\x85",
    " \t ",
    "\xa0",
    "שלום עולם",
    "مرحبا",
    "\u202eabc\u202c",
    "e\u0301",
    "é",
    "Z\u0300\u0301\u0302\u0303",
    "İstanbul",
    "ΑΣ ΟΔΟΣ",
    "ß",
    "ﬁ",
    "日本語。",
    "IMO",
    "don't",
    "DON’T",
    "lol",
    "w/o",
    "u",
    "acme",
    "<ENT>",
    "</ent >",
    "Ada Lovelace",
    "http://lol.com/u?imo",
    "@lol",
    "one. two! three? ",
    "[",
    '{"role"',
)
pieces = st.one_of(st.sampled_from(HARD), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
texts = st.lists(st.one_of(pieces, st.just(" ")), max_size=14).map("".join)


def _conversation(said: list[tuple[str, str]], style: str, ascii_only: bool) -> str:
    if style == "sharegpt":
        data: object = [{"from": "human" if role == "user" else "gpt", "value": text} for role, text in said]
    else:
        data = [{"content": text, "role": role} for role, text in said]
    if style == "wrapped":
        data = {"id": "messages", "messages": data}
    return json.dumps(data, ensure_ascii=ascii_only)


conversations = st.builds(
    _conversation,
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), texts), min_size=1, max_size=4),
    st.sampled_from(["sharegpt", "openai", "wrapped"]),
    st.booleans(),
)
