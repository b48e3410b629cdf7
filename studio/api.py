"""The programs' door to a running studio: typed JSON over HTTP, for this machine only.

The review component records decisions through it and the command line does its work through it while a studio
has the workspace open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.routing import BaseRoute

from studio.answering import VERSION, NotFound, Nothing, route, words
from studio.runtime import Studio
from studio.second_opinions import Again, again
from workspace import decisions, draws, exports, intake, labels, reviewers, runs, statistics
from workspace.decisions import Counts, DecisionEvent, HistoryItem, QueueItem
from workspace.errors import RunError, WinnowError
from workspace.facts import Settings
from workspace.ids import content_id
from workspace.task import parse_task

Short = Annotated[str, Meta(max_length=200)]
PathText = Annotated[str, Meta(min_length=1, max_length=4096)]
Ids = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=5000)]


class ReviewRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions to keep and rows wanted next, in one round trip.

    Events of one session may be sent again and again; each is kept once. `exclude` are the rows the browser
    already holds, `need` how many more it wants, `history` how many past decisions, newest first; `among` the
    rows of the order "chosen".
    """

    session: Annotated[str, Meta(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
    run: Short
    dimension: Short
    reviewer: Short = ""
    events: Annotated[list[DecisionEvent], Meta(max_length=1000)] = []
    need: Annotated[int, Meta(ge=0, le=200)] = 0
    exclude: Ids = []
    order: decisions.Order = "uncertain"
    domain: Short | None = None
    blind: bool = False
    among: Ids = []
    history: Annotated[int, Meta(ge=0, le=2000)] = 0
    counts: bool = True


class ReviewResponse(msgspec.Struct, frozen=True):
    """`acked`: every event of the session up to this seq is on disk; -1 for none."""

    acked: int
    items: list[QueueItem]
    counts: Counts | None
    history: list[HistoryItem]


class LoadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of this machine to load; without a mapping the best guess is taken."""

    path: PathText
    mapping: intake.Mapping | None = None
    format: Short | None = None
    encoding: Short | None = None


class TaskRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task document to save."""

    document: Annotated[str, Meta(max_length=1 << 20)]


class RunRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run to start or to grow."""

    task_id: Short
    model: PathText
    limit: Annotated[int, Meta(ge=0)] | None = None
    sample: Literal["first", "random"] = "first"
    domain: Short | None = None
    import_id: Short | None = None
    instructions: dict[str, str] | None = None
    settings: Settings = Settings()


class StateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run should be doing from now on."""

    state: Literal["running", "paused", "cancelled"]


class ExportRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels to write to a file of this machine."""

    run_id: Short
    path: PathText
    format: Literal["csv", "jsonl", "parquet"]
    min_confidence: Annotated[float, Meta(ge=0, le=1)] = 0.0
    decided_by: Literal["human", "model"] | None = None
    dimension: Short | None = None
    import_id: Short | None = None
    monitored: bool = True


# What can be asked


def review(studio: Studio, body: ReviewRequest, _path: dict[str, str]) -> ReviewResponse:
    """Keep decisions, then say what to decide next."""
    _run_or_not_found(studio, body.run)
    acked = decisions.record(
        studio.store,
        session=body.session,
        run_id=body.run,
        dimension=body.dimension,
        reviewer=body.reviewer,
        events=body.events,
    )
    if body.events:
        studio.decisions_made()
    items: list[QueueItem] = []
    if body.need:
        items = decisions.queue(
            studio.store,
            body.run,
            body.dimension,
            session=body.session,
            exclude=body.exclude,
            limit=body.need,
            order=body.order,
            domain=body.domain,
            blind=body.blind,
            among=body.among,
            reviewer=body.reviewer,
        )
    past: list[HistoryItem] = []
    if body.history:
        past = decisions.history(
            studio.store, body.run, body.dimension, reviewer=body.reviewer or None, limit=body.history
        )
    return ReviewResponse(
        acked=acked,
        items=items,
        counts=_counts(studio, body) if body.counts else None,
        history=past,
    )


def _counts(studio: Studio, body: ReviewRequest) -> Counts:
    """Of the run; of its blind sample (a skipped row is done) or of the rows of others where these are decided."""
    counts = decisions.counts(studio.store, body.run, body.dimension)
    if body.order == "second":
        left = reviewers.unseen(studio.store, body.run, body.dimension, body.reviewer)
        return msgspec.structs.replace(counts, waiting=left)
    if body.order != "sample":
        return counts
    sample = draws.standing(studio.store, body.run, body.dimension)
    done = sample.drawn - sample.waiting
    return msgspec.structs.replace(counts, waiting=sample.waiting, decided=done, skipped=0)


def status(studio: Studio, _body: Nothing, _path: dict[str, str]) -> dict[str, Any]:
    """Who answers here, on which workspace, and how far it is."""
    return {
        "app": "winnow",
        "api": VERSION,
        "pid": os.getpid(),
        "workspace": str(studio.path),
        "overview": statistics.overview(studio.store),
        "engine": {"pid": studio.engine_pid, "error": words(studio.engine_error)},
        **list_runs(studio, _body, _path),
    }


def list_runs(studio: Studio, _body: Nothing, _path: dict[str, str]) -> dict[str, Any]:
    """Every run, newest first: its record and, while known, its progress."""
    progress = studio.progress()
    found = runs.list_runs(studio.store)
    return {"runs": [{**msgspec.structs.asdict(run), "progress": progress.get(run.id)} for run in found]}


def show_progress(studio: Studio, _body: Nothing, path: dict[str, str]) -> dict[str, Any]:
    """Where a run stands: `progress` as the engine says, `labeled` and `failed` rows already in the workspace."""
    for run in runs.list_runs(studio.store):
        if run.id == path["run"]:
            return {
                "progress": studio.progress().get(run.id),
                "problem": str(studio.engine_error or ""),
                "labeled": run.labeled_rows,
                "failed": run.failed_rows,
                "dropped": run.dropped_rows,
            }
    raise NotFound("This workspace has no such run.", "`winnow status` lists its runs.")


def save_task(studio: Studio, body: TaskRequest, _path: dict[str, str]) -> dict[str, str]:
    """Save a task; the same document again is the same task."""
    return {"task_id": studio.save_task(parse_task(body.document))}


def start_run(studio: Studio, body: RunRequest, _path: dict[str, str]) -> dict[str, str]:
    """Start or grow a run; it goes on by itself."""
    run_id = studio.start_run(
        body.task_id,
        body.model,
        body.limit,
        body.sample,
        body.domain,
        body.instructions,
        import_id=body.import_id,
        settings=body.settings,
    )
    return {"run_id": run_id}


def steer_run(studio: Studio, body: StateRequest, path: dict[str, str]) -> dict[str, str]:
    """Pause, resume or cancel a run."""
    _run_or_not_found(studio, path["run"])
    verbs = {"running": studio.resume, "paused": studio.pause, "cancelled": studio.cancel}
    verbs[body.state](path["run"])
    return {"run_id": path["run"], "state": body.state}


def ask_again(studio: Studio, body: Again, path: dict[str, str]) -> dict[str, str]:
    """Ask rows of a run once more; the run that does it."""
    _run_or_not_found(studio, path["run"])
    return {"run_id": again(studio, path["run"], body)}


def opinions(studio: Studio, _body: Nothing, path: dict[str, str]) -> dict[str, Any]:
    """What every labeler and every person said about one row in one dimension."""
    _run_or_not_found(studio, path["run"])
    return {"answers": labels.answers(studio.store, path["run"], path["dimension"], path["row"])}


def load(studio: Studio, body: LoadRequest, _path: dict[str, str]) -> dict[str, str]:
    """Load a file in the background; asked again while it is under way, it is the same work."""
    path = _absolute(body.path)
    job = "load-" + content_id([str(path)])[:16]
    studio.load_file(path, body.mapping, format=body.format, encoding=body.encoding, job=job)
    return {"job": job}


def show_job(studio: Studio, _body: Nothing, path: dict[str, str]) -> dict[str, Any]:
    """Background work: `result` once it has ended well, `error` once it has not."""
    job = studio.jobs.find(path["job"])
    if job is None:
        raise NotFound("There is no such work under way.", "It may have been started before the studio was.")
    return {
        "title": job.title,
        "share": job.fraction,
        "done": job.state != "running",
        "result": job.result,
        "error": words(job.error),
    }


def export(studio: Studio, body: ExportRequest, _path: dict[str, str]) -> exports.ExportResult:
    """Write labels; answers when the file is complete."""
    _run_or_not_found(studio, body.run_id)
    return studio.export(
        body.run_id,
        _absolute(body.path),
        body.format,
        min_confidence=body.min_confidence,
        decided_by=body.decided_by,
        dimension=body.dimension,
        import_id=body.import_id,
        monitored=body.monitored,
    )


def _run_or_not_found(studio: Studio, run_id: str) -> None:
    try:
        runs.spec(studio.store, run_id)
    except RunError as error:
        raise NotFound(error.title, error.advice) from error


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        # The studio's own folder is not the one the person who typed the path is in.
        raise WinnowError(f"The path {text} does not say where it starts.", "Send the whole path, from the root.")
    return path


routes: list[BaseRoute] = [
    route("POST", "review", review, ReviewRequest),
    route("GET", "status", status, Nothing),
    route("GET", "runs", list_runs, Nothing),
    route("POST", "runs", start_run, RunRequest),
    route("POST", "runs/{run}/state", steer_run, StateRequest),
    route("POST", "runs/{run}/again", ask_again, Again),
    route("GET", "runs/{run}/{dimension}/rows/{row}", opinions, Nothing),
    route("GET", "progress/{run}", show_progress, Nothing),
    route("POST", "tasks", save_task, TaskRequest),
    route("POST", "load", load, LoadRequest),
    route("GET", "jobs/{job}", show_job, Nothing),
    route("POST", "export", export, ExportRequest),
]
