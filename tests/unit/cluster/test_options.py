"""What is asked of an engine process survives the command line it is started with."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster.options import EngineOptions, host_port, parse

PORTS = st.integers(1, 65535)
HOSTS = st.sampled_from(["127.0.0.1", "study-pc.local", "[fe80::1]"])
PLACES = st.builds(lambda host, port: f"{host}:{port}", HOSTS, PORTS)


@given(
    idle=st.floats(0.1, 1e6),
    stay=st.booleans(),
    name=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    mode=st.sampled_from(["auto", "server", "client"]),
    batch=st.integers(1, 512),
    listen=st.one_of(st.just(""), PLACES, st.just("127.0.0.1:0")),
    peers=st.lists(PLACES, max_size=3),
)
def test_options_come_back_from_their_command_line(idle, stay, name, mode, batch, listen, peers) -> None:  # type: ignore[no-untyped-def]
    options = EngineOptions(idle, stay, name, mode, batch, listen, tuple(peers), "127.0.0.1")
    assert parse(["/some folder", *options.arguments()]) == (Path("/some folder"), options)


def test_the_usual_options_are_no_words_at_all() -> None:
    assert EngineOptions().arguments() == []
    assert parse(["x"]) == (Path("x"), EngineOptions())
    assert parse(["x", "--prefer-leader"])[1].mode == "server"


@pytest.mark.parametrize(
    "wrong",
    [["--listen=nowhere"], ["--peers=1.2.3.4"], ["--peers=a:1,b:99999"], ["--batch=0"], ["--batch=513"], []],
)
def test_what_makes_no_sense_ends_with_a_sentence(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["x", *wrong] if wrong else [])
    assert "error:" in capsys.readouterr().err


def test_any_free_port_may_be_asked_for() -> None:
    assert host_port("127.0.0.1:0") == ("127.0.0.1", 0)
    assert host_port("[::1]:80") == ("::1", 80)
