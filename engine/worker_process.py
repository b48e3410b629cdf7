"""The node's handle on its worker: the process that holds a model, so that its crash is only its own."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from engine import worker_frames as frames
from engine.labeler import Answer, LoadedModel, Progress
from workspace.errors import ModelError, WinnowError
from workspace.facts import RunSpec

STALLED_AFTER = (
    300.0  # seconds without a sign of life; one decode of 512 tokens takes a big model on a CPU a minute
)
ROWS_PER_FRAME_BYTES = frames.MAX_FRAME // 2
MAX_ROW_CHARACTERS = 1 << 20  # more never fits a model; the worker cuts far below this and says so
HERE = Path(__file__).resolve().parents[1]  # with -P, a folder `engine` where the person works is not ours

_End = tuple[str]  # why no further reply will come
_R = TypeVar("_R", frames.Loaded, frames.Scored)


class WorkerDied(WinnowError):
    """The worker process is gone. Nothing of its batch counts; start another one and hand the batch to it."""


class WorkerProcess:
    """Starts, asks and ends one worker process.

    Every method may be called from any thread; `score` and `start` are one at a time (a second caller waits),
    while `kill`, `alive` and `pid` never wait. After `kill` or a WorkerDied, `start` may be called again.
    Use as a context manager or call `kill` when done: it ends and reaps the process.
    """

    def __init__(self, stalled_after: float = STALLED_AFTER, module: str = "engine.worker") -> None:
        self._stalled_after = stalled_after
        self._module = module  # what the process runs
        self._asking = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._replies: queue.SimpleQueue[frames.Reply | _End] = queue.SimpleQueue()
        self._log: Path | None = None
        self._batch = 0

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process id, 0 while none runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def alive(self) -> bool:
        """Whether the process runs; says nothing about whether a model is loaded."""
        return self.pid != 0

    def start(self, spec: RunSpec, log_path: Path, progress: Callable[[float], None] | None = None) -> LoadedModel:
        """Start the process (ending an earlier one), load the model of a run and check that it can be asked.

        Blocks until the model is ready; `progress` hears the loaded share, 0 to 1. What the process and its
        libraries print goes to the end of `log_path`. Raises ModelError when the model or a dimension cannot be
        used (starting again will not help), WorkerDied when the process ended (starting again may help). In both
        cases no process is left.
        """
        with self._asking:
            self.kill()
            self._spawn(log_path)

            def heard(reply: frames.Reply) -> None:
                if progress is not None and isinstance(reply, frames.Loading):
                    progress(reply.share)

            try:
                return self._ask(frames.Load(spec), frames.Loaded, heard).model
            except ModelError:
                self.kill()
                raise

    def score(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """Answers of all rows to every dimension of the run that was loaded, in their order; blocks.

        `progress` hears, in the calling thread, how many rows are done. Raises WorkerDied when the process ends,
        is killed from another thread or is silent for `stalled_after` seconds (it is killed then), and ModelError
        when the model cannot answer at all (the worker stays usable).
        """
        with self._asking:
            answers: list[tuple[Answer, ...]] = []
            for part in _parts(rows):
                self._batch += 1
                done = len(answers)

                def heard(reply: frames.Reply, done: int = done) -> None:
                    if progress is not None and isinstance(reply, frames.Scoring):
                        progress(done + reply.rows)

                scored = self._ask(frames.Score(self._batch, part), frames.Scored, heard)
                if scored.batch != self._batch or len(scored.answers) != len(part):
                    self.kill()
                    raise WorkerDied("The model process answered another batch than it was asked.", self._advice())
                answers += scored.answers
            return answers

    def kill(self) -> None:
        """End the process at once, if there is one, and reap it. A `score` waiting elsewhere raises WorkerDied."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        # Closing stdin here is safe: nobody can be blocked in a write to a process that is gone.
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()

    def _spawn(self, log_path: Path) -> None:
        self._log = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # The log may quote rows: only the owner may read it.
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # Without the last one a failed assertion in llama.cpp starts a debugger, which can take minutes.
        environment = {**os.environ, "PYTHONPATH": str(HERE), "PYTHONUTF8": "1", "GGML_NO_BACKTRACE": "1"}
        # Threads that wait for each other by spinning come to a near standstill when the cores have other work.
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=descriptor,
                env=environment,
            )
        except OSError as error:
            raise WorkerDied("The model process cannot be started.", self._advice(), str(error)) from error
        finally:
            os.close(descriptor)
        self._process = process
        self._replies = queue.SimpleQueue()
        assert process.stdout is not None
        threading.Thread(
            target=_pump, args=(process.stdout, self._replies), name="worker-replies", daemon=True
        ).start()

    def _ask(self, request: frames.Request, expected: type[_R], heard: Callable[[frames.Reply], None]) -> _R:
        process, replies = self._process, self._replies
        if process is None or process.stdin is None:
            raise WorkerDied("No model process is running.", "Start it first.")
        try:
            frame = frames.encode(request)
        except (frames.FrameError, UnicodeEncodeError) as error:
            raise ModelError("A row cannot be handed to the model.", "Is it valid text?", str(error)) from error
        try:
            process.stdin.write(frame)
            process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._died("ended", str(error)) from error
        while True:
            try:
                reply = replies.get(timeout=self._stalled_after)
            except queue.Empty:
                self.kill()
                raise self._died(f"gave no sign of life for {self._stalled_after:.0f} seconds", "") from None
            if isinstance(reply, tuple):
                raise self._died("ended", reply[0])
            if isinstance(reply, frames.Failed):
                raise reply.error()
            if isinstance(reply, expected):
                return reply
            heard(reply)

    def _died(self, how: str, details: str) -> WorkerDied:
        process = self._process
        self.kill()
        code = process.returncode if process is not None else None
        return WorkerDied(f"The model process {how} (exit code {code}).", self._advice(), details)

    def _advice(self) -> str:
        return f"No label was lost. What it said last is in {self._log}."


def _parts(rows: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows in pieces that fit a frame."""
    parts: list[list[str]] = []
    size = 0
    for whole in rows:
        row = whole[:MAX_ROW_CHARACTERS]
        bytes_ = len(row) * 4
        if not parts or size + bytes_ > ROWS_PER_FRAME_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += bytes_
    return [tuple(part) for part in parts]


def _pump(stream: BinaryIO, replies: queue.SimpleQueue[frames.Reply | _End]) -> None:
    """Move replies from the pipe to the queue until the process is gone, then say why."""
    reason = "end of stream"
    try:
        while (body := frames.read_body(stream)) is not None:
            replies.put(frames.replies.decode(body))
    except (OSError, ValueError, frames.FrameError, msgspec.DecodeError) as error:
        reason = str(error)
    finally:
        replies.put((reason,))
        with contextlib.suppress(OSError):
            stream.close()
