"""A client of the engine process: finds or starts the one of a state folder, hands it runs, reads its facts."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

import msgspec

from engine.cluster import client_messages as messages
from engine.cluster.entries import MAX_TEXT, Decided, Entry, Vector
from engine.cluster.options import EngineOptions
from engine.cluster.state_folder import Card, StateFolder
from engine.cluster.transport import Line, LineClosed
from workspace.errors import EngineError
from workspace.facts import EngineStatus, RunSpec
from workspace.machines import Pairing

__all__ = ["Engine", "EngineOptions"]

R = TypeVar("R", bound=messages.Reply)
Row = tuple[str, str, str]  # id, text, domain

TAKEN = 3  # exit status of an engine that found another one in its folder
READY_SECONDS = 30.0
ANSWER_SECONDS = 30.0  # an engine syncs to a disk before it answers; disks stall
PAIR_SECONDS = 20.0  # the other machine answers within 10
HERE = Path(__file__).resolve().parents[1]

_started: list[subprocess.Popen[bytes]] = []  # engines this process started, to be reaped when they end
_started_lock = threading.Lock()


class Engine:
    """A connection to a running engine process. Thread-safe; made by `ensure`.

    Every call raises EngineError when the engine refuses, ends or does not answer. Every call may be repeated,
    also through another Engine after calling `ensure` again.
    """

    def __init__(self, folder: StateFolder, card: Card) -> None:
        self.pid = card.pid
        self._folder = folder
        self._card = card
        self._line = Line(card.address)
        self._asking = threading.Lock()
        self._requests = 0
        self._closed = False

    @classmethod
    def ensure(
        cls,
        state_dir: Path,
        *,
        start: bool = True,
        ready_seconds: float = READY_SECONDS,
        options: EngineOptions | None = None,
    ) -> Engine:
        """Connect to the engine of a state folder; start one (that outlives this process) if none runs.

        Any number of processes may do this at once: one engine will run and all are connected to it. Waits up to
        `ready_seconds` for it. `options` are for an engine started here; one found running keeps its own.
        """
        folder = StateFolder(state_dir)
        deadline = time.monotonic() + ready_seconds
        child: subprocess.Popen[bytes] | None = None
        pause = 0.02
        while True:
            _reap()
            card = folder.card()
            if card is not None and card.alive():
                engine = cls._connect(folder, card, deadline - time.monotonic())
                if engine is not None:
                    return engine
            elif not start:
                raise EngineError("The engine of this workspace is not running.", "It starts with the next run.")
            elif child is None or child.poll() is not None:
                if child is not None and child.returncode not in (0, TAKEN):
                    raise _not_started(folder, "The engine process could not be started.")
                child = _spawn(folder, options or EngineOptions())
            if time.monotonic() > deadline:
                raise _not_started(folder, f"The engine was not ready after {ready_seconds:.0f} seconds.")
            # Another one may hold the folder while it finishes its claim: ask less and less often.
            time.sleep(pause)
            pause = min(0.25, pause * 1.3)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the engine process still runs."""
        return self._card.alive()

    # runs

    def open_run(
        self,
        spec: RunSpec,
        rows: Iterable[Row],
        progress: Callable[[int], None] | None = None,
        *,
        task: str = "",
    ) -> int:
        """Hand over a run and (row id, text, domain) and set it running; returns the rows it has in all.

        Durable when it returns. Rows the run has already are left alone, new ones are added, so calling it again
        after any failure is right. Texts beyond a million characters are cut, far beyond what a model can read.
        `progress` hears how many rows have been handed over; `task` is the task's document.
        """
        self._ask(lambda number: messages.OpenRun(number, spec, task), messages.Planned)
        handed = 0
        for chunk in _chunks(rows):
            self._ask(functools.partial(_add_rows, spec.run_id, chunk), messages.Planned)
            handed += len(chunk)
            if progress is not None:
                progress(handed)
        return self._ask(lambda number: messages.Commit(number, spec.run_id), messages.Planned).rows

    def set_state(self, run_id: str, state: Literal["running", "paused", "cancelled"]) -> None:
        """Let a run go on, pause it after the claims under way, or cancel it. Durable when it returns."""
        self._ask(lambda number: messages.SetState(number, run_id, state), messages.Planned)

    def decide(self, decisions: Sequence[Decided]) -> int:
        """Keep what people decided in this engine's log; returns where it ends. Durable when it returns.

        Deciding the same again does no harm: of equal clocks either counts.
        """
        end = 0
        for chunk in _portions(decisions):
            end = self._ask(functools.partial(_decide, chunk), messages.Written).end
        return end

    def seal(self, run_id: str) -> Vector:
        """Note durably that a run was exported, as it follows from what this engine holds now: that vector."""
        return self._ask(lambda number: messages.Seal(number, run_id), messages.SealedAt).vector

    # how it goes

    def status(self) -> EngineStatus:
        """The engine at this moment."""
        return self._ask(messages.Status, messages.Standing).status

    def entries(self, author: str, first: int, limit: int = 2000) -> list[Entry]:
        """Durable entries of an author's log from fact `first` on, in order; at most `limit`, fewer when they
        are large. Empty when there are none (yet)."""
        limit = max(1, min(limit, messages.MAX_PAGE))
        reply = self._ask(lambda number: messages.ReadEntries(number, author, first, limit), messages.Entries)
        return list(reply.entries)

    # other machines

    def open_pairing(self) -> Pairing:
        """Show a code with which another machine can be paired with this one; the same while it is good."""
        return self._ask(messages.OpenPairing, messages.Open).pairing

    def close_pairing(self) -> None:
        """No more pairing with the code shown."""
        self._ask(messages.ClosePairing, messages.Done)

    def pair(self, address: str, code: str) -> str:
        """Pair with the machine that shows `code` at host:port; returns its member id.

        When it returns both are members of one cluster, durably on both sides.
        """
        deadline = time.monotonic() + PAIR_SECONDS
        while True:
            reply = self._ask(lambda number: messages.Pair(number, address, code), messages.Pairs)
            if reply.member:
                return reply.member
            if time.monotonic() > deadline:
                raise EngineError("The other machine takes too long to answer.", "Try again with a new code.")
            time.sleep(0.05)

    def set_member(self, member: str, *, name: str | None = None, paused: bool | None = None) -> None:
        """Rename a machine, pause it or let it go on, for all machines. Durable here when it returns."""
        self._ask(lambda number: messages.SetMember(number, member, name, paused), messages.Done)

    def revoke(self, member: str) -> None:
        """Remove a machine from the cluster for ever. Durable here when it returns."""
        self._ask(lambda number: messages.Revoke(number, member), messages.Done)

    def add_address(self, host_port: str) -> None:
        """A member may be reached at this host:port."""
        self._ask(lambda number: messages.AddAddress(number, host_port), messages.Done)

    def look_around(self) -> None:
        """Look for other machines on the network for the next minute; `status` shows those found."""
        self._ask(messages.LookAround, messages.Done)

    # the process

    def start_over(self, wait: bool = True, timeout: float = 60.0) -> None:
        """On a machine that was removed from its cluster: set its keys and its ledger aside and end the engine.

        Nothing is deleted. The next engine of this folder is a new machine and can be paired.
        """
        self._ask(messages.StartOver, messages.Stopping)
        if wait:
            self._wait_until_gone(timeout)

    def shutdown(self, wait: bool = True, timeout: float = 60.0) -> None:
        """Let the engine finish its claim and exit; the runs go on with the next engine.

        With `wait`, returns when the process is gone and raises EngineError if it is not after `timeout` seconds.
        """

        def unheard() -> bool:
            # An engine takes its card away as soon as it is asked to stop; its answer may be lost with the
            # connection when it ends right after.
            return self._card.alive() and self._folder.card() == self._card

        try:
            self._ask(messages.Shutdown, messages.Stopping, waiting=unheard)
        except EngineError:
            if unheard():
                raise
        if wait:
            self._wait_until_gone(timeout)

    def _wait_until_gone(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._card.alive():
            if time.monotonic() > deadline:
                raise EngineError("The engine is still finishing its work.", "It ends by itself after that.")
            time.sleep(0.02)
        _reap()

    def close(self) -> None:
        """Hang up; the engine goes on."""
        with self._asking:
            if not self._closed:
                self._closed = True
                self._line.close()

    def _ask(
        self,
        make: Callable[[int], messages.Ask],
        expected: type[R],
        timeout: float = ANSWER_SECONDS,
        waiting: Callable[[], bool] | None = None,
    ) -> R:
        with self._asking:
            if self._closed:
                raise EngineError("The connection to the engine was closed.", "Connect again.")
            self._requests += 1
            request = make(self._requests)
            got: list[messages.Answer] = []

            def is_reply(body: bytes) -> bool:
                with contextlib.suppress(msgspec.DecodeError):
                    reply = messages.decode_reply(body)
                    if reply.id == request.id:
                        got.append(reply)
                return bool(got)

            try:
                body = messages.encode(request)
                self._line.ask(body, is_reply, waiting or self._card.alive, timeout)
            except UnicodeEncodeError as error:
                raise EngineError("A row is not valid text.", "Load the file again.", str(error)) from error
            except LineClosed as error:
                raise self._gone(str(error)) from error
        if not got:
            raise EngineError(
                "The running engine is of another version of Winnow.",
                f"Let it finish its runs or end process {self.pid}; saved labels are safe.",
            )
        if isinstance(got[0], messages.Refused):
            raise EngineError(got[0].title, got[0].advice)
        if not isinstance(got[0], expected):
            raise EngineError("The engine gave an answer that was not asked for.", "Connect again.")
        return got[0]

    def _gone(self, reason: str) -> EngineError:
        if self._card.alive():
            return EngineError(
                f"The engine process {self.pid} does not answer.", "Every label saved before is safe.", reason
            )
        return EngineError("The engine process ended.", _last_words(self._folder), self._folder.tail())

    @classmethod
    def _connect(cls, folder: StateFolder, card: Card, seconds: float) -> Engine | None:
        engine = cls(folder, card)
        try:
            engine._ask(messages.Status, messages.Standing, max(1.0, seconds))
        except EngineError:
            engine.close()
            if card.alive() and folder.card() == card:
                raise
            return None
        except BaseException:
            engine.close()
            raise
        return engine


def _add_rows(run_id: str, rows: tuple[Row, ...], number: int) -> messages.AddRows:
    return messages.AddRows(number, run_id, rows)


def _decide(decisions: tuple[Decided, ...], number: int) -> messages.Decide:
    return messages.Decide(number, decisions)


def _not_started(folder: StateFolder, title: str) -> EngineError:
    return EngineError(title, _last_words(folder), folder.tail())


def _chunks(rows: Iterable[Row]) -> Iterator[tuple[Row, ...]]:
    """Rows in pieces that fit a message."""
    chunk: list[Row] = []
    size = 0
    for row_id, whole, domain in rows:
        text = whole[:MAX_TEXT]
        # Four bytes is the most a character takes; exact would mean encoding every text twice.
        bytes_ = len(text) * (1 if text.isascii() else 4) + len(domain) * 4
        if chunk and (size + bytes_ > messages.CHUNK_BYTES or len(chunk) == messages.MAX_CHUNK_ROWS):
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append((row_id, text, domain))
        size += bytes_
    if chunk:
        yield tuple(chunk)


def _portions(decisions: Sequence[Decided]) -> Iterator[tuple[Decided, ...]]:
    """Decisions in pieces that fit a message."""
    portion: list[Decided] = []
    size = 0
    for decision in decisions:
        bytes_ = 4 * len(decision.event) + 1000
        if portion and (size + bytes_ > messages.CHUNK_BYTES or len(portion) == messages.MAX_DECISIONS):
            yield tuple(portion)
            portion, size = [], 0
        portion.append(decision)
        size += bytes_
    if portion:
        yield tuple(portion)


def _spawn(folder: StateFolder, options: EngineOptions) -> subprocess.Popen[bytes]:
    """Start an engine in a session of its own: neither Ctrl-C nor the end of this process reaches it."""
    folder.make()
    command = [sys.executable, "-P", "-m", "engine", str(folder.path), *options.arguments()]
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *([inherited] if inherited else [])]),
        "PYTHONUTF8": "1",
    }
    errors = folder.open_errors()
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=environment,
            start_new_session=True,
            creationflags=flags,
        )
    except OSError as error:
        raise EngineError("The engine process could not be started.", "", str(error)) from error
    finally:
        os.close(errors)
    with _started_lock:
        _started.append(child)
    return child


def _reap() -> None:
    """Take note of engines started here that have ended, so that they do not stay as zombies."""
    with _started_lock:
        _started[:] = [child for child in _started if child.poll() is None]


def _last_words(folder: StateFolder) -> str:
    lines = [line for line in folder.tail().splitlines() if " ERROR " in line]
    reason = lines[-1].split(" ERROR ", 1)[1] if lines else "Saved labels are safe."
    return f"{reason} Its log is {folder.log}."
