"""Finding machines on a network of their own: they are killed, moved, unplugged, and shouted down."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from engine.cluster.adverts import Advert, cluster_mark
from engine.cluster.discovery import MAX_STRANGERS
from tests.cluster.network import Network, NetworkMachine
from tests.unit.cluster.looking import Looking
from tests.waiting import wait_for

CALLS = """
import asyncio, sys
import msgspec
from engine.cluster.adverts import Advert
from engine.cluster.discovery import Discovery
async def main():
    advert = msgspec.json.decode(sys.argv[1], type=Advert)
    discovery = Discovery(advert.id, lambda id: False, lambda: None)
    await discovery.start(advert)
    await asyncio.sleep(600)
asyncio.run(main())
"""

# Somebody who calls out a hundred machines, some of them with nonsense.
SHOUTS = """
import asyncio
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
TYPE = "_winnow._tcp.local."
async def main():
    zeroconf = AsyncZeroconf(interfaces=["0.0.0.0"])
    async def call(number):
        said = {"v": "1", "id": f"{number:032x}", "cl": "0" * 16, "boot": "x" * (number % 35)}
        info = AsyncServiceInfo(TYPE, f"shout {number}.{TYPE}", port=1, properties=said,
            server=f"s{number}.local.", parsed_addresses=["10.77.0.66"])
        await (await zeroconf.async_register_service(info, cooperating_responders=True))
    await asyncio.gather(*(call(number) for number in range(100)))
    print("shouted", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def looking(machine: NetworkMachine, name: str) -> Looking:
    return machine.do(lambda: Looking(name))


def calling(machine: NetworkMachine, advert: Advert) -> subprocess.Popen[bytes]:
    return machine.run([sys.executable, "-c", CALLS, msgspec.json.encode(advert).decode()])


def test_machines_of_one_name_find_each_other_where_they_are(network: Network) -> None:
    one, two = network.machine("one"), network.machine("two")
    with looking(one, "pc") as a, looking(two, "pc") as b:
        wait_for(lambda: a.finds(b)() and b.finds(a)(), "each is found by the other", 30)
        assert a.discovery.found[b.id].addresses == (f"{two.ip}:5870",)
        assert b.discovery.found[a.id].addresses == (f"{one.ip}:5870",)
        assert a.discovery.found[b.id].name == b.discovery.found[a.id].name == "pc"


def test_a_killed_member_stays_where_it_was_and_its_next_life_is_heard(network: Network) -> None:
    one, two = network.machine("one"), network.machine("two")
    advert = Advert("ab" * 16, "attic", "c" * 32, "first", 5870)
    with looking(one, "study") as a:
        a.members.add(advert.id)
        process = calling(two, advert)
        wait_for(lambda: advert.id in a.discovery.found, "it is found", 30)
        process.kill()
        process.wait()
        calling(two, msgspec.structs.replace(advert, boot="second", port=5871))
        wait_for(lambda: a.discovery.found[advert.id].boot == "second", "its next life is heard", 30)
        assert f"{two.ip}:5871" in a.discovery.found[advert.id].addresses
        assert a.discovery.found[advert.id].mark == cluster_mark("c" * 32)


def test_a_moved_machine_is_found_where_it_is_now(network: Network) -> None:
    one, two = network.machine("one"), network.machine("two")
    with looking(one, "study") as a, looking(two, "attic") as b:
        wait_for(lambda: a.finds(b)(), "it is found", 30)
        place = f"{two.move()}:5870"
        wait_for(lambda: place in a.discovery.found[b.id].addresses, "it is found at its new address", 30)


def test_who_came_while_the_cable_was_out_is_found_when_it_is_mended(network: Network) -> None:
    one, two, three = (network.machine(name) for name in ("one", "two", "three"))
    with looking(one, "study") as a, looking(three, "cellar") as c:
        two.cut()
        with looking(two, "attic") as b:
            wait_for(lambda: a.finds(c)() and c.finds(a)(), "the others find each other", 30)
            assert not a.finds(b)()
            assert b.discovery.found == {}
            two.mend()
            wait_for(lambda: a.finds(b)() and b.finds(a)() and b.finds(c)(), "all find each other", 30)
            place = (f"{two.ip}:5870",)
            wait_for(lambda: a.discovery.found[b.id].addresses == place, "it is found where it is", 30)


def test_who_shouts_fills_nothing_and_drowns_no_member(network: Network) -> None:
    one, two, three = (network.machine(name) for name in ("one", "two", "three"))
    with looking(one, "study") as a:
        shouter = three.run([sys.executable, "-c", SHOUTS], stdout=subprocess.PIPE, text=True)
        assert shouter.stdout is not None
        assert shouter.stdout.readline() == "shouted\n"
        wait_for(lambda: len(a.discovery.found) == MAX_STRANGERS, "there is no more room for strangers", 30)
        member = Advert("ab" * 16, "attic", "c" * 32, "boot", 5870)
        a.members.add(member.id)
        calling(two, member)
        wait_for(lambda: member.id in a.discovery.found, "a member is found nevertheless", 30)
        assert len(a.discovery.found) == MAX_STRANGERS + 1
        assert all(len(found.boot) <= 32 for found in a.discovery.found.values())
