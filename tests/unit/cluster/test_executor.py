"""Batches behind the local executor: models loaded when they are needed, deaths told apart, memory given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.executor import LOAD_ATTEMPTS, Batch, LocalExecutor
from engine.worker_process import WorkerDied
from tests.unit.cluster.examples import MODEL, RuleWorker, spec
from workspace.errors import ModelError
from workspace.facts import ModelSpec, RowRule, Settings

OTHER = msgspec.structs.replace(MODEL, digest="e" * 32, name="Other")


def batch(*texts: str, model: ModelSpec = MODEL) -> Batch:
    return Batch("1.x.1", spec("mood", model=model), texts)


def on_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner() as runner:
        runner.run(work())


def test_a_model_is_loaded_once_and_again_only_for_another(tmp_path: Path) -> None:
    async def work() -> None:
        worker = RuleWorker()
        executor = LocalExecutor(tmp_path / "worker.log", lambda: worker)
        assert (executor.capacity().loaded, executor.capacity().pid) == ("", 0)
        signs: list[None] = []
        for _ in range(2):
            result = await executor.run(batch("a", "b", "wrong"), lambda: signs.append(None))
            assert len(result.answers) == 3
            assert result.answers[2][0].error
        assert worker.starts == 1
        assert executor.capacity().loaded == MODEL.digest
        assert executor.capacity().pid
        await executor.run(batch("a", model=OTHER), lambda: None)
        assert worker.starts == 2
        assert executor.capacity().loaded == OTHER.digest
        await executor.close()
        assert (executor.capacity().loaded, executor.capacity().pid) == ("", 0)
        await executor.run(batch("a", model=OTHER), lambda: None)
        assert worker.starts == 3
        await executor.close()

    on_loop(work)


def test_runs_that_ask_the_same_share_a_loaded_model(tmp_path: Path) -> None:
    async def work() -> None:
        worker = RuleWorker()
        executor = LocalExecutor(tmp_path / "worker.log", lambda: worker)
        run = spec("mood")
        same = msgspec.structs.replace(run, run_id="r", task_id="t", task_name="other", prompt_id="q")
        for one in (run, same, run):
            await executor.run(Batch("1.x.1", one, ("a",)), lambda: None)
        assert worker.starts == 1
        limited = msgspec.structs.replace(run, settings=Settings(budget=1.0))
        for one in (
            msgspec.structs.replace(run, rules=(RowRule("ads", ("buy",), drop=True),)),
            limited,
            msgspec.structs.replace(limited, run_id="r"),  # what each of them costs is counted apart
            spec("mood", "tone"),
        ):
            before = worker.starts
            await executor.run(Batch("1.x.1", one, ("a",)), lambda: None)
            assert worker.starts == before + 1
        await executor.close()

    on_loop(work)


def test_a_row_that_ends_the_process_is_told_and_the_next_batch_starts_another(tmp_path: Path) -> None:
    async def work() -> None:
        worker = RuleWorker()
        executor = LocalExecutor(tmp_path / "worker.log", lambda: worker)
        with pytest.raises(WorkerDied):
            await executor.run(batch("a", "deadly"), lambda: None)
        assert executor.capacity().loaded == ""
        assert len((await executor.run(batch("a"), lambda: None)).answers) == 1
        assert worker.starts == 2
        await executor.close()

    on_loop(work)


def test_a_process_that_always_dies_while_loading_means_that_the_model_cannot_be_used(tmp_path: Path) -> None:
    async def work() -> None:
        worker = RuleWorker(loading_deaths=LOAD_ATTEMPTS)
        executor = LocalExecutor(tmp_path / "worker.log", lambda: worker)
        with pytest.raises(ModelError, match="3 times"):
            await executor.run(batch("a"), lambda: None)
        assert worker.starts == LOAD_ATTEMPTS
        assert executor.capacity().doing == ""
        await executor.run(batch("a"), lambda: None)  # a person asked again, and now it goes
        await executor.close()

    on_loop(work)


def test_a_model_that_cannot_be_used_is_not_tried_three_times(tmp_path: Path) -> None:
    async def work() -> None:
        worker = RuleWorker(refuse="The file is not a model.")
        executor = LocalExecutor(tmp_path / "worker.log", lambda: worker)
        with pytest.raises(ModelError, match="not a model"):
            await executor.run(batch("a"), lambda: None)
        assert worker.starts == 1
        await executor.close()

    on_loop(work)


def test_closing_ends_the_batch_under_way_and_a_pause_between_two_attempts(tmp_path: Path) -> None:
    async def work() -> None:
        worker = RuleWorker()
        worker.hold.clear()
        executor = LocalExecutor(tmp_path / "worker.log", lambda: worker)
        running = asyncio.ensure_future(executor.run(batch("a"), lambda: None))
        await asyncio.to_thread(worker.busy.wait, 30)
        await executor.close()
        with pytest.raises(WorkerDied):
            await running

        dying = RuleWorker(loading_deaths=1)
        executor = LocalExecutor(tmp_path / "worker.log", lambda: dying)
        running = asyncio.ensure_future(executor.run(batch("a"), lambda: None))
        while not dying.starts:
            await asyncio.sleep(0)
        assert executor.capacity().doing == f"Loading {MODEL.name}"
        await executor.close()
        with pytest.raises(WorkerDied):
            await running
        assert dying.starts == 1

    on_loop(work)
