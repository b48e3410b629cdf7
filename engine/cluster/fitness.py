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

K = TypeVar("K")
V = TypeVar("V")

# What is believed of a machine before anything was compared: 19 of 20 answers are as others give them. It is a
# Beta(19, 1) distribution, so twenty comparisons weigh as much as this belief.
PRIOR_SAME, PRIOR_DIFFER = 19.0, 1.0
SPEED_SHARE = 0.1  # of fitness; the slowest machine is right as often as the fastest
SPEED_ROWS = 16  # answers before a machine's speed is spoken of
RECENT = 4096  # comparisons, and answers for speed, that count; then older ones count half

MAX_BLOCKS = 2048  # whose answers are remembered, 2 KiB each
MAX_QUESTIONS = 512  # dimensions of runs of which speeds are kept
MAX_RECORDS = 4096  # machines times models

_answers = msgspec.msgpack.Decoder(tuple[Answer, ...])

Question = tuple[str, int]  # run and dimension: the same work for every machine


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
        self._blocks: OrderedDict[tuple[Question, str, int], _Given] = OrderedDict()
        self._speeds: OrderedDict[tuple[str, Question], dict[str, _Work]] = OrderedDict()  # model and question
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()  # machine and model

    def hear(self, member: str, body: Labeled | Outline) -> None:
        """A machine's answers became known, now or in an earlier life of this process."""
        question, model = (body.run_id, body.dimension), body.about.model_digest
        self._record(member, model)
        works = _recall(self._speeds, (model, question), dict, MAX_QUESTIONS)
        works.setdefault(member, _Work()).add(len(body.at), body.seconds)
        answers = body.answers if isinstance(body, Labeled) else _answers.decode(body.answers)
        self._compare(member, model, question, body, answers)

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
        """Mean over the questions it was asked, by answers, of its rate relative to the fastest there."""
        total = answers = 0.0
        for (which, _), works in self._speeds.items():
            mine = works.get(member)
            if model not in (None, which) or mine is None or mine.answers < SPEED_ROWS:
                continue
            fastest = max(work.rate for work in works.values() if work.answers >= SPEED_ROWS)
            total += mine.answers * mine.rate / fastest
            answers += mine.answers
        return total / answers if answers else None

    def _compare(
        self, member: str, model: str, question: Question, body: Labeled | Outline, answers: Sequence[Answer]
    ) -> None:
        if member not in self._names:
            self._names.append(member)
        number = self._names.index(member) + 1
        given = _recall(self._blocks, (question, *body.block), _Given, MAX_BLOCKS)
        by, labels, failed = given.by, given.labels, set(body.failed)
        first_place, end = body.at[0], body.at[-1] + 1
        if not failed and end - first_place == len(body.at) and not any(by[first_place:end]):  # nearly always
            best = [answer.logprobs.index(max(answer.logprobs)) for answer in answers if answer.logprobs]
            if len(best) == len(answers):
                by[first_place:end] = array("H", [number]) * len(best)
                labels[first_place:end] = array("H", best)
                return
        found: dict[int, list[bool]] = {}  # by the machine that was first: same or not
        for place, answer in zip(body.at, answers, strict=True):
            chances = answer.logprobs
            if not chances or place in failed:
                continue
            label = chances.index(max(chances))
            first = by[place]
            if not first:
                by[place], labels[place] = number, label
            elif first != number:
                found.setdefault(first, []).append(labels[place] == label)
        for first, same in found.items():
            for who in (member, self._names[first - 1]):
                self._record(who, model).add(sum(same), len(same))

    def _record(self, member: str, model: str) -> _Record:
        return _recall(self._records, (member, model), _Record, MAX_RECORDS)


class _Given:
    """First answers of a block of rows."""

    def __init__(self) -> None:
        self.by = array("H", bytes(2 * BLOCK_ROWS))  # machine, 0 for nobody yet
        self.labels = array("H", bytes(2 * BLOCK_ROWS))


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
    """Answers of a machine to one question, and the time they took."""

    def __init__(self) -> None:
        self.answers = 0.0
        self.seconds = 0.0

    def add(self, answers: int, seconds: float) -> None:
        if self.answers >= RECENT:
            self.answers, self.seconds = self.answers / 2, self.seconds / 2
        self.answers += answers
        self.seconds += seconds if 1e-6 < seconds < 1e9 else 1e-6  # whatever a machine says, a number

    @property
    def rate(self) -> float:
        return self.answers / self.seconds if self.seconds else 0.0


def _recall(memory: OrderedDict[K, V], key: K, make: type[V], most: int) -> V:
    """What is remembered under a key, made if there is nothing; what was not needed for long is forgotten."""
    found = memory.get(key)
    if found is None:
        while len(memory) >= most:
            memory.popitem(last=False)
        found = memory[key] = make()
    memory.move_to_end(key)
    return found
