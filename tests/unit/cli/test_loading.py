"""What is typed answers soon: nothing is loaded that only calibration and the pages need."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("scipy", "sklearn", "pandas", "plotly", "streamlit")


def test_the_command_line_loads_no_slow_library() -> None:
    code = f"import sys, studio.cli; print(*[name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
