"""The mesh over cables that can be cut."""

from __future__ import annotations

import socket

from tests.cluster.network import Network, NetworkMachine
from tests.unit.cluster.meshes import Machine
from tests.waiting import wait_for


def machine(on: NetworkMachine) -> Machine:
    return on.do(lambda: Machine(host=on.ip))


def test_a_cut_cable_is_noticed_at_both_ends_and_a_mended_one_used_again(network: Network) -> None:
    one, two, three = (network.machine(name) for name in ("one", "two", "three"))
    with machine(one) as a, machine(two) as b, machine(three) as c:
        everybody = (a, b, c)
        for each in everybody:
            each.members = {other.key for other in everybody}
        for each in everybody:
            each.knows(*(other for other in everybody if other is not each))
        wait_for(lambda: all(len(each.ways) == 2 for each in everybody), "all ways are up", 30)
        two.cut()
        wait_for(lambda: "-" + b.key in a.ways and "-" + a.key in b.ways, "both ends notice", 15)
        assert a.ways[:2] + a.ways[3:] == a.ways[:2]  # the third is there as before
        assert a.do(lambda: a.mesh.send(c.key, b"still here"))
        assert not a.do(lambda: a.mesh.send(b.key, b"nobody"))
        two.mend()
        wait_for(lambda: a.ways[-1] == "+" + b.key and b.ways[-1][0] == "+", "the way is up again", 15)
        assert a.do(lambda: a.mesh.send(b.key, b"welcome back"))
        wait_for(lambda: b.heard == [(a.key, b"welcome back")], "it is heard, and nothing older", 30)


def test_an_address_that_is_only_good_on_one_cable(network: Network) -> None:
    one, two = network.machine("one"), network.machine("two")

    def link_local() -> str:
        import psutil

        found = psutil.net_if_addrs()["eth0"]
        return next(each.address for each in found if each.family == socket.AF_INET6)

    place = wait_for(lambda: two.do(link_local), "it has an IPv6 address", 30).partition("%")[0]
    with machine(one) as a, two.do(lambda: Machine(host="")) as b:
        b.members.add(a.key)
        number = one.do(lambda: socket.if_nametoindex("eth0"))
        addresses = [f"[{place}%eth0]:{b.port}"], [f"[{place}%{number}]:{b.port}"]
        for several in addresses:
            a.do(lambda several=several: a.mesh.dial(b.key, several))  # type: ignore[misc]
            wait_for(lambda: a.ways and a.ways[-1] == "+" + b.key, "it is reached", 30)
            a.do(lambda: a.mesh.hang_up(b.key))
            a.ways.clear()
