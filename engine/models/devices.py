"""The graphics processors llama.cpp can use here, by name and memory.

Asked in a child process (`python -m engine.models.devices`): a driver that faults or hangs takes nothing else with
it, and the engine itself never loads a driver.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import msgspec

_PATIENCE = 30.0  # seconds; a driver that wakes up takes a few
_ROOT = Path(__file__).resolve().parents[2]
_GPU, _INTEGRATED = 1, 2  # of ggml_backend_dev_type; others are the CPU and its helpers


class Device(msgspec.Struct, frozen=True):
    """A processor models can run on."""

    name: str
    memory: int  # bytes; 0 when it does not say
    gpu: bool = True


def logical_cores() -> int:
    """Processors this process may use, hyper-threads counted."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)


def known() -> list[Device]:
    """What llama.cpp can use here, the CPU included; empty when that cannot be found out."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired, msgspec.DecodeError):
        child = subprocess.run(
            [sys.executable, "-P", "-m", "engine.models.devices"],
            env={**os.environ, "PYTHONPATH": str(_ROOT), "GGML_NO_BACKTRACE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
        lines = child.stdout.splitlines() if child.returncode == 0 else []
        return msgspec.json.decode(lines[-1], type=list[Device]) if lines else []
    return []


def nvidia() -> list[Device]:
    """NVIDIA cards the system knows, whether llama.cpp was built for them or not."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        child = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=5.0,
            check=False,
        )
        if child.returncode == 0:
            return parse_nvidia(child.stdout.decode("utf-8", "replace"))
    return []


def parse_nvidia(text: str) -> list[Device]:
    """Lines of "name, MiB". Memory shared with the processor is reported as "[N/A]"."""
    found = []
    for line in text.splitlines():
        name, comma, memory = line.rpartition(",")
        if comma and name.strip():
            mebibytes = memory.strip()
            found.append(Device(name.strip(), int(mebibytes) << 20 if mebibytes.isdecimal() else 0))
    return found


def _listed() -> list[Device]:
    import llama_cpp
    from llama_cpp import _ggml

    llama_cpp.llama_backend_init()
    library = _ggml.libggml
    if not hasattr(library, "ggml_backend_dev_memory"):  # Windows finds symbols only where they are defined
        return [Device("", 0)] if llama_cpp.llama_supports_gpu_offload() else []
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_description.restype = ctypes.c_char_p
    library.ggml_backend_dev_description.argtypes = [ctypes.c_void_p]
    size = ctypes.POINTER(ctypes.c_size_t)
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size, size]
    found = []
    for number in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(number)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = (library.ggml_backend_dev_description(device) or b"").decode("utf-8", "replace").strip()
        found.append(Device(name, total.value, gpu=library.ggml_backend_dev_type(device) in (_GPU, _INTEGRATED)))
    return found


if __name__ == "__main__":
    print(msgspec.json.encode(_listed()).decode())  # noqa: T201 - it is what the process is for
