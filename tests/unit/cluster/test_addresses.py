"""Addresses of machines: one way to write each, wrong ones said in words, the likeliest tried first."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster import addresses
from engine.cluster.addresses import HostPort, Interface, parse
from workspace.errors import EngineError


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("10.0.0.5:5870", "10.0.0.5:5870"),
        (" study-pc.local:80 ", "study-pc.local:80"),
        ("Study-PC:5870", "study-pc:5870"),
        ("study.example.:5870", "study.example:5870"),
        ("[::1]:5870", "[::1]:5870"),
        ("[FD00:0:0::5]:1", "[fd00::5]:1"),
        ("[fe80::1%eth0]:65535", "[fe80::1%eth0]:65535"),
        ("10.0.0.5:05870", "10.0.0.5:5870"),
    ],
)
def test_one_way_to_write_each(text: str, means: str) -> None:
    assert str(parse(text)) == means
    assert parse(means) == parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "port is missing"),
        ("10.0.0.5", "port is missing"),
        (":5870", "port is missing"),
        ("10.0.0.5:", "a port is a number"),
        ("10.0.0.5:0", "a port is a number"),
        ("10.0.0.5:65536", "a port is a number"),
        ("10.0.0.5:-1", "a port is a number"),
        ("10.0.0.5:５８７０", "a port is a number"),
        ("10.0.0.5:1e3", "a port is a number"),
        ("::1:5870", "stands in brackets"),
        ("[10.0.0.5]:5870", "in brackets has to be"),
        ("[::1%a b]:5870", "in brackets has to be"),
        ("10.0.5:5870", "neither a name nor a number"),
        ("10.0.0.256:5870", "neither a name nor a number"),
        ("010.0.0.5:5870", "neither a name nor a number"),
        ("a b:5870", "neither a name nor a number"),
        ("-x:5870", "neither a name nor a number"),
        ("http://study:5870", "stands in brackets"),
        ("x" * 300 + ":5870", "neither a name nor a number"),
    ],
)
def test_what_is_wrong_is_said(text: str, why: str) -> None:
    with pytest.raises(EngineError, match=why) as said:
        parse(text)
    assert "host:port" in said.value.advice
    assert len(said.value.title) < 250


@given(st.text(max_size=60) | st.from_regex(r"[\[\]:%.a-z0-9-]{1,40}:[0-9]{1,6}", fullmatch=True))
def test_anything_is_an_address_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except EngineError:
        assert addresses.valid([text]) == []
    else:
        assert parse(str(found)) == found
        assert addresses.valid([text, text]) == [found]


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_number_is_an_address(ip: object, port: int) -> None:
    one = HostPort(str(ip), port)
    assert parse(str(one)) == one
    assert one.ip == ip
    assert addresses.plain_ip(str(ip)) in (str(ip), str(getattr(ip, "ipv4_mapped", None)))


def test_names_are_looked_up_and_unknown_ones_left_out() -> None:
    numbers = ["10.0.0.5:1", "[fd00::5]:1"]
    found = asyncio.run(addresses.resolve([*numbers, "nonsense", "no-such-machine.invalid:1", "localhost:5870"]))
    assert found[:2] == numbers
    assert set(found[2:]) <= {"127.0.0.1:5870", "[::1]:5870"}
    assert found[2:]


def test_a_name_server_that_does_not_answer_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = threading.Event(), []

    def silent(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        assert answers.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr(addresses, "LOOKUP_SECONDS", 0.01)
    names = ["10.0.0.5:1", *(f"silent-{number}.invalid:1" for number in range(40))]
    for _ in range(3):
        assert asyncio.run(addresses.resolve(names)) == ["10.0.0.5:1"]
    assert len(asked) == len(set(asked)) == addresses.MAX_LOOKUPS
    answers.set()
    monkeypatch.setattr(addresses, "LOOKUP_SECONDS", 30)
    assert asyncio.run(addresses.resolve(["silent-0.invalid:2"])) == ["10.0.0.7:2"]
    assert asyncio.run(addresses.resolve(["silent-0.invalid:3"])) == ["10.0.0.7:3"]
    assert len(asked) == addresses.MAX_LOOKUPS  # the answer is kept for a while
    asyncio.run(addresses.resolve(names))
    assert not addresses._lookups


def test_the_likeliest_are_tried_first_and_this_machine_never() -> None:
    tried = addresses.to_try(
        found=["10.0.0.5:1", "10.0.0.9:1"],
        remembered=["10.0.0.7:1", "10.0.0.5:01"],
        typed=["study:1", "bad", "10.0.0.7:1"],
        own=["10.0.0.9:1"],
    )
    assert tried == ["10.0.0.5:1", "10.0.0.7:1", "study:1"]
    assert len(addresses.to_try([f"10.0.0.{n}:1" for n in range(200)], [], [])) == addresses.MAX_TRIED


def test_a_typed_address_is_tried_however_many_were_found() -> None:
    found = [f"10.0.0.{n}:1" for n in range(200)]
    assert "study:1" in addresses.to_try(found, found, ["study:1"])


def test_what_worked_last_is_remembered_first() -> None:
    before: tuple[str, ...] = ()
    for number in range(20):
        before = addresses.remember(before, f"10.0.0.{number}:1")
    assert before[0] == "10.0.0.19:1"
    assert len(before) == addresses.MAX_REMEMBERED
    again = addresses.remember(before, "10.0.0.15:1")
    assert again[0] == "10.0.0.15:1"
    assert sorted(again) == sorted(before)


INTERFACES = (
    Interface("docker0", "172.17.0.1", "172.17.0.0/16"),
    Interface("en0", "192.168.1.20", "192.168.1.0/24"),
    Interface("en0", "fe80::1%en0", "fe80::/64"),
    Interface("en0", "2001:db8::20", "2001:db8::/64"),
    Interface("lo", "127.0.0.1", "127.0.0.0/8"),
    Interface("lo", "::1", "::1/128"),
    Interface("wlan0", "192.168.1.21"),
)


def test_what_to_tell_others_of_this_machine() -> None:
    def own(interfaces: tuple[Interface, ...], host: str = "") -> list[str]:
        return list(addresses.own(interfaces, 5870, host))

    every = ["192.168.1.20:5870", "[2001:db8::20]:5870", "192.168.1.21:5870", "172.17.0.1:5870"]
    assert own(INTERFACES) == own(INTERFACES, "::") == own(INTERFACES, "*") == every
    assert own(INTERFACES, "0.0.0.0") == [address for address in every if "[" not in address]
    assert own(INTERFACES, "192.168.1.21") == ["192.168.1.21:5870"]
    assert own(INTERFACES[4:6]) == ["127.0.0.1:5870", "[::1]:5870"]
    assert own((Interface("eth0", "nonsense"), Interface("eth0", "224.0.0.1"))) == []


def test_addresses_within_reach_come_first() -> None:
    far = ["10.9.9.9", "192.168.1.99", "172.17.0.1", "172.17.0.9", "2001:db8::99", "nonsense", "192.168.1.20"]
    assert addresses.likeliest(far, INTERFACES) == [
        *("192.168.1.99", "2001:db8::99"),
        "10.9.9.9",
        *("172.17.0.9", "nonsense"),
        *("172.17.0.1", "192.168.1.20"),
    ]
    assert addresses.likeliest(far, []) == [ip for ip in far if ip != "nonsense"] + ["nonsense"]


def test_this_machine_is_somewhere() -> None:
    found = addresses.interfaces()
    assert any(one.ip == "127.0.0.1" and one.network == "127.0.0.0/8" for one in found)
    assert addresses.own(found, 5870)
