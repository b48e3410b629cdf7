"""`winnow helper`: keeps an engine running that works for other machines, and says what it does.

The engine is a process of its own and does all the work; this one starts it, watches it, starts it again when it
dies, shows the code that pairs it, and stops it at Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import psutil
from filelock import FileLock, Timeout
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.client import Engine
from engine.cluster.options import EngineOptions
from engine.cluster.state_folder import StateFolder
from studio import helper_view
from studio.terminal import say
from workspace.errors import EngineError, WinnowError
from workspace.facts import EngineStatus
from workspace.machines import Cluster, Pairing

LOOK_EVERY = 0.5  # seconds between looks at the engine
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before an engine that died is started again
HEALTHY_AFTER = 60.0  # seconds an engine must live for its death to be a first one
TRIES = 3  # wrong codes after which no new one is shown by itself
LOOPBACK = "127.0.0.1"
STOP_SECONDS = 90.0  # an engine finishes the rows under way


class Note(msgspec.Struct, frozen=True):
    """What a running helper leaves in its folder for those who start a second one."""

    pid: int


class Screen:
    """Where a helper speaks: a table that is drawn over in a terminal, lines of news elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self.terminal = self._console.is_terminal
        self._live: Live | None = None
        self._last: Cluster | None = None
        # journald writes the time beside every line, other logs do not.
        self._stamped = not self.terminal and "JOURNAL_STREAM" not in os.environ

    def show(self, cluster: Cluster, lines: list[tuple[str, str]]) -> None:
        """The state of things; in a log only what is new in it."""
        if not self.terminal:
            for line in helper_view.news(self._last, cluster):
                self.tell(line)
            self._last = cluster
            return
        table = Table.grid(padding=(0, 2))
        for label, words in lines:
            table.add_row(Text(f"  {label}"), Text(words, "bold" if label == "Code" else ""))
        if self._live is None:
            self._console.print("Winnow helper. Ctrl-C stops it.\n", style="bold", markup=False)
            self._live = Live(table, console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(table, refresh=True)

    def tell(self, words: str) -> None:
        """A line that stays."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S ") if self._stamped else ""
        self._console.print(f"{stamp}{words}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the last picture standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class Codes:
    """When a new code is shown by itself: while a machine is alone and nobody has guessed.

    Each code allows three guesses among a million. A terminal left open for days must not be a place to try for
    ever, so wrong codes are counted, over all codes, and a person must ask for the next one after the third.
    """

    def __init__(self) -> None:
        self._seen: Pairing | None = None
        self._wrong = 0

    @property
    def burnt(self) -> bool:
        """Too many wrong codes were typed."""
        return self._wrong >= TRIES

    def look(self, cluster: Cluster) -> bool:
        """Take note of the code shown; returns whether a new one should be."""
        seen, now = self._seen, cluster.pairing
        self._seen = now
        if seen is not None and (now is None or now.code != seen.code):
            early = seen.seconds_left > 2 * LOOK_EVERY + 1
            self._wrong += TRIES if early and now is None else TRIES - seen.tries_left
        alone = len(cluster.machines) == 1 and not cluster.removed
        return alone and now is None and not self.burnt


class Helper:
    """One run of `winnow helper`. `run` returns the exit status."""

    def __init__(
        self, folder: Path, options: EngineOptions, *, screen: Screen, show_code: bool = False, api_port: int = 0
    ) -> None:
        self._folder = folder
        self._options = options
        self._screen = screen
        self._show_code = show_code  # also when paired already, once
        self._api_port = api_port
        self._engine: Engine | None = None
        self._began = 0.0  # when it was started or found
        self._codes = Codes()
        self._stop = threading.Event()
        self._stops = 0

    def run(self) -> int:
        """Work until told to stop. Raises WinnowError when it cannot begin."""
        with only_helper(self._folder), _signals(self._told_to_stop), self._api() as api:
            if runs(self._folder):
                self._screen.tell("An engine runs here already; it keeps the options it was started with.")
            self._connected()  # what keeps the first one from starting will not go away by itself
            pause = FIRST_PAUSE
            while not self._stop.is_set():
                try:
                    self._look(self._connected(), api)
                    self._stop.wait(LOOK_EVERY)
                except EngineError as error:
                    self._hang_up()
                    if time.monotonic() - self._began > HEALTHY_AFTER:
                        pause = FIRST_PAUSE
                    if not self._stop.is_set():
                        self._screen.tell(f"{error.title} It is started again in {pause:.0f} s. {error.advice}")
                        self._stop.wait(pause)
                        pause = min(LONGEST_PAUSE, 2 * pause)
            self._screen.close()
            self._finish()
        return 0

    def status(self) -> EngineStatus | None:
        """For the local API: the engine when it is there."""
        engine = self._engine
        return engine.status() if engine is not None else None

    def _connected(self) -> Engine:
        if self._engine is None:
            self._engine = Engine.ensure(self._folder, options=self._options)
            self._began = time.monotonic()
        return self._engine

    def _look(self, engine: Engine, api: str) -> None:
        cluster = engine.status().cluster
        wanted = self._codes.look(cluster) and self._screen.terminal
        if wanted or (self._show_code and not cluster.removed):
            self._show_code = False
            pairing = engine.open_pairing()
            cluster = msgspec.structs.replace(cluster, pairing=pairing)
            if not self._screen.terminal:
                self._screen.tell(helper_view.code_line(cluster))
        self._screen.show(cluster, helper_view.screen(cluster, burnt=self._codes.burnt, api=api))

    def _finish(self) -> None:
        """Let the engine finish its rows and end."""
        engine = self._engine
        if engine is None:
            return
        self._screen.tell("Stopping after the rows under way. Ctrl-C again stops at once; no label is lost.")
        try:
            engine.shutdown(timeout=STOP_SECONDS)
        except EngineError as error:
            if engine.alive:
                raise
            self._screen.tell(str(error))
        finally:
            self._hang_up()
        self._screen.tell("Stopped. What was labeled here is kept; start it again at any time.")

    def _hang_up(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _told_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stops += 1
        self._stop.set()
        engine = self._engine
        if self._stops > 1 and engine is not None and engine.alive:
            psutil.Process(engine.pid).kill()  # everything that counts is on its disk already

    @contextmanager
    def _api(self) -> Iterator[str]:
        """Status over HTTP on this machine, when a port was asked for; yields its address."""
        if not self._api_port:
            yield ""
            return
        import uvicorn
        from starlette.applications import Starlette

        from studio import node_api

        with _listening(self._api_port) as listener:
            app = Starlette(routes=node_api.routes(self.status))
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="helper-api")
            thread.start()
            try:
                yield f"http://{LOOPBACK}:{self._api_port}/status"
            finally:
                server.should_exit = True
                thread.join()


def runs(folder: Path) -> bool:
    """Whether an engine works in this folder."""
    card = StateFolder(folder).card()
    return card is not None and card.alive()


def show_code(folder: Path, screen: Screen) -> int:
    """Show a code of the helper that runs in this folder, until it is used or worth nothing."""
    with _running(folder) as engine:
        members = len(engine.status().cluster.machines)
        engine.open_pairing()
        with _interruptible():
            while True:
                cluster = engine.status().cluster
                if cluster.pairing is None:
                    break
                if screen.terminal:
                    screen.show(cluster, [("Name", helper_view.me(cluster).name), *helper_view.code(cluster)])
                else:
                    screen.tell(helper_view.code_line(cluster))
                    return 0
                time.sleep(LOOK_EVERY)
        screen.close()
        after = engine.status().cluster
        if len(after.machines) > members:
            screen.tell(f"Paired with {helper_view.others(after)[-1].name}.")
        elif screen.terminal:
            screen.tell("The code is worth nothing any more.")
    return 0


def show_status(folder: Path) -> int:
    """Say once what the helper of this folder does."""
    with _running(folder) as engine:
        for label, words in helper_view.screen(engine.status().cluster):
            say(f"{label:12}{words}")
    return 0


def start_over(folder: Path) -> int:
    """Set the keys and labels of a removed helper aside; the next start is a new machine."""
    with Engine.ensure(folder) as engine:
        engine.start_over()
    say("Keys and ledger were set aside in the same folder; nothing was deleted. Start anew with: winnow helper")
    return 0


@contextmanager
def only_helper(folder: Path) -> Iterator[None]:
    """Be the only helper on this folder, or say which process is. Raises WinnowError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise WinnowError(
            f"The folder {folder} cannot be made.",
            "Name another with --state, or with WINNOW_HELPER in the environment.",
            str(error),
        ) from error
    note = folder / "helper.json"
    try:
        with FileLock(folder / "helper.lock", timeout=0, mode=0o600, thread_local=False):
            note.write_bytes(msgspec.json.encode(Note(os.getpid())))
            try:
                yield
            finally:
                note.unlink(missing_ok=True)
    except Timeout as error:
        raise WinnowError(
            f"A helper runs on {folder} already{_whose(note)}.",
            "Its state: winnow helper --status. A code to pair it: winnow helper --code. A second one on this "
            "machine needs a folder of its own: --state FOLDER.",
        ) from error


def _whose(note: Path) -> str:
    try:
        return f", process {msgspec.json.decode(note.read_bytes(), type=Note).pid}"
    except (OSError, msgspec.DecodeError):
        return ""


@contextmanager
def _running(folder: Path) -> Iterator[Engine]:
    """The engine of a helper that runs already. Raises WinnowError when none does."""
    try:
        engine = Engine.ensure(folder, start=False)
    except EngineError as error:
        raise WinnowError(f"No helper runs on {folder}.", "Start it with: winnow helper", str(error)) from error
    with engine:
        yield engine


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise WinnowError(
                f"Port {port} of this machine is taken.",
                "Choose another with --api-port, or leave it out: the helper works without.",
                str(error),
            ) from error
        yield listener


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Ctrl-C, a terminal that is closed, and the SIGTERM of service managers go to `handler`."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one is unknown to Windows
    numbers = [signal.Signals[name] for name in names if name in signal.Signals.__members__]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends what is inside, and nothing else."""
    try:
        yield
    except KeyboardInterrupt:
        say("")
