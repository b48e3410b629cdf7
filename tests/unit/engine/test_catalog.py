"""Models by name and file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from engine.models import catalog
from workspace.errors import ModelError


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("WINNOW_MODELS", str(tmp_path / "models"))


def test_the_embedded_model_is_there_under_its_name() -> None:
    spec = catalog.embedded()
    assert Path(spec.path).is_file()
    assert spec == catalog.resolve("smollm2") == catalog.resolve("SmolLM2-135M-Instruct")
    assert catalog.available() == [spec]
    assert len(spec.digest) == 32


def test_a_file_is_named_after_itself_and_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "Mine.Q4.gguf"
    file.write_bytes(b"GGUF and more")
    spec = catalog.resolve(str(file))
    assert spec.name == "Mine.Q4"
    assert spec.digest == hashlib.blake2b(b"GGUF and more", digest_size=16).hexdigest()
    assert spec in catalog.available()


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
