"""What a machine says it is and can hold."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster import capacity
from engine.cluster.capacity import Capacity, describe_gpu, gigabytes, look
from engine.cluster.entries import Id
from engine.cluster.messages import NOBODY, Beat, Card, Refusal, decode, encode
from engine.models import devices
from engine.models.devices import Device

GB = 10**9


def test_this_machine_is_seen_as_it_is() -> None:
    found = look()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert 0 < found.memory_free <= found.memory <= psutil.virtual_memory().total
    assert found.fits(100 << 20) == ""
    assert "needs" in found.fits(found.memory)


def test_llama_cpp_names_the_processor_it_computes_on() -> None:
    """The CPU is always among them, which shows that the question reaches the library."""
    known = devices.known()
    assert [device for device in known if not device.gpu]
    assert all(device.memory > 0 for device in known if not device.gpu)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for the driver's tool")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'NVIDIA H200, 143771'", [Device("NVIDIA H200", 143771 << 20)]),
        ("echo 'A, 1'; echo 'B, with comma, 2'", [Device("A", 1 << 20), Device("B, with comma", 2 << 20)]),
        ("echo 'NVIDIA GB10, [N/A]'", [Device("NVIDIA GB10", 0)]),
        ("echo 'No devices were found'", []),
        ("echo 'half a line,'; exit 9", []),
        ("kill -9 $$", []),
    ],
)
def test_cards_are_read_from_the_drivers_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: list[Device]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert devices.nvidia() == expected


def test_no_driver_is_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.nvidia() == []


def test_a_card_that_models_cannot_use_is_named_and_not_counted() -> None:
    cpu, card = Device("Xeon", 8 * GB, gpu=False), Device("NVIDIA H200", 150 * GB)
    assert describe_gpu([cpu], []) == ("", 0)
    words, memory = describe_gpu([cpu], [card])
    assert words == "NVIDIA H200 (150 GB), not used: llama.cpp is built for the processor only here"
    assert memory == 0
    assert describe_gpu([cpu, card], [card]) == ("NVIDIA H200 (150 GB)", 150 * GB)
    assert describe_gpu([Device("", 0)], []) == ("a graphics processor", 0)


@pytest.mark.parametrize(
    ("memory", "gpu_memory", "size", "fits"),
    [
        (16, 0, 5, True),
        (16, 0, 13, True),
        (16, 0, 14, False),
        (8, 0, 7, False),
        (8, 24, 20, True),
        (8, 24, 23, False),
    ],
)
def test_a_model_fits_by_the_memory_there_is(memory: int, gpu_memory: int, size: int, fits: bool) -> None:
    why = Capacity(4, memory * GB, 0, "GPU" if gpu_memory else "", gpu_memory * GB).fits(size * GB)
    assert (why == "") is fits
    if why:
        assert f"this one has {memory}.0 GB" in why
        assert ("graphics" in why) is bool(gpu_memory)


@given(st.integers(0, 1 << 45), st.integers(0, 1 << 45), st.integers(0, 1 << 45), st.integers(0, 1 << 40))
def test_more_memory_never_holds_less(memory: int, gpu: int, size: int, more: int) -> None:
    if Capacity(1, memory, 0, "", gpu).fits(size) == "":
        assert Capacity(1, memory + more, 0, "", gpu).fits(size) == ""
        assert Capacity(1, memory, 0, "", gpu + more).fits(size) == ""
        assert Capacity(1, memory, 0, "", gpu).fits(max(0, size - more)) == ""


def test_a_small_model_fits_a_small_machine() -> None:
    assert Capacity(4, 2 * GB, 0).fits(100 << 20) == ""


def test_a_container_has_what_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(capacity, "_LIMITS", (tmp_path / "missing", limit))
    limit.write_text("1073741824\n")
    assert look().memory == 1 << 30
    limit.write_text("max\n")
    assert look().memory == psutil.virtual_memory().total


def test_a_card_always_fits_its_message() -> None:
    """Whatever a driver or a run calls things, others must be able to read the beat."""
    many = [f"{number:032x}" for number in range(1000)]
    refused = [Refusal(digest, "no") for digest in many]
    machine = msgspec.structs.replace(look(), gpu="x" * 5000)
    card = machine.card("boot", models=many, refused=refused, doing="y" * 5000, software="z" * 5000)
    beat = Beat(NOBODY, {}, (), card)
    assert decode(encode(beat)) == beat
    assert (len(card.models), len(card.refused)) == (256, 64)
    assert msgspec.convert(many[0], Id)


def test_a_card_says_what_it_was_told() -> None:
    machine = Capacity(8, 16 * GB, 4 * GB, "GPU")
    card = machine.card("b", mode="client", loaded="d", rows_per_s=3.5, port=5, working=False, batch=9)
    assert card == Card("b", "client", "", 8, 16 * GB, 4 * GB, "GPU", (), "d", (), 3.5, "", 5, False, 9)


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0.0 GB"), (4_700_000_000, "4.7 GB"), (143 * GB, "143 GB"), (2000 * GB, "2,000 GB")]
)
def test_sizes_for_people(size: int, words: str) -> None:
    assert gigabytes(size) == words
