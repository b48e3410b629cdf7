"""What is called out on a network and what is made of it: bounded, cleaned, and never more than an address."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from zeroconf.asyncio import AsyncServiceInfo

from engine.cluster import adverts
from engine.cluster.addresses import MAX_TRIED, parse
from engine.cluster.adverts import Advert, Found

ADVERT = Advert("ab" * 16, "study pc", "c0" * 16, "b00t", 5870)
NAME = "study pc-abababab._winnow._tcp.local."


def called(advert: Advert) -> dict[bytes, bytes | None]:
    return {key.encode(): value.encode() for key, value in adverts.properties(advert).items()}


def heard(
    advert: Advert = ADVERT, ips: tuple[str, ...] = ("10.0.0.5",), said: dict[str, str] | None = None
) -> Found | None:
    changes: dict[bytes, bytes | None] = {key.encode(): value.encode() for key, value in (said or {}).items()}
    return adverts.read(adverts.instance(advert), called(advert) | changes, ips, advert.port)


def test_what_is_called_is_what_is_heard() -> None:
    assert adverts.instance(ADVERT) == NAME
    assert heard(ips=("10.0.0.5", "fd00::5")) == Found(
        ADVERT.id,
        "study pc",
        adverts.cluster_mark(ADVERT.cluster),
        "b00t",
        ("10.0.0.5:5870", "[fd00::5]:5870"),
        (),
    )
    pairing = heard(msgspec.structs.replace(ADVERT, pairing=4711))
    assert pairing is not None
    assert pairing.pairing == ("10.0.0.5:4711",)


def test_nothing_secret_and_not_much_is_called() -> None:
    said = called(msgspec.structs.replace(ADVERT, pairing=65535))
    assert set(said) == {b"v", b"id", b"cl", b"boot", b"pair", b"pp"}
    assert ADVERT.cluster.encode() not in b"".join(value or b"" for value in said.values())
    assert sum(len(key) + len(value or b"") + 2 for key, value in said.items()) < 400


@given(st.text(max_size=100))
def test_any_name_becomes_one_that_may_be_called(name: str) -> None:
    full = adverts.instance(msgspec.structs.replace(ADVERT, name=name))
    for called_by in (full, full.replace("-abababab.", "-abababab-9.")):
        assert AsyncServiceInfo(adverts.TYPE, called_by).name == called_by  # it raises for what is no name
        assert len(called_by.removesuffix(f".{adverts.TYPE}").encode()) <= 63
    again = adverts.read(full, called(ADVERT), ["10.0.0.5"], 5870)
    assert again is not None
    assert again.name.isprintable()
    assert 0 < len(again.name) <= adverts.NAME_LENGTH


def test_names_told_apart_by_a_number_are_shown_without_it() -> None:
    found = adverts.read(NAME.replace("abababab", "abababab-2"), called(ADVERT), ["10.0.0.5"], 5870)
    assert found is not None
    assert found.name == "study pc"


def test_what_makes_no_sense_is_not_heard() -> None:
    assert heard() is not None
    wrong = [
        {"v": "2"},
        {"id": "ab"},
        {"id": "AB" * 16},
        {"id": "../" * 11},
        {"cl": ""},
        {"cl": "0" * 17},
        {"boot": "x" * 33},
        {"boot": "\x1b[31m"},
    ]
    assert [heard(said=changes) for changes in wrong] == [None] * len(wrong)


def test_a_wrong_pairing_port_is_no_pairing() -> None:
    for port in ("", "0", "65536", "-1", "80/tcp", "４７"):
        found = heard(said={"pair": "1", "pp": port})
        assert found is not None
        assert found.pairing == ()


def test_only_addresses_that_lead_somewhere_count() -> None:
    places = ("0.0.0.0", "127.0.0.1", "224.0.0.251", "ff02::fb", "10.0.0.5", "nonsense", "::", "::1")
    found = heard(ips=places)
    assert found is not None
    assert found.addresses == ("10.0.0.5:5870",)
    alone = heard(ips=("127.0.0.1", "224.0.0.251"))
    assert alone is not None
    assert alone.addresses == ("127.0.0.1:5870",)


@given(
    st.text(max_size=300),
    st.dictionaries(
        st.sampled_from([b"v", b"id", b"cl", b"boot", b"pair", b"pp"]) | st.binary(max_size=20),
        st.none() | st.binary(max_size=300) | st.sampled_from([b"1", b"ab" * 16, b"c" * 16]),
    ),
    st.lists(st.ip_addresses().map(str) | st.text(max_size=50), max_size=40),
    st.none() | st.integers(-1, 70_000),
)
def test_whatever_is_called_is_bounded(
    name: str, said: dict[bytes, bytes | None], ips: list[str], port: int | None
) -> None:
    found = adverts.read(name, {b"v": b"1", b"id": b"ab" * 16, b"cl": b"0" * 16} | said, ips, port)
    if found is not None:
        assert len(found.id) == 32
        assert found.name.isprintable()
        assert 0 < len(found.name) <= adverts.NAME_LENGTH
        assert len(found.addresses) <= MAX_TRIED
        assert all(str(parse(address)) == address for address in found.addresses + found.pairing)


def test_who_calls_himself_another_machine_cannot_hide_where_it_is() -> None:
    true, false = heard(), heard(ips=("10.6.6.6",), said={"boot": "other"})
    assert true is not None
    assert false is not None
    assert adverts.merged([false, true])[ADVERT.id].addresses == ("10.6.6.6:5870", "10.0.0.5:5870")
    many = [heard(ips=(f"10.6.6.{number}",)) for number in range(100)]
    both = adverts.merged([one for one in many if one is not None])
    assert len(both) == 1
    assert len(both[ADVERT.id].addresses) == MAX_TRIED
