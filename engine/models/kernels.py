"""Whether llama.cpp's fastest CPU kernels work on this machine: tried once, in a process that may crash.

Some virtual machines announce matrix instructions (AMX) that then fault, and a fault takes the process down. So
where llama.cpp would use them, a child process decodes a few tokens with them first, and the outcome is kept.
`python -m engine.models.kernels MODEL` is that child.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import llama_cpp
import msgspec

from engine.models.catalog import user_cache

_WORKS, _REFUSED = 0, 3  # exit codes; anything else is a crash
_PATIENCE = 600.0  # seconds; loading a large model from a slow disk takes minutes
_ROOT = Path(__file__).resolve().parents[2]


def fast_kernels_work(model_path: str) -> bool:
    """True where they work or are not used at all; False where they crash or never end with this model."""
    if b"AMX" not in llama_cpp.llama_print_system_info():
        return True
    file, key = user_cache() / "kernels.json", _key(model_path)
    known: dict[str, bool] = {}
    with contextlib.suppress(OSError, msgspec.DecodeError):
        known = msgspec.json.decode(file.read_bytes(), type=dict[str, bool])
    if key in known:
        return known[key]
    works = _try(model_path)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        # A lost update costs one more trial, nothing else.
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode({**known, key: works}))
        os.replace(temporary, file)
    return works


def _try(model_path: str) -> bool:
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "engine.models.kernels", model_path],
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return child.returncode in (_WORKS, _REFUSED)


def _key(model_path: str) -> str:
    """Changes with anything that may change the outcome."""
    parts = [platform.machine(), platform.release(), str(llama_cpp.llama_print_system_info()), model_path]
    for path in (llama_cpp.__file__, model_path):
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            parts += [str(stat.st_size), str(stat.st_mtime_ns)]
    return " ".join(parts)


def _child(model_path: str) -> int:
    import numpy as np

    from engine.models.llama_native import NativeContext, NativeModel
    from workspace.errors import ModelError

    try:
        model = NativeModel(model_path, fast=True)
        context = NativeContext(model, n_ctx=256, n_batch=64, threads=2)
        context.decode([(0, 0, np.arange(1, 65, dtype=np.int32), True)])
    except ModelError:
        return _REFUSED
    return _WORKS


if __name__ == "__main__":
    raise SystemExit(_child(sys.argv[1]))
