"""The files with which a system starts the helper by itself: a systemd user unit, or a launchd agent on macOS."""

from __future__ import annotations

import plistlib
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "winnow-helper"
LABEL = "studio.winnow.helper"

# Only the helper hears SIGTERM, and stops its engine itself; what is left after that is killed.
UNIT = """\
[Unit]
Description=Winnow helper: labels text for the machines it is paired with

[Service]
ExecStart={command}
Restart=on-failure
RestartSec=5
KillMode=mixed
TimeoutStopSec=100
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""

SYSTEMD = f"""\
# Save it, start it now and at every start of this machine:
#   mkdir -p ~/.config/systemd/user
#   winnow helper --install-service > ~/.config/systemd/user/{NAME}.service
#   systemctl --user daemon-reload
#   systemctl --user enable --now {NAME}
#   loginctl enable-linger      (without it the helper runs only while you are logged in)
# The code to pair it: winnow helper --code. Its log: journalctl --user -u {NAME}
"""
LAUNCHD = f"""\
Save it, start it now and at every login:
  winnow helper --install-service > ~/Library/LaunchAgents/{LABEL}.plist
  launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/{LABEL}.plist
The code to pair it: winnow helper --code. Its log: ~/Library/Logs/{NAME}.log
"""


def systemd_unit(command: Sequence[str]) -> str:
    """The unit that runs this command."""
    return UNIT.format(command=" ".join(map(_quoted, command)))


def launchd_plist(command: Sequence[str], home: Path) -> str:
    """The agent that runs this command."""
    log = str(home / "Library" / "Logs" / f"{NAME}.log")
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(command),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ExitTimeOut": 100,
            "Umask": 0o077,
            "ProcessType": "Background",
            "StandardOutPath": log,
            "StandardErrorPath": log,
        },
        sort_keys=False,
    ).decode()


def for_this_system(command: Sequence[str]) -> tuple[str, str]:
    """The file for this system, and what to do with it."""
    if sys.platform == "darwin":
        return launchd_plist(command, Path.home()), LAUNCHD
    return systemd_unit(command), SYSTEMD


def _quoted(word: str) -> str:
    """A word as systemd reads it back: in quotes, with its own signs for %, $ and \\."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
