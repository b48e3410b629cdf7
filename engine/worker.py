"""The process that holds the model: `python -m engine.worker`, spoken to by `engine.worker_process`.

Requests come in on standard input, replies go out on what was standard output. It lives exactly as long as its
parent keeps standard input open: a thread that does nothing but read notices the end even while the model
computes, and ends the process on the spot. Nothing is lost by that, a batch is only counted when its answers
have arrived.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO

import msgspec

from engine import worker_frames as frames
from engine.labeler import Labeler, bounded
from engine.models.opening import open_labeler
from workspace.errors import BudgetReached, ModelError, WinnowError
from workspace.facts import RunSpec

Open = Callable[[RunSpec, Callable[[float], None]], Labeler]

_LOADING_EVERY = 0.2  # seconds between signs of life while loading


def main(make: Open = open_labeler) -> None:
    """Serve until standard input ends; `make` opens the labeler of a run."""
    replies = _private_stdout()
    # Ctrl-C in a terminal reaches every process of the group; only the parent decides about this one.
    with contextlib.suppress(ValueError, OSError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    waiting: queue.SimpleQueue[frames.Request] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, waiting), name="requests", daemon=True).start()
    worker = _Worker(replies, make)
    try:
        while True:
            worker.handle(waiting.get())
    except BaseException:  # noqa: BLE001
        # A defect or a broken pipe: leave the trace in the log, and end although the reader is still waiting.
        traceback.print_exc()
        os._exit(1)


def _private_stdout() -> BinaryIO:
    """Keep the reply channel to ourselves: whatever a library prints to descriptor 1 goes to the log."""
    private = os.dup(1)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(private, os.O_BINARY)
        msvcrt.setmode(0, os.O_BINARY)
    sys.stdout = sys.stderr
    return os.fdopen(private, "wb")


def _read(stream: BinaryIO, waiting: queue.SimpleQueue[frames.Request]) -> None:
    code = 0
    try:
        while (body := frames.read_body(stream)) is not None:
            waiting.put(frames.requests.decode(body))
    except (OSError, ValueError, frames.FrameError, msgspec.DecodeError):
        traceback.print_exc()
        code = 2
    finally:
        # Not sys.exit: the main thread may be deep in a C call, and there is nothing to clean up.
        os._exit(code)


class _Worker:
    """Answers requests one at a time."""

    def __init__(self, replies: BinaryIO, make: Open) -> None:
        self._replies = replies
        self._open = make
        self._labeler: Labeler | None = None

    def handle(self, request: frames.Request) -> None:
        try:
            if isinstance(request, frames.Load):
                self._load(request)
            else:
                self._score(request)
        except WinnowError as error:
            budget = isinstance(error, BudgetReached)
            self._send(frames.Failed(error.title, error.advice, error.details, budget))
        except MemoryError:
            text = "There is not enough memory for this model."
            self._send(frames.Failed(text, "Close other programs or choose a smaller one.", ""))

    def _load(self, request: frames.Load) -> None:
        if self._labeler is not None:
            self._labeler.close()
            self._labeler = None
        last = 0.0

        def progress(share: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _LOADING_EVERY:
                last = now
                self._send(frames.Loading(share))

        self._labeler = self._open(request.spec, progress)
        self._send(frames.Loaded(self._labeler.loaded))

    def _score(self, request: frames.Score) -> None:
        if self._labeler is None:
            raise ModelError("No model is loaded.", "Load one first.")
        started = time.perf_counter()
        answers = self._labeler.ask(request.rows, lambda rows: self._send(frames.Scoring(request.batch, rows)))
        kept = tuple(tuple(map(bounded, row)) for row in answers)  # whatever a model said, it fits a frame
        self._send(frames.Scored(request.batch, kept, time.perf_counter() - started))

    def _send(self, reply: frames.Reply) -> None:
        self._replies.write(frames.encode(reply))
        self._replies.flush()


if __name__ == "__main__":
    main()
