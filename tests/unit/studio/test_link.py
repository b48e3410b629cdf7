"""The studio's talk with the engine, against an engine that does as the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.cluster.entries import RowsPlanned, RunOpened
from studio import handing
from studio import link as link_module
from studio.link import EngineLink
from tests.seeding import add_rows, facts_for, ingest, spec_of, task_of
from tests.stand_in import StandIn
from tests.waiting import wait_for
from workspace import arrivals, company, decisions, labels, rows, runs, tasks, unfinished
from workspace.decisions import DecisionEvent
from workspace.errors import EngineError
from workspace.facts import RunState
from workspace.ids import row_id
from workspace.store import Store, open_store
from workspace.task import parse_task
from workspace.unfinished import Known

TEXTS = [f"text number {number}" for number in range(30)]


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

    def link(self, *, stays: bool = False) -> EngineLink:
        made = EngineLink(self.store, self.folder, self.ensure, stays=stays)
        self.links.append(made)
        made.start()
        return made

    def behind(self) -> bool:
        """Whether the workspace lacks something the engine has."""
        here = arrivals.cursors(self.store)
        return any(here.get(author, 0) < log.end for author, log in self.engine.logs.items())

    def labeled(self) -> int:
        return runs.list_runs(self.store)[0].labeled_rows


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(link_module, "BUSY_PAUSE", 0.01)
    monkeypatch.setattr(link_module, "IDLE_PAUSE", 0.02)
    monkeypatch.setattr(link_module, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(handing, "PAGE", 7)
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
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    assert scene.engine.rows(scene.run) == [row for row, _ in runs.planned(scene.store, scene.run)]
    scene.engine.work(scene.run, 8)
    until(lambda: scene.labeled() == 8)
    until(lambda: shown(link, scene.run) == ("running", 8, 20))
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))
    assert scene.labeled() == 20, "done is shown when every fact is home, not before"
    until(lambda: unfinished.states(scene.store) == {scene.run: "done"})


def test_more_rows_continue_the_run(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))
    runs.plan(scene.store, scene.run, limit=None)
    link.want(scene.run, "running")
    assert shown(link, scene.run) == ("running", 20, 30), "at once, not when the engine has heard of it"
    until(lambda: len(scene.engine.rows(scene.run)) == 30)
    assert shown(link, scene.run) == ("running", 20, 30)
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 30, 30))


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_a_stopped_run_stays_stopped_until_it_is_resumed(scene: Scene, state: RunState) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    link.want(scene.run, state)
    until(lambda: scene.engine.state(scene.run) == state)
    scene.engine.work(scene.run, 3)  # the batch that was under way
    until(lambda: scene.labeled() == 3)
    link.close(stop_engine=True)
    assert scene.engine.stopped

    scene.folder.mkdir()
    (scene.folder / "ledger.sqlite").touch()  # the last facts may lie there
    again = scene.link()  # the studio starts anew
    until(lambda: shown(again, scene.run) == (state, 3, 20))
    assert scene.engine.state(scene.run) == state
    again.want(scene.run, "running")
    until(lambda: scene.engine.state(scene.run) == "running")


def test_a_run_stopped_while_it_is_handed_over_shows_what_is_done_and_no_more(scene: Scene) -> None:
    runs.plan(scene.store, scene.run, limit=None)
    planned = [(row, text, "") for row, text in runs.planned(scene.store, scene.run)]
    scene.engine.open_run(scene.spec, planned[:14])  # and then the studio was killed
    scene.engine.work(scene.run, 5)
    scene.engine.set_state(scene.run, "paused")
    link = scene.link(stays=True)
    until(lambda: shown(link, scene.run) == ("paused", 5, 30))
    link.want(scene.run, "running")
    until(lambda: sorted(scene.engine.rows(scene.run)) == sorted(row for row, _, _ in planned))
    until(lambda: shown(link, scene.run) == ("running", 5, 30))


def test_a_lost_engine_is_replaced_and_says_so_meanwhile(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
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
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    scene.engine.work(scene.run, 12)
    until(lambda: scene.labeled() == 12)
    link.close(stop_engine=False)

    scene.engine = StandIn(2)  # knows nothing
    again = scene.link()
    until(lambda: len(scene.engine.rows(scene.run)) == 8)
    until(lambda: shown(again, scene.run) == ("running", 12, 20))
    scene.engine.work(scene.run)
    until(lambda: shown(again, scene.run) == ("done", 20, 20))
    assert scene.labeled() == 20


def test_an_unfinished_run_goes_on_when_the_workspace_is_opened(scene: Scene) -> None:
    unfinished.wish(scene.store, scene.run, "running")
    link = scene.link()
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))


def test_missing_rows_come_in_plan_order_and_errors_are_answers(scene: Scene) -> None:
    rows = [row for row, _ in runs.planned(scene.store, scene.run)]
    facts = facts_for(scene.spec, rows[:4])
    failed = msgspec.structs.replace(facts[3], kind="error", label="", logprobs=(), error="too long")
    ingest(scene.store, [*facts[:3], failed])
    pages = list(unfinished.missing(scene.store, scene.run, page=6))
    assert [row for page in pages for row, _, _ in page] == rows[4:]
    assert [len(page) for page in pages] == [6, 6, 4]


# Other machines


def other_machine(scene: Scene, number: int = 2) -> StandIn:
    """A machine that has everything this one's engine has."""
    other = StandIn(number)
    other.hear(scene.engine)
    return other


def decide(scene: Scene, seq: int, row: str, action: Any = "modify", label: str = "good", **more: Any) -> None:
    event = DecisionEvent(seq, row, action, label, **more)
    decisions.record(
        scene.store, session="s", run_id=scene.run, dimension="sentiment", reviewer="ann", events=[event]
    )


def test_answers_of_all_machines_come_home_and_none_counts_twice(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    other = other_machine(scene)
    other.work(scene.run)
    scene.engine.work(scene.run, 12)  # cut off from each other, both did these
    scene.engine.hear(other)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))
    assert scene.labeled() == 20
    with scene.store.read() as con:
        assert con.execute("select count(*), count(distinct row_id) from facts").fetchall() == [(32, 20)]
    assert sum(count for _, count in labels.shares(scene.store, scene.run, "sentiment")) == 20
    assert decisions.counts(scene.store, scene.run, "sentiment").waiting == 20


def test_rows_carry_their_domain_and_runs_their_task(scene: Scene) -> None:
    scene.store.write(lambda con: con.execute("update rows set domain = 'news' where row_no = 3").fetchall())
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    bodies = [body for _, body in scene.engine.bodies()]
    domains = {row[0]: row[2] for body in bodies if isinstance(body, RowsPlanned) for row in body.rows}
    (fourth,) = rows.page(scene.store, after=2, limit=1)
    assert {row: domain for row, domain in domains.items() if domain} == {fourth.id: "news"}
    (opened,) = [body for body in bodies if isinstance(body, RunOpened)]
    assert parse_task(opened.task) == tasks.get(scene.store, scene.spec.task_id).task


def test_a_run_paused_on_another_machine_is_shown_so_and_not_fought_over(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    other = other_machine(scene)
    other.set_state(scene.run, "paused")
    scene.engine.hear(other)
    until(lambda: shown(link, scene.run) == ("paused", 0, 20))
    until(lambda: unfinished.states(scene.store) == {scene.run: "paused"})
    looks = scene.engine.calls.count("status")
    until(lambda: scene.engine.calls.count("status") > looks + 6)
    assert scene.engine.state(scene.run) == "paused"
    other.hear(scene.engine)
    other.set_state(scene.run, "running")
    scene.engine.hear(other)
    until(lambda: shown(link, scene.run) == ("running", 0, 20))
    link.want(scene.run, "paused")
    until(lambda: scene.engine.state(scene.run) == "paused")


@pytest.mark.parametrize("since", [True, False])
def test_an_old_wish_holds_unless_somebody_else_has_decided_since(scene: Scene, since: bool) -> None:
    """The studio was killed before the engine heard that the run should go on."""
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    other = other_machine(scene)
    if not since:
        other.set_state(scene.run, "paused")
        scene.engine.hear(other)
        until(lambda: shown(link, scene.run) == ("paused", 0, 20))
    else:
        link.want(scene.run, "paused")
        until(lambda: scene.engine.state(scene.run) == "paused")
        until(lambda: not scene.behind())
    link.close(stop_engine=False)
    unfinished.wish(scene.store, scene.run, "running")
    if since:
        other.hear(scene.engine)
        other.set_state(scene.run, "cancelled")
        scene.engine.hear(other)
    again = scene.link()
    state: RunState = "cancelled" if since else "running"
    until(lambda: shown(again, scene.run) == (state, 0, 20))
    until(lambda: unfinished.known(scene.store) == {scene.run: Known(state)})
    assert scene.engine.state(scene.run) == state


def test_rows_planned_here_that_the_engine_never_got_are_not_hidden_by_others(scene: Scene) -> None:
    """Killed while handing over; meanwhile a studio elsewhere made the run grow beyond what was planned here."""
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.rows(scene.run)) == 20)
    link.close(stop_engine=False)
    runs.plan(scene.store, scene.run, limit=25)
    other = other_machine(scene)
    other.log.plan(scene.spec, [(row_id(f"other {n}"), f"other {n}", "") for n in range(9)])
    scene.engine.hear(other)
    again = scene.link()
    until(lambda: len(scene.engine.rows(scene.run)) == 34)
    until(lambda: shown(again, scene.run) == ("running", 0, 34))
    assert rows.count(scene.store) == 39


def test_decisions_are_handed_over_once_and_only_with_an_engine(scene: Scene) -> None:
    ids = [row for row, _ in runs.planned(scene.store, scene.run)]
    link = scene.link()
    decide(scene, 0, ids[0])
    link.nudge()
    assert scene.asked == 0, "no engine for a key press"
    link.want(scene.run, "running")
    until(lambda: len(scene.engine.decided()) == 1)
    for seq in range(1, 8):
        decide(scene, seq, ids[seq], "reject" if seq == 3 else "modify", "" if seq == 3 else "bad")
    decide(scene, 8, ids[2], "undo", "", undoes=2)
    decide(scene, 9, ids[0], "skip", "")
    link.nudge()
    until(lambda: len(scene.engine.decided()) == 10)
    link.close(stop_engine=False)
    again = scene.link()
    decide(scene, 10, ids[0], "undo", "", undoes=0)
    until(lambda: len(scene.engine.decided()) == 11)
    again.close(stop_engine=True)
    found = [(msgspec.json.decode(one.event)["seq"], one.standing, one.label) for one in scene.engine.decided()]
    bad = [(seq, True, "bad") for seq in (1, 2, 4, 5, 6, 7)]
    expected = [(0, True, "good"), *bad, (3, True, ""), (8, False, ""), (9, True, "good"), (10, False, "")]
    assert sorted(found) == sorted(expected)


def test_what_was_decided_just_before_the_end_is_handed_over_at_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    until(lambda: shown(link, scene.run) == ("running", 0, 20))
    monkeypatch.setattr(link_module, "BUSY_PAUSE", 60.0)
    until(lambda: not scene.behind())
    decide(scene, 0, runs.planned(scene.store, scene.run)[0][0])
    link.close(stop_engine=True)
    assert [one.label for one in scene.engine.decided()] == ["good"]


def test_decisions_that_do_not_come_back_are_not_handed_over_without_end(scene: Scene) -> None:
    ids = [row for row, _ in runs.planned(scene.store, scene.run)]
    decide(scene, 0, ids[0])
    scene.engine.forget_decisions = True
    link = scene.link(stays=True)
    until(lambda: scene.engine.calls.count("decide") == 1)
    looks = scene.engine.calls.count("status")
    until(lambda: scene.engine.calls.count("status") > looks + 6)
    scene.engine.forget_decisions = False
    decide(scene, 1, ids[1])
    link.nudge()
    until(lambda: len(scene.engine.decided()) == 1)
    looks = scene.engine.calls.count("status")
    until(lambda: scene.engine.calls.count("status") > looks + 6)
    assert scene.engine.calls.count("decide") == 2


def test_a_new_ledger_gets_the_decisions_the_old_one_had(scene: Scene) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    decide(scene, 0, runs.planned(scene.store, scene.run)[0][0])
    until(lambda: len(scene.engine.decided()) == 1)
    link.close(stop_engine=True)
    scene.engine = StandIn(1, log=1)
    scene.link()
    until(lambda: len(scene.engine.decided()) == 1)
    until(lambda: not scene.behind())
    assert len(scene.engine.decided()) == 1


def test_other_machines_keep_the_engine_there_while_the_workspace_is_open(scene: Scene) -> None:
    link = scene.link()
    assert scene.asked == 0
    link.watch()
    until(lambda: scene.engine.calls.count("look_around") == 1)
    until(lambda: link.status is not None)
    scene.engine.members["e" * 32] = "machine 5"
    until(lambda: company.others(scene.store) == 1)
    link.close(stop_engine=True)
    asked = scene.asked
    again = scene.link()
    until(lambda: scene.asked > asked and again.status is not None)
    del scene.engine.members["e" * 32]
    until(lambda: company.others(scene.store) == 0)


def test_a_helpers_engine_is_used_from_the_beginning_and_left_running(scene: Scene) -> None:
    link = scene.link(stays=True)
    until(lambda: link.status is not None)
    link.close(stop_engine=True)
    assert not scene.engine.stopped


def test_a_workspace_that_was_lost_is_made_again_from_the_engines_folder(scene: Scene, tmp_path: Path) -> None:
    link = scene.link()
    link.want(scene.run, "running")
    decide(scene, 0, runs.planned(scene.store, scene.run)[0][0])
    until(lambda: len(scene.engine.decided()) == 1 and len(scene.engine.rows(scene.run)) == 20)
    scene.engine.work(scene.run)
    until(lambda: shown(link, scene.run) == ("done", 20, 20))
    link.close(stop_engine=True)
    scene.folder.mkdir()
    (scene.folder / "ledger.sqlite").touch()
    store = open_store(tmp_path / "again.duckdb")
    again = EngineLink(store, scene.folder, scene.ensure)
    again.start()
    try:
        until(lambda: shown(again, scene.run) == ("done", 20, 20))
        assert labels.shares(store, scene.run, "sentiment") == labels.shares(scene.store, scene.run, "sentiment")
        assert decisions.counts(store, scene.run, "sentiment").decided == 1
    finally:
        again.close(stop_engine=False)
        store.close()
