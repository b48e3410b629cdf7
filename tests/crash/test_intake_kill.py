"""A load killed at any moment adds all of its file or nothing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workspace import intake, rows
from workspace.columns import Mapping
from workspace.store import open_store

LINES = 60_000
LOADER = """
import sys
from pathlib import Path
from workspace import intake
from workspace.columns import Mapping
from workspace.store import open_store

def told(share):
    print(share, flush=True)

store = open_store(Path(sys.argv[1]))
print("open", flush=True)
intake.load(store, Path(sys.argv[2]), Mapping(("text",), id="id", gold={"tone": "tone"}), progress=told)
print("loaded", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("stop_at", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("name", ["f.csv", "f.jsonl"])
def test_killed_while_loading(tmp_path: Path, name: str, stop_at: float) -> None:
    path, workspace = tmp_path / name, tmp_path / "w.duckdb"
    if name == "f.csv":
        lines = ["id,text,tone", *(f"{i},text number {i % (LINES - 10)} of many,calm" for i in range(LINES))]
    else:
        lines = [
            f'{{"id": {i}, "text": "text number {i % (LINES - 10)} of many", "tone": "calm"}}'
            for i in range(LINES)
        ]
    path.write_text("\n".join(lines) + "\n")
    with subprocess.Popen(
        [sys.executable, "-c", LOADER, str(workspace), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as loader:
        assert loader.stdout is not None
        for line in loader.stdout:
            if line.strip() == "loaded" or (line[0].isdigit() and float(line) >= stop_at):
                break
        finished = line.strip() == "loaded" or float(line) == 1.0
        loader.kill()
    store = open_store(workspace)
    try:
        with store.read() as con:
            counts = [
                con.execute(f"select count(*) from {table}").fetchall()[0][0]
                for table in ("rows", "gold", "repeats")
            ]
        known = len(intake.imports(store))
        assert (counts, known) in (([0, 0, 0], 0), ([LINES - 10, LINES - 10, 10], 1))
        assert known or not finished
        again = intake.load(store, path, Mapping(("text",), id="id", gold={"tone": "tone"}))
        assert again.already_loaded == bool(known)
        assert rows.count(store) == LINES - 10
    finally:
        store.close()
