"""The `winnow` command: open the studio, or load, label and export without it."""

from __future__ import annotations

import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from studio.desk import Desk, Format, Standing, open_desk, studio_url
from workspace import intake
from workspace.errors import IntakeError, TaskError, WinnowError, WorkspaceBusy

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    help="Label text on your own machine. With no command: open the studio on this folder's workspace.",
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

BAD_INPUT = 2  # exit code: a file, task or option is not right; nothing was changed
FAILED = 1  # exit code: the work was begun and could not be finished
INTERRUPTED = 130  # exit code: Ctrl-C

POLL = 0.3  # seconds between looks at a run
PLAIN_STEP = 0.1  # without a terminal, progress is a line every 10 %

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
def studio(
    context: typer.Context,
    workspace: Workspace = DEFAULT_WORKSPACE,
    port: Port = None,
    no_browser: NoBrowser = False,
) -> None:
    """Label text on your own machine. With no command: open the studio on this folder's workspace."""
    if context.invoked_subcommand is None:
        _serve(workspace, port, no_browser)


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
    model: Annotated[str, typer.Option(help="smollm2 (embedded) or a path to a GGUF file.")] = "smollm2",
    workspace: Workspace = DEFAULT_WORKSPACE,
    text: Annotated[list[str] | None, typer.Option(help="Column holding the text; may be repeated.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Column holding your own id.")] = None,
    domain: Annotated[str | None, typer.Option(help="Column holding the domain.")] = None,
    gold: Annotated[list[str] | None, typer.Option(help="DIMENSION=COLUMN holding known labels.")] = None,
) -> None:
    """Label the rows of a file and write the labels. Stopped or killed, the same command goes on."""
    format = _format(out_file)
    if sample not in ("first", "random"):
        raise IntakeError(f"--sample is first or random, not {sample}.", "Nothing was changed.")
    document = _task_document(task)
    mapping = _mapping(file, text, id_column, domain, gold)
    with _desk(workspace) as desk:
        loaded = _load(desk, file, mapping)
        task_id = desk.save_task(document)
        run_id = desk.start(task_id, model, limit, sample, loaded.import_id)
        standing = _watch(desk, run_id)
        result = desk.export(run_id, out_file, format, loaded.import_id)
        for part in result.dimensions:
            shares = ", ".join(f"{name or 'no label'} {count / result.rows:.0%}" for name, count in part.shares)
            out.print(f"{part.dimension}: {shares}", markup=False)
            if part.checked:
                agree = part.right / part.checked
                out.print(f"  {agree:.0%} of {part.checked:,} rows agree with the labels that came with the file")
        out.print(f"{result.rows:,} rows written to {out_file}")
        if standing.failed:
            out.print(f"{standing.failed:,} rows have no label; the reason is in the column warnings.")
        out.print(f"To review the doubtful ones: winnow --workspace {workspace}")


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to write: .csv, .jsonl or .parquet.")],
    workspace: Workspace = DEFAULT_WORKSPACE,
    run: Annotated[
        str | None, typer.Option(help="Beginning of the run's id; the newest run if not given.")
    ] = None,
) -> None:
    """Write the current labels of a run: text, label, confidence, and who decided."""
    format = _format(file)
    with _desk(workspace, create=False) as desk:
        found = [r for r in desk.runs() if r.id.startswith(run or "")]
        if not found:
            raise IntakeError("This workspace has no such run yet.", "Label something first: winnow label --help")
        result = desk.export(found[0].id, file, format, None)
        out.print(f"{result.rows:,} rows of {found[0].task_title} ({found[0].model_name}) written to {file}")


@app.command()
def status(workspace: Workspace = DEFAULT_WORKSPACE) -> None:
    """Show the runs of the workspace and how far they are."""
    with _desk(workspace, create=False) as desk:
        runs = desk.runs()
        if not runs:
            out.print("No runs yet. Label something: winnow label --help")
        for run in runs:
            progress = desk.standing(run.id).progress
            state = progress.state if progress else ("done" if run.labeled_rows >= run.rows else "not running")
            failed = f", {run.failed_rows:,} failed" if run.failed_rows else ""
            counts = f"{run.labeled_rows:,} of {run.rows:,} rows labeled{failed}"
            out.print(f"{run.id[:8]}  {run.task_title}, {run.model_name}: {counts} ({state})")


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
        out.print(f"{workspace.name} is already open at {url}")
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


def _task_document(task: str) -> str:
    from workspace.task import parse_task, to_yaml
    from workspace.tasks import bundled

    known = bundled()
    if task in known:
        return to_yaml(known[task])
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
    parse_task(document)
    return document


def _mapping(
    file: Path, text: list[str] | None, id_column: str | None, domain: str | None, gold: list[str] | None
) -> intake.Mapping:
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
    return intake.Mapping(
        text=columns,
        template=None if text else guess.template,
        id=id_column or guess.id,
        domain=domain or guess.domain,
        gold=pairs or guess.gold,
    )


def _load(desk: Desk, file: Path, mapping: intake.Mapping) -> intake.LoadResult:
    with _bar() as bar:
        line = bar.add_task(f"Loading {file.name}", total=100)
        show = _plain(f"Loading {file.name}")

        def share(fraction: float) -> None:
            bar.update(line, completed=round(100 * fraction))
            show(fraction, "")

        result = desk.load(file, mapping, share)
        bar.update(line, completed=100)
    if result.already_loaded:
        out.print(f"{file.name} is already loaded; nothing was added.")
    else:
        counts = f"{result.added:,} rows added, {result.repeated:,} repeated, {result.rejected:,} rejected"
        out.print(f"{file.name}: {counts}, of {result.lines:,} lines")
    return result


def _watch(desk: Desk, run_id: str) -> Standing:
    """Show a run until it ends. Raises WinnowError when it stops before its end."""
    began = time.monotonic()
    with _bar() as bar:
        line = bar.add_task("Starting the engine", total=None)
        show = _plain("Labeling")
        while True:
            standing = desk.standing(run_id)
            progress = standing.progress
            if progress is not None:
                _draw(bar, line, standing)
                if progress.rows:
                    show(progress.done / progress.rows, _pace(standing))
                if progress.state == "done" and standing.labeled + standing.failed >= progress.rows:
                    break
                if progress.state in ("paused", "cancelled"):
                    raise WinnowError(
                        progress.note or f"The run was {progress.state}.",
                        "Labels made so far are kept; the same command goes on.",
                    )
            elif standing.problem:
                bar.update(line, description=standing.problem)
            time.sleep(POLL)
    seconds = time.monotonic() - began
    rows = standing.labeled + standing.failed
    out.print(f"{rows:,} rows are labeled; this took {seconds:.1f} s.")
    return standing


def _draw(bar: Progress, line: TaskID, standing: Standing) -> None:
    progress = standing.progress
    assert progress is not None
    words = _pace(standing) or progress.note or "Labeling"
    bar.update(line, total=progress.rows or None, completed=progress.done, description=words)


def _pace(standing: Standing) -> str:
    progress = standing.progress
    if progress is None or not progress.rows_per_s:
        return ""
    left = "" if progress.seconds_left is None else f", {_duration(progress.seconds_left)} left"
    return f"{progress.rows_per_s:.1f} rows/s{left}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def _plain(title: str) -> Callable[[float, str], None]:
    """Progress for a log file: a line at every step of 10 %; nothing when a bar is drawn."""
    told = 0.0

    def show(fraction: float, words: str) -> None:
        nonlocal told
        if not err.is_terminal and fraction >= told + PLAIN_STEP:
            told = fraction
            err.print(f"{title}: {fraction:.0%} {words}".rstrip(), markup=False)

    return show


def _stop(error: WinnowError, code: int) -> NoReturn:
    err.print(error.title, style="bold", markup=False)
    if error.advice:
        err.print(error.advice, markup=False)
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
