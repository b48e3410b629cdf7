"""How a model's file comes here from other machines, piece by piece: decisions only, no network, disk or clock.

The digest of a run's model is what is wanted; a peer's offer (size and hash of every piece) is only a claim.
Pieces are checked against the offer, the whole file against the digest: an offer that leads to another file is
refuted, and so is every peer that made it. Pieces are asked of all peers with the same offer, a few at a time, so
that beats and labels on the same connections never wait for long.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection

import msgspec

from engine.cluster import model_offers as offers
from engine.cluster.effects import Send
from engine.cluster.messages import ModelAsk, ModelOffer, ModelPart, ModelWant

MAX_OFFERS = 8  # different ones looked at
MAX_WINDOW = 8  # pieces asked of one peer
MAX_UNSTORED = 24  # pieces asked or not yet on disk: their bytes are in memory
QUICK, SLOW = 0.2, 0.5  # seconds from asking to having: ask for more at once, for fewer
PATIENCE = 20.0  # seconds for a piece, then another peer is asked too
SILENCES = 3  # pieces in a row a peer lets pass before it is left alone
REST = 30.0  # seconds without asking a peer that did not answer
DISTRUST = 600.0  # seconds without asking a peer that sent something wrong
ASK_AROUND = 5.0  # seconds between questions who has the file
RETRY = 30.0  # seconds until trouble with this machine's disk is looked at again
RATE_OVER = 10.0  # seconds


class Inspect(msgspec.Struct, frozen=True):
    """Find out which pieces of this offer the disk holds; then call `inspected`, or `blocked`."""

    offer: ModelOffer


class Store(msgspec.Struct, frozen=True):
    """Write a piece, which is right; then call `stored`, or `blocked`."""

    piece: int
    data: bytes


class Conclude(msgspec.Struct, frozen=True):
    """All pieces are there: check the whole file and give it its name; then call `concluded`, or `blocked`."""

    offer: ModelOffer


FetchEffect = Send | Inspect | Store | Conclude


class Transfer(msgspec.Struct, frozen=True):
    """How far a model has come."""

    digest: str
    name: str
    size: int  # bytes, 0 while nobody has offered it
    done: int  # bytes checked and on disk
    bytes_per_s: float
    peers: int  # machines that have it and are asked
    problem: str  # why it does not go on, empty while it does


class _Peer:
    """What is known of a machine that offered the file."""

    def __init__(self) -> None:
        self.offer = ""  # key of it, empty while it made none
        self.window = 1
        self.owes: dict[int, float] = {}  # piece -> when it was asked
        self.late: set[int] = set()  # asked too long ago; still welcome
        self.silences = 0
        self.left_alone_until = float("-inf")


class Fetch:
    """One wanted file. Every event returns effects to be carried out in order.

    `fits` says why a file of a size cannot be held here, and is empty when it can.
    """

    def __init__(self, digest: str, name: str, fits: Callable[[int], str]) -> None:
        self.digest = digest
        self.name = name
        self._fits = fits
        self._peers: dict[str, _Peer] = {}
        self._offers: dict[str, ModelOffer] = {}
        self._refuted: set[str] = set()
        self._unfit: dict[str, str] = {}  # peer -> why its offer is refused
        self._current = ""  # key of the offer pieces are fetched by
        self._phase = "seeking"  # inspecting, fetching, concluding, ready
        self._todo: collections.deque[int] = collections.deque()
        self._storing: set[int] = set()
        self._held: set[int] = set()
        self._ask_at = float("-inf")
        self._answers_until = float("inf")  # when the first question has been answered by all who would
        self._retry_at = float("inf")
        self._trouble = ""
        self._arrived: collections.deque[tuple[float, int]] = collections.deque()

    # events

    def tick(self, now: float, peers: Collection[str]) -> list[FetchEffect]:
        """Called about every second with the members that can be reached."""
        for peer in [peer for peer in self._peers if peer not in peers]:
            self._lose(peer)
        effects: list[FetchEffect] = []
        if self._phase == "ready":
            return effects
        for known in self._peers.values():
            self._notice_silence(known, now)
        if now >= self._ask_at:
            self._ask_at = now + ASK_AROUND
            self._answers_until = min(self._answers_until, self._ask_at)
            want = ModelWant(self.digest)
            effects += [Send(peer, want) for peer in sorted(peers) if self._unknown(peer, now)]
        if now >= self._retry_at:
            self._retry_at = float("inf")
            self._seek()
        return effects + self._go_on(now)

    def offered(self, peer: str, offer: ModelOffer, now: float) -> list[FetchEffect]:
        """A peer says that it has the file."""
        if offer.digest != self.digest or self._phase == "ready":
            return []
        known = self._peers.setdefault(peer, _Peer())
        if known.left_alone_until > now:
            return []
        key = offers.key(offer)
        self._trouble = self._wrong_with(offer, key) or self._trouble
        unfit = self._fits(offer.size)
        if self._wrong_with(offer, key) or unfit:
            self._distrust(peer, now, unfit)
            return self._go_on(now)
        if known.offer != key:
            self._lose(peer)
            self._peers[peer] = known = _Peer()
            known.offer = key
            self._offers[key] = offer
        return self._go_on(now)

    def part(self, peer: str, part: ModelPart, now: float) -> list[FetchEffect]:
        """A piece came, asked for or not, right or wrong, for the first time or again."""
        known = self._peers.get(peer)
        if known is None or part.digest != self.digest or self._phase != "fetching":
            return []
        asked = known.owes.pop(part.piece, None)
        if asked is None and part.piece not in known.late:
            return []
        known.late.discard(part.piece)
        known.silences = 0
        if not part.data:
            self._return(part.piece)
            self._distrust(peer, now, seconds=REST)
            return self._go_on(now)
        offer = self._offers[self._current]
        if not offers.is_piece(offer, part.piece, part.data):
            self._trouble = f"What a machine sent of {self.name} is damaged; it is asked of others."
            self._return(part.piece)
            self._distrust(peer, now)
            return self._go_on(now)
        if asked is not None:
            known.window = _window(known.window, now - asked)
        if part.piece in self._held or part.piece in self._storing:
            return self._go_on(now)
        self._storing.add(part.piece)
        self._arrived.append((now, len(part.data)))
        return [Store(part.piece, part.data), *self._go_on(now)]

    def gone(self, peer: str, now: float) -> list[FetchEffect]:
        """The connection to a peer broke."""
        self._lose(peer)
        return self._go_on(now)

    def inspected(self, held: Collection[int], now: float) -> list[FetchEffect]:
        """The disk was looked at: it holds these pieces of the current offer."""
        if self._phase != "inspecting":
            return []
        self._phase = "fetching"
        self._held = set(held)
        count = len(self._offers[self._current].pieces)
        self._todo = collections.deque(piece for piece in range(count) if piece not in self._held)
        return self._go_on(now)

    def stored(self, piece: int, now: float) -> list[FetchEffect]:
        """A piece is on disk."""
        if self._phase != "fetching" or piece not in self._storing:
            return []
        self._storing.discard(piece)
        self._held.add(piece)
        self._trouble = ""
        return self._go_on(now)

    def concluded(self, right: bool, now: float) -> list[FetchEffect]:
        """The whole file was checked; when it is `right`, it is there for good."""
        if self._phase != "concluding":
            return []
        if right:
            self._phase, self._trouble = "ready", ""
            return []
        self._trouble = f"What was offered as {self.name} is another file; it is looked for elsewhere."
        self._refuted.add(self._current)
        for peer, known in list(self._peers.items()):
            if known.offer == self._current:
                self._distrust(peer, now)
        self._offers.pop(self._current, None)
        self._seek()
        return self._go_on(now)

    def blocked(self, why: str, now: float) -> list[FetchEffect]:
        """This machine could not do it; it is tried again after a while, from what is on disk then."""
        self._phase, self._trouble, self._retry_at = "blocked", why, now + RETRY
        self._storing.clear()
        for known in self._peers.values():
            known.owes.clear()
            known.late.clear()
        return []

    # questions

    @property
    def ready(self) -> bool:
        return self._phase == "ready"

    @property
    def refusal(self) -> str:
        """Why this machine cannot have the model, empty while it may: somebody offers it, and it does not fit."""
        return "" if self._offers else next(iter(self._unfit.values()), "")

    def transfer(self, now: float) -> Transfer:
        """How it stands, for people."""
        offer = self._offers.get(self._current)
        while self._arrived and self._arrived[0][0] < now - RATE_OVER:
            self._arrived.popleft()
        span = max(1.0, now - self._arrived[0][0]) if self._arrived else 1.0
        return Transfer(
            digest=self.digest,
            name=self.name,
            size=offer.size if offer else 0,
            done=offers.total(offer, self._held) if offer else 0,
            bytes_per_s=sum(size for _, size in self._arrived) / span,
            peers=sum(known.offer == self._current for known in self._peers.values()) if offer else 0,
            problem=self._problem(now),
        )

    def _problem(self, now: float) -> str:
        if self._trouble or self.refusal or self._phase == "ready":
            return self._trouble or self.refusal
        offered = any(known.offer for known in self._peers.values())
        if offered or now < self._answers_until:
            return ""
        return f"No machine that can be reached has {self.name}."

    # decisions

    def _go_on(self, now: float) -> list[FetchEffect]:
        """Whatever can be done next."""
        if self._phase == "fetching":
            if len(self._held) == len(self._offers[self._current].pieces):
                self._phase = "concluding"
                return [Conclude(self._offers[self._current])]
            if not self._askable(self._current, now) and not self._storing and self._best(now):
                self._seek()
        if self._phase == "seeking" and (best := self._best(now)):
            self._phase, self._current = "inspecting", best
            return [Inspect(self._offers[best])]
        return self._ask(now) if self._phase == "fetching" else []

    def _ask(self, now: float) -> list[FetchEffect]:
        """Pieces of peers with room in their windows, one each in turn."""
        effects: list[FetchEffect] = []
        peers = self._askable(self._current, now)
        while self._todo and peers:
            peers = [peer for peer in peers if len(self._peers[peer].owes) < self._peers[peer].window]
            for peer in peers:
                unstored = len(self._storing) + sum(len(known.owes) for known in self._peers.values())
                piece = self._next_piece() if unstored < MAX_UNSTORED else None
                if piece is None:
                    return effects
                self._peers[peer].owes[piece] = now
                effects.append(Send(peer, ModelAsk(self.digest, piece)))
        return effects

    def _next_piece(self) -> int | None:
        while self._todo:
            piece = self._todo.popleft()
            if piece not in self._held and piece not in self._storing:  # it may have come late
                return piece
        return None

    def _askable(self, offer: str, now: float) -> list[str]:
        """Those that answer before those that let pieces pass."""
        found = [
            (known.silences, peer)
            for peer, known in self._peers.items()
            if known.offer == offer and known.left_alone_until <= now
        ]
        return [peer for _, peer in sorted(found)]

    def _best(self, now: float) -> str:
        """Key of the offer most peers make, empty for none."""
        counts = {key: len(self._askable(key, now)) for key in self._offers}
        return max(counts, key=lambda key: (counts[key], key)) if any(counts.values()) else ""

    def _seek(self) -> None:
        """Begin again with any offer; what is on disk is looked at anew."""
        for known in self._peers.values():
            known.owes.clear()
            known.late.clear()
        self._storing.clear()
        self._held.clear()
        self._todo.clear()
        self._phase, self._current = "seeking", ""

    def _notice_silence(self, known: _Peer, now: float) -> None:
        for piece, asked in list(known.owes.items()):
            if now - asked > PATIENCE:
                del known.owes[piece]
                known.late.add(piece)
                known.window = 1
                known.silences += 1
                self._return(piece)
        if known.silences >= SILENCES:
            known.silences = 0
            known.left_alone_until = now + REST

    def _lose(self, peer: str) -> None:
        known = self._peers.pop(peer, None)
        self._unfit.pop(peer, None)
        if known is None:
            return
        for piece in known.owes:
            self._return(piece)
        keep = {other.offer for other in self._peers.values()} | {self._current}
        self._offers = {key: offer for key, offer in self._offers.items() if key in keep}

    def _distrust(self, peer: str, now: float, unfit: str = "", seconds: float = DISTRUST) -> None:
        self._lose(peer)
        self._peers[peer] = _Peer()
        self._peers[peer].left_alone_until = now + seconds
        if unfit:
            self._unfit[peer] = unfit

    def _return(self, piece: int) -> None:
        # Unless another peer is asked for it already: then that one owes it.
        if not any(piece in known.owes for known in self._peers.values()):
            self._todo.appendleft(piece)

    def _unknown(self, peer: str, now: float) -> bool:
        known = self._peers.get(peer)
        return known is None or (not known.offer and known.left_alone_until <= now)

    def _wrong_with(self, offer: ModelOffer, key: str) -> str:
        if key in self._refuted:
            return f"What was offered as {self.name} is another file."
        if key not in self._offers and len(self._offers) >= MAX_OFFERS:
            return f"Too many different files are offered as {self.name}."
        return offers.wrong_with(offer, self.name)


def _window(window: int, seconds: float) -> int:
    if seconds < QUICK:
        return min(MAX_WINDOW, window + 1)
    return max(1, window // 2) if seconds > SLOW else window
