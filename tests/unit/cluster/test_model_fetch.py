"""Decisions while a model comes here: whatever peers send, and in whatever order, only the right file is kept."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster import model_fetch, model_offers
from engine.cluster.effects import Send
from engine.cluster.messages import PIECE_BYTES, ModelAsk, ModelOffer, ModelPart, ModelWant
from engine.cluster.model_fetch import Conclude, Fetch, FetchEffect, Inspect, Store
from engine.cluster.model_offers import piece_hash

PIECE = 16  # bytes, in the simulated network


def digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def cut(content: bytes, size: int = PIECE) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def offer_of(content: bytes, digest: str = "", size: int = PIECE) -> ModelOffer:
    pieces = tuple(piece_hash(piece) for piece in cut(content, size))
    return ModelOffer(digest or digest_of(content), "model", len(content), pieces)


def any_size(_: int) -> str:
    return ""


def asked(effects: list[FetchEffect], peer: str = "") -> list[int]:
    return [
        effect.message.piece
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, ModelAsk) and peer in ("", effect.to)
    ]


def stores(effects: list[FetchEffect]) -> list[int]:
    return [effect.piece for effect in effects if isinstance(effect, Store)]


class Network:
    """A fetch among peers, with a disk that forgets nothing it was told to keep."""

    def __init__(self, content: bytes, servers: dict[str, Server], fits: Callable[[int], str] = any_size) -> None:
        self.content = content
        self.digest = digest_of(content)
        self.fetch = Fetch(self.digest, "Model", fits)
        self.servers = servers
        self.now = 0.0
        self.disk: dict[int, bytes] = {}
        self.offer: ModelOffer | None = None
        self.mail: list[tuple[str, ModelOffer | ModelPart]] = []
        self.looks = 0  # at the disk
        self.full = 0  # writes that fail from now on

    def do(self, effects: list[FetchEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                assert effect.to in self.servers
                server = self.servers[effect.to]
                message = effect.message
                assert isinstance(message, ModelWant | ModelAsk)
                answer = (
                    server.offer(self.digest)
                    if isinstance(message, ModelWant)
                    else server.part(self.digest, message.piece)
                )
                if answer is not None:
                    self.mail.append((effect.to, answer))
            elif isinstance(effect, Inspect):
                self.offer = effect.offer
                self.looks += 1
                count = len(effect.offer.pieces)
                self.disk = {at: data for at, data in self.disk.items() if at < count}
                right = {at for at, data in self.disk.items() if piece_hash(data) == effect.offer.pieces[at]}
                self.do(self.fetch.inspected(right, self.now))
            elif isinstance(effect, Store):
                assert self.offer is not None
                assert piece_hash(effect.data) == self.offer.pieces[effect.piece]
                assert self.disk.get(effect.piece) != effect.data  # nothing is written twice
                if self.full:
                    self.full -= 1
                    self.do(self.fetch.blocked("The disk is full.", self.now))
                    continue
                self.disk[effect.piece] = effect.data
                self.do(self.fetch.stored(effect.piece, self.now))
            else:
                assert isinstance(effect, Conclude)
                whole = b"".join(self.disk[at] for at in range(len(effect.offer.pieces)))
                self.do(self.fetch.concluded(digest_of(whole) == self.digest, self.now))

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.do(self.fetch.tick(self.now, set(self.servers)))

    def settled(self) -> bool:
        """Everything on its way has come; whether the file is there."""
        while self.mail:
            self.deliver()
        return self.fetch.ready

    def deliver(self, at: int = 0) -> None:
        sender, message = self.mail.pop(at)
        if isinstance(message, ModelOffer):
            self.do(self.fetch.offered(sender, message, self.now))
        else:
            self.do(self.fetch.part(sender, message, self.now))


class Server:
    """A peer: what it holds, and what it gets wrong."""

    def __init__(
        self, content: bytes, *, corrupt: Collection[int] = (), silent: bool = False, forgets: bool = False
    ) -> None:
        self.content = content
        self.corrupt = corrupt
        self.silent = silent
        self.forgets = forgets

    def offer(self, digest: str) -> ModelOffer | None:
        return offer_of(self.content, digest)

    def part(self, digest: str, piece: int) -> ModelPart | None:
        if self.silent:
            return None
        if self.forgets:
            return ModelPart(digest, piece, b"")
        pieces = cut(self.content)
        data = pieces[piece] if piece < len(pieces) else b""
        return ModelPart(digest, piece, b"?" + data[1:] if piece in self.corrupt else data)


def test_pieces_are_asked_stored_and_the_whole_is_checked() -> None:
    content = b"a" * PIECE_BYTES + b"b" * PIECE_BYTES + b"end"
    fetch = Fetch(digest_of(content), "Model", any_size)
    assert [effect.to for effect in fetch.tick(0, ["one", "two"]) if isinstance(effect, Send)] == ["one", "two"]
    offer = offer_of(content, size=PIECE_BYTES)
    assert fetch.offered("one", offer, 1) == [Inspect(offer)]
    assert asked(fetch.inspected([1], 1)) == [0]
    data = cut(content, PIECE_BYTES)
    effects = fetch.part("one", ModelPart(fetch.digest, 0, data[0]), 1.1)
    assert stores(effects) == [0]
    assert asked(effects) == [2]
    assert fetch.stored(0, 1.2) == []
    assert fetch.transfer(1.2).done == 2 * PIECE_BYTES
    fetch.part("one", ModelPart(fetch.digest, 2, data[2]), 1.2)
    assert fetch.stored(2, 1.3) == [Conclude(offer)]
    assert fetch.concluded(True, 2) == []
    standing = fetch.transfer(2)
    assert (standing.done, standing.size, standing.problem) == (len(content), len(content), "")


def test_a_quick_peer_is_asked_for_more_at_once_and_a_slow_one_for_less() -> None:
    content = bytes(40 * PIECE_BYTES)
    offer = offer_of(content, size=PIECE_BYTES)
    data = content[:PIECE_BYTES]
    fetch = Fetch(offer.digest, "Model", any_size)
    fetch.offered("one", offer, 0)
    open_ = asked(fetch.inspected([], 0))
    now, counts = 0.0, []
    for seconds in [0.01] * 12 + [0.9] * 8:
        now += seconds
        piece = open_.pop(0)
        effects = fetch.part("one", ModelPart(offer.digest, piece, data), now)
        open_ += asked(effects) + asked(fetch.stored(piece, now))
        counts.append(len(open_))
    assert counts[11] == model_fetch.MAX_WINDOW
    assert counts[-1] == 1
    assert max(counts) <= model_fetch.MAX_WINDOW


def test_pieces_that_are_not_on_disk_yet_are_bounded() -> None:
    content = bytes(200 * PIECE_BYTES)
    offer = offer_of(content, size=PIECE_BYTES)
    fetch = Fetch(offer.digest, "Model", any_size)
    open_: list[tuple[str, int]] = []
    unstored = 0
    for number in range(8):
        fetch.offered(f"peer-{number}", offer, 0)
    effects = fetch.inspected([], 0)
    for _ in range(100):
        open_ += [
            (e.to, e.message.piece) for e in effects if isinstance(e, Send) and isinstance(e.message, ModelAsk)
        ]
        unstored += len(stores(effects))
        assert len(open_) + unstored <= model_fetch.MAX_UNSTORED
        if not open_:
            break
        peer, piece = open_.pop(0)
        effects = fetch.part(peer, ModelPart(offer.digest, piece, content[:PIECE_BYTES]), 0.01)
    assert unstored == model_fetch.MAX_UNSTORED  # and no more until the disk has them


def test_a_damaged_piece_is_asked_of_another_peer() -> None:
    with small_pieces():
        content = bytes(range(64))
        network = Network(content, {"bad": Server(content, corrupt={0, 1, 2, 3}), "good": Server(content)})
        network.tick()
        assert network.settled()
        assert b"".join(network.disk[at] for at in range(4)) == content


def test_a_lying_offer_is_refuted_with_everybody_who_made_it() -> None:
    with small_pieces():
        content, other = bytes(range(64)), bytes(64)
        network = Network(content, {"liar": Server(other), "liar too": Server(other)})
        network.tick()
        assert not network.settled()
        assert "another file" in network.fetch.transfer(network.now).problem
        network.servers["a third liar"] = Server(other)
        network.tick(6)
        assert not network.settled()
        assert network.looks == 1  # the third one's offer is known to be a lie
        network.servers["honest"] = Server(content)
        network.tick(6)
        assert network.settled()
        assert network.fetch.transfer(network.now).problem == ""


def test_what_is_on_disk_already_is_used_with_another_offer() -> None:
    with small_pieces():
        content = bytes(range(64))
        other = content[:48] + bytes(16)
        network = Network(content, {"liar": Server(other)})
        network.tick()
        assert not network.settled()
        network.servers["honest"] = Server(content)
        network.tick(6)
        wanted: list[int] = []
        while network.mail:
            if isinstance(message := network.mail[0][1], ModelPart):
                wanted.append(message.piece)
            network.deliver()
        assert network.fetch.ready
        assert wanted == [3]


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (ModelOffer("d", "m", 5 * PIECE_BYTES, (bytes(16),)), "contradicts"),
        (ModelOffer("d", "m", 0, ()), "contradicts"),
        (ModelOffer("d", "m", 1, (bytes(16),) * 2), "contradicts"),
        (ModelOffer("d", "m", (1 << 63) - 1, (bytes(16),)), "contradicts"),
        (ModelOffer("d", "m", 400_001 * PIECE_BYTES, (bytes(16),) * 400_001), "too large"),
    ],
)
def test_an_offer_that_cannot_be_is_refused_in_words(offer: ModelOffer, words: str) -> None:
    fetch = Fetch("d", "Model", any_size)
    fetch.tick(0, ["peer"])
    assert fetch.offered("peer", offer, 0) == []
    assert words in fetch.transfer(0).problem
    assert fetch.refusal == ""
    assert fetch.tick(6, ["peer"]) == []  # it is not asked again soon


def test_a_model_that_does_not_fit_is_refused_in_words_until_a_smaller_one_is_offered() -> None:
    def fits(size: int) -> str:
        return "" if size < 100 else "It needs 5 GB."

    fetch = Fetch("d", "Model", fits)
    fetch.tick(0, ["peer", "other"])
    assert fetch.offered("peer", ModelOffer("d", "m", 200, (bytes(16),)), 0) == []
    assert fetch.refusal == "It needs 5 GB."
    assert fetch.transfer(0).problem == "It needs 5 GB."
    honest = ModelOffer("d", "m", 50, (bytes(16),))
    assert fetch.offered("other", honest, 0) == [Inspect(honest)]
    assert fetch.refusal == ""


def test_a_silent_peer_does_not_hold_a_piece_for_ever() -> None:
    with small_pieces():
        content = bytes(range(64))
        network = Network(content, {"mute": Server(content, silent=True)})
        network.tick()
        network.deliver()
        network.servers["talks"] = Server(content)
        for _ in range(40):
            network.tick()
            network.settled()
        assert network.settled()


def test_a_piece_that_comes_late_is_welcome() -> None:
    """On a slow line every piece takes longer than one is waited for; it gets through all the same."""
    content = bytes(3 * PIECE_BYTES)
    offer = offer_of(content, size=PIECE_BYTES)
    fetch = Fetch(offer.digest, "Model", any_size)
    now = 0.0
    fetch.offered("slow", offer, now)
    fetch.inspected([], now)
    for piece in range(3):
        now += model_fetch.PATIENCE + 5
        fetch.tick(now, ["slow"])
        effects = fetch.part("slow", ModelPart(offer.digest, piece, bytes(PIECE_BYTES)), now + 1)
        assert stores(effects) == [piece]
        last = fetch.stored(piece, now + 1)
    assert last == [Conclude(offer)]


def test_a_piece_that_comes_late_is_welcome_when_it_was_asked_of_another_meanwhile() -> None:
    content = bytes(PIECE_BYTES)
    offer = offer_of(content, size=PIECE_BYTES)
    part = ModelPart(offer.digest, 0, content)
    fetch = Fetch(offer.digest, "Model", any_size)
    fetch.tick(0, ["slow"])
    fetch.offered("slow", offer, 0)
    assert asked(fetch.inspected([], 0), "slow") == [0]
    fetch.offered("quick", offer, 1)
    assert asked(fetch.tick(model_fetch.PATIENCE + 1, ["slow", "quick"]), "quick") == [0]
    assert stores(fetch.part("slow", part, 30)) == [0]
    assert stores(fetch.part("quick", part, 30)) == []


def test_when_those_with_one_offer_are_gone_another_offer_is_taken() -> None:
    content, other = bytes(PIECE_BYTES), b"x" * PIECE_BYTES
    digest = digest_of(content)
    lie, truth = offer_of(other, digest, PIECE_BYTES), offer_of(content, digest, PIECE_BYTES)
    fetch = Fetch(digest, "Model", any_size)
    fetch.offered("one", lie, 0)
    fetch.inspected([], 0)
    assert fetch.offered("two", truth, 0) == []
    assert fetch.gone("one", 1) == [Inspect(truth)]


def test_a_peer_that_lost_the_file_is_left_alone_for_a_while() -> None:
    content = bytes(2 * PIECE_BYTES)
    offer = offer_of(content, size=PIECE_BYTES)
    fetch = Fetch(offer.digest, "Model", any_size)
    fetch.tick(0, ["one", "two"])
    fetch.offered("one", offer, 0)
    fetch.inspected([], 0)
    fetch.offered("two", offer, 0)
    assert asked(fetch.part("one", ModelPart(offer.digest, 0, b""), 1)) == []
    assert asked(fetch.part("two", ModelPart(offer.digest, 1, content[:PIECE_BYTES]), 1), "two") == [0]
    assert [e.to for e in fetch.tick(10, ["one", "two"]) if isinstance(e, Send)] == []
    later = fetch.tick(1 + model_fetch.REST, ["one", "two"])
    assert [e.to for e in later if isinstance(e, Send) and isinstance(e.message, ModelWant)] == ["one"]


def test_what_nobody_asked_for_is_not_looked_at() -> None:
    content = bytes(PIECE_BYTES)
    offer = offer_of(content, size=PIECE_BYTES)
    fetch = Fetch(offer.digest, "Model", any_size)
    part = ModelPart(offer.digest, 0, content)
    assert fetch.part("peer", part, 0) == []
    fetch.offered("peer", offer, 0)
    assert fetch.part("peer", part, 0) == []
    fetch.inspected([], 0)
    assert fetch.part("stranger", part, 0) == []
    assert fetch.part("peer", ModelPart(offer.digest, 7, content), 0) == []
    assert fetch.part("peer", ModelPart("other", 0, content), 0) == []
    assert stores(fetch.part("peer", part, 0)) == [0]
    assert fetch.part("peer", part, 0) == []  # the same once more


def test_trouble_with_the_disk_is_said_and_tried_again() -> None:
    with small_pieces():
        content = bytes(range(64))
        network = Network(content, {"peer": Server(content)})
        network.full = 1
        network.tick()
        assert not network.settled()
        assert network.fetch.transfer(network.now).problem == "The disk is full."
        network.tick(model_fetch.RETRY)
        assert network.settled()


def test_a_model_nobody_has_is_said_after_everybody_had_time_to_answer() -> None:
    fetch = Fetch("d", "Model", any_size)
    fetch.tick(0, ["peer"])
    assert fetch.transfer(1).problem == ""
    assert "No machine" in fetch.transfer(6).problem


def small_pieces() -> mock._patch[int]:
    return mock.patch.object(model_offers, "PIECE_BYTES", PIECE)


@given(
    size=st.integers(1, 12 * PIECE),
    peers=st.lists(st.sampled_from(["honest", "corrupt", "liar", "silent", "leaves", "forgets"]), max_size=4),
    loss=st.floats(0, 0.4),
    doubled=st.floats(0, 0.4),
    full=st.integers(0, 2),
    seed=st.integers(0, 1 << 30),
)
def test_the_right_file_comes_whatever_is_lost_doubled_reordered_or_wrong(
    size: int, peers: list[str], loss: float, doubled: float, full: int, seed: int
) -> None:
    """As long as one honest peer stays. Nothing but pieces of the offer in use is ever written (see Network)."""
    chance = random.Random(seed)
    content = chance.randbytes(size)
    pieces = len(cut(content))
    servers = {"steady": Server(content)}
    for number, kind in enumerate(peers):
        name = f"{number}-{kind}"
        if kind == "liar":
            servers[name] = Server(chance.randbytes(chance.randint(1, 12 * PIECE)))
        elif kind == "corrupt":
            servers[name] = Server(content, corrupt={chance.randrange(pieces)})
        else:
            servers[name] = Server(content, silent=kind == "silent", forgets=kind == "forgets")
    with small_pieces():
        network = Network(content, servers)
        network.full = full
        for second in range(1500):
            network.tick(chance.choice((0.5, 1, 1, 15)))
            for name in [name for name in servers if name.endswith("leaves") and second > 2]:
                del servers[name]
                network.do(network.fetch.gone(name, network.now))
            for _ in range(chance.randint(0, len(network.mail))):
                at = chance.randrange(len(network.mail))
                if network.mail[at][0] not in servers or chance.random() < loss:
                    del network.mail[at]
                    continue
                if chance.random() < doubled:
                    network.mail.append(network.mail[at])
                network.deliver(at)
            if network.fetch.ready:
                break
        assert network.fetch.ready, network.fetch.transfer(network.now)
        assert b"".join(network.disk[at] for at in range(pieces)) == content
        assert network.fetch.tick(network.now + 100, set(servers)) == []
