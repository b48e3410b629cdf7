"""The network between the machines: one way or both ways cut, losing, doubling and delaying messages."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec


class Weather(msgspec.Struct, frozen=True):
    """How the network is in this history."""

    loss: float = 0.0  # share of messages lost
    double: float = 0.0  # share of messages that arrive twice
    late: float = 0.0  # share of messages that are late
    latest: float = 2.0  # seconds by which
    usual: float = 0.002  # seconds a message takes otherwise, up to three times as long


CALM = Weather()


class Network:
    """Who can reach whom, and how long it takes."""

    def __init__(self, chance: random.Random, weather: Weather) -> None:
        self.weather = weather
        self.cuts: set[tuple[str, str]] = set()  # (from, to) that nothing gets through
        self.lost = 0
        self._chance = chance

    def reaches(self, sender: str, receiver: str) -> bool:
        """Whether anything gets through at all."""
        return (sender, receiver) not in self.cuts

    def connects(self, one: str, other: str) -> bool:
        """Whether a connection can stand: it needs both ways."""
        return (one, other) not in self.cuts and (other, one) not in self.cuts

    def journeys(self, sender: str, receiver: str) -> list[float]:
        """Seconds each copy of a message sent now takes; empty when it is lost."""
        weather, chance = self.weather, self._chance
        if (sender, receiver) in self.cuts or (weather.loss and chance.random() < weather.loss):
            self.lost += 1
            return []
        copies = 2 if weather.double and chance.random() < weather.double else 1
        return [self._seconds() for _ in range(copies)]

    def cut(self, side: Iterable[str], everybody: Iterable[str]) -> None:
        """Part these machines from all others, both ways."""
        inside = set(side)
        outside = [name for name in everybody if name not in inside]
        for one in sorted(inside):
            for other in outside:
                self.cuts |= {(one, other), (other, one)}

    def cut_one_way(self, sender: str, receiver: str) -> None:
        """Nothing gets from `sender` to `receiver` any more."""
        self.cuts.add((sender, receiver))

    def heal(self) -> None:
        """Mend every cut."""
        self.cuts.clear()

    def _seconds(self) -> float:
        weather, chance = self.weather, self._chance
        seconds = weather.usual * (1.0 + 2.0 * chance.random())
        if weather.late and chance.random() < weather.late:
            seconds += weather.latest * chance.random()
        return seconds
