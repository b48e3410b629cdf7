"""What this machine is and can hold: cores, memory, graphics processor, and whether a model fits."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
import psutil

from engine.cluster.messages import Card, Mode, Refusal
from engine.models import devices
from engine.models.devices import Device

WEIGHTS_FACTOR = 1.1  # weights in memory, with what llama.cpp allocates to compute with them
CONTEXT_BYTES = 512 << 20  # prompt and rows held at once; of a small model no more than its weights
SYSTEM_BYTES = 1 << 30  # left to the system and to Winnow itself, of a machine's own memory

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Capacity(msgspec.Struct, frozen=True):
    """A machine's size. `gpu` is empty without one; `gpu_memory` is 0 without one that models can use."""

    cores: int
    memory: int  # bytes
    memory_free: int  # bytes
    gpu: str = ""
    gpu_memory: int = 0  # bytes

    def fits(self, size: int) -> str:
        """Why a model file of `size` bytes cannot be held here, in words; empty when it can.

        By all the memory there is, not by what is free now: another program may end, and a model that does not
        fit beside it only runs slower.
        """
        needed = int(size * WEIGHTS_FACTOR) + min(size, CONTEXT_BYTES)
        if needed <= self.gpu_memory or needed + SYSTEM_BYTES <= self.memory:
            return ""
        has = gigabytes(self.memory)
        if self.gpu_memory:
            has += f", its graphics processor {gigabytes(self.gpu_memory)}"
        return f"The model needs a machine with {gigabytes(needed + SYSTEM_BYTES)} of memory; this one has {has}."

    def card(
        self,
        boot: str,
        *,
        mode: Mode = "auto",
        software: str = "",
        models: Iterable[str] = (),
        loaded: str = "",
        refused: Iterable[Refusal] = (),
        rows_per_s: float = 0.0,
        doing: str = "",
        port: int = 0,
        working: bool = True,
        batch: int = 0,
    ) -> Card:
        """What this machine says of itself to the others, within the bounds of the message."""
        return Card(
            boot=boot,
            mode=mode,
            software=software[:2000],
            cores=self.cores,
            memory=self.memory,
            memory_free=self.memory_free,
            gpu=self.gpu[:2000],
            models=tuple(models)[:256],
            loaded=loaded,
            refused=tuple(refused)[:64],
            rows_per_s=rows_per_s,
            doing=doing[:2000],
            port=port,
            working=working,
            batch=batch,
        )


def look() -> Capacity:
    """This machine now. The first call asks the graphics drivers, which takes up to seconds: not for an event
    loop."""
    memory = psutil.virtual_memory()
    gpu, gpu_memory = _gpu()
    total = min(memory.total, _limit())
    return Capacity(_cores(), total, min(memory.available, total), gpu, gpu_memory)


def describe_gpu(usable: Iterable[Device], present: Iterable[Device]) -> tuple[str, int]:
    """Words for the graphics processors, and the memory of those models can use.

    `usable` are llama.cpp's, `present` those the system knows.
    """
    mine = [device for device in usable if device.gpu]
    if mine:
        return ", ".join(_named(device) for device in mine), sum(device.memory for device in mine)
    others = ", ".join(_named(device) for device in present)
    return (f"{others}, not used: llama.cpp is built for the processor only here" if others else ""), 0


def gigabytes(size: float) -> str:
    """A size for people: "4.7 GB"."""
    return f"{size / 1e9:,.1f} GB" if size < 1e11 else f"{size / 1e9:,.0f} GB"


@functools.cache
def _gpu() -> tuple[str, int]:
    return describe_gpu(devices.known(), devices.nvidia())


def _named(device: Device) -> str:
    name = device.name or "a graphics processor"
    if sys.platform == "darwin":
        return f"{name} (unified memory)"
    return f"{name} ({gigabytes(device.memory)})" if device.memory else name


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _limit() -> int:
    """Bytes a container allows, more than any machine has where nothing is said."""
    for file in _LIMITS:
        with contextlib.suppress(OSError, ValueError):
            return int(file.read_text())
    return 1 << 62
