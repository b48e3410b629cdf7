"""The list of servers, their addresses, and names for their models."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models import addresses, servers
from tests.unit.engine.chat_servers.fakes import FakeOllama, FakeOpenAI
from workspace.errors import ModelError


def test_servers_are_remembered_replaced_and_forgotten(own_folders: Path) -> None:
    assert servers.known() == []
    servers.add("Work", "openai", "https://llm.example.org/v1/")
    servers.add("box", "ollama", "192.168.0.7")
    servers.add("work", "openai", "localhost:8000")
    assert [(one.name, one.kind, one.address) for one in servers.known()] == [
        ("box", "ollama", "http://192.168.0.7:11434"),
        ("work", "openai", "http://localhost:8000"),
    ]
    file = own_folders / "winnow" / "servers.json"
    assert sys.platform == "win32" or stat.S_IMODE(file.stat().st_mode) == 0o600
    servers.remove("WORK")
    assert [one.name for one in servers.known()] == ["box"]
    with pytest.raises(ModelError, match="no server called 'work'"):
        servers.remove("work")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-x", "x" * 41, "ü"])
def test_names_that_could_not_be_part_of_a_models_name_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be the name"):
        servers.add(name, "openai", "http://localhost")


def test_a_damaged_list_is_told_and_kept(own_folders: Path) -> None:
    file = own_folders / "winnow" / "servers.json"
    file.parent.mkdir(parents=True)
    file.write_text('[{"name": "a"}]')
    with pytest.raises(ModelError, match="cannot be read"):
        servers.add("box", "ollama", "localhost")
    assert file.read_text() == '[{"name": "a"}]'


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "http://",
        "ftp://example.org",
        "file:///etc/passwd",
        "http://user:hunter2@example.org",
        "hunter2@example.org",
        "http://example.org?key=hunter2",
        "http://example.org#x",
        "http://exa mple.org",
        "http://example.org:99999",
        "http://example.org\\@evil",
        "http://[::1",
    ],
)
def test_addresses_that_are_none_are_refused_without_repeating_passwords(typed: str) -> None:
    with pytest.raises(ModelError) as caught:
        addresses.checked(typed)
    assert "hunter2" not in f"{caught.value} {caught.value.details}"


@pytest.mark.parametrize(
    ("address", "here", "words"),
    [
        ("http://127.0.0.1:8080", True, "stay on this machine"),
        ("http://localhost", True, "stay on this machine"),
        ("http://[::1]:8080", True, "stay on this machine"),
        ("http://192.168.1.5:8000", False, "unencrypted to 192.168.1.5, another machine of your network"),
        ("https://api.openai.com/v1", False, "encrypted to api.openai.com, a computer of somebody else"),
        (
            "http://127.0.0.1.example.org",
            False,
            "unencrypted to 127.0.0.1.example.org, a computer of somebody else",
        ),
        ("http://localhost.example.org", False, "a computer of somebody else"),
    ],
)
def test_it_is_said_where_rows_go(address: str, here: bool, words: str) -> None:
    server = servers.add("x", "openai", address)
    assert addresses.here(server.address) is here
    assert words in server.in_words


@given(st.text(max_size=40))
def test_whatever_is_typed_is_an_address_or_refused(typed: str) -> None:
    try:
        address = addresses.checked(typed)
    except ModelError:
        return
    assert addresses.checked(address) == address
    assert addresses.host_of(address)
    assert address.startswith(("http://", "https://"))


def test_models_are_named_by_their_server(fake_openai: FakeOpenAI) -> None:
    fake_openai.models = ("small", "org/large")
    (server,) = servers.known()
    listed = servers.models_of(server)
    assert [one.asked_as for one in listed] == ["openai:fake/org/large", "openai:fake/small"]
    for one in listed:
        assert servers.resolve(one.asked_as).digest == one.digest
    assert len({one.digest for one in listed}) == 2
    with pytest.raises(ModelError, match="no model called 'x'"):
        servers.resolve("openai:fake/x")
    with pytest.raises(ModelError, match="Name one"):
        servers.resolve("openai:fake")
    with pytest.raises(ModelError, match="no server called 'nowhere'"):
        servers.resolve("openai:nowhere/small")


def test_a_gateway_may_pass_on_models_it_does_not_name(fake_openai: FakeOpenAI) -> None:
    fake_openai.models = ("openai/*",)
    assert servers.resolve("openai:fake/openai/big").name == "fake/openai/big"


@pytest.mark.parametrize("asked", ["", "ollama:", "openai:", "smollm2", "ftp:x"])
def test_other_names_are_no_models_of_servers(asked: str) -> None:
    with pytest.raises(ModelError, match="names no model of a server"):
        servers.resolve(asked)


def test_ollama_models_are_looked_for_on_this_machine_first(
    fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama() as other:
        other.models = (("small:latest", "1" * 64, 1), ("hf.co/org/big:q4", "2" * 64, 1))
        servers.add("box", "ollama", other.address)
        assert servers.resolve("ollama:small").path == fake_ollama.address
        assert servers.resolve("ollama:hf.co/org/big:q4").path == other.address
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")  # nobody is there
        assert servers.resolve("ollama:small").digest == "1" * 64
    with pytest.raises(ModelError, match="cannot be reached"):
        servers.resolve("ollama:small")


def test_a_server_that_does_not_answer_is_told_in_words() -> None:
    with FakeOpenAI() as fake:
        server = servers.add("gone", "openai", fake.address)
    with pytest.raises(ModelError, match="cannot be reached"):
        servers.models_of(server)
