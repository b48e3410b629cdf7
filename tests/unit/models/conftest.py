"""Folders of their own for every test, so that nothing of this user's models is read or written."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WINNOW_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("WINNOW_WEIGHTS", "original")  # unpacked ones would be made anew in each cache
