"""Finding machines by multicast, here on the loopback of this machine."""

from __future__ import annotations

import msgspec

from engine.cluster.adverts import cluster_mark
from tests.unit.cluster.looking import Looking
from tests.waiting import wait_for

LOOPBACK = ("127.0.0.1",)


def test_machines_find_each_other_and_hear_what_changes() -> None:
    with Looking("study", LOOPBACK) as a, Looking("attic", LOOPBACK) as b:
        wait_for(lambda: a.finds(b)() and b.finds(a)(), "each is found by the other", 30)
        found = a.discovery.found[b.id]
        assert (found.name, found.mark, found.boot) == ("attic", cluster_mark("c" * 32), b.advert.boot)
        assert found.addresses == ("127.0.0.1:5870",)
        assert found.pairing == ()
        assert a.id not in a.discovery.found
        assert a.changes > 0
        b.say(msgspec.structs.replace(b.advert, pairing=4711))
        wait_for(lambda: a.discovery.found[b.id].pairing == ("127.0.0.1:4711",), "it shows a code", 30)
        b.say(msgspec.structs.replace(b.advert, name="cellar"))
        wait_for(lambda: a.finds(b)() and a.discovery.found[b.id].name == "cellar", "its new name is heard", 30)
        b.say(None)
        wait_for(lambda: not a.finds(b)(), "it calls no more", 30)
        assert b.finds(a)()
        assert a.discovery.problem == b.discovery.problem == ""


def test_who_only_looks_is_not_found() -> None:
    with Looking("study", LOOPBACK) as a, Looking("quiet", LOOPBACK, port=0) as b:
        wait_for(b.finds(a), "it is found", 30)
        assert not a.finds(b)()


def test_a_goodbye_of_a_member_is_not_believed() -> None:
    with Looking("study", LOOPBACK) as a, Looking("attic", LOOPBACK) as b, Looking("cellar", LOOPBACK) as c:
        a.members.add(b.id)
        wait_for(lambda: a.finds(b)() and a.finds(c)(), "both are found", 30)
        b.say(None)
        c.say(None)
        wait_for(lambda: not a.finds(c)(), "the stranger said goodbye", 30)
        assert a.finds(b)()


def test_where_there_is_no_such_network_it_says_so_and_goes_on() -> None:
    with Looking("study", ("203.0.113.77",)) as a:  # kept for documentation: no machine has it
        wait_for(lambda: a.discovery.problem, "the problem is said", 30)
        assert "not found by themselves" in a.discovery.problem
        a.say(msgspec.structs.replace(a.advert, pairing=4711))
        a.look()
        assert a.discovery.found == {}


def test_looking_may_end_and_begin_again() -> None:
    with Looking("study", LOOPBACK) as a, Looking("attic", LOOPBACK) as b, Looking("cellar", LOOPBACK) as c:
        a.members.add(b.id)
        wait_for(lambda: a.finds(b)() and a.finds(c)() and c.finds(a)(), "they find each other", 30)
        a.rest()
        wait_for(lambda: not c.finds(a)(), "it said goodbye", 30)
        assert set(a.discovery.found) == {b.id}
        a.start()
        wait_for(lambda: a.finds(c)() and c.finds(a)(), "they find each other again", 30)
