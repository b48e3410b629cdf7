"""Who this machine is: a key pair made once, in a file only its user can read, and the short names made of it."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import msgspec
from filelock import FileLock

from engine.cluster.sockets import KeyPair, are_a_pair, new_keys
from workspace.errors import EngineError

FILE = "identity.json"
LOCK = "identity.lock"
MAX_BYTES = 4096


class Identity(msgspec.Struct, frozen=True):
    """The keys of this machine and its member id."""

    keys: KeyPair
    id: str


def member_id(key: str) -> str:
    """The id of the machine with this public key: BLAKE2b-128 of its Z85 characters, in hex."""
    return hashlib.blake2b(key.encode("ascii"), digest_size=16).hexdigest()


def key_words(member: str) -> str:
    """The start of a member id as people compare it on two screens: "ab12-cd34"."""
    return f"{member[:4]}-{member[4:8]}"


def load(folder: Path) -> Identity:
    """The identity kept in `folder`; made, with the folder, the first time.

    Two processes that come first at once get the same. Raises EngineError if others may look into the folder or
    the file, if the file is damaged, or if it cannot be written.
    """
    file = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_open(folder, 0o700)
        if not file.exists():
            with FileLock(folder / LOCK, mode=0o600):
                if not file.exists():
                    _write(file, new_keys())
        _refuse_open(file, 0o600)
        with file.open("rb") as reading:
            written = reading.read(MAX_BYTES)
    except OSError as error:
        raise EngineError(
            f"The keys of this machine in {folder} cannot be used.",
            "The folder needs to be one that you may read and write.",
            str(error),
        ) from error
    return _read(file, written)


def _read(file: Path, written: bytes) -> Identity:
    try:
        keys = msgspec.json.decode(written, type=KeyPair)
        if not are_a_pair(keys):
            raise msgspec.ValidationError("the two keys do not belong together")
    except msgspec.DecodeError as error:
        raise EngineError(
            f"The keys of this machine in {file} are damaged.",
            "Nothing labeled is lost. Put the file back from a copy; or remove it: then this machine counts "
            "as a new one and has to be paired again.",
            str(error),
        ) from error
    return Identity(keys, member_id(keys.public))


def _write(file: Path, keys: KeyPair) -> None:
    half = file.with_name(f".{FILE}-{secrets.token_hex(4)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as writing:
        writing.write(msgspec.json.encode(keys))
        writing.flush()
        os.fsync(writing.fileno())
    os.replace(half, file)
    if os.name == "posix":
        # A new key pair after a power cut would be a machine nobody knows: the name has to be on disk too.
        descriptor = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_open(path: Path, wanted: int) -> None:
    """Whoever can read the keys can be this machine, so an open file is not used at all. Windows has no such bits:
    there the user's folders are theirs."""
    if os.name != "posix":
        return
    mode = path.stat().st_mode & 0o777
    if mode & ~wanted & 0o077:
        raise EngineError(
            f"{path} may be read by others on this machine (mode {mode:o}).",
            f"Whoever has the keys in it can pass for this machine. Close it with: chmod {wanted:o} '{path}'",
        )
