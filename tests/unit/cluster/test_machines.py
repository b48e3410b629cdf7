"""Several machines: paired by a code, sharing the work, going on without each other."""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from engine.client import Engine
from engine.cluster.audits import Audits
from tests.unit.cluster.examples import MODEL, rows, spec
from tests.unit.cluster.test_node import all_facts, progress, until
from tests.unit.cluster.together import Helper, Together, known_to_all, together
from tests.waiting import wait_for
from workspace.errors import EngineError

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_two_machines_paired_by_a_code_share_the_work(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = machines.start("studio"), machines.start("helper")
        assert machines.pair(studio, helper) == helper.id
        known_to_all([studio, helper])
        helper.engine.open_run(spec(prompt="other"), [])  # from now on it knows where the model is
        for machine in (studio, helper):
            machine.worker.hold.clear()
        studio.engine.open_run(spec(), rows(2000))
        # One let go before the other has a claim could finish everything alone.
        assert all(machine.worker.busy.wait(30) for machine in (studio, helper))
        for machine in (studio, helper):
            machine.worker.hold.set()
        until(studio.engine, "done", spec().run_id)
        assert studio.rows_asked + helper.rows_asked == 2000
        assert studio.rows_asked > 0
        assert helper.rows_asked > 0
        wait_for(lambda: helper.engine.status().vector == studio.engine.status().vector, "the same facts")
        facts = all_facts(helper.engine)
        assert len({fact.row_id for fact in facts}) == len(facts) == 2000

    together(tmp_path, script)


def three(machines: Together) -> list[Helper]:
    """Three machines of one cluster that all have the model."""
    studio, second, third = (machines.start(name) for name in ("studio", "second", "third"))
    machines.pair(studio, second)
    machines.pair(second, third)
    everybody = [studio, second, third]
    known_to_all(everybody)
    for helper in everybody:
        helper.node.models.hand_over(MODEL)
    return everybody


def all_done(engine: Engine, count: int) -> bool:
    return progress(engine).done == count


def tries_left(helper: Helper) -> int | None:
    pairing = helper.cluster.pairing
    return None if pairing is None else pairing.tries_left


def once_each(engine: Engine, count: int) -> None:
    """Every row has exactly one fact."""
    facts = all_facts(engine)
    assert len({fact.row_id for fact in facts}) == len(facts) == count


def test_when_the_leader_is_killed_the_others_finish_its_rows(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        everybody = three(machines)
        leader = next(helper for helper in everybody if helper.cluster.leader == helper.id)
        others = [helper for helper in everybody if helper is not leader]
        for helper in everybody:
            helper.worker.hold.clear()
        others[0].engine.open_run(spec(), rows(1500))
        for helper in everybody:
            assert helper.worker.busy.wait(30)  # each works on rows that nobody else was given
        epoch = others[0].cluster.epoch
        machines.kill(leader)
        for helper in others:
            helper.worker.hold.set()
            wait_for(functools.partial(all_done, helper.engine, 1500), "all rows")
        assert others[0].cluster.epoch > epoch
        assert others[0].cluster.leader == others[1].cluster.leader != leader.id
        assert {fact.row_id for fact in all_facts(others[0].engine)} == {row for row, _, _ in rows(1500)}
        wait_for(lambda: others[0].engine.status().vector == others[1].engine.status().vector, "the same facts")
        assert (seen := others[0].sees(leader)) is not None
        assert not seen.alive

        back = machines.start(leader.name)  # no code, no question
        wait_for(lambda: back.engine.status().vector == others[0].engine.status().vector, "it to catch up")
        assert progress(back.engine).done == 1500
        known_to_all([back, *others])
        assert back.cluster.leader == others[0].cluster.leader  # coming back is no reason to lead

        everybody = [back, *others]
        for helper in everybody:
            machines.stop(helper)
        first, *rest = [machines.ledger(helper) for helper in everybody]
        assert all(other == first for other in rest)

    together(tmp_path, script)


def pair_of(machines: Together) -> tuple[Helper, Helper]:
    studio, helper = machines.start("studio"), machines.start("helper")
    machines.pair(studio, helper)
    known_to_all([studio, helper])
    for machine in (studio, helper):
        machine.node.models.hand_over(MODEL)
    return studio, helper


def test_names_and_pauses_are_known_everywhere(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = pair_of(machines)
        studio.engine.set_member(helper.id, name="  the big  one ")
        wait_for(lambda: helper.engine.status().node == "the big one", "the new name")
        helper.engine.set_member(studio.id, paused=True)
        wait_for(lambda: (seen := studio.sees(studio)) and seen.paused, "the pause")
        studio.engine.open_run(spec(), rows(300))
        until(helper.engine, "done")
        assert (studio.rows_asked, helper.rows_asked) == (0, 300)
        assert {fact.node for fact in all_facts(helper.engine)} == {"the big one"}
        studio.engine.set_member(studio.id, paused=False)
        helper.engine.set_member(helper.id, paused=True)
        wait_for(lambda: (seen := studio.sees(helper)) and seen.paused, "the other pause")
        helper.engine.open_run(spec(), rows(400))
        wait_for(lambda: progress(studio.engine).done == 400, "the new rows")
        assert (studio.rows_asked, helper.rows_asked) == (100, 300)
        with pytest.raises(EngineError, match="needs a name"):
            studio.engine.set_member(helper.id, name=" \t")
        with pytest.raises(EngineError, match="No such machine"):
            studio.engine.set_member("0" * 32, name="nobody")

    together(tmp_path, script)


def test_a_removed_machine_gets_nothing_more_and_can_begin_anew(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = pair_of(machines)
        studio.engine.open_run(spec(), rows(100))
        wait_for(lambda: all_done(helper.engine, 100), "the run")
        with pytest.raises(EngineError, match="itself"):
            helper.engine.revoke(helper.id)
        with pytest.raises(EngineError, match="belongs to its cluster"):
            helper.engine.start_over()
        before = (studio.rows_asked, helper.rows_asked)
        studio.engine.revoke(helper.id)
        studio.engine.revoke(helper.id)
        assert [machine.id for machine in studio.cluster.machines] == [studio.id]
        studio.engine.open_run(spec(), rows(200))
        wait_for(lambda: all_done(studio.engine, 200), "the rest")
        assert (studio.rows_asked, helper.rows_asked) == (before[0] + 100, before[1])
        assert progress(helper.engine).rows == 100

        wait_for(lambda: helper.cluster.removed, "it to notice that nobody lets it in")
        helper.engine.start_over(wait=False)
        machines.stop(helper)
        anew = machines.start("helper")
        assert anew.id != helper.id
        assert anew.engine.status().runs == ()
        assert len(list(anew.folder.path.glob("removed-*/ledger.sqlite"))) == 1
        machines.pair(studio, anew)
        known_to_all([studio, anew])
        wait_for(lambda: all_done(anew.engine, 200), "all facts")

    together(tmp_path, script)


def test_a_machine_whose_disk_was_set_back_begins_another_log(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = pair_of(machines)
        studio.engine.open_run(spec(), rows(50))
        wait_for(lambda: all_done(studio.engine, 50), "the run")
        machines.stop(helper)
        kept = helper.folder.ledger.read_bytes()
        helper = machines.start("helper")
        helper.node.models.hand_over(MODEL)
        studio.engine.set_member(studio.id, paused=True)
        studio.engine.open_run(spec(), rows(100))
        wait_for(lambda: all_done(studio.engine, 100), "the rows only the helper could do")
        machines.stop(helper)
        helper.folder.ledger.write_bytes(kept)
        helper = machines.start("helper")
        author = f"{helper.id}.", helper.engine.status().author
        assert helper.id == author[0][:-1]
        wait_for(lambda: helper.engine.status().author != author[1], "another log")
        wait_for(lambda: all_done(helper.engine, 100), "its own facts to come back from the studio")
        studio.engine.open_run(spec(), rows(150))
        wait_for(lambda: all_done(studio.engine, 150), "new rows")
        once_each(studio.engine, 150)

    together(tmp_path, script)


def test_pairing_again_changes_nothing_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = pair_of(machines)
        before = studio.cluster
        assert machines.pair(helper, studio) == studio.id
        known_to_all([studio, helper])
        assert studio.cluster.id == before.id
        assert {machine.id: machine.rank for machine in studio.cluster.machines} == {studio.id: 0, helper.id: 1}
        shown = helper.engine.open_pairing()
        assert helper.engine.open_pairing().code == shown.code
        wrong = "000-000" if shown.code != "000-000" else "000-001"
        with pytest.raises(EngineError, match="not right"):
            studio.engine.pair(f"127.0.0.1:{shown.port}", wrong)
        assert tries_left(helper) == 2
        helper.engine.close_pairing()
        assert tries_left(helper) is None
        with pytest.raises(EngineError, match="waits to be paired"):
            studio.engine.pair(f"127.0.0.1:{shown.port}", shown.code)
        with pytest.raises(EngineError, match="no address"):
            studio.engine.pair("nowhere", shown.code)

        third, fourth = machines.start("third"), machines.start("fourth")
        machines.pair(third, fourth)
        known_to_all([third, fourth])
        with pytest.raises(EngineError, match="did not accept") as error:
            machines.pair(studio, third)
        assert "clusters with other machines" in error.value.advice

    together(tmp_path, script)


def test_a_machine_alone_joins_the_one_that_has_a_cluster_and_brings_its_runs(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = pair_of(machines)
        alone = machines.start("alone")
        alone.engine.open_run(spec(prompt="own"), rows(50))
        until(alone.engine, "done")
        machines.pair(alone, helper)  # the code is shown by the one that has a cluster
        known_to_all([studio, helper, alone])
        assert alone.cluster.id == studio.cluster.id
        assert sorted(machine.rank for machine in studio.cluster.machines) == [0, 1, 2]
        wait_for(lambda: studio.engine.status().vector == alone.engine.status().vector, "the same facts")
        assert until(studio.engine, "done", spec(prompt="own").run_id).done == 50

    together(tmp_path, script)


def test_machines_that_moved_find_each_other_by_a_typed_address(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = pair_of(machines)
        for machine in (studio, helper):
            machines.stop(machine)
        # Ports of their own choice at first, others now: nothing that was remembered is right any more.
        helper = machines.start("helper", listen=f"127.0.0.1:{free_port()}")
        studio = machines.start("studio", listen=f"127.0.0.1:{free_port()}")
        assert not studio.cluster.machines[1].alive
        studio.engine.add_address(helper.cluster.listening)
        known_to_all([studio, helper])
        machines.stop(studio)
        machines.stop(helper)
        helper = machines.start("helper", listen=f"127.0.0.1:{free_port()}")
        studio = machines.start("studio", peers=(helper.cluster.listening,))
        known_to_all([studio, helper])
        with pytest.raises(EngineError, match="no address"):
            studio.engine.add_address("over there")

    together(tmp_path, script)


def test_a_machine_alone_listens_to_nobody_and_says_why_nothing_happens(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        alone = machines.start("alone", listen="", stay=False, mode="client")
        cluster = alone.cluster
        assert (cluster.listening, cluster.leader, cluster.copies) == ("", "", 1)
        alone.engine.open_run(spec(), rows(10))
        wait_for(lambda: "never does" in progress(alone.engine).note, "the reason")
        assert alone.rows_asked == 0
        machines.stop(alone)
        alone = machines.start("alone", listen="", stay=False)
        wait_for(lambda: all_done(alone.engine, 10), "the run")
        alone.engine.set_member(alone.id, paused=True)
        alone.engine.open_run(spec(), rows(20))
        wait_for(lambda: "paused" in progress(alone.engine).note, "the other reason")
        assert progress(alone.engine).state == "running"

    together(tmp_path, script)


def test_a_name_people_gave_outlives_the_name_it_was_started_with(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio = machines.start("studio")
        studio.engine.set_member(studio.id, name="Desk")
        machines.stop(studio)
        studio = machines.start("studio")
        assert studio.engine.status().node == "Desk"
        machines.stop(studio)
        studio.folder.path.rename(tmp_path / "other")
        assert machines.start("other").engine.status().node == "other"

    together(tmp_path, script)


def test_copies_that_differ_are_said(tmp_path: Path) -> None:
    def script(machines: Together) -> None:
        studio, helper = pair_of(machines)
        studio.engine.open_run(spec(), rows(50))
        wait_for(lambda: all_done(helper.engine, 50), "the run")
        author = studio.engine.status().author
        wait_for(lambda: helper.engine.status().vector == studio.engine.status().vector, "the same facts")
        told: list[str] = []

        async def audit() -> None:
            audits = Audits(studio.node.driver, told.append, every=0.0)
            for _ in studio.node.driver.core.vector:  # each log in turn
                audits.look()

        machines.on_loop(audit())
        assert studio.engine.status().vector
        assert not any(machine.problems for machine in helper.cluster.machines)
        disk = helper.node.driver.disk
        spoil = "update entry set body = cast(body || x'00' as blob) where kind = 'state'"
        machines.on_loop(answer(disk.ask(disk.ledger._con.execute, spoil)))
        machines.on_loop(audit())
        wait_for(lambda: any(machine.problems for machine in helper.cluster.machines), "the difference")
        problems = [problem for machine in helper.cluster.machines for problem in machine.problems]
        assert studio.id[:4] in problems[0]
        assert "studio" in problems[0]
        assert author.startswith(studio.id)
        assert not told

    together(tmp_path, script)


async def answer(future: asyncio.Future[T]) -> T:
    return await future


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
