"""Model files from elsewhere: whole and checked, or not at all."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.models import catalog, downloads, known
from engine.models.downloads import Source, download, from_hub, from_path, from_url
from tests.unit.models.file_server import FileServer, file_server
from workspace.errors import ModelError

BODY = b"GGUF" + bytes(range(256)) * 8000  # 2 MB, two blocks
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(scope="module")
def web() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def no_pause(_: float) -> None:
    pass


def left() -> list[str]:
    folder = catalog.models_folder()
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def test_a_file_arrives_under_its_name_and_its_digest_is_known(web: FileServer) -> None:
    heard: list[tuple[int, int]] = []
    path = download(from_url(web.give("/a/Small%20One.gguf", BODY)), lambda done, all_: heard.append((done, all_)))
    assert path.read_bytes() == BODY
    assert left() == ["Small One.gguf"]
    assert heard[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert str(path.resolve()) in catalog._known()
    assert catalog.resolve("Small One").digest == hashlib.blake2b(BODY, digest_size=16).hexdigest()


def test_what_breaks_off_is_gone_on_with(web: FileServer) -> None:
    url = web.give("/cut.gguf", BODY, cuts=[700_000, 0, 900_000])
    path = download(from_url(url), pause=no_pause)
    assert path.read_bytes() == BODY
    assert web.files["/cut.gguf"].requests == ["", "bytes=700000-", "bytes=700000-", "bytes=1600000-"]


def test_a_stop_keeps_what_arrived_for_the_next_time(web: FileServer) -> None:
    url = web.give("/stop.gguf", BODY)
    asked = iter([False, True])
    with pytest.raises(ModelError, match="stopped"):
        download(from_url(url), cancelled=lambda: next(asked))
    assert left() == ["stop.gguf.partial", "stop.gguf.partial.json"]
    assert catalog.files() == [catalog.embedded()]
    assert download(from_url(url)).read_bytes() == BODY
    assert web.files["/stop.gguf"].requests[1].startswith("bytes=")
    assert left() == ["stop.gguf"]


@pytest.mark.parametrize("how", [{"etag": '"two"'}, {"ranges": False}])
def test_another_file_at_the_same_address_is_fetched_from_its_beginning(
    web: FileServer, how: dict[str, object]
) -> None:
    source = from_url(web.give("/new.gguf", b"GGUF" + b"x" * 3_000_000, cuts=[1_500_000] + [0] * 5))
    with pytest.raises(ModelError, match="cannot be fetched"):
        download(source, pause=no_pause)
    web.give("/new.gguf", BODY, **how)
    assert download(source, pause=no_pause).read_bytes() == BODY


def test_what_has_no_validator_is_never_patched_together(web: FileServer) -> None:
    source = from_url(web.give("/plain.gguf", BODY, etag="", cuts=[1_000_000]))
    assert download(source, pause=no_pause).read_bytes() == BODY
    assert web.files["/plain.gguf"].requests == ["", ""]
    checked = from_url(web.give("/plain2.gguf", BODY, etag="", cuts=[1_000_000]), sha256=SHA.upper())
    assert download(checked, pause=no_pause).read_bytes() == BODY  # the checksum tells that it is the same file
    assert web.files["/plain2.gguf"].requests == ["", "bytes=1000000-"]


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(web: FileServer) -> None:
    pauses: list[float] = []
    url = web.give("/busy.gguf", BODY, failures=[503, 429])
    assert download(from_url(url), pause=pauses.append).read_bytes() == BODY
    assert pauses == [2.0, 4.0]
    with pytest.raises(ModelError, match="answers 404"):
        download(from_url(f"{web.address}/none.gguf"), pause=pauses.append)
    assert len(pauses) == 2


def test_a_server_that_is_not_there_is_a_sentence(web: FileServer) -> None:
    with pytest.raises(ModelError, match="cannot be fetched"):
        download(Source("http://127.0.0.1:9/m.gguf", "m.gguf"), pause=no_pause)
    assert left() == []


def test_a_wrong_checksum_throws_the_file_away(web: FileServer) -> None:
    source = from_url(web.give("/bad.gguf", BODY), sha256="0" * 64)
    with pytest.raises(ModelError, match="checksum"):
        download(source)
    assert left() == []


@pytest.mark.parametrize("body", [b"<!doctype html>" * 200, b"GGU", b""])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_page_is_no_model(web: FileServer, body: bytes, kind: str) -> None:
    with pytest.raises(ModelError, match="not a GGUF"):
        download(from_url(web.give("/page.gguf", body, kind=kind)))
    assert left() == []


@pytest.mark.parametrize("told_length", [True, False])
def test_what_is_too_large_is_not_fetched(web: FileServer, told_length: bool) -> None:
    url = web.give("/large.gguf", BODY, told_length=told_length)
    with pytest.raises(ModelError, match="larger than"):
        download(from_url(url), most=1_000_000)
    assert not (catalog.models_folder() / "large.gguf").exists()


def test_a_disk_without_room_is_told_before(web: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "SPARE", shutil.disk_usage("/").total)
    with pytest.raises(ModelError, match="disk has room"):
        download(from_url(web.give("/room.gguf", BODY)))
    assert (catalog.models_folder() / "room.gguf.partial").exists() is False


def test_a_disk_that_fills_up_keeps_what_arrived(web: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    source = from_url(web.give("/full.gguf", BODY))

    def report(done: int, _: int) -> None:
        if done > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ModelError, match="disk is full"):
        download(source, report)
    assert download(source).read_bytes() == BODY
    assert web.files["/full.gguf"].requests[1] != ""


def test_nothing_that_is_there_is_overwritten(web: FileServer) -> None:
    source = from_url(web.give("/mine.gguf", BODY))
    path = download(source)
    path.write_bytes(b"GGUF mine")
    with pytest.raises(ModelError, match="already"):
        download(source)
    assert path.read_bytes() == b"GGUF mine"


def test_one_at_a_time(web: FileServer) -> None:
    source = from_url(web.give("/twice.gguf", BODY))

    def meanwhile(done: int, _: int) -> None:
        with pytest.raises(ModelError, match="being added already"):
            download(source)

    download(source, meanwhile)


@pytest.mark.parametrize(
    "url", ["ftp://x/m.gguf", "m.gguf", "http:///m.gguf", "https://example.org/page", "https://"]
)
def test_what_is_no_address_of_a_model_is_refused(url: str) -> None:
    with pytest.raises(ModelError) as raised:
        from_url(url)
    assert raised.value.advice


def test_a_name_of_ones_own() -> None:
    assert from_url("https://example.org/get?id=3", name="mine").name == "mine.gguf"
    for name in ("../up.gguf", ".hidden.gguf", "a/b.gguf", "a\\b.gguf"):
        with pytest.raises(ModelError, match="cannot be the name"):
            from_url("https://example.org/m.gguf", name=name)


def test_a_file_of_this_machine_is_copied_or_linked(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(BODY)
    heard: list[int] = []
    copied = from_path(mine, lambda done, _: heard.append(done))
    assert heard[-1] == len(BODY)
    assert copied.read_bytes() == BODY
    assert not copied.is_symlink()
    assert from_path(copied) == copied
    copied.unlink()
    linked = from_path(mine, link=True)
    assert linked.is_symlink()
    assert catalog.resolve("mine").digest == hashlib.blake2b(BODY, digest_size=16).hexdigest()
    with pytest.raises(ModelError, match="already"):
        from_path(mine)
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    with pytest.raises(ModelError, match="not a GGUF"):
        from_path(tmp_path / "page.gguf")
    assert left() == ["mine.gguf"]


def test_the_hub_tells_size_and_checksum_and_both_are_held_to(
    web: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.address)
    model = known.KNOWN[0]
    web.on_hub(model.repository, model.file, BODY, cuts=[1_000_000])
    source = from_hub(model.repository, model.file)
    assert (source.name, source.sha256, source.size) == (model.file, SHA, len(BODY))
    web.files[f"/cdn/{model.file}"].body = BODY[:-1] + b"\x00"
    with pytest.raises(ModelError, match="checksum"):
        download(source, pause=no_pause)
    web.on_hub(model.repository, model.file, BODY, cuts=[1_000_000])
    assert download(from_hub(model.repository, model.file), pause=no_pause).read_bytes() == BODY
    assert web.files[f"/cdn/{model.file}"].requests == ["", "bytes=1000000-"]


def test_what_the_hub_does_not_have_is_a_sentence(web: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.address)
    with pytest.raises(ModelError, match=r"Hub has no none\.gguf"):
        from_hub("owner/name", "none.gguf")
    with pytest.raises(ModelError, match="not a repository"):
        from_hub("owner/name/more", "m.gguf")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached"):
        from_hub("owner/name", "m.gguf")


def test_the_models_one_can_add_by_name_are_told_apart_and_fit_their_memory() -> None:
    assert len({model.name for model in known.KNOWN}) == len(known.KNOWN) == 6
    for model in known.KNOWN:
        assert known.find(model.title.upper()) == known.find(model.name) == model
        assert model.file.endswith(".gguf")
        assert model.size < model.memory < 4 * model.size + (2 << 30)
        assert model.licence
    assert known.find("nothing") is None


@pytest.fixture
def attempt(web: FileServer) -> Callable[[int, list[int]], bytes]:
    def tried(size: int, cuts: list[int]) -> bytes:
        url = web.give("/law.gguf", BODY[:size], cuts=[*cuts])
        (catalog.models_folder() / "law.gguf").unlink(missing_ok=True)
        return download(from_url(url), pause=no_pause).read_bytes()

    return tried


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(4, 20_000), cuts=st.lists(st.integers(1, 8000), max_size=5))
def test_however_it_breaks_off_every_byte_arrives_once(
    attempt: Callable[[int, list[int]], bytes], size: int, cuts: list[int]
) -> None:
    assert attempt(size, cuts) == BODY[:size]
