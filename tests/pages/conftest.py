"""What every page test stands on: a studio on a workspace of its own, and the app opened on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from studio import runtime, ui
from studio.runtime import Studio
from workspace.store import open_store

OpenPage = Callable[[str], AppTest]


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(open_store(tmp_path / "words.duckdb"))
    runtime.use(made)
    yield made
    runtime.close()


@pytest.fixture
def open_page(studio: Studio) -> OpenPage:
    """Opens a page by name, inside the frame people see it in, and checks that nothing went wrong on it."""

    def opened(name: str) -> AppTest:
        app = AppTest.from_file(str(ui.ROOT / "studio" / "app.py"), default_timeout=60).run()
        if name != "home":
            app.switch_page(str(ui.page(name))).run()
        assert not app.exception
        return app

    return opened


def said(app: AppTest) -> str:
    """Everything a page says outside of tables and inputs."""
    parts = (*app.title, *app.subheader, *app.markdown, *app.caption, *app.success, *app.error)
    return "\n".join(str(element.value) for element in parts)


def press(app: AppTest, key: str, choice: str) -> AppTest:
    """Choose on a segmented control."""
    control: Any = next(element for element in app.get("segmented_control") if element.key == key)
    control.set_value(choice).run()
    assert not app.exception
    return app
