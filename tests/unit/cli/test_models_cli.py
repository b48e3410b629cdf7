"""`winnow models`: real files and servers of this machine; once as a process of its own, else in this one."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.models import known
from studio import cli
from tests.unit.cli.test_cli import winnow
from tests.unit.models.file_server import FileServer, file_server

Run = Callable[..., tuple[int, str, str]]
BODY = b"GGUF" + b"\x07" * 300_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WINNOW_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("WINNOW_WEIGHTS", "original")  # unpacked ones would be made anew in each cache
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line without a process: exit code, standard output and standard error."""

    def ran(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["winnow", "models", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return ran


@pytest.fixture
def web() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def test_a_model_is_added_listed_and_removed(
    folder: Path, run: Run, web: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.address)
    one = known.KNOWN[0]
    web.on_hub(one.repository, one.file, BODY)
    added = winnow("models", "add", one.name, cwd=folder)
    assert added.returncode == 0, added.stderr
    assert (folder / "models" / one.file).read_bytes() == BODY
    assert "is ready" in added.stdout
    _, listed, _ = run("list")
    assert "smollm2: built in, 0.1 GB" in listed
    assert "embedding: built in" in listed
    assert f"{Path(one.file).stem}: models folder" in listed
    assert "Apache-2.0 (added)" in listed
    code, _, why = run("add", one.name)
    assert code == 1
    assert "already" in why
    code, _, why = run("remove", Path(one.file).stem)
    assert code == 2
    assert "--yes" in why
    assert (folder / "models" / one.file).exists()
    assert run("remove", Path(one.file).stem, "--yes") == (0, "Removed.\n", "")
    assert not (folder / "models" / one.file).exists()


def test_a_file_and_an_address_are_ways_too(folder: Path, run: Run, web: FileServer) -> None:
    (folder / "own.gguf").write_bytes(BODY)
    assert run("add", "own.gguf", "--link")[0] == 0
    assert (folder / "models" / "own.gguf").is_symlink()
    url = web.give("/get", BODY)
    assert run("add", url, "--name", "far")[0] == 0
    assert (folder / "models" / "far.gguf").read_bytes() == BODY
    code, _, why = run("add", url, "--name", "other", "--sha256", "0" * 64)
    assert code == 1
    assert "checksum" in why
    assert run("remove", "own", "-y")[0] == 0
    assert (folder / "own.gguf").read_bytes() == BODY  # only the link is gone


def test_a_server_is_remembered_and_forgotten(run: Run) -> None:
    code, added, _ = run("add", "openai:desk", "http://127.0.0.1:9/v1")
    assert code == 0
    assert "winnow models key desk" in added
    assert "  desk: " in run("list")[1]  # with the reason why it has no models
    assert run("key", "nobody")[0] == 2
    assert run("remove", "desk", "--yes")[0] == 0
    assert "  desk: " not in run("list")[1]


def test_a_key_goes_into_the_key_store_and_is_not_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: dict[str, str] = {}
    monkeypatch.setattr("engine.models.api_keys._in_store", lambda _, *rest: (kept.update([rest]) or True, None))
    assert run("add", "openai:desk", "http://127.0.0.1:9/v1")[0] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-secret\n"))
    code, out, err = run("key", "desk")
    assert (code, kept) == (0, {"desk": "sk-secret"})
    assert "secret" not in out + err


@pytest.mark.parametrize("model", ["smollm2", "embedding"])
def test_a_test_says_how_fast_a_model_is_and_what_it_can_do(run: Run, model: str) -> None:
    code, out, err = run("test", model)
    assert code == 0, err
    assert "rows/s, loaded in" in out
    assert "100% of the answers could be read" in out
    assert "can do: log" in out
    assert "rows/s when tested" in run("list")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("add", "nothing"), "is not known here"),
        (("add", "hf:owner/name"), "names no file"),
        (("add", "openai:desk"), "name and address"),
        (("add", "missing.gguf"), "no model file"),
        (("test", "nothing"), "No model is called"),
        (("remove", "smollm2"), "not in the models folder"),
        (("remove", "ollama:x"), "Ollama"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, _, why = run(*arguments)
    assert code == 1
    assert words in why
