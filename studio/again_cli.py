"""`winnow again` and `winnow explain`, the options of everything that asks a model, and the bar while it works."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from studio.desk import Desk, Standing
from studio.second_opinions import Again, Another
from studio.terminal import Bar, say
from studio.words import time_left
from workspace.errors import IntakeError, WinnowError
from workspace.links import Kind

POLL = 0.3  # seconds between looks at a run

Model = Annotated[
    str,
    typer.Option(
        help="smollm2 (embedded), embedding, a GGUF file, ollama:NAME or openai:SERVER/NAME; see winnow models."
    ),
]
Cache = Annotated[bool, typer.Option(help="Take answers computed before from this machine's cache.")]
Samples = Annotated[
    int, typer.Option(min=1, max=100, help="Answers drawn for each row, for servers that give no probabilities.")
]
Temperature = Annotated[float, typer.Option(min=0.0, max=5.0, help="Of several samples.")]
Concurrency = Annotated[
    int, typer.Option(min=0, max=1000, help="Requests at a time to a server; 0: found by trying.")
]
Timeout = Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds for one reply of a server.")]
PriceIn = Annotated[float, typer.Option(min=0.0, help="Price of a million tokens read.")]
PriceOut = Annotated[float, typer.Option(min=0.0, help="Price of a million tokens written.")]
Budget = Annotated[float | None, typer.Option(min=0.0, help="Pause before it costs more than this.")]
Monitored = Annotated[
    bool, typer.Option("--monitor/--no-monitor", help="Write statistics and a line per call beside the file.")
]
Workspace = Annotated[
    Path, typer.Option("--workspace", "-w", help="The workspace file.", envvar="WINNOW_WORKSPACE")
]
Run = Annotated[str, typer.Option(help="Beginning of the run's id; the newest run if not given.")]
Below = Annotated[float, typer.Option(min=0.0, max=1.0, help="Rows whose confidence is below this.")]
Dimension = Annotated[str | None, typer.Option(help="Look at the confidence in this dimension; any if not given.")]


def add_to(app: typer.Typer, desk_of: Callable[..., AbstractContextManager[Desk]]) -> None:
    """Register the commands; `desk_of(workspace, create=False)` opens the desk."""

    def ask(workspace: Path, run: str, wish: Again) -> None:
        with desk_of(workspace, create=False) as desk:
            found = [known for known in desk.runs() if known.id.startswith(run)]
            if not found:
                raise IntakeError("This workspace has no such run yet.", "`winnow status` lists its runs.")
            watch(desk, desk.again(found[0].id, wish))

    @app.command()
    def again(
        model: Annotated[str, typer.Option(help="Who is asked; the same model if not given.")] = "",
        below: Below = 0.6,
        dimension: Dimension = None,
        flagged: Annotated[bool, typer.Option(help="Rows that break a rule, too.")] = False,
        reverse: Annotated[bool, typer.Option("--reverse", help="With the labels in reverse order.")] = False,
        samples: Samples = 1,
        vote: Annotated[bool, typer.Option("--vote", help="All rows, and the answers are pooled.")] = False,
        run: Run = "",
        workspace: Workspace = Path("winnow.duckdb"),
    ) -> None:
        """Ask doubtful rows of a run again: another model, the labels in another order, or several times."""
        another = Another(model=model, order="reversed" if reverse else "task", samples=samples)
        kind: Kind = "vote" if vote else "arbitrate"
        ask(workspace, run, Again(another, kind, below, dimension, flagged))

    @app.command()
    def explain(
        below: Below = 0.6,
        dimension: Dimension = None,
        run: Run = "",
        workspace: Workspace = Path("winnow.duckdb"),
    ) -> None:
        """Have the model say in a sentence why doubtful rows are labeled as they are."""
        ask(workspace, run, Again(Another(explain=True), "explain", below, dimension))


def watch(desk: Desk, run_id: str) -> Standing:
    """Show a run until it ends. Raises WinnowError when it stops before its end."""
    began = time.monotonic()
    with Bar("Labeling") as bar:
        while True:
            standing = desk.standing(run_id)
            progress = standing.progress
            if progress is None:
                bar.show(0, 0, standing.problem or "Starting the engine")
            else:
                pace = f"{progress.rows_per_s:.1f} rows/s, {time_left(progress.seconds_left)}"
                bar.show(progress.done, progress.rows, pace if progress.rows_per_s else progress.note)
                if progress.state == "done" and standing.answered >= progress.rows:
                    break
                if progress.state in ("paused", "cancelled"):
                    raise WinnowError(
                        progress.note or f"The run was {progress.state}.",
                        "Labels made so far are kept; the same command goes on.",
                    )
            time.sleep(POLL)
    seconds = time.monotonic() - began
    say(f"{standing.answered:,} rows are labeled; this took {seconds:.1f} s.")
    return standing
