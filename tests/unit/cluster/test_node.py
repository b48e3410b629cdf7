"""The node's loop with a worker whose behaviour is in the texts, spoken to through the real client and door."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from engine.client import Engine
from engine.cluster.claims import GIVE_UP_ROWS, PREFETCH
from engine.cluster.entries import Decided, Labeled, RunOpened, Sealed, decode
from engine.cluster.facts import expand
from engine.cluster.node import Node
from engine.cluster.options import EngineOptions
from engine.cluster.state_folder import StateFolder
from engine.executor import LocalExecutor
from engine.labeler import Answer, Progress
from tests.unit.cluster import examples
from tests.unit.cluster.examples import RuleWorker, of, rows, spec
from tests.waiting import wait_for
from workspace.errors import EngineError
from workspace.facts import Fact, RunProgress
from workspace.ids import row_id

Script = Callable[[Engine, Node], None]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def play(state_dir: Path, worker: RuleWorker, script: Script, idle_seconds: float = 60.0) -> int:
    """Run a node in this thread while `script` speaks to it from another one; returns the node's exit status."""
    folder = StateFolder(state_dir)
    folder.make()
    options = EngineOptions(idle_seconds=idle_seconds, find="none")

    def act(node: Node) -> None:
        wait_for(lambda: folder.card() is not None, "the node's card")
        with Engine.ensure(state_dir, start=False) as engine:
            try:
                script(engine, node)
            finally:
                worker.hold.set()
                if folder.card() is not None:
                    engine.shutdown(wait=False)

    async def both() -> int:
        node = Node(folder, options, LocalExecutor(folder.worker_log, lambda: worker))
        acting = asyncio.create_task(asyncio.to_thread(act, node))
        status = await node.run()
        await acting
        return status

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(both())


def progress(engine: Engine, run_id: str = "") -> RunProgress:
    """Where a run stands, the first without an id; one that is not known there (yet) has no rows."""
    unknown = RunProgress(run_id, "paused", 0, 0, 0, 0.0, None, "")
    return next((run for run in engine.status().runs if run_id in ("", run.run_id)), unknown)


def until(engine: Engine, state: str, run_id: str = "") -> RunProgress:
    wait_for(lambda: progress(engine, run_id).state == state, state)
    return progress(engine, run_id)


def all_facts(engine: Engine) -> list[Fact]:
    """Facts of every author this engine holds, as a studio reads them."""
    facts: list[Fact] = []
    for author, end in sorted(engine.status().vector.items()):
        here = 0
        while here < end and (page := engine.entries(author, here, 100)):
            assert page[0].seq == here
            for entry in page:
                body = decode(entry.body)
                if isinstance(body, Labeled):
                    facts += expand(author, entry.seq, body)
            here = page[-1].end
        assert here >= end
    return facts


def test_every_row_gets_one_fact_per_dimension(tmp_path: Path) -> None:
    worker, run = RuleWorker(), spec("mood", "short")

    def script(engine: Engine, node: Node) -> None:
        assert engine.open_run(run, rows(700)) == 700
        done = until(engine, "done")
        assert (done.rows, done.done, done.failed, done.note) == (700, 700, 0, "")
        facts = all_facts(engine)
        assert len({(fact.author, fact.seq) for fact in facts}) == len(facts) == 1400
        expected = {(row, name) for row, _, _ in rows(700) for name in ("mood", "short")}
        assert {(fact.row_id, fact.dimension) for fact in facts} == expected
        assert {fact.author for fact in facts} == {engine.status().author}
        assert {fact.label for fact in facts} == {"good", "bad"}
        # The same again is nothing; more rows are more work.
        assert engine.open_run(run, rows(700)) == 700
        until(engine, "done")
        assert engine.open_run(run, rows(20, start=690)) == 710
        assert until(engine, "done").done == 710
        assert len(all_facts(engine)) == 1420

    assert play(tmp_path, worker, script) == 0
    assert sum(worker.asked) == 710
    assert worker.starts == 1


def test_a_spent_budget_pauses_the_run_and_says_so(tmp_path: Path) -> None:
    worker = RuleWorker()

    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), [*rows(8), of("costly")])
        paused = until(engine, "paused")
        assert (paused.rows, paused.done, paused.failed) == (9, 8, 0)
        assert paused.note == "The budget of this run is spent. Raise it to go on."
        assert engine.status().cluster.machines[0].problems == ()
        asked = len(worker.asked)
        engine.set_state(spec().run_id, "running")  # a person tries again
        wait_for(lambda: len(worker.asked) > asked, "the rows to be asked again")
        until(engine, "paused")

    assert play(tmp_path, worker, script) == 0
    assert worker.starts == 1


def test_a_row_that_kills_the_worker_ends_as_an_error(tmp_path: Path) -> None:
    worker = RuleWorker()
    texts = [*rows(40), of("deadly"), of("wrong"), *rows(40, start=40)]

    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), texts)
        done = until(engine, "done")
        assert (done.done, done.failed) == (82, 2)
        errors = {fact.row_id: fact.error for fact in all_facts(engine) if fact.kind == "error"}
        assert set(errors) == {row_id("deadly"), row_id("wrong")}
        assert "ended" in errors[row_id("deadly")]
        assert len(all_facts(engine)) == 82

    assert play(tmp_path, worker, script) == 0


def test_a_worker_that_never_survives_pauses_the_run(tmp_path: Path) -> None:
    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), [of(f"deadly {i}") for i in range(40)])
        paused = until(engine, "paused")
        assert "one row after the other" in paused.note
        wait_for(lambda: progress(engine).failed >= GIVE_UP_ROWS, "the errors of the rows given up")
        assert progress(engine).failed <= GIVE_UP_ROWS + PREFETCH  # what was under way when it was enough

    assert play(tmp_path, RuleWorker(), script) == 0


@pytest.mark.parametrize(("deaths", "state"), [(2, "done"), (3, "paused")])
def test_a_worker_that_dies_while_loading_is_tried_three_times(tmp_path: Path, deaths: int, state: str) -> None:
    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), rows(10))
        ended = until(engine, state)
        assert ("enough memory" in ended.note) == (state == "paused")
        engine.set_state(spec().run_id, "running")
        until(engine, "done")

    assert play(tmp_path, RuleWorker(loading_deaths=deaths), script) == 0


def test_a_model_that_cannot_be_used_pauses_the_run_with_the_reason(tmp_path: Path) -> None:
    worker = RuleWorker(refuse="The file is not a model.")

    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), rows(10))
        assert "The file is not a model." in until(engine, "paused").note
        worker.refuse = ""
        engine.set_state(spec().run_id, "running")
        assert until(engine, "done").note == ""

    assert play(tmp_path, worker, script) == 0
    assert worker.starts == 2


@pytest.mark.parametrize("state", ["paused", "cancelled"])
def test_a_pause_takes_effect_after_the_batch_under_way(tmp_path: Path, state: str) -> None:
    worker = RuleWorker()

    def script(engine: Engine, node: Node) -> None:
        worker.hold.clear()
        engine.open_run(spec(), rows(100))
        assert worker.busy.wait(30)
        engine.set_state(spec().run_id, state)  # type: ignore[arg-type]
        assert (progress(engine).state, progress(engine).done) == (state, 0)
        worker.hold.set()
        wait_for(lambda: progress(engine).done > 0, "the batch under way")
        assert len(worker.asked) == 1
        engine.set_state(spec().run_id, "running")
        assert until(engine, "done").done == 100

    assert play(tmp_path, worker, script) == 0


def test_the_next_engine_goes_on_by_itself(tmp_path: Path) -> None:
    worker, second = RuleWorker(), RuleWorker()
    paused, finished = spec(prompt="paused"), spec(prompt="finished")

    def script(engine: Engine, node: Node) -> None:
        engine.open_run(finished, [*rows(10), of("wrong")])
        until(engine, "done", finished.run_id)
        worker.hold.clear()
        worker.busy.clear()
        engine.open_run(spec(), rows(100))
        engine.open_run(paused, rows(100))
        engine.set_state(paused.run_id, "paused")
        assert worker.busy.wait(30)
        engine.shutdown(wait=False)
        with pytest.raises(EngineError, match="stopping"):
            engine.set_state(paused.run_id, "running")

    def again(engine: Engine, node: Node) -> None:
        states = {run.run_id: run for run in engine.status().runs}
        assert (states[finished.run_id].done, states[finished.run_id].failed) == (11, 1)
        assert until(engine, "done", spec().run_id).done == 100
        assert progress(engine, paused.run_id).state == "paused"
        facts = all_facts(engine)
        assert len({(fact.row_id, fact.run_id) for fact in facts}) == len(facts) == 111
        assert len({fact.author for fact in facts}) == 1

    assert play(tmp_path, worker, script) == 0
    assert play(tmp_path, second, again) == 0
    asked = sum(worker.asked + second.asked)
    assert asked == 111  # the batch under way was finished, none was asked twice


def test_it_ends_when_there_is_nothing_to_do_and_nobody_there(tmp_path: Path) -> None:
    worker = RuleWorker()

    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), rows(10))
        until(engine, "done")
        wait_for(lambda: StateFolder(tmp_path).card() is None, "the node to end")

    assert play(tmp_path, worker, script, idle_seconds=1.5) == 0
    assert worker.pid == 0


def test_sigterm_finishes_the_batch(tmp_path: Path) -> None:
    worker = RuleWorker()

    def script(engine: Engine, node: Node) -> None:
        worker.hold.clear()
        engine.open_run(spec(), rows(100))
        assert worker.busy.wait(30)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: StateFolder(tmp_path).card() is None, "the signal")

    def again(engine: Engine, node: Node) -> None:
        assert progress(engine).done > 0
        until(engine, "done")

    assert play(tmp_path, worker, script) == 0
    assert len(worker.asked) == 1
    assert play(tmp_path, worker, again) == 0
    assert sum(worker.asked) == 100


def test_a_ledger_that_cannot_write_ends_the_engine(tmp_path: Path) -> None:
    worker = RuleWorker()

    def script(engine: Engine, node: Node) -> None:
        worker.hold.clear()
        engine.open_run(spec(), rows(1000))
        assert worker.busy.wait(30)
        node.driver.disk.ledger._con.execute("pragma max_page_count = 1")
        worker.hold.set()
        wait_for(lambda: StateFolder(tmp_path).card() is None, "the node to give up")

    def again(engine: Engine, node: Node) -> None:
        until(engine, "done")
        assert len(all_facts(engine)) == 1000

    assert play(tmp_path, worker, script) == 1
    assert play(tmp_path, worker, again) == 0


def test_requests_that_make_no_sense_are_refused_in_words(tmp_path: Path) -> None:
    def script(engine: Engine, node: Node) -> None:
        with pytest.raises(EngineError, match="does not know this run"):
            engine.set_state("nobody", "paused")
        engine.open_run(spec(), rows(3))
        other = msgspec.structs.replace(spec(), dimensions=(examples.dimension("other"),))
        with pytest.raises(EngineError, match="other questions"):
            engine.open_run(other, rows(3))
        with pytest.raises(EngineError, match="asks nothing"):
            engine.open_run(msgspec.structs.replace(spec(prompt="none"), dimensions=()), rows(3))
        moved = msgspec.structs.replace(spec(), model=msgspec.structs.replace(examples.MODEL, path="moved.gguf"))
        assert engine.open_run(moved, rows(3)) == 3
        with pytest.raises(EngineError, match="not valid text"):
            engine.open_run(spec(), [("row", "half a \ud83d pair", "")])

    assert play(tmp_path, RuleWorker(), script) == 0


def test_what_people_decide_is_kept_and_comes_back(tmp_path: Path) -> None:
    run = spec()
    many = [
        Decided("moods", "mood", row, run.run_id, "good", True, "{}" + " " * 3000, clock)
        for clock, (row, _, _) in enumerate(rows(1200))
    ]

    def script(engine: Engine, node: Node) -> None:
        engine.open_run(run, rows(3), task="name: moods")
        end = engine.decide(many)  # more than one message holds
        author = engine.status().author
        assert engine.status().vector[author] >= end
        vector = engine.seal(run.run_id)
        assert vector[author] >= end
        found, here = [], 0
        while page := engine.entries(author, here, 100):
            found += [decode(entry.body) for entry in page]
            here = page[-1].end
        decided = [body for body in found if isinstance(body, Decided)]
        assert decided == many  # whole, in order, with the clocks they were given
        assert [body for body in found if isinstance(body, Sealed)] == [Sealed(run.run_id, vector)]
        assert next(body for body in found if isinstance(body, RunOpened)).task == "name: moods"
        with pytest.raises(EngineError, match="does not know this run"):
            engine.seal("nobody")

    assert play(tmp_path, RuleWorker(), script) == 0


def test_asking_for_a_state_a_run_has_writes_nothing(tmp_path: Path) -> None:
    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), rows(5))
        until(engine, "done")
        before = engine.status().vector
        engine.set_state(spec().run_id, "running")
        engine.open_run(spec(), rows(5))
        assert engine.status().vector == before
        engine.set_state(spec().run_id, "paused")
        assert engine.status().vector != before

    assert play(tmp_path, RuleWorker(), script) == 0


def test_texts_of_any_content_and_size_arrive_whole(tmp_path: Path) -> None:
    seen: list[str] = []

    class Listening(RuleWorker):
        def score(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
            seen.extend(rows)
            return super().score(rows, progress)

    texts = ["", "\x00 nul", "ü" * 600_000, "x" * 3_000_000, "🌾" * 300_000, "a\r\nb", *["y" * 50_000] * 1]

    def script(engine: Engine, node: Node) -> None:
        engine.open_run(spec(), [of(text) for text in texts])
        until(engine, "done")

    assert play(tmp_path, Listening(), script) == 0
    assert [text[: 1 << 20] for text in texts] == seen


def test_a_run_whose_answers_to_a_row_fit_no_message_is_refused(tmp_path: Path) -> None:
    wide = examples.dimension("d", tuple(str(number) for number in range(1000)))
    wide = msgspec.structs.replace(wide, phrasings=("words", "plain", "letters"))

    def script(engine: Engine, node: Node) -> None:
        with pytest.raises(EngineError, match="too many labels"):
            engine.open_run(msgspec.structs.replace(spec(), dimensions=(wide,) * 120), rows(1))
        assert engine.status().runs == ()

    assert play(tmp_path, RuleWorker(), script) == 0
