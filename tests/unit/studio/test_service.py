from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from studio import service

COMMAND = [sys.executable, "-m", "studio.cli", "helper", '--name=Bob\'s 100% "best" $HOME \\ PC']


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("no systemd-analyze here")
    unit = tmp_path / f"{service.NAME}.service"
    unit.write_text(service.systemd_unit(COMMAND))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run([verify, "verify", "--user", unit], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    unit.write_text(service.systemd_unit(["/no/such/program"]))
    broken = subprocess.run([verify, "verify", "--user", unit], capture_output=True, text=True, env=environment)
    assert broken.returncode != 0, "a check that cannot fail shows nothing"


def test_words_of_the_command_reach_systemd_as_they_are() -> None:
    line = next(line for line in service.systemd_unit(COMMAND).splitlines() if line.startswith("ExecStart="))
    assert line.endswith(r'''"--name=Bob's 100%% \"best\" $$HOME \\ PC"''')


def test_launchd_reads_the_same_command_back() -> None:
    agent = plistlib.loads(service.launchd_plist(COMMAND, Path("/Users/bob")).encode())
    assert agent["ProgramArguments"] == COMMAND
    assert agent["Label"] == service.LABEL
    assert agent["StandardErrorPath"] == "/Users/bob/Library/Logs/winnow-helper.log"
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
