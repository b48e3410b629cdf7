"""Studios on several machines: the one it began on may be gone, any other shows the same and goes on with it.

Real nodes over real connections, spoken to through their clients; only the model is stood in for.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import Engine
from engine.cluster.entries import Decided, decode
from studio.runtime import Studio
from tests.seeding import MODEL, add_rows, spec_of, task_of
from tests.unit.cluster.together import Helper, Together, known_to_all, together
from tests.waiting import wait_for
from workspace import decisions, disputes, intake, labels, rows, runs, tasks
from workspace.decisions import DecisionEvent
from workspace.errors import WinnowError
from workspace.store import open_store

D = "sentiment"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def studio_on(machine: Helper, workspace: Path) -> Iterator[Studio]:
    """A studio whose engine is that machine's."""
    studio = Studio(open_store(workspace), ensure=lambda _folder, _start: connected(machine))
    try:
        yield studio
    finally:
        studio.close(stop_engine=False)


def connected(machine: Helper) -> Engine:
    return Engine.ensure(machine.folder.path, start=False, ready_seconds=5)


def done(studio: Studio, run: str, count: int) -> bool:
    progress = studio.progress().get(run)
    return progress is not None and (progress.state, progress.done, progress.rows) == ("done", count, count)


def state(studio: Studio, run: str) -> str:
    progress = studio.progress().get(run)
    return progress.state if progress else ""


def decide(studio: Studio, run: str, who: str, row: str, label: str) -> None:
    session = f"session of {who}"
    acked = decisions.record(studio.store, session=session, run_id=run, dimension=D, reviewer=who, events=[])
    event = DecisionEvent(acked + 1, row, "modify", label, blind=True)
    decisions.record(studio.store, session=session, run_id=run, dimension=D, reviewer=who, events=[event])
    studio.decisions_made()


def said(studio: Studio, run: str) -> dict[str, Any]:
    """What two studios on the same facts have to agree on."""
    (record,) = runs.list_runs(studio.store)
    shown = labels.page(studio.store, run, D, limit=1000)
    return {
        "run": (record.id, record.task_title, record.rows, record.labeled_rows, record.failed_rows),
        "rows": sorted((row.id, row.text, row.domain) for row in rows.page(studio.store, limit=1000)),
        "labels": sorted((one.row_id, str(one.label), one.confidence, one.decided_by) for one in shown),
        "counts": decisions.counts(studio.store, run, D),
        "history": [
            (one.session, one.seq, one.label) for one in decisions.history(studio.store, run, D, limit=1000)
        ],
        "disputes": disputes.disputes(studio.store, run, D),
        "task": tasks.newest(studio.store)[0].task,
    }


def test_the_work_goes_on_where_the_helper_is_and_comes_back(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        desk, helper = machines.start("desk"), machines.start("helper")
        with studio_on(desk, tmp_path / "w.duckdb") as studio:
            ids = add_rows(studio.store, [f"text number {n}" for n in range(120)], ["mail", "web"] * 60)
            spec = spec_of(studio.store, task_of(["good", "bad"]))
            run = spec.run_id
            runs.plan(studio.store, run, limit=None)
            shown = helper.engine.open_pairing()
            with pytest.raises(WinnowError):
                studio.pair(f"127.0.0.1:{shown.port}", "000-001" if shown.code != "000-001" else "000-002")
            assert studio.pair(f"127.0.0.1:{shown.port}", shown.code) == helper.id
            known_to_all([desk, helper])
            helper.node.models.hand_over(MODEL)
            wait_for(lambda: studio.cluster is not None and len(studio.cluster.machines) == 2, "both machines")
            studio.rename_machine(helper.id, "cellar")
            studio.resume(run)
            wait_for(lambda: done(studio, run, 120), lambda: f"all labels: {studio.progress()}")
            decide(studio, run, "ann", ids[0], "bad")
            decide(studio, run, "ann", ids[1], "good")
            wait_for(lambda: len(decided(helper)) == 2, "the decisions on the helper")
            before = said(studio, run)
        machines.kill(desk)

        with studio_on(helper, helper.folder.path / "joined.duckdb") as joined:
            joined.catch_up(60)
            assert said(joined, run) == before
            wait_for(lambda: done(joined, run, 120), "the run as it was")
            decide(joined, run, "bob", ids[0], "good")
            more = tmp_path / "more.txt"
            more.write_text("".join(f"another text {n}\n" for n in range(30)), encoding="utf-8")
            intake.load(joined.store, more, intake.Mapping(text=("text",)))
            runs.plan(joined.store, run, limit=None)
            joined.resume(run)
            wait_for(lambda: done(joined, run, 150), lambda: f"the new rows: {joined.progress()}")

            desk = machines.start("desk")
            with studio_on(desk, tmp_path / "w.duckdb") as studio:
                wait_for(lambda: done(studio, run, 150), lambda: f"what was done meanwhile: {studio.progress()}")
                # Each engine has them; the workspaces take them over a little later.
                wait_for(lambda: len(said(joined, run)["labels"]) == 150, "all labels in the workspace")
                wait_for(lambda: said(studio, run) == said(joined, run), "the same on both machines")
                (dispute,) = disputes.disputes(studio.store, run, D)
                assert [(one.reviewer, one.label) for one in dispute.opinions] == [("bob", "good"), ("ann", "bad")]
                with studio.store.read() as con:
                    twice = "select count(*), count(distinct (author, seq)), count(distinct row_id) from facts"
                    ((facts, different, answered),) = con.execute(twice).fetchall()
                assert facts == different
                assert answered == 150

                for machine in (desk, helper):
                    machine.worker.hold.clear()
                more.write_text("".join(f"a third text {n}\n" for n in range(40)), encoding="utf-8")
                intake.load(studio.store, more, intake.Mapping(text=("text",)))
                runs.plan(studio.store, run, limit=None)
                studio.resume(run)
                wait_for(lambda: state(joined, run) == "running", "the run going on, seen from the other machine")
                joined.pause(run)
                wait_for(lambda: state(studio, run) == "paused", "the pause of the other machine")
                for machine in (desk, helper):
                    machine.worker.hold.set()
                studio.resume(run)
                wait_for(lambda: done(joined, run, 190) and done(studio, run, 190), "the end on both")
                wait_for(lambda: said(studio, run) == said(joined, run), "the same on both machines")

    together(tmp_path, script)


def decided(machine: Helper) -> list[Any]:
    """The decisions a machine holds."""
    bodies = [
        decode(entry.body)
        for author in machine.engine.status().vector
        for entry in machine.engine.entries(author, 0, 10_000)
    ]
    return [body for body in bodies if isinstance(body, Decided)]
