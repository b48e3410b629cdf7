"""What the command line asks of a workspace, whoever owns its file: this process or a running studio."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx
import msgspec

from studio import places, runtime, second_opinions
from studio.second_opinions import Again
from workspace import exports, intake, runs
from workspace.errors import EngineError, WinnowError, WorkspaceBusy
from workspace.facts import RunProgress, RunState, Settings
from workspace.runs import RunRecord
from workspace.store import open_store
from workspace.task import parse_task

Share = Callable[[float], None]
Format = Literal["csv", "jsonl", "parquet"]

POLL = 0.3  # seconds between looks at a job or a run
CATCH_UP_WITHIN = 60.0  # seconds for reading what other machines did
ANSWER_WITHIN = 60.0  # seconds; loading and labeling are jobs, so every single answer is quick


class Standing(msgspec.Struct, frozen=True):
    """Where a run stands: `progress` as the engine says, `labeled` and `failed` rows already in the workspace."""

    progress: RunProgress | None
    problem: str  # what keeps the engine from working, "" for nothing
    labeled: int
    failed: int
    dropped: int = 0  # rows a rule of the prefilter left out

    @property
    def answered(self) -> int:
        """Rows nothing more will be said about."""
        return self.labeled + self.failed + self.dropped


class Desk(Protocol):
    """The verbs of the command line."""

    def load(self, path: Path, mapping: intake.Mapping | None, share: Share) -> intake.LoadResult: ...

    def save_task(self, document: str) -> str: ...

    def start(
        self,
        task_id: str,
        model: str,
        limit: int | None,
        sample: str,
        import_id: str | None,
        settings: Settings,
    ) -> str: ...

    def again(self, run_id: str, wish: Again) -> str: ...

    def set_state(self, run_id: str, state: RunState) -> None: ...

    def standing(self, run_id: str) -> Standing: ...

    def runs(self) -> list[RunRecord]: ...

    def export(
        self, run_id: str, path: Path, format: Format, import_id: str | None, monitored: bool
    ) -> exports.ExportResult: ...

    def close(self) -> None: ...


def open_desk(workspace: Path, *, create: bool = True) -> Desk:
    """The desk of a workspace: its file if it is free, else the studio that has it open.

    Raises WorkspaceBusy when something else than a reachable studio holds the file, and what `open_store` raises.
    """
    try:
        # What a helper has needs no workspace before it is looked at.
        studio = runtime.Studio(open_store(workspace, create=create or places.joined(workspace)))
    except WorkspaceBusy:
        url = studio_url(workspace)
        if url is None:
            raise
        return StudioDesk(url)
    studio.catch_up(CATCH_UP_WITHIN)
    return OwnDesk(studio)


def studio_url(workspace: Path) -> str | None:
    """Address of the studio that has this workspace open, None when none answers."""
    note = places.engine_folder(workspace.expanduser().resolve()) / "studio.json"
    try:
        url = str(json.loads(note.read_text(encoding="utf-8"))["url"])
        httpx.get(f"{url}/api/v1/status", timeout=5).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return url


class OwnDesk:
    """This process owns the file."""

    def __init__(self, studio: runtime.Studio) -> None:
        self._studio = studio

    def load(self, path: Path, mapping: intake.Mapping | None, share: Share) -> intake.LoadResult:
        job = self._studio.load_file(path, mapping)
        try:
            while not job.wait(POLL):
                share(job.fraction)
        except KeyboardInterrupt:
            job.cancel()
            job.wait(ANSWER_WITHIN)
            raise
        if job.error is not None:
            raise job.error
        assert job.result is not None
        return job.result

    def save_task(self, document: str) -> str:
        return self._studio.save_task(parse_task(document))

    def start(
        self,
        task_id: str,
        model: str,
        limit: int | None,
        sample: str,
        import_id: str | None,
        settings: Settings,
    ) -> str:
        order: Literal["first", "random"] = "random" if sample == "random" else "first"
        return self._studio.start_run(task_id, model, limit, order, import_id=import_id, settings=settings)

    def again(self, run_id: str, wish: Again) -> str:
        return second_opinions.again(self._studio, run_id, wish)

    def set_state(self, run_id: str, state: RunState) -> None:
        verbs = {"paused": self._studio.pause, "cancelled": self._studio.cancel, "running": self._studio.resume}
        verbs[state](run_id)

    def standing(self, run_id: str) -> Standing:
        found = next((run for run in self.runs() if run.id == run_id), None)
        problem = self._studio.engine_error
        return Standing(
            self._studio.progress().get(run_id),
            str(problem) if problem else "",
            found.labeled_rows if found else 0,
            found.failed_rows if found else 0,
            found.dropped_rows if found else 0,
        )

    def runs(self) -> list[RunRecord]:
        return runs.list_runs(self._studio.store)

    def export(
        self, run_id: str, path: Path, format: Format, import_id: str | None, monitored: bool
    ) -> exports.ExportResult:
        return self._studio.export(run_id, path, format, import_id=import_id, monitored=monitored)

    def close(self) -> None:
        self._studio.close()


class StudioDesk:
    """A running studio owns the file; the same verbs go through its API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=ANSWER_WITHIN)

    def load(self, path: Path, mapping: intake.Mapping | None, share: Share) -> intake.LoadResult:
        body = {"path": str(path.resolve()), "mapping": mapping}
        job = self._post("load", body)["job"]
        while True:
            state = self._get(f"jobs/{job}")
            if state["error"]:
                raise WinnowError(state["error"]["title"], state["error"]["advice"])
            if state["done"]:
                return msgspec.convert(state["result"], intake.LoadResult)
            share(float(state["share"]))
            time.sleep(POLL)

    def save_task(self, document: str) -> str:
        return str(self._post("tasks", {"document": document})["task_id"])

    def start(
        self,
        task_id: str,
        model: str,
        limit: int | None,
        sample: str,
        import_id: str | None,
        settings: Settings,
    ) -> str:
        # A path on the command line is relative to this folder, not to the studio's.
        body = {
            "task_id": task_id,
            "model": _from_here(model),
            "limit": limit,
            "sample": sample,
            "import_id": import_id,
            "settings": settings,
        }
        return str(self._post("runs", body)["run_id"])

    def again(self, run_id: str, wish: Again) -> str:
        another = msgspec.structs.replace(wish.another, model=_from_here(wish.another.model))
        return str(self._post(f"runs/{run_id}/again", msgspec.structs.replace(wish, another=another))["run_id"])

    def set_state(self, run_id: str, state: RunState) -> None:
        self._post(f"runs/{run_id}/state", {"state": state})

    def standing(self, run_id: str) -> Standing:
        return msgspec.convert(self._get(f"progress/{run_id}"), Standing)

    def runs(self) -> list[RunRecord]:
        return msgspec.convert(self._get("runs")["runs"], list[RunRecord])

    def export(
        self, run_id: str, path: Path, format: Format, import_id: str | None, monitored: bool
    ) -> exports.ExportResult:
        body = {
            "run_id": run_id,
            "path": str(path.resolve()),
            "format": format,
            "import_id": import_id,
            "monitored": monitored,
        }
        return msgspec.convert(
            self._post("export", body), exports.ExportResult, dec_hook=lambda kind, value: kind(value)
        )

    def close(self) -> None:
        self._http.close()

    def _get(self, path: str) -> Any:
        return self._answer("GET", path, None)

    def _post(self, path: str, body: Any) -> Any:
        return self._answer("POST", path, msgspec.json.encode(body))

    def _answer(self, method: str, path: str, content: bytes | None) -> Any:
        headers = {"content-type": "application/json"} if content is not None else {}
        try:
            reply = self._http.request(method, f"/api/v1/{path}", content=content, headers=headers)
            answer = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise EngineError(
                f"The studio at {self.url} does not answer.",
                "Everything saved so far is safe; try again, or restart the studio.",
                str(error),
            ) from error
        if reply.is_error:
            said = answer.get("error") or {}
            raise WinnowError(
                said.get("title", f"The studio refused ({reply.status_code})."), said.get("advice", "")
            )
        return answer


def _from_here(model: str) -> str:
    return str(Path(model).resolve()) if Path(model).is_file() else model
