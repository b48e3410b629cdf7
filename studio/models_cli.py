"""`winnow models list | add | test | remove | key`: which models there are, and how new ones come here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from studio.terminal import Bar, explain, say
from workspace.errors import IntakeError

models = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, help="Models: list, add, test and remove them."
)


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(models, name="models")


@models.command("list")
def list_models() -> None:
    """Show the models that can be used now, and those that can be added by name."""
    from engine.cluster.capacity import gigabytes
    from studio import model_manager as manager

    found = manager.overview()
    say("Models that can be used now")
    for item in found.installed:
        facts = [item.place, *([gigabytes(item.size)] if item.size else [])]
        if item.speed is not None and item.speed.rows_per_s:
            facts.append(f"{item.speed.rows_per_s:,.1f} rows/s when tested ({', '.join(item.speed.capabilities)})")
        say(f"  {item.asked_as if item.place != 'models folder' else item.model.name}: {', '.join(facts)}")
        if item.problem:
            say(f"    {item.problem}")
    for server in found.unreachable:
        say(f"  {server.server.name}: {server.problem}")
    say("Models that can be added: winnow models add NAME")
    for offer in found.offers:
        one = offer.known
        state = " (added)" if offer.installed else f"  {offer.problem}" if offer.problem else ""
        say(f"  {one.name}: {gigabytes(one.size)}, needs {gigabytes(one.memory)} of memory, {one.licence}{state}")
        say(f"    {one.title}: {one.good_for}")


@models.command()
def add(
    what: Annotated[
        str,
        typer.Argument(help="A name of the list, a path, a web address, hf:OWNER/NAME/FILE.gguf or ollama:NAME."),
    ],
    address: Annotated[
        str, typer.Argument(help="Of a server, after openai:NAME or ollama:NAME.", show_default=False)
    ] = "",
    name: Annotated[str, typer.Option(help="What the model is to be called, for a web address.")] = "",
    sha256: Annotated[str, typer.Option(help="What the file's checksum must be, for a web address.")] = "",
    link: Annotated[
        bool, typer.Option("--link", help="Link a file of this machine instead of copying it.")
    ] = False,
) -> None:
    """Add a model, or a server that has some. Cut off, the same command goes on where it stopped."""
    from studio import model_manager as manager

    if address:
        server = manager.add_server(what, address)
        say(f"{server.name} added: {server.in_words}")
        say(f"Its models: winnow models list. A key, if it needs one: winnow models key {server.name}")
        return
    with Bar(f"Adding {what}") as bar:
        model = manager.add(
            what,
            lambda share, words: bar.show(round(1000 * share), 1000, words),
            name=name,
            sha256=sha256,
            link=link,
        )
    say(f"{model.name} is ready. Try it: winnow models test {_quoted(model.name if '/' in model.path else what)}")


@models.command("test")
def try_out(
    what: Annotated[str, typer.Argument(help="A model of the list, or the path of a GGUF file.")] = "smollm2",
) -> None:
    """Have a model label five rows; says how fast it is here and what it can do."""
    from engine.models import catalog
    from studio import model_manager as manager

    model = catalog.resolve(what)
    with Bar(f"Testing {model.name}") as bar:
        tested = manager.try_out(model, lambda share, words: bar.show(round(100 * share), 100, words))
    for row, label, confidence, error in tested.labels:
        say(
            f"  {label or 'no label'} ({confidence:.0%})  {row}"
            if not error
            else f"  no label  {row}\n    {error}"
        )
    speed = tested.speed
    say(f"{model.name} ({speed.build})")
    say(f"  {speed.rows_per_s:,.1f} rows/s, loaded in {speed.loading:.1f} s, {speed.tokens} tokens")
    say(f"  {speed.readable:.0%} of the answers could be read")
    say(f"  can do: {', '.join(speed.capabilities) or 'plain answers only'}")
    if tested.weights:
        say(f"  fastest here: {tested.weights}")


@models.command()
def remove(
    what: Annotated[str, typer.Argument(help="A model of the models folder, or the name of a server.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model that was added, or forget a server. Asks before."""
    from studio import model_manager as manager

    words = manager.removable(what)
    if not yes:
        if not sys.stdin.isatty():
            raise IntakeError(f"This would remove {words}.", "Say --yes to do it; nothing was changed.")
        explain(f"This removes {words}.")
        if not typer.confirm("Remove it?", err=True):
            say("Nothing was changed.")
            return
    manager.remove(what)
    say("Removed.")


@models.command()
def key(server: Annotated[str, typer.Argument(help="Name of a server that was added.")]) -> None:
    """Keep a server's API key in this system's key store. It is asked for and not shown; empty removes it."""
    from engine.models import api_keys, servers

    if all(one.name != server.casefold() for one in servers.known()):
        raise IntakeError(
            f"There is no server called {server}.", "Add it first: winnow models add openai:NAME ADDRESS"
        )
    if sys.stdin.isatty():
        given = typer.prompt("Key", hide_input=True, default="", show_default=False, err=True)
    else:
        given = sys.stdin.readline()
    if not given.strip():
        api_keys.forget(server.casefold())
        say("The key store has no key for it now.")
        return
    api_keys.remember(server.casefold(), given.strip())
    say("Kept in the key store of this system.")


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
