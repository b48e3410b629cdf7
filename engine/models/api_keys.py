"""API keys of servers: from the environment or the system's own key store, never in a file of ours.

A key is read when a server is connected, goes into the header of requests to that server, and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
from typing import Any

from engine.models.addresses import host_of, nearby
from workspace.errors import ModelError

SERVICE = "winnow"  # in the system's key store; the user name there is the server's name
OPENAI_HOST = "api.openai.com"
PATIENCE = 20.0  # seconds for the key store, which may ask a person to unlock it
HIDDEN = "(key)"  # stands where a server repeats a key
_SHORT = 8  # characters; shorter ones are placeholders such as "none", and words anywhere


def variable(server: str) -> str:
    """The environment variable with a server's key, e.g. WINNOW_API_KEY_MY_SERVER for "my-server"."""
    return "WINNOW_API_KEY_" + re.sub(r"[^A-Z0-9]", "_", server.upper())


def key_for(server: str, address: str) -> str:
    """The key for this server, "" where there is none.

    Raises ModelError where it would travel unencrypted through the internet, or cannot be sent in a header.
    """
    key = os.environ.get(variable(server), "").strip()
    if not key and host_of(address) == OPENAI_HOST and address.startswith("https://"):
        key = os.environ.get("OPENAI_API_KEY", "").strip()
    key = key or _stored(server)
    if not key:
        return ""
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ModelError(f"The API key for '{server}' is not one line of plain characters.", "Set it again.")
    if address.startswith("http://") and not nearby(address):
        raise ModelError(
            f"The key for '{server}' was not sent: its address is not encrypted.", "Use an https:// address."
        )
    return key


def remember(server: str, key: str) -> None:
    """Keep a key in the system's key store. Raises ModelError where there is none."""
    if not _in_store("set_password", server, key)[0]:
        raise ModelError(
            "This system has no key store that can be used.",
            f"Set the environment variable {variable(server)} instead. The key was not kept.",
        )


def forget(server: str) -> None:
    """Remove a key from the system's key store; nothing happens where there is none."""
    _in_store("delete_password", server)


def _stored(server: str) -> str:
    worked, value = _in_store("get_password", server)
    return value.strip() if worked and isinstance(value, str) else ""


def _in_store(method: str, *arguments: str) -> tuple[bool, Any]:
    """Whether the key store did it, and what it returned. Key stores fail in many ways, and may wait forever for
    somebody to unlock them: what they say is not passed on, it may hold the key."""
    outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            import keyring

            outcome.put((True, getattr(keyring, method)(SERVICE, *arguments)))
        except Exception:  # noqa: BLE001 - whatever a key store raises, and it may hold the key
            outcome.put((False, None))

    threading.Thread(target=work, name="key-store", daemon=True).start()
    with contextlib.suppress(queue.Empty):
        return outcome.get(timeout=PATIENCE)
    return False, None


def without_key(text: str, key: str) -> str:
    """The text with the key hidden: servers repeat it in their errors."""
    return text.replace(key, HIDDEN) if len(key) >= _SHORT else text
