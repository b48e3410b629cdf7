"""A workspace for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from workspace.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty workspace, closed afterwards."""
    opened = open_store(tmp_path / "w.duckdb")
    yield opened
    opened.close()
