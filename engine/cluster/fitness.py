"""How far a machine's answers can be relied on: how often others gave the same, and how fast it is.

Machines with the same weights, prompt and row should give the same label; they differ where two labels are about
equally likely, and where a machine is broken. Rows that were computed twice (after a false alarm, or at the end of
a run, where slow claims are given out a second time) show how often that is. With two machines nobody can say
which of them was wrong, so both answer for it. Everything is kept in bounded memory and forgotten step by step.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from engine.cluster.entries import BLOCK_ROWS, Labeled, Outline
from engine.labeler import Answer
from workspace.kinds import APPLIES

_NOBODY = bytes(2 * BLOCK_ROWS)

K = TypeVar("K")
V = TypeVar("V")

# What is believed of a machine before anything was compared: 19 of 20 answers are as others give them. It is a
# Beta(19, 1) distribution, so twenty comparisons weigh as much as this belief.
PRIOR_SAME, PRIOR_DIFFER = 19.0, 1.0
SPEED_SHARE = 0.1  # of fitness; the slowest machine is right as often as the fastest
SPEED_ROWS = 16  # rows before a machine's speed is spoken of
RECENT = 4096  # comparisons, and rows for speed, that count; then older ones count half

MAX_BLOCKS = 1024  # whose answers are remembered, 2 KiB for each dimension that is compared
MAX_COMPARED = 8  # dimensions of a row; the first ones
MAX_RUNS = 512  # of which speeds are kept
MAX_RECORDS = 4096  # machines times models

_answers = msgspec.msgpack.Decoder(tuple[tuple[Answer, ...], ...])


class Fitness(msgspec.Struct, frozen=True):
    """What is known of a machine."""

    agreement: float | None  # share of compared answers that were the same; None without any
    compared: int
    speed: float | None  # of the fastest machine at the same work, 0 to 1; None while unknown
    value: float | None  # 0 to 1; None of a machine that has not answered anything


def fitness(same: float, compared: float, speed: float | None) -> float:
    """From comparisons and speed, 0 to 1. A speed that is not known takes nothing away."""
    agreement = (PRIOR_SAME + same) / (PRIOR_SAME + PRIOR_DIFFER + compared)
    return agreement * (1 - SPEED_SHARE + SPEED_SHARE * (1.0 if speed is None else speed))


def weight(value: float | None) -> float:
    """What a machine's answer counts in a vote: its fitness, of an unknown one what is believed beforehand."""
    return fitness(0, 0, None) if value is None else value


class FitnessBook:
    """Hears every entry of answers, in any order between machines, and says how fit who is."""

    def __init__(self) -> None:
        self._names: list[str] = []  # of machines, which are known by their place here from 1 on
        self._blocks: OrderedDict[tuple[str, str, int], _Given] = OrderedDict()
        self._speeds: OrderedDict[tuple[str, str], dict[str, _Work]] = OrderedDict()  # model and run
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()  # machine and model

    def hear(self, member: str, body: Labeled | Outline) -> None:
        """A machine's answers became known, now or in an earlier life of this process."""
        model = body.about.model_digest
        self._record(member, model)
        works = _recall(self._speeds, (model, body.run_id), dict, MAX_RUNS)
        works.setdefault(member, _Work()).add(len(body.at), body.seconds)
        answers = body.answers if isinstance(body, Labeled) else _answers.decode(body.answers)
        self._compare(member, model, body, answers)

    def of(self, member: str, model: str | None = None) -> Fitness:
        """How fit a machine is with a model; None: with all it has used."""
        records = [
            record for (who, which), record in self._records.items() if who == member and model in (None, which)
        ]
        if not records:
            return Fitness(None, 0, None, None)
        same, compared = (sum(record.same for record in records), sum(record.compared for record in records))
        speed = self._speed(member, model)
        return Fitness(
            agreement=same / compared if compared else None,
            compared=round(compared),
            speed=speed,
            value=fitness(same, compared, speed),
        )

    def _speed(self, member: str, model: str | None) -> float | None:
        """Mean over the runs it worked on, by rows, of its rate relative to the fastest there."""
        total = rows = 0.0
        for (which, _), works in self._speeds.items():
            mine = works.get(member)
            if model not in (None, which) or mine is None or mine.rows < SPEED_ROWS:
                continue
            fastest = max(work.rate for work in works.values() if work.rows >= SPEED_ROWS)
            total += mine.rows * mine.rate / fastest
            rows += mine.rows
        return total / rows if rows else None

    def _compare(
        self, member: str, model: str, body: Labeled | Outline, answers: Sequence[Sequence[Answer]]
    ) -> None:
        if member not in self._names:
            self._names.append(member)
        who = self._names.index(member) + 1
        given = _recall(self._blocks, (body.run_id, *body.block), _Given, MAX_BLOCKS)
        asked = body.about.dimensions[:MAX_COMPARED]
        for number, (_, kind, _) in enumerate(asked):
            one_by_one = [row[number].logprobs for row in answers]
            same = given.compare(number, who, body.at, [_choice(kind, chances) for chances in one_by_one])
            for first, compared in same.items():
                for name in (member, self._names[first - 1]):
                    self._record(name, model).add(sum(compared), len(compared))

    def _record(self, member: str, model: str) -> _Record:
        return _recall(self._records, (member, model), _Record, MAX_RECORDS)


NOTHING = 0xFFFF  # no choice: an error, or a row left out


def _choice(kind: str, chances: Sequence[float]) -> int:
    """The likeliest label by its place, for several that apply a number made of them; NOTHING without any."""
    if not chances:
        return NOTHING
    if kind == "multi":
        return hash(tuple(chance >= APPLIES for chance in chances)) % NOTHING
    return chances.index(max(chances)) % NOTHING


class _Given:
    """First answers of a block of rows."""

    def __init__(self) -> None:
        self._dimensions: dict[int, tuple[array[int], array[int]]] = {}  # who gave it, 0 for nobody yet; and it

    def compare(self, dimension: int, who: int, at: Sequence[int], choices: list[int]) -> dict[int, list[bool]]:
        """Keep choices of rows that had none; of the others, by the machine that was first, whether they are the
        same."""
        if dimension not in self._dimensions:
            self._dimensions[dimension] = array("H", _NOBODY), array("H", _NOBODY)
        by, labels = self._dimensions[dimension]
        start, end = at[0], at[-1] + 1
        if end - start == len(at) and NOTHING not in choices and not any(by[start:end]):  # nearly always
            by[start:end] = array("H", [who]) * len(at)
            labels[start:end] = array("H", choices)
            return {}
        found: dict[int, list[bool]] = {}
        for place, label in zip(at, choices, strict=True):
            if label == NOTHING:
                continue
            first = by[place]
            if not first:
                by[place], labels[place] = who, label
            elif first != who:
                found.setdefault(first, []).append(labels[place] == label)
        return found


class _Record:
    """Comparisons of a machine's answers."""

    def __init__(self) -> None:
        self.same = 0.0
        self.compared = 0.0

    def add(self, same: int, compared: int) -> None:
        if self.compared >= RECENT:
            self.same, self.compared = self.same / 2, self.compared / 2
        self.same += same
        self.compared += compared


class _Work:
    """Rows of one run that a machine answered, and the time it took."""

    def __init__(self) -> None:
        self.rows = 0.0
        self.seconds = 0.0

    def add(self, rows: int, seconds: float) -> None:
        if self.rows >= RECENT:
            self.rows, self.seconds = self.rows / 2, self.seconds / 2
        self.rows += rows
        self.seconds += seconds if 1e-6 < seconds < 1e9 else 1e-6  # whatever a machine says, a number

    @property
    def rate(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


def _recall(memory: OrderedDict[K, V], key: K, make: type[V], most: int) -> V:
    """What is remembered under a key, made if there is nothing; what was not needed for long is forgotten."""
    found = memory.get(key)
    if found is None:
        while len(memory) >= most:
            memory.popitem(last=False)
        found = memory[key] = make()
    memory.move_to_end(key)
    return found
