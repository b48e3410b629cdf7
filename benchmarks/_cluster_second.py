"""A second machine in a minute: from the first machine labeling to the second one labeling too, all in commands.

What a person does, scripted: `winnow label` works on one machine, `winnow helper` is started on another, the code
it shows is typed on the first, and the second labels. Real engines and the model that comes with the program; in
network namespaces where they may be made, where the two have nothing in common but the network, else on loopback.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil
import pytest

from engine.client import Engine
from engine.cluster import entries as log
from engine.cluster.entries import Labeled
from engine.cluster.options import EngineOptions
from tests.cluster.network import Network
from workspace.errors import WinnowError

T = TypeVar("T")

HERE = Path(__file__).resolve().parents[1]
ROWS = 5_000  # more than two machines label before the measurement is over
SAID = "said.log"
WITHIN = 120.0  # seconds for each step
CODE = re.compile(r"Code (\d{3}-\d{3}), .* By address: (\S+)\.")


class Place(Protocol):
    """Where a machine's processes run."""

    def run(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process there."""

    def do(self, work: Callable[[], T]) -> T:
        """Call something there."""


class Here:
    """This machine itself: its two machines know each other by loopback alone."""

    def run(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """See `Place`."""
        return subprocess.Popen(command, **options)

    def do(self, work: Callable[[], T]) -> T:
        """See `Place`."""
        return work()


class First:
    """The machine that labels a file."""

    def __init__(self, place: Place, folder: Path, rows: int, fresh: bool) -> None:
        self.out = folder / "labels.jsonl"
        self._place, self._folder = place, folder
        folder.mkdir()
        texts = (f"message {number}: I {'love' if number % 2 else 'hate'} this\n" for number in range(rows))
        (folder / "messages.txt").write_text("".join(texts))
        if isinstance(place, Here):  # found running, an engine keeps its options
            quiet = EngineOptions(listen="127.0.0.1:0", find="none")
            Engine.ensure(folder / "winnow.engine", options=quiet).close()
        words = ["label", "messages.txt", "--task", "sentiment", "--out", self.out.name]
        self.process = _winnow(place, folder, fresh, *words)
        self.engine = _until(self._connected, "the engine of the first machine")

    def labeled(self) -> int:
        """Rows answered so far."""
        return sum(run.done for run in self.engine.status().runs)

    def labeled_by(self, member: str) -> int:
        """Answers of that machine that are here, on this one's disk."""
        found = 0
        for author in self.engine.status().vector:
            if log.member_of(author) == member:
                bodies = [log.decode(entry.body) for entry in self.engine.entries(author, 0)]
                found += sum(len(body.at) for body in bodies if isinstance(body, Labeled))
        return found

    def close(self) -> None:
        """Stop where it is."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(WinnowError):
            self.engine.shutdown()
        self.engine.close()

    def _connected(self) -> Engine | None:
        _alive(self.process, self._folder)
        with contextlib.suppress(WinnowError):
            return self._place.do(lambda: Engine.ensure(self._folder / "winnow.engine", start=False))
        return None


class Second:
    """The machine that helps."""

    def __init__(self, place: Place, folder: Path, fresh: bool) -> None:
        self._folder = folder
        folder.mkdir()
        words = ["helper", "--code", "--name=second", f"--state={folder / 'state'}"]
        if isinstance(place, Here):
            words += ["--listen=127.0.0.1:0", "--find=none"]
        self.process = _winnow(place, folder, fresh, *words)

    def code(self) -> tuple[str, str]:
        """What it shows: its code, and where it is to be typed."""
        shown = _until(lambda: CODE.search(_alive(self.process, self._folder)), "the code of the second machine")
        return shown[1], shown[2]

    def close(self) -> None:
        """As with Ctrl-C, or at once if that does not help."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def two_machines(
    first: Place, second: Place, folder: Path, rows: int, *, fresh: bool = True
) -> Iterator[tuple[First, float]]:
    """Two machines that label one file, the second since a moment ago; and the seconds it took to add it.

    Fresh ones have never labeled before: they find out first in which form the model is fastest on them.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_end_all, folder)
        studio = stack.enter_context(contextlib.closing(First(first, folder / "first", rows, fresh)))
        _until(lambda: studio.labeled() > 0, "the first labels")
        began = time.perf_counter()
        helper = stack.enter_context(contextlib.closing(Second(second, folder / "second", fresh)))
        code, address = helper.code()
        member = studio.engine.pair(address, code)
        _until(lambda: studio.labeled_by(member) > 0, "labels of the second machine")
        seconds = time.perf_counter() - began
        where = "on loopback" if isinstance(first, Here) else "on a network of their own"
        print(f"a second machine labels {seconds:.1f} s after the first, {where}", flush=True)
        yield studio, seconds


def second_machine_s() -> float:
    """Seconds from labels of one machine to labels of two, pairing included."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        first, second = _places(stack)
        _, seconds = stack.enter_context(two_machines(first, second, folder, ROWS))
    return round(seconds, 1)


def _places(stack: contextlib.ExitStack) -> tuple[Place, Place]:
    try:
        network = stack.enter_context(Network())
    except pytest.skip.Exception:  # not permitted here
        return Here(), Here()
    return network.machine("first"), network.machine("second")


def _winnow(place: Place, folder: Path, fresh: bool, *words: str) -> subprocess.Popen[Any]:
    """A command typed on a machine that has nothing of the other one; what it says goes into a file."""
    own = ("XDG_DATA_HOME", "WINNOW_MODELS", *(("XDG_CACHE_HOME", "LOCALAPPDATA") if fresh else ()))
    environment = {**os.environ, **{name: str(folder / name) for name in own}, "PYTHONPATH": str(HERE)}
    with open(folder / SAID, "ab") as said:
        command = [sys.executable, "-P", "-X", "utf8", "-m", "studio.cli", *words]
        return place.run(command, cwd=folder, env=environment, stdout=said, stderr=said)


def _alive(process: subprocess.Popen[Any], folder: Path) -> str:
    """What a process has said, while it runs."""
    said = (folder / SAID).read_text(encoding="utf-8")
    if process.poll() is not None:
        raise RuntimeError(f"it ended with {process.returncode}: {said}")
    return said


def _end_all(folder: Path) -> None:
    """Nothing that works in this folder is left, engines in sessions of their own included."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(f"{folder}{os.sep}" in word for word in process.cmdline()):
                process.kill()


def _until(condition: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + WITHIN
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {WITHIN:.0f} s for {what}")
        time.sleep(0.02)
