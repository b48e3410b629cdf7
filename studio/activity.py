"""What happened lately in a workspace, as sentences."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from studio.runtime import Studio
from studio.words import number, plural
from workspace import disputes, intake, runs, statistics, tasks
from workspace.store import Store


class Event(NamedTuple):
    """One thing that happened; `page` shows more about it, `icon` is a Material symbol name."""

    at: datetime
    icon: str
    sentence: str
    page: str


def recent(store: Store, limit: int = 6) -> list[Event]:
    """The newest events first: files loaded, tasks saved, runs started."""
    events = [
        Event(
            _aware(record.finished_at), "table_rows", f"{plural(record.added, 'row')} from {record.source}", "data"
        )
        for record in intake.imports(store)
    ]
    events += [
        Event(_aware(saved.saved_at), "sell", f"Task “{saved.title}” saved", "task")
        for saved in tasks.newest(store)
    ]
    events += [
        Event(
            _aware(run.created_at),
            "smart_toy",
            f"{run.model_name} asked about {run.task_title.lower()}: {number(run.labeled_rows)} of "
            f"{plural(run.rows, 'row')} labeled",
            "label",
        )
        for run in runs.list_runs(store)
    ]
    events += _disputes(store)
    return sorted(events, key=lambda event: event.at, reverse=True)[:limit]


def _disputes(store: Store) -> list[Event]:
    """Reviewers who differ on rows of the newest run."""
    newest = next(iter(runs.list_runs(store)), None)
    if newest is None:
        return []
    events = []
    for dimension in runs.spec(store, newest.id).dimensions:
        if found := disputes.disputes(store, newest.id, dimension.name):
            sentence = f"Reviewers differ on {plural(len(found), 'row')} of {dimension.name}"
            events.append(Event(max(one.at for one in found), "call_split", sentence, "review"))
    return events


def next_step(studio: Studio) -> statistics.NextStep:
    """The next best thing to do; while a model is at work, a person can already look at what it has done."""
    step = statistics.next_step(studio.store)
    progress = studio.progress().get(step.run_id or "")
    if step.kind != "continue" or progress is None or progress.state != "running":
        return step
    if progress.done:
        return statistics.NextStep(
            "review", "Review the first labels while the model goes on.", None, "review", step.run_id
        )
    return statistics.NextStep(
        "continue", "The model is about to label the first rows.", None, "label", step.run_id
    )


def _aware(moment: datetime | None) -> datetime:
    if moment is None:
        return datetime.fromtimestamp(0, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
