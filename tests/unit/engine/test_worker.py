"""The worker process and its handle, with the real model."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from engine import worker_frames as frames
from engine.labeler import Answer
from engine.models.catalog import embedded
from engine.worker_process import WorkerDied, WorkerProcess
from tests.unit.engine.conftest import spec
from workspace.errors import ModelError
from workspace.facts import DimensionSpec, ModelSpec, RunSpec

FEELING = spec("Positive", "Negative")
MANY = [f"message number {number} of a long day" for number in range(4000)]
DEADLINE = 60.0  # seconds to wait for something that takes one


def run_of(*dimensions: DimensionSpec, model: ModelSpec | None = None) -> RunSpec:
    return RunSpec("", "", "test", "", model or embedded(), dimensions)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    with WorkerProcess() as made:
        made.start(run_of(FEELING), tmp_path_factory.mktemp("worker") / "worker.log")
        yield made


def gone(pid: int) -> bool:
    """Whether the process ended within the deadline; a zombie has ended but was not reaped."""
    end = time.monotonic() + DEADLINE
    while psutil.pid_exists(pid):
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True


def test_a_worker_scores_rows_in_order(worker: WorkerProcess) -> None:
    heard: list[int] = []
    answers = worker.score(["I love it", "I hate it", "I love it"], heard.append)
    assert [[len(answer.logprobs) for answer in row] for row in answers] == [[2], [2], [2]]
    assert answers[0] == answers[2]
    assert heard[-1] == 3
    assert worker.alive
    assert worker.pid != os.getpid()


def test_a_dimension_that_cannot_be_asked_leaves_no_process(tmp_path: Path) -> None:
    with WorkerProcess() as worker:
        with pytest.raises(ModelError, match="same word"):
            worker.start(run_of(spec("same", "same")), tmp_path / "worker.log")
        assert not worker.alive


def test_a_lone_surrogate_is_refused_with_a_sentence(worker: WorkerProcess) -> None:
    with pytest.raises(ModelError, match="cannot be handed"):
        worker.score(["\ud800"])
    assert len(worker.score(["x"])) == 1


def test_a_killed_worker_is_told_apart_leaves_nothing_and_starts_again(tmp_path: Path) -> None:
    with WorkerProcess() as worker:
        worker.start(run_of(FEELING), tmp_path / "worker.log")
        pid = worker.pid
        begun = threading.Event()
        raised: list[BaseException] = []

        def ask() -> None:
            try:
                worker.score(MANY, lambda _: begun.set())
            except WorkerDied as error:
                raised.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        assert begun.wait(DEADLINE)
        psutil.Process(pid).kill()  # as the system does when memory runs out
        asking.join(DEADLINE)
        assert len(raised) == 1
        assert gone(pid)
        assert not worker.alive
        assert worker.pid == 0
        with pytest.raises(WorkerDied):
            worker.score(["x"])
        worker.start(run_of(FEELING), tmp_path / "worker.log")
        assert len(worker.score(["x"])) == 1


@pytest.mark.parametrize("content", [None, b"GGUF" + b"\0" * 100, b"<html>404</html>"])
def test_a_bad_model_file_is_a_model_error_and_leaves_no_process(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "bad.gguf"
    if content is not None:
        file.write_bytes(content)
    with WorkerProcess() as worker:
        with pytest.raises(ModelError):
            worker.start(
                run_of(FEELING, model=ModelSpec("llama_cpp", "bad", str(file), "0" * 32)), tmp_path / "worker.log"
            )
        assert not worker.alive


def test_the_worker_ends_when_its_parent_is_killed_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """The parent is a process of its own, killed with no chance to tell the worker anything."""
    program = f"""
import sys
from pathlib import Path
from engine.worker_process import WorkerProcess
from tests.unit.engine.test_worker import FEELING, run_of
worker = WorkerProcess()
worker.start(run_of(FEELING), Path({str(tmp_path / "worker.log")!r}))
said = []
def begun(_):
    if not said:
        said.append(print(worker.pid, flush=True))
worker.score([f"message number {{n}}" for n in range(4000)], begun)
"""
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        assert gone(pid)
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()


def test_what_a_library_prints_does_not_reach_the_channel() -> None:
    program = (
        "import os, engine.worker as w\n"
        "stream = w._private_stdout()\n"
        "os.write(1, b'noise')\nprint('noise')\nstream.write(b'frame')\nstream.flush()\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=root, check=True)
    assert done.stdout == b"frame"
    assert done.stderr.count(b"noise") == 2


def test_frames_survive_the_way() -> None:
    message = frames.Scored(3, ((Answer((-0.5, -1.0), 10, 0, 0.1, ("truncated",)),),), 0.2)
    stream = io.BytesIO(frames.encode(message) * 2)
    for _ in range(2):
        body = frames.read_body(stream)
        assert body is not None
        assert frames.replies.decode(body) == message
    assert frames.read_body(stream) is None


@pytest.mark.parametrize("raw", [b"", b"\0\0", b"\0\0\0\x05abc"])
def test_a_torn_stream_just_ends(raw: bytes) -> None:
    assert frames.read_body(io.BytesIO(raw)) is None


def test_a_length_beyond_the_bound_is_refused_before_reading() -> None:
    with pytest.raises(frames.FrameError):
        frames.read_body(io.BytesIO(b"\xff\xff\xff\xff"))


def test_a_frame_of_another_kind_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        frames.requests.decode(frames.encode(frames.Loading(0.5))[4:])
