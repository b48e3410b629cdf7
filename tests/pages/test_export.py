from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from studio.runtime import Studio
from tests.pages.conftest import OpenPage, press
from tests.seeding import seed
from workspace import labels


def test_without_labels_there_is_one_way_on(open_page: OpenPage) -> None:
    app = open_page("export")
    assert [button.label for button in app.button] == ["Label rows"]


@pytest.mark.parametrize("format", ["CSV", "JSONL"])
def test_the_file_holds_what_the_workspace_holds(
    open_page: OpenPage, studio: Studio, tmp_path: Path, format: str
) -> None:
    spec = seed(studio.store, [f"text {n}, with a comma" for n in range(30)])[0]
    app = press(open_page("export"), "format", format)
    path = tmp_path / f"out.{format.lower()}"
    app.text_input[0].set_value(str(path)).run()
    app.button(key="write").click().run()
    assert not app.exception
    assert f"30 rows written to {path}" in app.success[0].value
    if format == "CSV":
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    else:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    current = labels.page(studio.store, spec.run_id, "sentiment")
    assert [(line["text"], line["sentiment"]) for line in lines] == [(item.text, item.label) for item in current]


def test_only_confident_rows(open_page: OpenPage, studio: Studio, tmp_path: Path) -> None:
    spec = seed(studio.store, [f"text {n}" for n in range(30)])[0]
    app = press(open_page("export"), "what", "Confidence at least")
    app.slider(key="least").set_value(80).run()
    path = tmp_path / "sure.csv"
    app.text_input[0].set_value(str(path)).run()
    app.button(key="write").click().run()
    sure = labels.page(studio.store, spec.run_id, "sentiment", low=0.8)
    assert f"{len(sure)} rows written" in app.success[0].value


def test_a_folder_that_is_not_there_is_a_sentence(open_page: OpenPage, studio: Studio, tmp_path: Path) -> None:
    seed(studio.store, ["one", "two"])
    app = open_page("export")
    app.text_input[0].set_value(str(tmp_path / "nowhere" / "out.csv")).run()
    app.button(key="write").click().run()
    assert not app.exception
    assert len(app.error) == 1
