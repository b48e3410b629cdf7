"""The servers people added: names for addresses. Keys are not among this; see `engine.models.api_keys`."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from engine.models import addresses, ollama_labeler, openai_labeler
from engine.models.catalog import user_data
from workspace.errors import ModelError
from workspace.facts import ModelSpec
from workspace.ids import content_id

ServerKind = Literal["ollama", "openai"]
OLLAMA = "ollama"  # the name of the Ollama server of this machine, which is always known
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_MOST = 100


class Server(msgspec.Struct, frozen=True):
    """A server that models can be used of."""

    name: str
    kind: ServerKind
    address: str

    @property
    def in_words(self) -> str:
        """Where rows go that are labeled by it, for people."""
        return addresses.in_words(self.address)


class ServerModel(msgspec.Struct, frozen=True):
    """A model of a server. `asked_as` is what `resolve` understands."""

    name: str
    asked_as: str
    digest: str
    size: int  # bytes, 0 unknown


def known() -> list[Server]:
    """The servers people added, by name; without the Ollama server of this machine."""
    try:
        return msgspec.json.decode(_file().read_bytes(), type=list[Server])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            "The list of servers cannot be read.", f"Repair or remove {_file()}.", str(error)
        ) from error


def add(name: str, kind: ServerKind, address: str) -> Server:
    """Remember a server; one of the same name is replaced. It is not contacted.

    Raises ModelError when the name or the address cannot be used.
    """
    wanted = name.strip().casefold()
    if not _NAME.fullmatch(wanted):
        raise ModelError(
            f"'{name}' cannot be the name of a server.",
            "Use up to 40 lower case letters, digits, dots, dashes and underscores.",
        )
    if kind not in ("ollama", "openai"):
        raise ModelError(f"There is no kind of server called '{kind}'.", "Use ollama or openai.")
    port = ollama_labeler.PORT if kind == "ollama" else None
    server = Server(wanted, kind, addresses.checked(address, port))
    others = [one for one in known() if one.name != wanted]
    if len(others) >= _MOST:
        raise ModelError(f"There are {_MOST} servers already.", "Remove one first.")
    _write(sorted([*others, server], key=lambda one: one.name))
    return server


def remove(name: str) -> None:
    """Forget a server; its key in the system's key store stays. Raises ModelError when there is none."""
    wanted = name.strip().casefold()
    others = [one for one in known() if one.name != wanted]
    if len(others) == len(known()):
        raise _unknown(name)
    _write(others)


def models_of(server: Server) -> list[ServerModel]:
    """The models it has, by name. Blocks for some seconds at most; not in a running event loop.

    Raises ModelError with a sentence when it cannot be reached.
    """
    if server.kind == "ollama":
        return [
            ServerModel(one.name, f"ollama:{one.name}", one.digest, one.size)
            for one in ollama_labeler.installed(server.address)
        ]
    return [
        ServerModel(one.name, f"openai:{server.name}/{one.name}", _digest(server.name, one.name), 0)
        for one in openai_labeler.offered(server.name, server.address)
    ]


def this_ollama() -> Server:
    """The Ollama server of this machine, or the one OLLAMA_HOST names; it need not run."""
    return Server(OLLAMA, "ollama", ollama_labeler.default_address())


def resolve(asked: str) -> ModelSpec:
    """The model named "ollama:MODEL" or "openai:SERVER/MODEL". Contacts the server.

    Ollama models are looked for on this machine's server first, then on those people added. Their digest is the
    server's own; an OpenAI-compatible server has none, so that its name and the model's are what counts: two
    machines whose servers have the same name are taken to have the same model. Raises ModelError.
    """
    kind, _, wanted = asked.strip().partition(":")
    if kind == "ollama" and wanted:
        return _on_ollama(wanted)
    if kind == "openai" and wanted:
        return _on_openai(wanted)
    raise ModelError(
        f"'{asked}' names no model of a server.", "Write ollama:MODEL or openai:SERVER/MODEL, without spaces."
    )


def own(model: ModelSpec) -> ModelSpec | None:
    """The same model with the address it has on this machine, None where this machine does not have it.

    Contacts servers; not in a running event loop.
    """
    if model.backend not in ("ollama", "openai"):
        return None
    try:
        found = resolve(f"{model.backend}:{model.name}")
    except ModelError:
        return None
    return found if found.digest == model.digest else None


def _on_ollama(wanted: str) -> ModelSpec:
    name = ollama_labeler.full_name(wanted)
    problem: ModelError | None = None
    seen: list[str] = []
    for server in (this_ollama(), *(one for one in known() if one.kind == "ollama")):
        try:
            models = ollama_labeler.installed(server.address)
        except ModelError as error:
            problem = problem or error
            continue
        for model in models:
            if model.name == name:
                return ModelSpec("ollama", name, server.address, model.digest)
        seen += [model.name for model in models]
    if problem is not None and not seen:
        raise problem
    raise ModelError(
        f"Ollama has no model called '{wanted}'.", f"Get it with: ollama pull {wanted}", ", ".join(seen)
    )


def _on_openai(wanted: str) -> ModelSpec:
    name, _, model = wanted.partition("/")
    server = next((one for one in known() if one.name == name.casefold() and one.kind == "openai"), None)
    if server is None:
        raise _unknown(name)
    offered = [one.name for one in openai_labeler.offered(server.name, server.address)]
    if not model and len(offered) == 1:
        model = offered[0]
    # A star stands for models a gateway passes on without naming them.
    if model not in offered and not any("*" in one for one in offered):
        raise ModelError(
            f"The server '{server.name}' has no model called '{model}'." if model else "Name one of its models.",
            "It has: " + ", ".join(offered[:10]) + ("." if len(offered) <= 10 else " and more."),
        )
    return ModelSpec("openai", f"{server.name}/{model}", server.address, _digest(server.name, model))


def _digest(server: str, model: str) -> str:
    return content_id(["openai", server, model])


def _unknown(name: str) -> ModelError:
    names = ", ".join(one.name for one in known())
    return ModelError(
        f"There is no server called '{name}'.",
        f"There are: {names}." if names else "Add it first: winnow models add.",
    )


def _file() -> Path:
    return user_data() / "servers.json"


def _write(servers: list[Server]) -> None:
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(servers), indent=1))
        os.replace(name, file)
    except OSError as error:
        raise ModelError("The list of servers cannot be written.", "Nothing changed.", str(error)) from error
