"""Addresses of servers as people type them: checked, and told in words where rows would go."""

from __future__ import annotations

import ipaddress
import urllib.parse

from workspace.errors import ModelError


def checked(typed: str, default_port: int | None = None) -> str:
    """The address with its scheme and without a slash at its end. Raises ModelError with what is wrong.

    `default_port` is taken where neither scheme nor port was typed, as the server's own tools do.
    """
    text = typed.strip()
    bare = "://" not in text
    try:
        parts = urllib.parse.urlsplit(f"http://{text}" if bare else text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _wrong("This is not an address.", str(error)) from None
    if parts.username is not None or parts.password is not None:
        # Not shown again: it holds a password.
        raise ModelError("An address has no user name or password in it.", "Keys have their own place.")
    if parts.scheme not in ("http", "https"):
        raise _wrong("An address starts with http:// or https://.", text)
    if parts.query or parts.fragment:
        raise _wrong("An address has no ? and no # in it.", "")
    if not host or any(letter.isspace() or not letter.isprintable() for letter in text) or "\\" in text:
        raise _wrong("This is not an address.", text)
    if bare and port is None:
        port = default_port
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port is not None else ''}{parts.path.rstrip('/')}"


def _wrong(title: str, details: str) -> ModelError:
    return ModelError(title, "It looks like http://127.0.0.1:8080.", details)


def host_of(address: str) -> str:
    """The host alone, e.g. "api.openai.com"."""
    return urllib.parse.urlsplit(address).hostname or ""


def here(address: str) -> bool:
    """Whether the server is on this machine."""
    host = host_of(address)
    number = _number(host)
    return host == "localhost" or (number is not None and number.is_loopback)


def nearby(address: str) -> bool:
    """Whether the server is on this machine or, by its number, in a network of one's own."""
    number = _number(host_of(address))
    return here(address) or (number is not None and number.is_private)


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def in_words(address: str) -> str:
    """Where the rows go, in a sentence for people."""
    if here(address):
        return f"Rows stay on this machine: the server at {address} gets them."
    how = "encrypted" if address.startswith("https://") else "unencrypted"
    if nearby(address):
        return f"Rows are sent {how} to {host_of(address)}, another machine of your network."
    return f"Rows are sent {how} to {host_of(address)}, a computer of somebody else."
