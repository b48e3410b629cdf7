"""Model files from elsewhere into the models folder: whole, checked, and never half there.

A download is written beside its target as NAME.partial and renamed when it is complete and what it should be.
What was cut off is gone on with, by a range request, as long as the server says that it is the same file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import filelock
import httpx
import msgspec

from engine.models import catalog
from workspace.errors import ModelError

MAX_BYTES = 200 << 30  # of a model file; more is not for one machine
SPARE = 256 << 20  # bytes of disk left free
TRIES = 5  # in a row without a byte arriving
TIMEOUT = 30.0  # seconds of silence
_BLOCK = 1 << 20
_MAGIC = b"GGUF"

Report = Callable[[int, int], None]  # bytes done, bytes altogether (0: not known)
Asked = Callable[[], bool]


class Source(msgspec.Struct, frozen=True):
    """Where a file is and what is known about it beforehand. Empty or 0: unknown."""

    url: str
    name: str  # of the file it becomes
    sha256: str = ""
    size: int = 0
    headers: dict[str, str] = {}


class _Partial(msgspec.Struct, frozen=True):
    """What a cut-off download was of."""

    url: str
    validator: str  # ETag or date of the server; "" when it tells none
    sha256: str
    size: int


def from_path(
    path: Path, report: Report | None = None, cancelled: Asked | None = None, *, link: bool = False
) -> Path:
    """Copy a GGUF file into the models folder, or link it there. Returns where it lies. Raises ModelError."""
    catalog.check_file(path)
    if path.absolute().parent == catalog.models_folder().absolute():
        return path
    target = _target(path.name)
    with _alone(target):
        if link:
            with _writing(target):
                target.symlink_to(path.resolve())
            return target
        size = path.stat().st_size
        _check_room(size)
        partial = _partial(target)
        with _writing(target), path.open("rb") as source, partial.open("wb") as sink:
            while block := source.read(_BLOCK):
                _go_on(cancelled)
                sink.write(block)
                if report is not None:
                    report(sink.tell(), size)
        return _finish(partial, target, Source(str(path), target.name, size=size))


def from_url(url: str, name: str = "", sha256: str = "") -> Source:
    """What a web address says it is. Raises ModelError when it is none, or the name cannot be a model's."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelError(f"{url} is not a web address.", "It begins with https://.")
    wanted = name or Path(unquote(parts.path)).name
    if wanted and not wanted.casefold().endswith(".gguf"):
        wanted += ".gguf" if name else ""
    if not wanted.casefold().endswith(".gguf"):
        raise ModelError(f"{url} does not name a .gguf file.", "Give the address of the file itself.")
    return Source(url.strip(), _safe(wanted), sha256.strip().casefold())


def from_hub(repository: str, file: str, revision: str = "main") -> Source:
    """What the Hugging Face Hub says of a file: address, size and checksum. Contacts the Hub. Raises ModelError.

    The Hub's address may be set by HF_ENDPOINT; a token for closed repositories is huggingface_hub's own.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        url = hub.hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
        token = hub.get_token()
        found = hub.get_hf_file_metadata(url, token=token, endpoint=endpoint, retry_on_errors=False)
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repository} is given only to people who accepted its terms.",
            "Accept them on its page at the Hugging Face Hub, then log in with: hf auth login",
            str(error),
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise ModelError(
            f"The Hugging Face Hub has no {file} in {repository}.", "Check both names.", str(error)
        ) from error
    except errors.HFValidationError as error:
        raise ModelError(
            f"'{repository}' is not a repository.", "Write it hf:OWNER/NAME/FILE.gguf.", str(error)
        ) from error
    except Exception as error:  # of whatever it speaks HTTP with
        raise ModelError(
            "The Hugging Face Hub cannot be reached.", "Is this machine online? Nothing was changed.", str(error)
        ) from error
    etag = (found.etag or "").casefold()
    checksum = etag if len(etag) == 64 and set(etag) <= set("0123456789abcdef") else ""
    # A signed address elsewhere must not see the token.
    same = urlsplit(found.location).hostname == urlsplit(url).hostname
    headers = {"Authorization": f"Bearer {token}"} if token and same else {}
    return Source(found.location, _safe(Path(file).name), checksum, found.size or 0, headers)


def download(
    source: Source,
    report: Report | None = None,
    cancelled: Asked | None = None,
    *,
    most: int = MAX_BYTES,
    pause: Callable[[float], object] = time.sleep,
) -> Path:
    """Fetch a file into the models folder and return where it lies.

    Goes on with what an earlier try has left. Raises ModelError when it is no GGUF file, larger than `most` bytes,
    not what its checksum says, does not fit the disk, or cannot be fetched; then nothing is in the models folder
    but perhaps the part that arrived, for the next try.
    """
    target = _target(source.name)
    with _alone(target):
        return _Download(source, target, report, cancelled, most, pause).run()


class _Download:
    def __init__(
        self,
        source: Source,
        target: Path,
        report: Report | None,
        cancelled: Asked | None,
        most: int,
        pause: Callable[[float], object],
    ) -> None:
        self._source = source
        self._target = target
        self._partial = _partial(target)
        self._note = target.with_name(f"{target.name}.partial.json")
        self._report = report
        self._cancelled = cancelled
        self._most = most
        self._pause = pause

    def run(self) -> Path:
        fruitless, begun = 0, self._begun()
        with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
            while True:
                before = self._size()
                try:
                    with _writing(self._target):
                        done = self._some(client, begun)
                except ModelError:
                    if not self._size():
                        self._partial.unlink(missing_ok=True)
                        self._note.unlink(missing_ok=True)
                    raise
                except httpx.HTTPError as error:
                    fruitless = 0 if self._size() > before else fruitless + 1
                    if fruitless >= TRIES:
                        raise ModelError(
                            f"{self._source.name} cannot be fetched.",
                            "What has arrived is kept; try again later to go on with it.",
                            str(error),
                        ) from error
                    self._pause(min(30.0, 2.0**fruitless))
                    begun = self._begun()
                    continue
                if done:
                    break
                begun = None
        return _finish(self._partial, self._target, self._source, self._note)

    def _begun(self) -> _Partial | None:
        """What the part that is here belongs to; None when nothing can be gone on with."""
        try:
            begun = msgspec.json.decode(self._note.read_bytes(), type=_Partial)
        except (OSError, msgspec.DecodeError):
            return None
        if not self._size():
            return None
        if self._source.sha256:
            return begun if begun.sha256 == self._source.sha256 else None
        return begun if begun.url == self._source.url and begun.validator else None

    def _some(self, client: httpx.Client, begun: _Partial | None) -> bool:
        """One request. True when all is here, False when it must be begun anew. Raises httpx.HTTPError when it
        broke off."""
        have = self._size() if begun is not None else 0
        headers = {"Accept-Encoding": "identity", **self._source.headers}
        if begun is not None:
            headers["Range"] = f"bytes={have}-"
            if begun.validator:
                headers["If-Range"] = begun.validator
        with client.stream("GET", self._source.url, headers=headers) as response:
            if response.status_code == 416 and begun is not None:
                return begun.size == have
            if response.status_code in (408, 425, 429) or response.status_code >= 500:
                raise httpx.HTTPError(f"the server answers {response.status_code}")
            if response.status_code not in (200, 206):
                raise ModelError(
                    f"The server does not give {self._source.name}: it answers {response.status_code}.",
                    "Check the address. Nothing was changed.",
                )
            resumed = begun is not None and response.status_code == 206
            if resumed and _range_start(response) != have:
                return False
            have = have if resumed else 0
            total = have + int(response.headers.get("Content-Length") or 0)
            total = total if response.headers.get("Content-Length") else self._source.size
            self._check(response, total, have)
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            validator = "" if validator.startswith("W/") else validator
            note = _Partial(self._source.url, validator, self._source.sha256, total)
            self._note.write_bytes(msgspec.json.encode(note))
            self._receive(response, total, have)
        return True

    def _check(self, response: httpx.Response, total: int, have: int) -> None:
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _no_model(self._source.name)
        if self._source.size and total != self._source.size:
            raise ModelError(
                f"{self._source.name} has {total:,} bytes instead of {self._source.size:,}.",
                "It was changed meanwhile; try again.",
            )
        if total > self._most:
            raise self._too_large()
        _check_room(total - have)

    def _receive(self, response: httpx.Response, total: int, have: int) -> None:
        with self._partial.open("r+b" if have else "wb") as sink:
            sink.seek(have)
            # As it comes: what is gathered into larger blocks is lost when the connection breaks.
            for block in response.iter_raw():
                _go_on(self._cancelled)
                if not have and block[:4] != _MAGIC[: len(block)]:
                    raise _no_model(self._source.name)
                have += len(block)
                if have > self._most:
                    raise self._too_large()
                sink.write(block)
                sink.flush()
                if self._report is not None:
                    self._report(have, total)
            sink.truncate()
        if total and have != total:
            raise httpx.ReadError(f"{have:,} of {total:,} bytes arrived")

    def _size(self) -> int:
        return self._partial.stat().st_size if self._partial.is_file() else 0

    def _too_large(self) -> ModelError:
        return ModelError(
            f"{self._source.name} is larger than {self._most / 1e9:,.1f} GB.", "Choose a smaller model."
        )


def _finish(partial: Path, target: Path, source: Source, note: Path | None = None) -> Path:
    """Check a complete file and give it its name; its digest is computed on the way and remembered."""
    sha256, blake2b = hashlib.sha256(), hashlib.blake2b(digest_size=16)
    with _writing(target), partial.open("r+b") as stream:
        os.fsync(stream.fileno())
        while block := stream.read(_BLOCK):
            sha256.update(block)
            blake2b.update(block)
    try:
        if source.sha256 and sha256.hexdigest() != source.sha256:
            raise ModelError(
                f"{source.name} is not what its checksum says.",
                "It was damaged or exchanged on the way; what arrived was thrown away. Try again.",
                f"expected {source.sha256}, got {sha256.hexdigest()}",
            )
        catalog.check_file(partial)
    except ModelError:
        partial.unlink(missing_ok=True)
        raise
    finally:
        if note is not None:
            note.unlink(missing_ok=True)
    with _writing(target):
        os.replace(partial, target)
    catalog.remember_digest(target, blake2b.hexdigest())
    return target


def _target(name: str) -> Path:
    """Where the file goes. Raises ModelError when another model of that name is there."""
    target = catalog.models_folder() / _safe(name)
    if target.exists() or target.is_symlink():
        raise ModelError(
            f"There is a model called {target.stem} already.", "Remove it first, or rename the new one."
        )
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _partial(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def _safe(name: str) -> str:
    if not name or name != Path(name).name or name.startswith(".") or "\\" in name or not name.isprintable():
        raise ModelError(f"'{name}' cannot be the name of a model file.", "Give it another name.")
    return name


def _range_start(response: httpx.Response) -> int:
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else -1


def _go_on(cancelled: Asked | None) -> None:
    if cancelled is not None and cancelled():
        raise ModelError("Adding the model was stopped.", "What has arrived is kept; add it again to go on.")


def _no_model(name: str) -> ModelError:
    return ModelError(
        f"What the server sends as {name} is not a GGUF model file.",
        "Is it the address of a page about the file instead of the file? Nothing was kept.",
    )


def _check_room(size: int) -> None:
    free = shutil.disk_usage(catalog.models_folder()).free
    if size + SPARE > free:
        raise ModelError(
            f"The disk has room for {max(0, free - SPARE) / 1e9:,.1f} GB, the model needs {size / 1e9:,.1f} GB.",
            f"Free some, or let WINNOW_MODELS name a folder on another disk. ({catalog.models_folder()})",
        )


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """What goes wrong with the disk, in words."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ModelError(
                f"The disk is full; {target.name} is not complete.",
                "Free some room and add it again: what has arrived is kept.",
                str(error),
            ) from error
        raise ModelError(
            f"{target.name} cannot be written.", f"Check the folder {target.parent}.", str(error)
        ) from error


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process at a time adds a file of that name."""
    folder = catalog.user_cache() / "locks"
    with _writing(target):
        folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b(str(target.resolve()).encode(), digest_size=8).hexdigest()
    try:
        with filelock.FileLock(folder / f"{name}.lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise ModelError(
            f"{target.name} is being added already.", "Wait until that is done.", str(error)
        ) from error
