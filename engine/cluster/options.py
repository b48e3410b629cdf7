"""How an engine process is told to behave: the options of its command line, and back into one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.cluster import addresses
from engine.cluster.entries import BLOCK_ROWS
from engine.cluster.messages import Mode
from workspace.errors import EngineError

IDLE_SECONDS = 60.0  # without work and without a client


class EngineOptions(msgspec.Struct, frozen=True):
    """What may be chosen when an engine is started."""

    idle_seconds: float = IDLE_SECONDS
    stay: bool = False  # a helper: it ends only when told
    name: str = ""  # what people call this machine; empty: as its system does
    mode: Mode = "auto"
    batch: int = 0  # rows of the largest claim this machine takes; 0: no wish
    listen: str = ""  # host:port for other machines; empty: any, once this machine is paired
    peers: tuple[str, ...] = ()  # host:port of other machines, where the network does not tell
    find: str = "all"  # where machines are looked for: "all" networks, "none", or addresses of this machine

    def arguments(self) -> list[str]:
        """The command line that says the same."""
        usual = EngineOptions()
        words = [
            f"--{field.replace('_', '-')}={getattr(self, field)}"
            for field in ("idle_seconds", "name", "mode", "batch", "listen", "find")
            if getattr(self, field) != getattr(usual, field)
        ]
        if self.stay:
            words.append("--stay")
        if self.peers:
            words.append(f"--peers={','.join(self.peers)}")
        return words


def parse(arguments: list[str] | None = None) -> tuple[Path, EngineOptions]:
    """State folder and options of a command line; ends the process when they make no sense."""
    usual = EngineOptions()
    parser = argparse.ArgumentParser(prog="python -m engine", description="Label the runs of a workspace.")
    add = parser.add_argument
    add("state_dir", type=Path, help="folder of the ledger, made if missing")
    add(
        "--idle-seconds",
        type=float,
        default=usual.idle_seconds,
        help="end after so long without work and without a client (default: %(default)s)",
    )
    add("--stay", action="store_true", help="never end for want of work: a helper of other machines")
    add("--name", default=usual.name, help="what people call this machine (default: as its system does)")
    add(
        "--mode",
        choices=("auto", "server", "client"),
        default=usual.mode,
        help="server: prefers to lead the others; client: never leads (default: %(default)s)",
    )
    add("--prefer-leader", action="store_const", const="server", dest="mode", help="the same as --mode server")
    add(
        "--batch",
        type=_batch,
        default=usual.batch,
        metavar="ROWS",
        help="rows of the largest claim this machine takes (default: what it does in 1 to 2 seconds)",
    )
    add(
        "--listen",
        default=usual.listen,
        type=_host_port,
        metavar="HOST:PORT",
        help="let paired machines in here (default: any address and port, once this machine is paired)",
    )
    add(
        "--peers",
        type=_peers,
        default=usual.peers,
        metavar="HOST:PORT,...",
        help="where other machines may be reached, for networks without multicast",
    )
    add(
        "--find",
        default=usual.find,
        metavar="ADDRESSES",
        help="look for machines on these addresses of this machine: all, none, or a list (default: %(default)s)",
    )
    found = vars(parser.parse_args(arguments))
    return found.pop("state_dir"), EngineOptions(**found)


def host_port(text: str) -> tuple[str, int]:
    """Where to listen: host and port of host:port. A port of 0 is any free one. Raises EngineError."""
    free = text.endswith(":0")
    place = addresses.parse(f"{text[:-2]}:1" if free else text)
    return place.host, 0 if free else place.port


def _host_port(text: str) -> str:
    return _said(host_port, text) if text else text


def _peers(text: str) -> tuple[str, ...]:
    return tuple(_said(addresses.parse, peer.strip()) for peer in text.split(",") if peer.strip())


def _said(parse: Callable[[str], object], text: str) -> str:
    try:
        parse(text)
    except EngineError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _batch(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= BLOCK_ROWS:
        raise argparse.ArgumentTypeError(f"from 1 to {BLOCK_ROWS} rows")
    return int(text)
