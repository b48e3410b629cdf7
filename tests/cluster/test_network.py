"""The network tests are made on: machines reach each other until the cable is cut, and nothing is left of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from tests.cluster import network as networks
from tests.cluster.network import Network, NetworkMachine
from tests.waiting import wait_for

ANSWERS = """
import socket
with socket.create_server(("", 5000)) as server:
    print("listening", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            connection.sendall(connection.recv(100))
"""


def answering(machine: NetworkMachine) -> subprocess.Popen[str]:
    process: subprocess.Popen[str] = machine.run(
        [sys.executable, "-c", ANSWERS], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


def answered(source: NetworkMachine, target: NetworkMachine, within: float = 0.5) -> bool:
    def ask() -> bool:
        try:
            with socket.create_connection((target.ip, 5000), within) as connection:
                connection.sendall(b"hello")
                return connection.recv(100) == b"hello"
        except OSError:
            return False

    return source.do(ask)


def test_machines_reach_each_other_until_the_cable_is_cut(network: Network) -> None:
    a, b, c = (network.machine(name) for name in "abc")
    answering(b)
    answering(c)
    assert answered(a, b)
    assert answered(b, b)
    b.cut()
    assert not answered(a, b)
    assert not answered(b, c)
    assert answered(a, c)
    b.mend()
    wait_for(lambda: answered(a, b), "the cable is mended", 30)


def test_a_moved_machine_has_another_address(network: Network) -> None:
    a, b = network.machine("a"), network.machine("b")
    answering(b)
    old = b.ip
    assert b.move() != old
    a.move()
    wait_for(lambda: answered(a, b), "it is reached where it is now", 30)


def test_a_hindered_cable_is_slow(network: Network) -> None:
    a, b = network.machine("a"), network.machine("b")
    answering(b)
    assert answered(a, b)
    b.hinder(delay_ms=100)
    asked = time.monotonic()
    assert answered(a, b, 30)
    assert time.monotonic() - asked > 0.4  # twice there and back
    b.hinder()
    assert answered(a, b)


def test_nothing_is_left() -> None:
    with Network() as network:
        machine = network.machine("a")
        process = answering(machine)
        assert len(_of(network)) == 2
    assert process.poll() is not None
    assert _of(network) == []


def _of(network: Network) -> list[str]:
    return [name for name in networks._namespaces() if name.startswith(network.namespace(""))]


def test_what_a_killed_run_left_is_removed_by_the_next(network: Network) -> None:
    code = f"""
import subprocess, sys, time
from tests.cluster.network import Network
machine = Network().machine("a")
process = machine.run([sys.executable, "-c", {ANSWERS!r}])
print(process.pid, flush=True)
time.sleep(600)
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    with run.stdout:
        inside = int(run.stdout.readline())
    left = [name for name in networks._namespaces() if name.startswith(f"winnow-{run.pid}-")]
    assert len(left) == 2
    networks.sweep()
    assert set(left) <= set(networks._namespaces())  # its maker lives
    run.kill()
    run.wait(30)
    networks.sweep()
    assert not set(left) & set(networks._namespaces())
    wait_for(lambda: not _runs(inside), "what ran there is gone", 30)
    assert len(_of(network)) == 1  # ours is not touched


def _runs(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_where_it_is_not_permitted_the_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="only root may"):
        Network()
