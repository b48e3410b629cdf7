"""Models by name and file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from engine.models import catalog
from workspace.errors import ModelError
from workspace.facts import ModelSpec


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WINNOW_MODELS", str(tmp_path / "models"))


def test_the_embedded_model_is_there_under_its_name() -> None:
    spec = catalog.embedded()
    assert Path(spec.path).is_file()
    assert spec == catalog.resolve("smollm2") == catalog.resolve("SmolLM2-135M-Instruct")
    assert catalog.files() == [spec]
    assert len(spec.digest) == 32


def test_a_file_is_named_after_itself_and_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "Mine.Q4.gguf"
    file.write_bytes(b"GGUF and more")
    spec = catalog.resolve(str(file))
    assert spec.name == "Mine.Q4"
    assert spec.digest == hashlib.blake2b(b"GGUF and more", digest_size=16).hexdigest()
    assert spec in catalog.available()
    assert spec == catalog.resolve("Mine.Q4") == catalog.resolve("Mine.Q4.gguf")  # lies in the models folder


def test_every_model_that_is_listed_is_found_again_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.gguf").write_bytes(b"GGUF and more")
    listed = catalog.available()
    assert [model.backend for model in listed[:3]] == ["llama_cpp", "llama_cpp", "embedding"]
    assert [catalog.resolve(catalog.asked_as(model)) for model in listed] == listed
    assert catalog.asked_as(listed[0]) == "smollm2"
    assert catalog.asked_as(listed[2]) == "embedding"
    assert catalog.asked_as(ModelSpec("openai", "here/qwen", "http://localhost:1", "0")) == "openai:here/qwen"


def test_a_server_that_is_not_known_is_a_sentence() -> None:
    with pytest.raises(ModelError, match="no server called 'nowhere'"):
        catalog.resolve("openai:nowhere/model")


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF 1")
    first = catalog.digest(file)
    stamp = file.stat().st_mtime_ns
    file.write_bytes(b"GGUF 2")
    os.utime(file, ns=(stamp, stamp))
    assert catalog.digest(file) == first  # same size and time: taken from memory
    os.utime(file, ns=(stamp + 1, stamp + 1))
    assert catalog.digest(file) != first


def test_a_model_is_found_by_its_digest_wherever_it_lies(tmp_path: Path) -> None:
    embedded = catalog.embedded()
    assert catalog.find(embedded.digest) == embedded
    (tmp_path / "models").mkdir()
    mine, elsewhere = tmp_path / "models" / "Mine.Q4.gguf", tmp_path / "elsewhere.gguf"
    mine.write_bytes(b"GGUF mine")
    elsewhere.write_bytes(b"GGUF elsewhere")
    found = catalog.find(catalog.digest(mine))
    assert found == catalog.resolve(str(mine))
    wanted = catalog.digest(elsewhere)
    assert catalog.find(wanted) is None  # nobody said where it lies
    known = catalog.find(wanted, [str(tmp_path / "gone.gguf"), "", str(elsewhere)])
    assert known == catalog.resolve(str(elsewhere))
    elsewhere.write_bytes(b"GGUF something else")
    assert catalog.find(wanted, [elsewhere]) is None
    assert catalog.find("0" * 32) is None


def test_what_is_no_model_is_not_found_by_its_digest(tmp_path: Path) -> None:
    page = tmp_path / "page.gguf"
    page.write_bytes(b"<html>")
    assert catalog.find(catalog.digest(page), [page]) is None


def test_a_digest_computed_elsewhere_is_believed_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF 1")
    catalog.remember_digest(file, "f" * 32)
    assert catalog.digest(file) == "f" * 32
    file.write_bytes(b"GGUF 12")
    assert catalog.digest(file) == hashlib.blake2b(b"GGUF 12", digest_size=16).hexdigest()


def test_only_the_newest_digests_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_KEPT", 3)
    for number in range(5):
        catalog.remember_digest(_file(tmp_path, number), f"{number:032}")
    catalog.remember_digest(_file(tmp_path, 2), f"{2:032}")  # used again
    assert [Path(path).stem for path in catalog._known()] == ["3", "4", "2"]


def _file(folder: Path, number: int) -> Path:
    file = folder / f"{number}.gguf"
    file.write_bytes(b"GGUF")
    return file


def test_a_damaged_memory_of_digests_is_only_slower(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF 1")
    expected = catalog.digest(file)
    catalog._digests_file().write_bytes(b"\xff{broken")
    assert catalog.digest(file) == expected


@pytest.mark.parametrize("name", ["nothing", "missing.gguf", "folder/missing", ""])
def test_an_unknown_model_is_a_sentence(name: str) -> None:
    with pytest.raises(ModelError) as raised:
        catalog.resolve(name)
    assert raised.value.advice


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "page.gguf"
    file.write_bytes(b"<html>")
    with pytest.raises(ModelError, match="not a GGUF"):
        catalog.resolve(str(file))
