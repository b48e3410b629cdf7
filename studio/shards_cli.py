"""`winnow shards export` and `winnow merge`: facts as lines of JSON, and those of any machines as one table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studio.places import engine_folder
from studio.terminal import Bar, say
from workspace.errors import ExportError, IntakeError

if TYPE_CHECKING:
    from engine.shards.merge import Report

INTERRUPTED = 130  # exit code: Ctrl-C
SHOWN = 10  # bad lines and pairs of machines that are told on the screen; the report has all

shards = typer.Typer(no_args_is_help=True, help="The facts of all machines as lines of JSON.")


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.add_typer(shards, name="shards")
    app.command()(merge)


@shards.callback()
def _shards() -> None:
    """The facts of all machines as lines of JSON."""


@shards.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the shards lie or shall lie.")],
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="The workspace file.", envvar="WINNOW_WORKSPACE")
    ] = Path("winnow.duckdb"),
    state: Annotated[
        Path | None,
        typer.Option(help="State folder of an engine instead of a workspace."),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Beginning of a run's id: only its facts.")] = None,
) -> None:
    """Write each machine's facts as a file of JSON lines. Run again, it appends what is new."""
    from engine.cluster.ledger_view import LedgerView
    from engine.shards.export import export as write_shards
    from engine.shards.sources import LEDGER

    ledger = (state or engine_folder(workspace)).expanduser() / LEDGER
    if not ledger.is_file():
        raise IntakeError(
            f"Nothing was labeled yet: there is no {ledger}.",
            "Name a workspace with -w or an engine with --state.",
        )
    run_id = ""
    if run:
        with LedgerView(ledger) as view:
            found = [known for known in view.runs() if known.startswith(run)]
        if len(found) != 1:
            raise IntakeError(
                f"{len(found) or 'No'} runs begin with {run}.",
                "winnow status shows the runs; nothing was changed.",
            )
        run_id = found[0]
    with _interruptible():
        written = write_shards(ledger, folder.expanduser(), run_id)
    for shard in written:
        if shard.added:
            say(f"{shard.added:,} facts added to {shard.path}")
        if shard.waiting:
            say(f"{shard.path.name} goes on later: {shard.waiting}.")
    if not any(shard.added for shard in written):
        say(f"{folder} is up to date.")


def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders with shards, or state folders of engines.", metavar="DIR"),
    ],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="Where to write: .parquet, .csv or .jsonl.")],
    report: Annotated[Path | None, typer.Option(help="Where to write the report as JSON.")] = None,
) -> None:
    """Unite the facts of any machines into one table: each row once, with the label that counts."""
    import msgspec

    from engine.shards.merge import merge as unite
    from engine.shards.table import format_of

    format = format_of(out_file)
    if report is not None and not report.expanduser().parent.is_dir():
        raise IntakeError(f"The folder of {report} does not exist.", "Create it first; nothing was written.")
    with _interruptible(), Bar("Reading") as bar:
        done = unite(sources, out_file, format, lambda facts: bar.show(facts, 0, f"{facts:,} facts"))
    if report is not None:
        try:
            report.expanduser().write_bytes(msgspec.json.format(msgspec.json.encode(done)) + b"\n")
        except OSError as error:
            raise ExportError(f"{report} could not be written.", f"{out_file} was.", str(error)) from error
    for line in told(done):
        say("".join(letter if letter.isprintable() else "?" for letter in line))  # names are other people's
    say(f"{done.written:,} lines written to {out_file}")


def told(report: Report) -> Iterator[str]:
    """The report in words."""
    outcome = report.outcome
    sources = len(report.sources)
    again = f", {outcome.duplicates:,} of them more than once" if outcome.duplicates else ""
    yield f"{outcome.facts:,} facts about {outcome.rows:,} rows in {sources} shard{'s' * (sources != 1)}{again}"
    for author in outcome.authors:
        worker = author.worker or "people"
        yield f"  {worker} ({author.author[:8]}): {author.facts:,} facts, {author.counted:,} of them count"
    if outcome.repeated:
        yield f"{outcome.repeated:,} labeled more than once, {outcome.conflicts:,} of them differently"
    workers = {author.author: author.worker or author.author[:8] for author in outcome.authors}
    for pair in sorted(outcome.agreement, key=lambda pair: -pair.compared)[:SHOWN]:
        share = pair.agreed / pair.compared
        yield f"  {workers[pair.one]} and {workers[pair.other]} agree on {share:.1%} of {pair.compared:,}"
    if outcome.decided:
        yield f"{outcome.decided:,} decided by people; about {outcome.disputed:,} of them they disagree"
    if outcome.errors:
        yield f"{outcome.errors:,} without a label; the reason is in the column error"
    if outcome.contradicted:
        yield f"{outcome.contradicted:,} facts are told in different words: somebody changed a shard"
    torn = sum(source.torn for source in report.sources)
    if torn:
        yield f"{torn} shard{'s end' if torn > 1 else ' ends'} in a half written line, which was left out"
    for source in report.sources:
        yield from (f"{source.path} goes on later: {why}" for why in source.waiting)
    if report.bad_lines:
        are = "line is no fact and was" if report.bad_lines == 1 else "lines are no facts and were"
        yield f"{report.bad_lines:,} {are} left out:"
        yield from (f"  {bad.file}:{bad.line}: {bad.why}" for bad in islice(report.bad, SHOWN))


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
