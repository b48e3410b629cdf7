"""Machines on a network of their own: Linux network namespaces on a bridge, made and removed by the test.

Nothing of this machine's own network is touched: the bridge is in a namespace too, so removing the namespaces
removes everything. Their names carry the process that made them; what a killed test run left behind is removed
by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil
import pytest

T = TypeVar("T")

SUBNET = "10.77.0"
LATER = "10.78.0"  # for a machine that moves
CLONE_NEWNET = 0x40000000
FOLDER = Path("/run/netns")
NAMES = re.compile(r"winnow-(\d+)-(\d+)-\d+-\w+")

_made = 0


class NotPermitted(Exception):
    """Network namespaces cannot be made here, and why."""


class NetworkMachine:
    """A machine of the network: processes run on it, its cable can be pulled."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name = name
        self.ip = f"{SUBNET}.{number}"
        self._network = network
        self._namespace = network.namespace(name)
        self._port = f"port{number}"
        self._processes: list[subprocess.Popen[Any]] = []
        switch = network.switch
        _ip("netns", "add", self._namespace)
        _ip("-n", self._namespace, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", self._port, "type", "veth", "peer", "eth0", "netns", self._namespace)
        _ip("-n", switch, "link", "set", self._port, "master", "bridge", "up")
        _ip("-n", self._namespace, "address", "add", f"{self.ip}/16", "dev", "eth0", "brd", "+")
        _ip("-n", self._namespace, "link", "set", "eth0", "up")
        _ip("-n", self._namespace, "route", "add", "default", "dev", "eth0")

    def run(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process on the machine; the options are those of Popen. It ends with the network at latest."""
        process = subprocess.Popen(["ip", "netns", "exec", self._namespace, *command], **options)
        self._processes.append(process)
        return process

    def do(self, work: Callable[[], T]) -> T:
        """Call something as if on this machine: the sockets it makes are the machine's.

        In a thread of its own, for it is threads that are in a namespace; those it starts are there too, so
        ZeroMQ contexts made inside work.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                with open(FOLDER / self._namespace) as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                results.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def cut(self) -> None:
        """Pull the cable: nothing gets in or out, and nobody is told."""
        _ip("-n", self._network.switch, "link", "set", self._port, "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("-n", self._network.switch, "link", "set", self._port, "up")

    def hinder(self, delay_ms: float = 0.0, loss_percent: float = 0.0) -> None:
        """Make the cable slow and lossy, both ways; zeros make it good again. Skips the test where the system
        cannot."""
        words = [f"{delay_ms}ms", "loss", f"{loss_percent}%"]
        for namespace, device in ((self._network.switch, self._port), (self._namespace, "eth0")):
            try:
                if delay_ms or loss_percent:
                    _run(
                        "tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", "netem", "delay", *words
                    )
                else:
                    _run("tc", "-n", namespace, "qdisc", "delete", "dev", device, "root")
            except NotPermitted as error:
                pytest.skip(f"delays and losses cannot be made here (tc netem): {error}")

    def move(self) -> str:
        """Give the machine another address, as a router may; returns it."""
        new = LATER + self.ip.removeprefix(SUBNET)
        _ip("-n", self._namespace, "address", "delete", f"{self.ip}/16", "dev", "eth0")
        _ip("-n", self._namespace, "address", "add", f"{new}/16", "dev", "eth0", "brd", "+")
        _ip("-n", self._namespace, "route", "replace", "default", "dev", "eth0")
        self.ip = new
        return new

    def stop(self) -> None:
        """Kill what was started on the machine, and only that."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(30)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._processes.clear()


class Network:
    """A switch, and the machines plugged into it. A context manager: afterwards there is nothing left of it."""

    def __init__(self) -> None:
        global _made
        sweep()
        _made += 1
        started = int(psutil.Process().create_time())
        self._prefix = f"winnow-{os.getpid()}-{started}-{_made}-"
        self._machines: list[NetworkMachine] = []
        self.switch = self.namespace("switch")
        try:
            _permitted()
            _ip("netns", "add", self.switch)
            _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
            _ip("-n", self.switch, "link", "set", "bridge", "up")
        except NotPermitted as error:
            self.close()
            pytest.skip(f"network namespaces cannot be made here: {error}")

    def namespace(self, name: str) -> str:
        """The full name of the namespace of a machine."""
        return self._prefix + name

    def machine(self, name: str) -> NetworkMachine:
        """One more machine, plugged in."""
        machine = NetworkMachine(self, name, len(self._machines) + 1)
        self._machines.append(machine)
        return machine

    def close(self) -> None:
        """Kill what runs on the machines and remove them."""
        for machine in self._machines:
            machine.stop()
        for name in _namespaces():
            if name.startswith(self._prefix):
                _remove(name)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep() -> None:
    """Remove what test runs that are dead have left behind."""
    for name in _namespaces():
        match = NAMES.fullmatch(name)
        if match and not _alive(int(match[1]), int(match[2])):
            _remove(name)


def _alive(pid: int, started: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return abs(psutil.Process(pid).create_time() - started) < 2
    return False


def _remove(namespace: str) -> None:
    # Whoever is still in it was started there by the test run that made it: nobody else knows its name.
    for pid in _run("ip", "netns", "pids", namespace).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "delete", namespace)


def _namespaces() -> list[str]:
    return [path.name for path in FOLDER.iterdir()] if FOLDER.is_dir() else []


def _permitted() -> None:
    if not hasattr(os, "geteuid"):
        raise NotPermitted("this is not Linux")
    if os.geteuid() != 0:
        raise NotPermitted("only root may")
    if shutil.which("ip") is None:
        raise NotPermitted("the program ip is missing (package iproute2)")


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    except FileNotFoundError as error:
        raise NotPermitted(f"the program {words[0]} is missing") from error
    except subprocess.CalledProcessError as error:
        raise NotPermitted(f"{' '.join(words)}: {error.stderr.strip()}") from error
    return done.stdout
