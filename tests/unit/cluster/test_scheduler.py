"""Laws of the scheduler, over any order of grants, results, deaths, pauses and added rows."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.cluster.scheduler import (
    BATCH_SECONDS,
    BLOCK,
    FIRST_BATCH,
    GIVE_UP_ROWS,
    LARGEST_BATCH,
    POISON_AFTER,
    TURN,
    Batch,
    Scheduler,
)
from workspace.facts import RunProgress

RUNS = ("a", "b", "c")


def one(rows: int, dimensions: int = 1) -> Scheduler:
    scheduler = Scheduler()
    scheduler.open("a", "model", dimensions)
    scheduler.grow("a", rows)
    scheduler.set_state("a", "running")
    return scheduler


def progress(scheduler: Scheduler, run_id: str = "a") -> RunProgress:
    return next(run for run in scheduler.progress() if run.run_id == run_id)


def granted(scheduler: Scheduler) -> Batch:
    batch = scheduler.next()
    assert batch is not None
    return batch


def work_off(scheduler: Scheduler, deadly: set[tuple[str, int, int]], batches: int = 100_000) -> list[Batch]:
    """Work until nothing is left; a batch with a deadly (run, dimension, position) fails."""
    done: list[Batch] = []
    for _ in range(batches):
        for run_id in scheduler.finished():
            scheduler.set_state(run_id, "done")
        batch = scheduler.next()
        if batch is None:
            return done
        done.append(batch)
        if any((batch.run_id, batch.dimension, position) in deadly for position in batch.positions):
            if scheduler.failed(batch):
                scheduler.given_up(batch)
        else:
            scheduler.answered(batch, [], 0.5)
    raise AssertionError("the scheduler never ends")


class Machine(RuleBasedStateMachine):
    """A node's life as the scheduler sees it; every row may be deadly."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler()
        self.dimensions: dict[str, int] = {}
        self.rows: dict[str, int] = {}
        self.deadly: set[tuple[str, int, int]] = set()
        self.answers: dict[tuple[str, int, int], str] = {}
        self.out: Batch | None = None

    @initialize(dimensions=st.lists(st.integers(1, 3), min_size=1, max_size=3), models=st.integers(1, 2))
    def opened(self, dimensions: list[int], models: int) -> None:
        for index, (run_id, count) in enumerate(zip(RUNS, dimensions, strict=False)):
            self.scheduler.open(run_id, f"model {index % models}", count)
            self.dimensions[run_id], self.rows[run_id] = count, 0

    def _run(self, index: int) -> str:
        return RUNS[index % len(self.dimensions)]

    @rule(index=st.integers(0, 2), more=st.integers(0, 700))
    def grow(self, index: int, more: int) -> None:
        run_id = self._run(index)
        self.rows[run_id] += more
        self.scheduler.grow(run_id, self.rows[run_id])

    @rule(index=st.integers(0, 2), state=st.sampled_from(["running", "running", "paused", "cancelled"]))
    def change(self, index: int, state: str) -> None:
        self.scheduler.set_state(self._run(index), state)  # type: ignore[arg-type]

    @rule(index=st.integers(0, 2), dimension=st.integers(0, 2), position=st.integers(0, 60))
    def poison(self, index: int, dimension: int, position: int) -> None:
        self.deadly.add((self._run(index), dimension, position))

    @precondition(lambda self: self.out is None)
    @rule()
    def grant(self) -> None:
        states = {run.run_id: run.state for run in self.scheduler.progress()}
        self.out = self.scheduler.next()
        if self.out is None:
            waiting = [run for run in self.scheduler.progress() if run.state == "running" and run.done < run.rows]
            assert not waiting
            return
        assert states[self.out.run_id] == "running"
        assert 1 <= len(self.out.positions) <= LARGEST_BATCH
        for position in self.out.positions:
            assert position < self.rows[self.out.run_id]
            assert (self.out.run_id, self.out.dimension, position) not in self.answers

    @precondition(lambda self: self.out is not None)
    @rule(seconds=st.floats(0.001, 100), died_anyway=st.booleans(), errors=st.booleans())
    def settle(self, seconds: float, died_anyway: bool, errors: bool) -> None:
        batch = self.out
        assert batch is not None
        self.out = None
        keys = [(batch.run_id, batch.dimension, position) for position in batch.positions]
        if died_anyway or any(key in self.deadly for key in keys):
            if self.scheduler.failed(batch):
                assert len(keys) == 1
                assert batch.failures + 1 >= POISON_AFTER
                self.answers[keys[0]] = "error"
                self.scheduler.given_up(batch)
            return
        failed = [position for position in batch.positions if errors and position % 7 == 0]
        for key in keys:
            self.answers[key] = "error" if key[2] in failed else "label"
        self.scheduler.answered(batch, failed, seconds)

    @precondition(lambda self: self.out is not None)
    @rule()
    def withdraw(self) -> None:
        assert self.out is not None
        self.scheduler.withdrawn(self.out)
        self.out = None

    @rule()
    def close_finished(self) -> None:
        for run_id in self.scheduler.finished():
            self.scheduler.set_state(run_id, "done")

    @invariant()
    def counts_are_true(self) -> None:
        for run in self.scheduler.progress():
            dimensions = range(self.dimensions[run.run_id])
            kinds = [
                [self.answers.get((run.run_id, dimension, position)) for dimension in dimensions]
                for position in range(self.rows[run.run_id])
            ]
            done = [row for row in kinds if None not in row]
            assert (run.rows, run.done) == (self.rows[run.run_id], len(done))
            assert run.failed == sum("error" in row for row in done)

    def teardown(self) -> None:
        # Whatever happened: set running, everything ends, poison as errors and all else as labels.
        if self.out is not None:
            self.scheduler.withdrawn(self.out)
        for run_id in self.dimensions:
            self.scheduler.set_state(run_id, "running")
        work_off(self.scheduler, self.deadly)
        for run in self.scheduler.progress():
            assert run.state == "done"
            assert run.done == run.rows == self.rows[run.run_id]
            poison = {
                position
                for run_id, dimension, position in self.deadly
                if run_id == run.run_id
                and dimension < self.dimensions[run_id]
                and position < run.rows
                and self.answers.get((run_id, dimension, position)) != "label"
            }
            assert run.failed >= len(poison)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestScheduler = Machine.TestCase


def test_a_deadly_row_is_the_only_one_given_up() -> None:
    scheduler = one(100)
    batches = work_off(scheduler, {("a", 0, 3)})
    assert progress(scheduler).failed == 1
    assert [batch.positions for batch in batches if len(batch.positions) == 1][-1] == (3,)


def test_a_batch_that_killed_the_worker_twice_is_split() -> None:
    scheduler = one(8)
    sizes = []
    for _ in range(4):
        batch = granted(scheduler)
        sizes.append(len(batch.positions))
        assert not scheduler.failed(batch)
    assert sizes == [8, 8, 4, 2]


def test_a_worker_that_dies_on_every_row_is_told_apart_from_poison() -> None:
    scheduler = one(100)
    pauses: list[bool] = []
    while not any(pauses):
        batch = granted(scheduler)
        if scheduler.failed(batch):
            pauses.append(scheduler.given_up(batch))
    assert len(pauses) == GIVE_UP_ROWS


def test_batches_grow_to_the_wanted_time() -> None:
    scheduler = one(10_000)
    rate, sizes = 40.0, []
    for _ in range(6):
        batch = granted(scheduler)
        sizes.append(len(batch.positions))
        scheduler.answered(batch, [], len(batch.positions) / rate)
    assert sizes[0] == FIRST_BATCH
    assert sizes[-1] == rate * BATCH_SECONDS


def test_only_a_very_slow_model_gets_batches_below_the_first() -> None:
    for seconds_per_row, smallest in ((2.0, FIRST_BATCH), (30.0, 1)):
        scheduler = one(1000)
        sizes = []
        for _ in range(8):
            batch = granted(scheduler)
            sizes.append(len(batch.positions))
            scheduler.answered(batch, [], len(batch.positions) * seconds_per_row)
        assert sizes[-1] == smallest


def test_a_block_is_asked_every_dimension_before_the_next_one() -> None:
    batches = work_off(one(BLOCK * 2 + 10, dimensions=2), set())
    order = [(batch.positions[0] // BLOCK, batch.dimension) for batch in batches]
    assert order == sorted(order)
    assert all(batch.positions[0] // BLOCK == batch.positions[-1] // BLOCK for batch in batches)


def test_runs_take_turns() -> None:
    scheduler = one(100_000)
    scheduler.open("b", "model", 1)
    scheduler.grow("b", 100)
    scheduler.set_state("b", "running")
    seen = []
    for _ in range(TURN + 1):
        batch = granted(scheduler)
        seen.append(batch.run_id)
        scheduler.answered(batch, [], 1.0)
    assert seen == ["a"] * TURN + ["b"]


def test_time_left_follows_the_rate_of_the_last_minute() -> None:
    scheduler = one(1000, dimensions=2)
    assert progress(scheduler).seconds_left is None
    for _ in range(200):
        batch = granted(scheduler)
        scheduler.answered(batch, [], len(batch.positions) / 20)
        if progress(scheduler).done:
            break
    now = progress(scheduler)
    assert now.rows_per_s == 10.0
    assert now.seconds_left is not None
    left = 2 * now.rows - sum(sum(answered) for answered in scheduler._runs["a"].answered)
    assert abs(now.seconds_left - left / 20) < 0.1


def test_a_done_run_that_grows_goes_on_where_it_was() -> None:
    scheduler = Scheduler()
    scheduler.open("a", "model", 2)
    scheduler.grow("a", 600)
    scheduler.recall_done("a", [5])
    scheduler.set_state("a", "done")
    assert (progress(scheduler).done, progress(scheduler).failed) == (600, 1)
    scheduler.grow("a", 610)
    scheduler.set_state("a", "running")
    asked = {(batch.dimension, position) for batch in work_off(scheduler, set()) for position in batch.positions}
    assert asked == {(dimension, position) for dimension in (0, 1) for position in range(600, 610)}
