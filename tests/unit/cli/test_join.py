"""`winnow studio --join`: everything is there again on a machine that only helped, though the studio is gone."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import Engine, EngineOptions
from tests.unit.cli.test_cli import TASK, TEXTS, winnow
from tests.waiting import wait_for
from workspace import decisions, labels, rows, runs, tasks
from workspace.decisions import DecisionEvent
from workspace.store import open_store


@pytest.fixture
def helper(tmp_path: Path) -> Iterator[Path]:
    """The state folder of a helper that has all of a workspace that is gone, and one that runs on it."""
    with (tmp_path / "tweets.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "domain"])
        writer.writerows((text, "mail" if number % 2 else "tweets") for number, text in enumerate(TEXTS))
    (tmp_path / "mood.yaml").write_text(TASK)
    label = ["label", "tweets.csv", "--task", "mood.yaml", "--out", "out.jsonl"]
    done = winnow(*label, "--domain", "domain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    decide(tmp_path / "winnow.duckdb")
    assert winnow(*label, cwd=tmp_path).returncode == 0, "hands the decision over on the way"
    (tmp_path / "winnow.duckdb").unlink()
    folder = (tmp_path / "winnow.engine").rename(tmp_path / "helper")
    engine = Engine.ensure(folder, options=EngineOptions(find="none"))
    yield folder
    engine.shutdown()
    engine.close()


def decide(path: Path) -> None:
    store = open_store(path)
    (run,) = runs.list_runs(store)
    first = rows.page(store, limit=1)[0].id
    decisions.record(
        store,
        session="session of ann",
        run_id=run.id,
        dimension="mood",
        reviewer="ann",
        events=[DecisionEvent(0, first, "modify", "sad", comment="ironic", blind=True)],
    )
    store.close()


def test_the_command_line_works_on_what_a_helper_has(helper: Path) -> None:
    joined = ("--workspace", str(helper / "joined.duckdb"))
    said = winnow("status", *joined, cwd=helper)
    assert said.returncode == 0, said.stderr
    assert f"{len(TEXTS)} of {len(TEXTS)} rows labeled (done)" in said.stdout
    assert winnow("export", "again.jsonl", *joined, cwd=helper).returncode == 0
    again = [json.loads(line) for line in (helper / "again.jsonl").read_text(encoding="utf-8").splitlines()]
    before = (helper.parent / "out.jsonl").read_text(encoding="utf-8")
    assert again == [json.loads(line) for line in before.splitlines()]
    assert [(row["mood"], row["mood_decided_by"], row["domain"]) for row in again[:1]] == [
        ("sad", "ann", "tweets")
    ]


def test_the_studio_on_a_helper_shows_everything_and_leaves_the_engine_running(helper: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "studio.cli", "studio", "--join", f"--state={helper}", "--no-browser"]
    with (helper / "said.log").open("wb") as log:
        child = subprocess.Popen([*command, f"--port={url.rpartition(':')[2]}"], stdout=log, stderr=log)
    try:
        (run,) = wait_for(lambda: done_runs(url), "the run on the helper")
        assert (run["rows"], run["labeled_rows"], run["task_title"]) == (len(TEXTS), len(TEXTS), "Mood")
        assert "stay on the machine where they were made" in (helper / "said.log").read_text()
    finally:
        child.terminate()
        child.wait(60)
    with Engine.ensure(helper, start=False) as engine:
        assert engine.alive
    store = open_store(helper / "joined.duckdb", create=False)
    try:
        assert tasks.newest(store)[0].task.name == "mood"
        shown = {item.text: (item.label, item.decided_by) for item in labels.page(store, run["id"], "mood")}
        assert shown[TEXTS[0]] == ("sad", "ann")
        assert len(shown) == len(TEXTS)
    finally:
        store.close()


def test_without_a_helper_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    said = winnow("studio", "--join", f"--state={tmp_path / 'none'}", cwd=tmp_path)
    assert said.returncode == 1
    assert "There is no helper in" in said.stderr
    assert "winnow helper" in said.stderr
    assert list(tmp_path.iterdir()) == []


def done_runs(url: str) -> list[dict[str, Any]]:
    """The runs a studio shows as done; none while it does not answer."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/status", timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["runs"]
    except OSError:
        return []
    return [run for run in found if run["progress"] and run["progress"]["state"] == "done"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
