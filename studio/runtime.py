"""The one studio of this process: an open workspace, its engine, and the verbs people and programs use.

Streamlit runs a page again at every click and forgets everything else, so what must last lives here: in a plain
module, reachable from pages and API routes alike, opened at the first use.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from studio import places
from studio.adjusting import Adjusting
from studio.jobs import Job, Jobs
from studio.link import EngineLink, Ensure, ensure_engine
from workspace import exports, intake, monitor, runs, tasks
from workspace.errors import WinnowError
from workspace.facts import EngineStatus, ModelSpec, RunProgress, RunSpec, Settings
from workspace.facts import run_id as id_of_run
from workspace.machines import Cluster, Pairing
from workspace.store import Store, open_store
from workspace.task import Task

if TYPE_CHECKING:
    from engine.client import Engine, EngineOptions
    from engine.prompt import Prompt

VARIABLE = "WINNOW_WORKSPACE"
DEFAULT = "winnow.duckdb"

engine_options: EngineOptions | None = None  # for the engine this process starts; one found running keeps its own


def workspace_path() -> Path:
    """The workspace file this process works on: WINNOW_WORKSPACE, else winnow.duckdb in the current folder."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).expanduser().absolute()


class Stopping(WinnowError):
    """The studio is being closed and takes nothing new."""


class Studio:
    """An open workspace with everything around it. Use `current()`; construct one yourself in tests."""

    def __init__(self, store: Store, *, ensure: Ensure | None = None) -> None:
        self.store = store
        self.path = store.path
        self.state_dir = places.engine_folder(store.path)
        self.jobs = Jobs()
        self.adjusting = Adjusting(store, self.jobs)
        self._ensure = ensure or _ensure_as_chosen
        self._link = EngineLink(
            store, self.state_dir, self._ensure, stays=places.joined(store.path), came_home=self.adjusting.look
        )
        self._closed = False
        self._link.start()

    def progress(self) -> dict[str, RunProgress]:
        """Where each run stands that was touched since the workspace was opened or is unfinished."""
        return self._link.progress

    @property
    def engine_error(self) -> WinnowError | None:
        """What keeps the engine from working right now; None when nothing does."""
        return self._link.error

    @property
    def engine_pid(self) -> int:
        """Process id of the engine, 0 while none is needed."""
        return self._link.status.pid if self._link.status else 0

    @property
    def engine_status(self) -> EngineStatus | None:
        """The engine when it was last asked; None while there is none."""
        return self._link.status

    @property
    def cluster(self) -> Cluster | None:
        """The machines that work together, as the engine last saw them; None while there is no engine."""
        return self._link.status.cluster if self._link.status else None

    def start_run(
        self,
        task_id: str,
        model: str,
        limit: int | None = None,
        sample: Literal["first", "random"] = "first",
        domain: str | None = None,
        instructions: Mapping[str, str] | None = None,
        import_id: str | None = None,
        settings: Settings = Settings(),  # noqa: B008 - immutable
    ) -> str:
        """Plan rows into the run of this task, prompt and model, and let it run; returns its id at once.

        `domain` and `import_id` narrow which rows may be planned. `settings` hold for a new run. `limit` counts
        the rows of the run in total, so the same call twice changes nothing and a larger limit continues the same
        run. Raises RunError or ModelError; then nothing was started.
        """
        from engine.models import catalog
        from engine.prompt import prompt_for

        saved = tasks.get(self.store, task_id)
        prompt = prompt_for(saved.task, instructions=instructions)
        spec = spec_of(task_id, saved.task.name, prompt, catalog.resolve(model), settings)
        return self.plan_run(
            spec,
            prompt,
            lambda store: runs.plan(
                store, spec.run_id, limit=limit, sample=sample, domain=domain, import_id=import_id
            ),
        )

    def plan_run(self, spec: RunSpec, prompt: Prompt, plan: Callable[[Store], int]) -> str:
        """Keep a run, let `plan` put rows into it, and let it run; returns its id at once."""
        runs.save_prompt(self.store, prompt.id, spec.task_id, prompt.document)
        runs.create(self.store, spec)
        plan(self.store)
        self._link.want(spec.run_id, "running")
        return spec.run_id

    def save_task(self, task: Task) -> str:
        """Save a task; returns its id. Raises TaskError when an expression or a pattern in it cannot be used."""
        from engine.prompt import rules_of
        from engine.text.prefilter import check_rules

        check_rules(rules_of(task))
        return tasks.save(self.store, task)

    def pause(self, run_id: str) -> None:
        """Let a run rest after the batch under way. It stays so until `resume`, also across restarts."""
        runs.spec(self.store, run_id)  # raises RunError when there is no such run
        self._link.want(run_id, "paused")

    def resume(self, run_id: str) -> None:
        """Let a paused or cancelled run go on with the rows still missing."""
        runs.spec(self.store, run_id)  # raises RunError when there is no such run
        self._link.want(run_id, "running")

    def cancel(self, run_id: str) -> None:
        """Stop a run after the batch under way. Labels made so far stay."""
        runs.spec(self.store, run_id)  # raises RunError when there is no such run
        self._link.want(run_id, "cancelled")

    def catch_up(self, seconds: float) -> None:
        """Wait until what other machines did is in the workspace, if there are any; not longer than that."""
        self._link.catch_up(seconds)

    def decisions_made(self) -> None:
        """Hand new decisions to the engine soon, so that they survive this machine; returns at once."""
        self._link.nudge()

    # Other machines. All of these but the first wait for the engine's answer, at most some 20 seconds, and raise
    # WinnowError with words for people.

    def look_for_machines(self) -> None:
        """Have an engine running from now on that looks for machines on the network; returns at once."""
        self._link.watch()

    def pair(self, address: str, code: str) -> str:
        """Take in the machine at host:port that shows this code; returns its id."""
        with self._engine() as engine:
            return engine.pair(address, code)

    def open_pairing(self) -> Pairing:
        """Let this machine show a code, to be typed on another one."""
        with self._engine() as engine:
            return engine.open_pairing()

    def close_pairing(self) -> None:
        """The code shown is worth nothing any more."""
        with self._engine() as engine:
            engine.close_pairing()

    def rename_machine(self, id: str, name: str) -> None:
        """Call a machine something else, on all machines."""
        with self._engine() as engine:
            engine.set_member(id, name=name)

    def pause_machine(self, id: str, paused: bool) -> None:
        """Give a machine no more work, or work again."""
        with self._engine() as engine:
            engine.set_member(id, paused=paused)

    def revoke_machine(self, id: str) -> None:
        """Remove a machine for ever."""
        with self._engine() as engine:
            engine.revoke(id)

    def add_address(self, text: str) -> None:
        """A machine may be reached at this host:port."""
        with self._engine() as engine:
            engine.add_address(text)

    def start_over(self) -> None:
        """On a machine that was removed: begin as a new machine, with the unfinished runs and all decisions.

        What the old one wrote is set aside, not deleted; every label brought home so far stays in the workspace.
        """
        with self._engine() as engine:
            engine.start_over()

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        """A connection of its own: the link's may be busy bringing thousands of labels home."""
        self._link.watch()
        engine = self._ensure(self.state_dir, True)
        try:
            yield engine
        finally:
            engine.close()
            self._link.nudge()

    def load_file(
        self,
        path: Path,
        mapping: intake.Mapping | None = None,
        *,
        format: str | None = None,
        encoding: str | None = None,
        source: str | None = None,
        job: str = "load",
    ) -> Job[intake.LoadResult]:
        """Load a file of this machine in the background, as the job of that name.

        Without a mapping the best guess is taken. Raises IntakeError when the file cannot be read at all.
        """
        chosen = mapping or intake.preview(path, format=format, encoding=encoding).suggestion
        return self.jobs.start(
            job,
            f"Loading {path.name}",
            lambda progress, cancelled: intake.load(
                self.store,
                path,
                chosen,
                format=format,
                encoding=encoding,
                source=source,
                progress=progress,
                cancelled=cancelled,
            ),
        )

    def export(
        self,
        run_id: str,
        path: Path,
        format: Literal["csv", "jsonl", "parquet"],
        *,
        min_confidence: float = 0.0,
        decided_by: Literal["human", "model"] | None = None,
        dimension: str | None = None,
        import_id: str | None = None,
        monitored: bool = True,
    ) -> exports.ExportResult:
        """Write the current labels of a run to a file here; `monitored`, with what they took beside it."""
        self.adjusting.finish_run(run_id)  # raises RunError when there is no such run
        result = exports.export(
            self.store,
            run_id,
            path,
            format,
            min_confidence=min_confidence,
            decided_by=decided_by,
            dimension=dimension,
            import_id=import_id,
        )
        if monitored:
            monitor.write(self.store, run_id, result.path)
        return result

    def close(self, *, stop_engine: bool = True) -> None:
        """Finish what is under way and release the workspace. Unfinished runs go on at the next start."""
        if self._closed:
            return
        self._closed = True
        self.adjusting.close()
        self.jobs.close()
        self._link.close(stop_engine=stop_engine)
        self.store.close()


def spec_of(task_id: str, task_name: str, prompt: Prompt, model: ModelSpec, settings: Settings) -> RunSpec:
    """The run that asks this prompt of this model."""
    return RunSpec(
        run_id=id_of_run(task_id, prompt.id, model.digest, settings),
        task_id=task_id,
        task_name=task_name,
        prompt_id=prompt.id,
        model=model,
        dimensions=prompt.dimensions,
        preparation=prompt.preparation,
        rules=prompt.rules,
        settings=settings,
    )


def _ensure_as_chosen(state_dir: Path, start: bool) -> Engine:
    return ensure_engine(state_dir, start, engine_options)


_lock = threading.RLock()
_studio: Studio | None = None
_stopped = False  # a page may still run while the server stops; it must not open the workspace again


def current() -> Studio:
    """The studio of this process, opened at the first call. Raises what `open_store` raises."""
    global _studio
    with _lock:
        if _stopped:
            raise Stopping("The studio is stopping.", "Everything decided so far is saved.")
        if _studio is None:
            _studio = Studio(open_store(workspace_path()))
            atexit.register(close)
        return _studio


def use(studio: Studio | None) -> None:
    """Make `studio` the one of this process; for tests, which open and close their own."""
    global _studio, _stopped
    with _lock:
        _studio, _stopped = studio, False


def close(*, stop_engine: bool = True, for_good: bool = False) -> None:
    """Close the studio of this process, if there is one. Safe to call twice.

    With `for_good`, `current` refuses from now on.
    """
    global _studio, _stopped
    with _lock:
        studio, _studio = _studio, None
        _stopped = _stopped or for_good
    if studio is not None:
        studio.close(stop_engine=stop_engine)
