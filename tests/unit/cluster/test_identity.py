"""Who a machine is: one key pair for ever, readable by nobody else, refused rather than guessed."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from engine.cluster import identity
from engine.cluster.sockets import are_a_pair, new_keys
from workspace.errors import EngineError

POSIX = pytest.mark.skipif(os.name != "posix", reason="files have no mode here")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    first = identity.load(tmp_path / "state")
    assert identity.load(tmp_path / "state") == first
    assert are_a_pair(first.keys)
    assert first.id == identity.member_id(first.keys.public)
    assert identity.load(tmp_path / "other").id != first.id


def test_ids_and_words() -> None:
    # Fixed for ever: members are known by it in every log.
    assert identity.member_id("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7") == "7bc4ae6f6bf1017133661dea24367401"
    assert identity.key_words("7bc4ae6f6bf1017133661dea24367401") == "7bc4-ae6f"


@POSIX
def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        identity.load(tmp_path / "state")
    finally:
        os.umask(previous)
    assert mode(tmp_path / "state") == 0o700
    assert {mode(path) for path in (tmp_path / "state").iterdir()} == {0o600}


@POSIX
@pytest.mark.parametrize("opened", [0o750, 0o705, 0o710])
def test_a_folder_others_can_enter_is_refused(tmp_path: Path, opened: int) -> None:
    tmp_path.chmod(opened)
    with pytest.raises(EngineError, match=f"mode {opened:o}") as refused:
        identity.load(tmp_path)
    assert "chmod 700" in refused.value.advice
    assert list(tmp_path.iterdir()) == []


@POSIX
@pytest.mark.parametrize("opened", [0o640, 0o604])
def test_a_file_others_can_read_is_refused(tmp_path: Path, opened: int) -> None:
    tmp_path.chmod(0o700)
    before = identity.load(tmp_path)
    (tmp_path / identity.FILE).chmod(opened)
    with pytest.raises(EngineError, match=f"mode {opened:o}"):
        identity.load(tmp_path)
    (tmp_path / identity.FILE).chmod(0o600)
    assert identity.load(tmp_path) == before


@pytest.mark.parametrize("damage", ["empty", "half", "not json", "another secret", "short key", "nothing like it"])
def test_a_damaged_file_is_said_and_kept(tmp_path: Path, damage: str) -> None:
    tmp_path.chmod(0o700)
    good = identity.load(tmp_path)
    file = tmp_path / identity.FILE
    written = {
        "empty": b"",
        "half": file.read_bytes()[:40],
        "not json": b"\xff\xfe\x00",
        "another secret": file.read_bytes().replace(good.keys.secret.encode(), new_keys().secret.encode()),
        "short key": b'{"public": "abc", "secret": "def"}',
        "nothing like it": b"[1, 2, 3]",
    }[damage]
    file.write_bytes(written)
    with pytest.raises(EngineError, match="damaged") as said:
        identity.load(tmp_path)
    assert "paired again" in said.value.advice
    assert file.read_bytes() == written


def test_a_place_that_cannot_be_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError, match="cannot be used"):
        identity.load(tmp_path / "file")


def _load_together(folder: Path, start: object, found: object) -> None:
    start.wait(30)  # type: ignore[attr-defined]
    found.put(identity.load(folder).id)  # type: ignore[attr-defined]


def test_processes_that_come_at_once_get_the_same(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Barrier(3), spawn.Queue()
    processes = [spawn.Process(target=_load_together, args=(tmp_path / "state", start, found)) for _ in range(3)]
    for process in processes:
        process.start()
    ids = {found.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert ids == {identity.load(tmp_path / "state").id}
