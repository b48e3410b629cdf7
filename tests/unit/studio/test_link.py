"""The studio's talk with the engine, against an engine that does as the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio import link as link_module
from studio.link import EngineLink
from tests.seeding import add_rows, facts_for, spec_of, task_of
from tests.waiting import wait_for
from workspace import runs, unfinished
from workspace.errors import EngineError
from workspace.facts import EngineStatus, Fact, RunProgress, RunSpec, RunState
from workspace.store import Store, open_store

TEXTS = [f"text number {number}" for number in range(30)]


class StandIn:
    """Stands where an engine would: keeps rows, states and facts; labels only when `work` is called."""

    def __init__(self, author: str = "engine-1") -> None:
        self.author = author
        self.specs: dict[str, RunSpec] = {}
        self.rows: dict[str, list[str]] = {}
        self.states: dict[str, RunState] = {}
        self.log: list[Fact] = []
        self.gone = False
        self.stopped = False

    def _answer(self) -> None:
        if self.gone:
            raise EngineError("The engine is gone.")

    def work(self, run_id: str, count: int = 10_000) -> None:
        answered = {fact.row_id for fact in self.log if fact.run_id == run_id}
        todo = [row for row in self.rows[run_id] if row not in answered][:count]
        self.log += facts_for(self.specs[run_id], todo, author=self.author, first=len(self.log))
        if len(answered) + len(todo) == len(self.rows[run_id]):
            self.states[run_id] = "done"

    def open_run(self, spec: RunSpec, rows: Iterable[tuple[str, str]]) -> int:
        self._answer()
        self.specs[spec.run_id] = spec
        mine = self.rows.setdefault(spec.run_id, [])
        mine += [row for row, _ in rows if row not in mine]
        self.states[spec.run_id] = "running"
        return len(mine)

    def set_state(self, run_id: str, state: RunState) -> None:
        self._answer()
        self.states[run_id] = state

    def status(self) -> EngineStatus:
        self._answer()
        shown = []
        for run_id, state in self.states.items():
            done = len({fact.row_id for fact in self.log if fact.run_id == run_id})
            shown.append(RunProgress(run_id, state, len(self.rows[run_id]), done, 0, 1.0, None, ""))
        return EngineStatus(4242, "node", self.author, len(self.log), 0, tuple(shown))

    def facts(self, after: int, limit: int = 2000) -> list[Fact]:
        self._answer()
        return self.log[after : after + limit]

    def shutdown(self) -> None:
        self._answer()
        self.stopped = True

    def close(self) -> None:
        pass


class Scene:
    """A workspace with a planned run, a link, and the engines it may find one after the other."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        ids = add_rows(store, TEXTS)
        assert len(ids) == len(TEXTS)
        self.spec = spec_of(store, task_of(["good", "bad"]))
        self.run = self.spec.run_id
        runs.plan(store, self.run, limit=20)
        self.engine = StandIn()
        self.asked = 0
        self.links: list[EngineLink] = []

    def ensure(self, _folder: Path, _start: bool) -> Any:
        self.asked += 1
        if self.engine.gone:
            raise EngineError("The engine cannot be started.")
        return self.engine

    def link(self) -> EngineLink:
        made = EngineLink(self.store, self.folder, self.ensure)
        self.links.append(made)
        made.start()
        return made

    def labeled(self) -> int:
        return runs.list_runs(self.store)[0].labeled_rows


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(link_module, "BUSY_PAUSE", 0.01)
    monkeypatch.setattr(link_module, "IDLE_PAUSE", 0.02)
    monkeypatch.setattr(link_module, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(link_module, "PAGE", 7)
    store = open_store(tmp_path / "w.duckdb")
    made = Scene(store, tmp_path / "w.engine")
    yield made
    for link in made.links:
        link.close(stop_engine=False)
    store.close()


def until(condition: Callable[[], Any]) -> None:
    wait_for(condition, "what the link should do", 20)


def shown(link: EngineLink, run: str) -> tuple[str, int, int] | None:
    progress = link.progress.get(run)
    return (progress.state, progress.done, progress.rows) if progress else None


def test_no_engine_is_started_before_one_is_needed(scene: Scene) -> None:
    link = scene.link()
    assert (scene.asked, link.progress, link.error) == (0, {}, None)


def test_a_run_is_handed_over_in_pages_and_its_facts_come_home(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running", rows_added=True)
    until(lambda: len(scene.engine.rows.get(scene.run, [])) == 20)
    assert scene.engine.rows[scene.run] == [row for row, _ in runs.planned(scene.store, scene.run)]
    scene.engine.work(scene.run, 8)
    until(lambda: scene.labeled() == 8)
    until(lambda: shown(link, scene.run) == ("running", 8, 20))
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))
    assert scene.labeled() == 20, "done is shown when every fact is home, not before"
    until(lambda: unfinished.states(scene.store) == {scene.run: "done"})


def test_more_rows_continue_the_run(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running", rows_added=True)
    until(lambda: len(scene.engine.rows.get(scene.run, [])) == 20)
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))
    runs.plan(scene.store, scene.run, limit=None)
    link.want(scene.run, "running", rows_added=True)
    assert shown(link, scene.run) == ("running", 20, 30), "at once, not when the engine has heard of it"
    until(lambda: len(scene.engine.rows[scene.run]) == 30)
    assert shown(link, scene.run) == ("running", 20, 30)
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 30, 30))


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_a_stopped_run_stays_stopped_until_it_is_resumed(scene: Scene, state: RunState) -> None:
    link = scene.link()
    link.want(scene.run, "running", rows_added=True)
    until(lambda: len(scene.engine.rows.get(scene.run, [])) == 20)
    link.want(scene.run, state)
    until(lambda: scene.engine.states[scene.run] == state)
    scene.engine.work(scene.run, 3)  # the batch that was under way
    until(lambda: scene.labeled() == 3)
    link.close(stop_engine=True)
    assert scene.engine.stopped

    again = scene.link()  # the studio starts anew
    again.want("another", "paused")
    until(lambda: "another" in again._wanted)
    assert scene.engine.states[scene.run] == state
    again.want(scene.run, "running", rows_added=True)
    until(lambda: scene.engine.states[scene.run] == "running")


def test_a_lost_engine_is_replaced_and_says_so_meanwhile(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running", rows_added=True)
    until(lambda: len(scene.engine.rows.get(scene.run, [])) == 20)
    scene.engine.work(scene.run, 5)
    until(lambda: scene.labeled() == 5)
    scene.engine.gone = True
    until(lambda: link.error is not None)
    assert shown(link, scene.run) == ("running", 5, 20)
    scene.engine.gone = False  # its ledger is on disk: the next process knows it all
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))
    assert link.error is None


def test_an_engine_folder_that_was_deleted_costs_only_the_rows_that_were_missing(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running", rows_added=True)
    until(lambda: len(scene.engine.rows.get(scene.run, [])) == 20)
    scene.engine.work(scene.run, 12)
    until(lambda: scene.labeled() == 12)
    link.close(stop_engine=False)

    scene.engine = StandIn("engine-2")  # knows nothing
    again = scene.link()
    until(lambda: len(scene.engine.rows.get(scene.run, [])) == 8)
    until(lambda: shown(again, scene.run) == ("running", 12, 20))
    scene.engine.work(scene.run)
    until(lambda: shown(again, scene.run) == ("done", 20, 20))
    assert scene.labeled() == 20


def test_an_unfinished_run_goes_on_when_the_workspace_is_opened(scene: Scene) -> None:
    unfinished.set_state(scene.store, scene.run, "running")
    link = scene.link()
    until(lambda: len(scene.engine.rows.get(scene.run, [])) == 20)
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))


def test_missing_rows_come_in_plan_order_and_errors_are_answers(scene: Scene) -> None:
    rows = [row for row, _ in runs.planned(scene.store, scene.run)]
    facts = facts_for(scene.spec, rows[:4])
    failed = [*facts[:3], msgspec.structs.replace(facts[3], kind="error", label="", logprobs=(), error="too long")]
    runs.ingest(scene.store, failed)
    pages = list(unfinished.missing(scene.store, scene.run, 1, page=6))
    assert [row for page in pages for row, _ in page] == rows[4:]
    assert [len(page) for page in pages] == [6, 6, 4]
