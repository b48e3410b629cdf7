"""`winnow helper`, and the options with which any engine is told how to work with other machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from studio import places, service
from studio.terminal import explain, say
from workspace.errors import WinnowError

if TYPE_CHECKING:
    from engine.cluster.options import EngineOptions

Mode = Annotated[
    Literal["auto", "server", "client"],
    typer.Option(help="server: prefers to hand out the work; client: never does."),
]
PreferLeader = Annotated[bool, typer.Option("--prefer-leader", help="The same as --mode server.")]
Batch = Annotated[
    int, typer.Option(min=0, max=512, help="Rows this machine takes at most at a time; 0: 1 to 2 seconds of work.")
]
Peers = Annotated[
    str, typer.Option(metavar="HOST:PORT,...", help="Other machines, where they do not find each other.")
]


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(helper)


def engine_options(
    mode: Literal["auto", "server", "client"] = "auto",
    prefer_leader: bool = False,
    batch: int = 0,
    peers: str = "",
    *,
    name: str = "",
    listen: str = "",
    find: str = "all",
    stay: bool = False,
) -> EngineOptions:
    """Checked options for an engine. Raises WinnowError."""
    from engine.cluster import addresses, options

    if prefer_leader and mode == "client":
        raise WinnowError("--prefer-leader and --mode client contradict each other.", "Leave one of them out.")
    others = tuple(peer.strip() for peer in peers.split(",") if peer.strip())
    for other in others:
        addresses.parse(other)
    if listen:
        options.host_port(listen)
    return options.EngineOptions(
        stay=stay,
        name=name,
        mode="server" if prefer_leader else mode,
        batch=batch,
        listen=listen,
        peers=others,
        find=find,
    )


def helper(
    state: Annotated[
        Path | None, typer.Option(help="Folder of its keys and labels.", envvar=places.VARIABLE, show_envvar=True)
    ] = None,
    name: Annotated[str, typer.Option(help="What other machines call this one.")] = "",
    mode: Mode = "auto",
    prefer_leader: PreferLeader = False,
    batch: Batch = 0,
    peers: Peers = "",
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where paired machines are let in.")] = "",
    find: Annotated[
        str, typer.Option(help="Look for machines on all networks, none, or these addresses.")
    ] = "all",
    api_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Serve /status, /peers and /metrics on this port of loopback.")
    ] = 0,
    code: Annotated[bool, typer.Option("--code", help="Show a code, also when paired already.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say what the running helper does.")] = False,
    start_over: Annotated[
        bool, typer.Option("--start-over", help="After a removal: set keys and labels aside, be a new machine.")
    ] = False,
    install_service: Annotated[
        bool, typer.Option("--install-service", help="Print the file that starts the helper with this machine.")
    ] = False,
) -> None:
    """Work for the other machines you own: label what they share out, keep a copy of every label."""
    folder = (state or places.helper_folder()).expanduser().absolute()
    options = engine_options(mode, prefer_leader, batch, peers, name=name, listen=listen, find=find, stay=True)
    if install_service:
        file, how = service.for_this_system(_command(folder, options, api_port))
        say(file.rstrip("\n"))
        explain(how.rstrip("\n"))
        return
    from studio import helper as running

    screen = running.Screen()
    if status:
        raise typer.Exit(running.show_status(folder))
    if start_over:
        raise typer.Exit(running.start_over(folder))
    if code and running.runs(folder):
        raise typer.Exit(running.show_code(folder, screen))
    raise typer.Exit(running.Helper(folder, options, screen=screen, show_code=code, api_port=api_port).run())


def _command(folder: Path, options: EngineOptions, api_port: int) -> list[str]:
    """This very program with these options, for a service manager that knows no folder and no environment."""
    words = [sys.executable, "-P", "-m", "studio.cli", "helper", f"--state={folder}"]
    usual = type(options)()
    chosen = {option: getattr(options, option) for option in ("name", "mode", "batch", "listen", "find")}
    words += [f"--{option}={value}" for option, value in chosen.items() if value != getattr(usual, option)]
    if options.peers:
        words.append(f"--peers={','.join(options.peers)}")
    if api_port:
        words.append(f"--api-port={api_port}")
    return words
