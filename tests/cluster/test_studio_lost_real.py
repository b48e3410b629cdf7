"""The machine of the studio is lost for ever: what was begun there is all on the others, and goes on there."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.client import Engine
from engine.cluster import entries as log
from engine.cluster.entries import Decided
from studio import places
from studio.runtime import Studio
from tests.cluster.machines import RealMachine, together
from tests.cluster.network import Network
from tests.waiting import wait_for
from workspace import decisions, intake, labels, rows, runs, tasks
from workspace.decisions import DecisionEvent
from workspace.store import open_store

ROWS = 120
D = "sentiment"
DECIDED = ("negative", "neutral", "positive")


def test_a_studio_that_never_comes_back_is_opened_elsewhere(network: Network, tmp_path: Path) -> None:
    desk, second, third = machines = [RealMachine(network, name, tmp_path) for name in ("desk", "second", "third")]
    together(machines)
    with studio_on(desk, tmp_path / "w.duckdb") as studio:
        run = begin(studio, tmp_path / "rows.csv")
        wait_for(lambda: len(labels.page(studio.store, run, D, limit=1000)) >= 3, "the first labels", 120)
        decide(studio, run)
        wait_for(lambda: decided_on(second) == decided_on(third) == len(DECIDED), "the decisions on the others")
        began = what_was_said(studio, run)
        desk.kill()
    workspace = places.joined_workspace(second.folder)
    with studio_on(second, workspace) as joined:
        wait_for(lambda: labeled(joined, run) == ROWS, lambda: f"all labels: {joined.progress()}", 120)
        assert what_was_said(joined, run) == began
        wait_for(lambda: joined.progress()[run].state == "done", "the run to be done")
        shown = {one.row_id: one for one in labels.page(joined.store, run, D, limit=1000)}
        people = {row_id: one.label for row_id, one in shown.items() if one.decided_by == "ann"}
        assert people == dict(zip([event["row"] for event in began["decisions"]], DECIDED, strict=True))

    out = tmp_path / "labels.jsonl"
    words = [sys.executable, "-P", "-m", "studio.cli", "export", str(out), f"--workspace={workspace}"]
    exported = second.cable.run(
        words, env=second.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said, _ = exported.communicate(timeout=120)
    assert exported.returncode == 0, said
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {line["text"] for line in lines} == {text for _, text, _ in began["rows"]}
    assert len(lines) == ROWS
    assert all(line[D] in ("positive", "negative", "neutral") for line in lines)
    assert {line["id"]: line[D] for line in lines} == {row_id: one.label for row_id, one in shown.items()}


@contextlib.contextmanager
def studio_on(machine: RealMachine, workspace: Path) -> Iterator[Studio]:
    """A studio on that machine: its connections are made there."""

    def ensure(_folder: Path, _start: bool) -> Engine:
        return Engine.ensure(machine.folder, start=False)

    studio = machine.cable.do(lambda: Studio(open_store(workspace, create=True), ensure=ensure))
    try:
        yield studio
    finally:
        studio.close(stop_engine=False)


def begin(studio: Studio, file: Path) -> str:
    """Load rows of three domains and let them be labeled."""
    words = [f"{number}: I {'love' if number % 2 else 'hate'} this" for number in range(ROWS)]
    file.write_text(
        "text,kind\n" + "".join(f"{text},{('mail', 'chat', 'web')[len(text) % 3]}\n" for text in words)
    )
    intake.load(studio.store, file, intake.Mapping(text=("text",), domain="kind"))
    return studio.start_run(tasks.save(studio.store, tasks.bundled()[D]), "smollm2")


def decide(studio: Studio, run: str) -> None:
    """Let a person decide some of the rows that have a label."""
    found = labels.page(studio.store, run, D, limit=len(DECIDED))
    events = [
        DecisionEvent(number, one.row_id, "modify", label, comment=f"as I see it, {number}")
        for number, (one, label) in enumerate(zip(found, DECIDED, strict=True))
    ]
    decisions.record(studio.store, session="tab", run_id=run, dimension=D, reviewer="ann", events=events)
    studio.decisions_made()


def decided_on(machine: RealMachine) -> int:
    """Decisions a machine has on its disk."""
    bodies = [log.decode(entry.body) for entries in machine.logs().values() for entry in entries]
    return sum(isinstance(body, Decided) for body in bodies)


def labeled(studio: Studio, run: str) -> int:
    return next((found.labeled_rows for found in runs.list_runs(studio.store) if found.id == run), 0)


def what_was_said(studio: Studio, run: str) -> dict[str, Any]:
    """Everything people put into a studio."""
    (record,) = runs.list_runs(studio.store)
    history = decisions.history(studio.store, run, D, limit=1000)
    return {
        "run": (record.id, record.task_title, record.model_name, record.rows),
        "task": tasks.newest(studio.store)[0].task,
        "rows": sorted((row.id, row.text, row.domain) for row in rows.page(studio.store, limit=1000)),
        "domains": sorted(rows.domains(studio.store)),
        "decisions": [
            {"row": one.row_id, "label": one.label, "comment": one.comment, "reviewer": one.reviewer}
            for one in sorted(history, key=lambda one: one.seq)
        ],
    }
