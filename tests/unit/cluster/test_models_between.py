"""Nodes that lack a run's model: it comes from another machine while the work goes on, or they say why not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cluster.capacity import Capacity
from engine.models import catalog
from tests.unit.cluster.examples import rows, spec
from tests.unit.cluster.test_machines import once_each
from tests.unit.cluster.test_model_transfer import digest_of, small_model
from tests.unit.cluster.test_node import progress, until
from tests.unit.cluster.together import Helper, Together, known_to_all, together
from tests.waiting import wait_for
from workspace.facts import ModelSpec, RunSpec

PIECES = 60  # of a MiB


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("WINNOW_MODELS", raising=False)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def model_of_studio(folder: Path) -> RunSpec:
    path = folder / "Studio.gguf"
    return spec(model=ModelSpec("llama_cpp", "Studio's", str(path), small_model(path, PIECES)))


def two(machines: Together) -> tuple[Helper, Helper]:
    studio, helper = machines.start("studio"), machines.start("helper")
    machines.pair(studio, helper)
    known_to_all([studio, helper])
    return studio, helper


def test_a_helper_fetches_the_model_and_joins_in(tmp_path: Path) -> None:
    run = model_of_studio(tmp_path)

    def script(machines: Together) -> None:
        studio, helper = two(machines)
        epoch = studio.cluster.epoch
        studio.worker.hold.clear()  # its first claim lasts until the helper can work
        studio.engine.open_run(run, rows(2000))
        assert studio.worker.busy.wait(30)
        assert helper.worker.busy.wait(60)
        studio.worker.hold.set()
        until(studio.engine, "done", run.run_id)
        assert helper.rows_asked > 0
        once_each(studio.engine, 2000)
        (path,) = catalog.models_folder().glob("*.gguf")
        assert path.name == "Studio-s.gguf"
        assert digest_of(path.read_bytes()) == run.model.digest
        seen = studio.sees(helper)
        assert seen is not None
        assert seen.models == ("Studio's",)
        assert seen.problems == ()
        assert studio.cluster.epoch == helper.cluster.epoch == epoch  # nobody was thought dead meanwhile

    together(tmp_path, script)


def shrink(machines: Together, helper: Helper) -> None:
    """Let a machine have a gibibyte of memory."""

    async def inside() -> None:
        helper.node.models.measure = lambda: None  # type: ignore[method-assign]
        helper.node.models._size = Capacity(2, 1 << 30, 1 << 29)

    machines.on_loop(inside())


def test_a_helper_that_cannot_hold_the_model_says_so_and_gets_no_work(tmp_path: Path) -> None:
    run = model_of_studio(tmp_path)

    def script(machines: Together) -> None:
        studio, helper = two(machines)

        shrink(machines, helper)
        studio.worker.hold.clear()
        studio.engine.open_run(run, rows(500))
        why = wait_for(lambda: (seen := studio.sees(helper)) and seen.problems, "the reason", 30)
        assert why == ("The model needs a machine with 1.2 GB of memory; this one has 1.1 GB.",)
        studio.worker.hold.set()
        until(studio.engine, "done", run.run_id)
        assert helper.rows_asked == 0
        assert not catalog.models_folder().exists()

    together(tmp_path, script)


def test_a_helper_that_has_the_file_but_not_the_memory_gets_no_work_either(tmp_path: Path) -> None:
    run = model_of_studio(tmp_path)

    def script(machines: Together) -> None:
        studio, helper = two(machines)
        shrink(machines, helper)
        catalog.models_folder().mkdir(parents=True)
        (catalog.models_folder() / "Copied.gguf").write_bytes(Path(run.model.path).read_bytes())
        studio.worker.hold.clear()
        studio.engine.open_run(run, rows(500))
        wait_for(lambda: (seen := studio.sees(helper)) and "1.2 GB" in "".join(seen.problems), "the reason", 30)
        studio.worker.hold.set()
        until(studio.engine, "done", run.run_id)
        assert helper.rows_asked == 0

    together(tmp_path, script)


def test_embeddings_come_with_every_machine(tmp_path: Path) -> None:
    run = spec(model=catalog.likeness())
    other = spec("short", model=ModelSpec("embedding", "Likeness", "", "0" * 32))

    def script(machines: Together) -> None:
        studio, helper = two(machines)
        studio.worker.hold.clear()
        studio.engine.open_run(run, rows(1000))
        assert helper.worker.busy.wait(30)
        studio.worker.hold.set()
        until(studio.engine, "done", run.run_id)
        assert helper.rows_asked > 0
        studio.engine.open_run(other, rows(10))
        wait_for(lambda: "of another version here" in progress(studio.engine, other.run_id).note, "the reason", 30)

    together(tmp_path, script)


def test_a_server_is_asked_only_from_where_somebody_said_so(tmp_path: Path) -> None:
    model = ModelSpec("openai", "desk/small", "http://127.0.0.1:9", "5" * 32)
    run = spec(model=model)

    def script(machines: Together) -> None:
        studio, helper = two(machines)
        studio.worker.hold.clear()
        studio.engine.open_run(run, rows(1000))
        why = "desk/small is asked at a server: start the run on this machine too if it should do so."
        wait_for(lambda: (seen := studio.sees(helper)) and seen.problems == (why,), "the reason", 30)
        assert studio.worker.busy.wait(30)
        assert helper.rows_asked == 0
        helper.engine.open_run(run, [])
        assert helper.worker.busy.wait(30)
        studio.worker.hold.set()
        until(studio.engine, "done", run.run_id)
        assert (seen := studio.sees(helper)) is not None
        assert seen.problems == ()

    together(tmp_path, script)
