"""The `winnow` command: open the studio, or load, label and export without it."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from studio import again_cli, helper_cli, models_cli, places, runtime, shards_cli
from studio.again_cli import watch
from studio.desk import Desk, Format, open_desk, studio_url
from studio.terminal import Bar, complain, say
from workspace import intake, kinds
from workspace.errors import IntakeError, TaskError, WinnowError, WorkspaceBusy
from workspace.facts import Settings
from workspace.task import Dimension, Task, parse_task, to_yaml
from workspace.tasks import bundled

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    help="Label text on your own machine. With no command: open the studio on this folder's workspace.",
)
USUAL = Settings()
MOST_SHARES = 8  # labels of a dimension told in the terminal
BAD_INPUT = 2  # exit code: a file, task or option is not right; nothing was changed
FAILED = 1  # exit code: the work was begun and could not be finished
INTERRUPTED = 130  # exit code: Ctrl-C

Workspace = Annotated[
    Path, typer.Option("--workspace", "-w", help="The workspace file.", envvar="WINNOW_WORKSPACE")
]
Port = Annotated[
    int | None, typer.Option(help="Port on this machine; the first free one from 8501 on if not given.")
]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Do not open the browser.")]
DEFAULT_WORKSPACE = Path("winnow.duckdb")
DEMO_WORKSPACE = Path("winnow-demo.duckdb")


@app.callback(invoke_without_command=True)
def open_studio(
    context: typer.Context,
    workspace: Workspace = DEFAULT_WORKSPACE,
    port: Port = None,
    no_browser: NoBrowser = False,
    mode: helper_cli.Mode = "auto",
    prefer_leader: helper_cli.PreferLeader = False,
    batch: helper_cli.Batch = 0,
    peers: helper_cli.Peers = "",
) -> None:
    """Label text on your own machine. With no command: open the studio on this folder's workspace."""
    if context.invoked_subcommand is None:
        runtime.engine_options = helper_cli.engine_options(mode, prefer_leader, batch, peers)
        _serve(workspace, port, no_browser)


@app.command()
def studio(
    workspace: Workspace = DEFAULT_WORKSPACE,
    join: Annotated[
        bool, typer.Option("--join", help="Open what this machine's helper knows of: all runs of its cluster.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="With --join: the helper's folder, if not the usual one.")
    ] = None,
    port: Port = None,
    no_browser: NoBrowser = False,
    mode: helper_cli.Mode = "auto",
    prefer_leader: helper_cli.PreferLeader = False,
    batch: helper_cli.Batch = 0,
    peers: helper_cli.Peers = "",
) -> None:
    """Open the studio; with --join on a helper, also when the machine it all began on is gone."""
    runtime.engine_options = helper_cli.engine_options(mode, prefer_leader, batch, peers)
    if join:
        workspace = _joined((state or places.helper_folder()).absolute())
    _serve(workspace, port, no_browser)


def _joined(folder: Path) -> Path:
    """The workspace of a studio on the helper of that folder. Raises WinnowError when there is none."""
    if not (folder / "ledger.sqlite").exists():
        raise WinnowError(
            f"There is no helper in {folder}.",
            "Start one with `winnow helper` and pair it, or say with --state where it is.",
        )
    say("This studio shows the runs, rows, labels and decisions this helper has; more come in by themselves.")
    say("Known labels from files and calibrations stay on the machine where they were made.")
    return places.joined_workspace(folder)


@app.command()
def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Where to keep it.")] = DEMO_WORKSPACE,
    port: Port = None,
    no_browser: NoBrowser = False,
) -> None:
    """Open the studio on the bundled sample: 500 tweets with human ratings, ready to label."""
    from studio.sample import open_sample
    from workspace.store import open_store

    try:
        store = open_store(workspace)
    except WorkspaceBusy:
        return _serve(workspace, port, no_browser)
    try:
        open_sample(store, "tweets")
    finally:
        store.close()
    return _serve(workspace, port, no_browser)


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, JSON, Parquet or plain text.")],
    workspace: Workspace = DEFAULT_WORKSPACE,
    text: Annotated[list[str] | None, typer.Option(help="Column holding the text; may be repeated.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column holding your own id.")] = None,
    domain: Annotated[str | None, typer.Option(help="Column holding the domain.")] = None,
    gold: Annotated[list[str] | None, typer.Option(help="DIMENSION=COLUMN holding known labels.")] = None,
) -> None:
    """Load a file into the workspace."""
    mapping = _mapping(file, text, id_column, domain, gold)
    with _desk(workspace) as desk:
        _load(desk, file, mapping)


@app.command()
def label(
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, JSON, Parquet or plain text.")],
    task: Annotated[str, typer.Option(help="Name of a bundled task, or a path to a task document.")],
    out_file: Annotated[
        Path, typer.Option("--out", "-o", help="Where to write the labels: .csv, .jsonl, .parquet.")
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Label at most this many rows of the file.")] = None,
    sample: Annotated[str, typer.Option(help="Which rows a limit takes: first or random.")] = "first",
    model: again_cli.Model = "smollm2",
    workspace: Workspace = DEFAULT_WORKSPACE,
    text: Annotated[list[str] | None, typer.Option(help="Column holding the text; may be repeated.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column holding your own id.")] = None,
    domain: Annotated[str | None, typer.Option(help="Column holding the domain.")] = None,
    gold: Annotated[list[str] | None, typer.Option(help="DIMENSION=COLUMN holding known labels.")] = None,
    cache: again_cli.Cache = True,
    samples: again_cli.Samples = 1,
    temperature: again_cli.Temperature = 0.7,
    concurrency: again_cli.Concurrency = 0,
    timeout: again_cli.Timeout = USUAL.timeout,
    price_in: again_cli.PriceIn = 0.0,
    price_out: again_cli.PriceOut = 0.0,
    budget: again_cli.Budget = None,
    monitored: again_cli.Monitored = True,
) -> None:
    """Label the rows of a file and write the labels. Stopped or killed, the same command goes on."""
    format = _format(out_file)
    if sample not in ("first", "random"):
        raise IntakeError(f"--sample is first or random, not {sample}.", "Nothing was changed.")
    chosen = _task(task)
    settings = Settings(
        samples=samples,
        temperature=temperature if samples > 1 else USUAL.temperature,
        timeout=timeout,
        concurrency=concurrency,
        cache=cache,
        budget=budget,
        price_in=price_in,
        price_out=price_out,
    )
    mapping = _mapping(file, text, id_column, domain, gold, chosen.dimensions)
    with _desk(workspace) as desk:
        loaded = _load(desk, file, mapping)
        task_id = desk.save_task(to_yaml(chosen))
        run_id = desk.start(task_id, model, limit, sample, loaded.import_id, settings)
        standing = watch(desk, run_id)
        result = desk.export(run_id, out_file, format, loaded.import_id, monitored)
        for part in result.dimensions:
            most = part.shares[:MOST_SHARES]
            shown = [f"{name or 'no label'} {count / result.rows:.0%}" for name, count in most]
            more = len(part.shares) - len(shown)
            say(f"{part.dimension}: {', '.join(shown)}" + (f" and {more} more" if more > 0 else ""))
            if part.checked:
                agree = part.right / part.checked
                say(f"  {agree:.0%} of {part.checked:,} rows agree with the labels that came with the file")
        say(f"{result.rows:,} rows written to {out_file}")
        if standing.failed:
            say(f"{standing.failed:,} rows have no label; the reason is in the column warnings.")
        say(f"To review the doubtful ones: winnow --workspace {workspace}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write: .csv, .jsonl or .parquet.")],
    workspace: Workspace = DEFAULT_WORKSPACE,
    run: Annotated[
        str | None, typer.Option(help="Beginning of the run's id; the newest run if not given.")
    ] = None,
    monitored: again_cli.Monitored = True,
) -> None:
    """Write the current labels of a run: text, label, confidence, and who decided."""
    format = _format(file)
    with _desk(workspace, create=False) as desk:
        found = [r for r in desk.runs() if r.id.startswith(run or "")]
        if not found:
            raise IntakeError("This workspace has no such run yet.", "Label something first: winnow label --help")
        result = desk.export(found[0].id, file, format, None, monitored)
        say(f"{result.rows:,} rows of {found[0].task_title} ({found[0].model_name}) written to {file}")


@app.command()
def status(workspace: Workspace = DEFAULT_WORKSPACE) -> None:
    """Show the runs of the workspace and how far they are."""
    with _desk(workspace, create=False) as desk:
        runs = desk.runs()
        if not runs:
            say("No runs yet. Label something: winnow label --help")
        for run in runs:
            progress = desk.standing(run.id).progress
            state = progress.state if progress else ("not running" if run.rows_left else "done")
            failed = f", {run.failed_rows:,} failed" if run.failed_rows else ""
            counts = f"{run.labeled_rows:,} of {run.rows:,} rows labeled{failed}"
            about = f", has a say in {run.part_of[:8]}" if run.part_of else ""
            say(f"{run.id[:8]}  {run.task_title}, {run.model_name}: {counts} ({state}{about})")


helper_cli.add_to(app)
shards_cli.add_to(app)
models_cli.add_to(app)


class Interrupted(WinnowError):
    """Ctrl-C."""


@contextmanager
def _desk(workspace: Path, *, create: bool = True) -> Iterator[Desk]:
    """The desk of a workspace, closed at the end. Raises Interrupted for Ctrl-C, after closing."""
    desk = open_desk(workspace, create=create)
    try:
        yield desk
    except KeyboardInterrupt:
        raise Interrupted("Stopped.", "What was done is saved; the same command goes on.") from None
    finally:
        desk.close()


def _serve(workspace: Path, port: int | None, no_browser: bool) -> None:
    from studio.server import serve  # brings Streamlit, half a second nothing else here needs

    workspace = workspace.expanduser().absolute()  # the server works in a folder of its own
    try:
        serve(workspace, port=port, open_browser=not no_browser)
    except WorkspaceBusy:
        url = studio_url(workspace)
        if url is None:
            raise
        say(f"{workspace.name} is already open at {url}")
        if not no_browser:
            webbrowser.open(url)


def _format(path: Path) -> Format:
    formats: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
    try:
        return formats[path.suffix.lower()]
    except KeyError:
        raise IntakeError(
            f"{path.name} does not end in .csv, .jsonl or .parquet.",
            "The ending chooses the format; nothing was changed.",
        ) from None


def _task(task: str) -> Task:
    known = bundled()
    if task in known:
        return known[task]
    path = Path(task).expanduser()
    if not path.is_file():
        raise TaskError(
            f"There is no task {task}.",
            f"Bundled tasks: {', '.join(sorted(known))}. Or give the path of a task document.",
        )
    try:
        document = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read as text.", "Nothing was changed.", str(error)) from error
    return parse_task(document)


def _mapping(
    file: Path,
    text: list[str] | None,
    id_column: str | None,
    domain: str | None,
    gold: list[str] | None,
    dimensions: Sequence[Dimension] = (),
) -> intake.Mapping:
    """The columns that were named, else the best guess; one called like a dimension has its known labels."""
    preview = intake.preview(file)
    guess = preview.suggestion
    pairs = dict(pair.split("=", 1) for pair in gold or [] if "=" in pair)
    if len(pairs) < len(gold or []):
        raise IntakeError("--gold is written DIMENSION=COLUMN.", "For example --gold sentiment=label.")
    wanted = [*(text or []), *filter(None, [id_column, domain]), *pairs.values()]
    for name in wanted:
        if name not in preview.columns:
            raise IntakeError(
                f"{file.name} has no column {name}.",
                f"Its columns: {', '.join(preview.columns)}. Nothing was changed.",
            )
    columns = tuple(text) if text else guess.text
    if not columns:
        raise IntakeError(
            f"{file.name} has no column that looks like text.",
            f"Name one with --text. Its columns: {', '.join(preview.columns)}. Nothing was changed.",
        )
    if not pairs:
        pairs = {one.name: one.name for one in dimensions if one.name in {*preview.columns} - {*columns}}
    if not pairs and len(dimensions) == len(guess.gold) == 1:
        # The right labels, or those of quite another question: then they are none of this dimension.
        (dimension,), (column,) = dimensions, guess.gold.values()
        read = kinds.reader(dimension.kind, dimension.label_names)
        if any(read(row[column]) is not None for row in preview.rows):
            pairs = {dimension.name: column}
    return intake.Mapping(
        text=columns,
        template=None if text else guess.template,
        id=id_column or guess.id,
        domain=domain or (guess.domain if guess.domain not in pairs.values() else None),
        gold=pairs or ({} if dimensions else guess.gold),
    )


def _load(desk: Desk, file: Path, mapping: intake.Mapping) -> intake.LoadResult:
    with Bar(f"Loading {file.name}") as bar:
        result = desk.load(file, mapping, lambda share: bar.show(round(100 * share), 100))
    if result.already_loaded:
        say(f"{file.name} is already loaded; nothing was added.")
    else:
        counts = f"{result.added:,} rows added, {result.repeated:,} repeated, {result.rejected:,} rejected"
        say(f"{file.name}: {counts}, of {result.lines:,} lines")
    return result


again_cli.add_to(app, _desk)


def _stop(error: WinnowError, code: int) -> NoReturn:
    complain(error)
    sys.exit(code)


def main() -> None:
    """Entry point of the `winnow` command. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    try:
        app()
    except (IntakeError, TaskError) as error:
        _stop(error, BAD_INPUT)
    except Interrupted as error:
        _stop(error, INTERRUPTED)
    except WinnowError as error:
        _stop(error, FAILED)


if __name__ == "__main__":
    main()
