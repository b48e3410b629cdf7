from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine.models import catalog, known, reachable, servers, speeds
from studio import model_views
from studio.runtime import Studio
from tests.pages.conftest import OpenPage, press, said
from tests.unit.models.file_server import FileServer, file_server

BODY = b"GGUF" + b"\x07" * 300_000
ONE = known.KNOWN[0]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WINNOW_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with file_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def ended(studio: Studio, app: AppTest, name: str) -> AppTest:
    """The page once a piece of work in the background has ended."""
    job = studio.jobs.find(name)
    assert job is not None
    assert job.wait(60)
    app.run()
    assert not app.exception
    return app


def test_it_shows_what_is_here_and_what_could_be(open_page: OpenPage) -> None:
    app = open_page("models")
    words = said(app)
    assert "SmolLM2" in words
    assert "Likeness of texts" in words
    for model in known.KNOWN:
        assert model.title in words
        assert model.licence in words
        assert not app.button(f"add_{model.name}").disabled
    assert not [button for button in app.button if str(button.key).startswith("remove_")]


def test_a_model_of_the_catalog_is_added_and_removed(studio: Studio, open_page: OpenPage, web: FileServer) -> None:
    web.on_hub(ONE.repository, ONE.file, BODY)
    app = open_page("models")
    app.button(f"add_{ONE.name}").click().run()
    ended(studio, app, model_views.ADDING)
    assert (catalog.models_folder() / ONE.file).read_bytes() == BODY
    assert "Added" in said(app)
    app.button("remove_1").click().run()
    assert "This removes" in said(app)
    app.button("remove_no").click().run()
    assert (catalog.models_folder() / ONE.file).exists()
    app.button("remove_1").click().run()
    app.button("remove_yes").click().run()
    assert not (catalog.models_folder() / ONE.file).exists()
    assert not [button for button in app.button if str(button.key).startswith("remove_")]


def test_why_something_could_not_be_added_stays_until_it_is_read(
    studio: Studio, open_page: OpenPage, web: FileServer
) -> None:
    app = open_page("models")
    press(app, "model_way", "From the web")
    app.text_input("model_url").set_value(web.give("/page.gguf", b"<html>", kind="text/html")).run()
    app.button("add_url").click().run()
    ended(studio, app, model_views.ADDING)
    assert "not a GGUF model file" in said(app)
    app.button(f"{model_views.ADDING}_seen").click().run()
    assert "not a GGUF model file" not in said(app)


def test_a_file_of_this_machine_is_added_where_it_lies(
    studio: Studio, open_page: OpenPage, tmp_path: Path
) -> None:
    (tmp_path / "my *own*.gguf").write_bytes(BODY)
    app = open_page("models")
    assert app.button("add_path").disabled
    app.text_input("model_path").set_value(str(tmp_path / "my *own*.gguf")).run()
    app.button("add_path").click().run()
    ended(studio, app, model_views.ADDING)
    assert (catalog.models_folder() / "my *own*.gguf").is_symlink()
    assert r"my \*own\*" in said(app)


def test_a_server_that_is_not_there_is_added_shown_and_forgotten(open_page: OpenPage) -> None:
    app = open_page("models")
    press(app, "model_way", "A server")
    app.text_input("server_name").set_value("desk").run()
    app.text_input("server_address").set_value("not an address").run()
    app.button("add_server").click().run()
    assert app.error
    app.text_input("server_address").set_value("http://127.0.0.1:9/v1").run()
    app.button("add_server").click().run()
    assert [server.name for server in servers.known()] == ["desk"]
    assert "not reached" in said(app)
    app.button("forget_desk").click().run()
    app.button("remove_yes").click().run()
    assert servers.known() == []
    assert "not reached" not in said(app)


def test_a_test_shows_five_rows_and_is_remembered(studio: Studio, open_page: OpenPage) -> None:
    app = open_page("models")
    assert "when tested" not in said(app)
    app.button("test_1").click().run()  # likeness, which is quick
    ended(studio, app, model_views.TESTING)
    words = said(app)
    assert "labeled five rows" in words
    assert "100\\% of the answers readable" in words or "100% of the answers readable" in words
    assert len(app.dataframe[0].value) == 5
    assert "when tested" in words
    assert catalog.likeness().digest in speeds.known()


def test_a_file_that_is_damaged_is_told_when_it_is_tested(studio: Studio, open_page: OpenPage) -> None:
    catalog.models_folder().mkdir(parents=True)
    (catalog.models_folder() / "broken.gguf").write_bytes(BODY)
    app = open_page("models")
    app.button("test_1").click().run()
    ended(studio, app, model_views.TESTING)
    assert app.error
    app.button(f"{model_views.TESTING}_seen").click().run()
    assert not app.error


def test_servers_are_asked_once_in_a_while_only(open_page: OpenPage) -> None:
    app = open_page("models")
    before = reachable.look()
    app.run()
    assert reachable.look() is before
