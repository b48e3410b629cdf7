"""In which form a model's weights are fastest on this very CPU, tried once and remembered.

Two things differ between machines by a factor of two to five. llama.cpp has kernels that rearrange weights (AMX,
repacking), which are the fastest where they work, but some virtual machines announce AMX and then fault, and a
fault takes the process down. And its kernels for plain 32-bit weights often read a prompt faster than those for
the four-bit file a small model comes in, with the same weights: unpacking is exact.

So at first use every form is timed in a child process that may crash (`python -m engine.models.tuning`), and the
fastest is kept in the user's cache folder. WINNOW_WEIGHTS=original uses the file as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import msgspec
import psutil

from engine.models.catalog import digest, user_cache
from engine.models.llama_native import quiet

F32 = 0  # LLAMA_FTYPE_ALL_F32
UNPACK_BELOW = 200 << 20  # bytes of a file that is worth unpacking to eight times its size
WORTH_IT = 1.2  # times faster, to justify the memory
_PROMPT = 128  # tokens read in one trial
_ROUNDS = 3
_PATIENCE = 300.0  # seconds for one trial
_ROOT = Path(__file__).resolve().parents[2]


class Form(msgspec.Struct, frozen=True):
    """Weights as they are loaded: a file, and whether kernels that rearrange them are allowed."""

    path: str
    rearranged: bool
    name: str  # "original" or "f32"


def fastest_form(path: str, waiting: Callable[[], None] | None = None) -> Form:
    """The form to load the model at `path` in. The first call for a model takes some seconds; `waiting` is
    called in between. Never raises for a model that cannot be loaded: loading it will say why."""
    wait = waiting or (lambda: None)
    safe = Form(path, rearranged=False, name="original")
    fast = Form(path, rearranged=True, name="original")
    risky = b"AMX" in llama_cpp.llama_print_system_info()
    unpackable = _unpackable(path)
    if not risky and not unpackable:
        return fast
    key = _key(path, unpackable)
    chosen = _remembered().get(key)
    if chosen is not None and Path(chosen.path).is_file():
        return chosen
    wait()
    speed = _try(fast)
    best = fast if speed > 0 else safe
    if unpackable:
        wait()
        speed = speed or _try(safe)
        wait()
        unpacked = _unpack(path)
        wait()
        for form in [Form(unpacked, best.rearranged, "f32")] if unpacked and speed > 0 else []:
            best = form if _try(form) > speed * WORTH_IT else best
        if unpacked and best.path != unpacked:
            Path(unpacked).unlink(missing_ok=True)
    _remember(key, best)
    return best


def rearranging_works(path: str) -> bool:
    """Whether this model can be loaded with the kernels that rearrange weights, which is llama.cpp's default."""
    if b"AMX" not in llama_cpp.llama_print_system_info():
        return True
    return fastest_form(path).rearranged


def _unpackable(path: str) -> bool:
    """Whether a small, quantized model may be kept eight times larger in memory and on disk."""
    if os.environ.get("WINNOW_WEIGHTS") == "original" or llama_cpp.llama_supports_gpu_offload():
        return False
    try:
        size = os.stat(path).st_size
        return size < UNPACK_BELOW and size * 16 < psutil.virtual_memory().available
    except OSError:
        return False


def _unpack(path: str) -> str:
    """The same weights as 32-bit floats, in the cache folder; "" where there is no room."""
    folder = user_cache() / "weights"
    target = folder / f"{digest(Path(path))}.f32.gguf"
    if target.is_file():
        return str(target)
    temporary = target.with_suffix(f".{os.getpid()}")
    quiet()
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = F32
    parameters.allow_requantize = True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < 20 * os.stat(path).st_size:
            return ""
        if llama_cpp.llama_model_quantize(path.encode(), str(temporary).encode(), ctypes.byref(parameters)) != 0:
            return ""
        os.replace(temporary, target)
    except OSError:
        return ""
    finally:
        temporary.unlink(missing_ok=True)
    return str(target)


def _try(form: Form) -> float:
    """Tokens per second, 0 where it crashes, fails or does not end."""
    try:
        child = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "engine.models.tuning",
                form.path,
                str(int(form.rearranged)),
            ],
            env={**os.environ, "PYTHONPATH": str(_ROOT), "GGML_NO_BACKTRACE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        return float(child.stdout.split()[-1]) if child.returncode == 0 else 0.0
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return 0.0


def _key(path: str, unpackable: bool) -> str:
    """Changes with anything that may change the outcome."""
    features = llama_cpp.llama_print_system_info().decode("ascii", "replace")
    parts = [platform.machine(), platform.release(), features, str(unpackable), path]
    for file in (llama_cpp.__file__, path):
        with contextlib.suppress(OSError):
            stat = os.stat(file)
            parts += [str(stat.st_size), str(stat.st_mtime_ns)]
    return " ".join(parts)


def _remembered() -> dict[str, Form]:
    try:
        return msgspec.json.decode((user_cache() / "forms.json").read_bytes(), type=dict[str, Form])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _remember(key: str, form: Form) -> None:
    # A lost update costs one more trial, nothing else.
    file = user_cache() / "forms.json"
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(msgspec.json.encode({**_remembered(), key: form}))
        os.replace(temporary, file)


def _child(path: str, rearranged: bool) -> float:
    import numpy as np

    from engine.models.llama_native import MAX_SEQUENCES, NativeContext, NativeModel

    model = NativeModel(path, rearranged=rearranged)
    context = NativeContext(model, n_ctx=MAX_SEQUENCES, n_batch=MAX_SEQUENCES, threads=1)
    tokens = (np.arange(_PROMPT, dtype=np.int32) * 37) % min(model.n_vocab, 30_000)
    best = float("inf")
    for _ in range(_ROUNDS):
        context.clear()
        # Processor time of one thread: wall time depends on what else the machine is doing just now.
        started = time.process_time()
        place = context.decode([(0, 0, tokens, True)])[0]
        context.logits(place, tokens[:1])  # waits for the result
        best = min(best, time.process_time() - started)
        if best > 10:
            break
    return _PROMPT / best


if __name__ == "__main__":
    print(_child(sys.argv[1], sys.argv[2] == "1"))  # noqa: T201
