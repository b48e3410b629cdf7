"""Fitness of machines: laws of the numbers, and what entries of answers teach."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cluster import fitness as rules
from engine.cluster.core import Core
from engine.cluster.entries import About, Entry, Labeled, Outline, encode, outline
from engine.cluster.fitness import FitnessBook, fitness, weight
from engine.labeler import Answer

LABELS = ("yes", "no", "maybe")
BLOCK_AUTHOR = "a" * 32 + "." + "b" * 16
COUNTS = st.integers(0, 100_000)
SHARES = st.floats(0, 1)


def answers(
    labels: Sequence[int],
    *,
    seconds: float = 1.0,
    run: str = "run",
    model: str = "model",
    first: int = 0,
    block: int = 0,
    failed: Sequence[int] = (),
) -> Labeled:
    """An entry that gives the rows from `first` on these labels."""
    at = tuple(range(first, first + len(labels)))

    def answer(label: int) -> Answer:
        chances = [0.1, 0.1, 0.1]
        chances[label] = 0.8
        return Answer(tuple(math.log(chance) for chance in chances), 10, 0, 0.01)

    return Labeled(
        run_id=run,
        block=(BLOCK_AUTHOR, block),
        at=at,
        failed=tuple(failed),
        seconds=seconds,
        rows=tuple(f"row-{place}" for place in at),
        answers=tuple(
            (Answer((), 0, 0, 0.0, (), "broken") if place in failed else answer(label),)
            for place, label in zip(at, labels, strict=True)
        ),
        about=About((("d", "single", LABELS),), "name", model, "prompt", "node", "claim", 1, 0.0),
    )


@given(COUNTS, COUNTS, st.none() | SHARES)
def test_fitness_is_between_0_and_1(same: int, differ: int, speed: float | None) -> None:
    value = fitness(same, same + differ, speed)
    assert 0 <= value <= 1
    assert weight(value) == value


@given(COUNTS, COUNTS, st.integers(1, 1000), SHARES)
def test_more_agreement_is_never_less_fit(same: int, differ: int, more: int, speed: float) -> None:
    compared = same + differ
    assert fitness(same + more, compared + more, speed) >= fitness(same, compared, speed)
    assert fitness(same, compared + more, speed) < fitness(same, compared, speed)


@given(COUNTS, COUNTS, SHARES, SHARES)
def test_faster_is_never_less_fit_and_slow_costs_little(same: int, differ: int, one: float, two: float) -> None:
    slow, fast = sorted((one, two))
    compared = same + differ
    assert fitness(same, compared, slow) <= fitness(same, compared, fast) <= fitness(same, compared, None)
    assert fitness(same, compared, 0.0) >= 0.9 * fitness(same, compared, 1.0) - 1e-12


def test_a_belief_beforehand_weighs_as_much_as_twenty_comparisons() -> None:
    assert fitness(0, 0, None) == pytest.approx(0.95)
    assert fitness(0, 20, None) == pytest.approx(0.95 / 2)
    assert weight(None) == fitness(0, 0, None)


def test_nothing_is_known_of_a_machine_that_has_not_answered() -> None:
    known = FitnessBook().of("nobody")
    assert (known.agreement, known.compared, known.speed, known.value) == (None, 0, None, None)


def test_the_same_rows_answered_twice_are_compared() -> None:
    book = FitnessBook()
    book.hear("one", answers([0, 1, 2, 0]))
    assert book.of("one").agreement is None
    assert book.of("one").value == pytest.approx(0.95)
    book.hear("two", answers([0, 1, 0, 0]))
    for machine in ("one", "two"):
        known = book.of(machine)
        assert (known.agreement, known.compared) == (0.75, 4)
        assert known.value == fitness(3, 4, None)


def test_a_third_machine_shows_who_is_wrong() -> None:
    book, right = FitnessBook(), [number % 3 for number in range(200)]
    book.hear("good", answers(right))
    book.hear("broken", answers([0] * 200))
    book.hear("also good", answers(right))
    values = {machine: book.of(machine).value or 0.0 for machine in ("good", "broken", "also good")}
    assert values["broken"] < values["good"] < values["also good"]


def test_what_cannot_be_compared_is_not() -> None:
    book = FitnessBook()
    book.hear("one", answers([0, 0, 0, 0], failed=[0]))
    book.hear("one", answers([1, 1, 1, 1]))  # itself
    book.hear("two", answers([1, 1], run="other run"))
    book.hear("two", answers([1, 1], block=1))
    book.hear("two", answers([1, 1], first=10))
    book.hear("two", answers([1, 1, 1], failed=[0, 1, 2]))
    assert book.of("one").compared == book.of("two").compared == 0


def test_speed_is_that_of_the_fastest_at_the_same_work() -> None:
    book = FitnessBook()
    book.hear("fast", answers([0] * 100, seconds=1.0))
    book.hear("slow", answers([0] * 100, seconds=4.0, first=100))
    book.hear("slow", answers([0] * 100, seconds=1.0, run="easy run"))  # nobody else did this
    assert book.of("fast").speed == 1.0
    assert book.of("slow").speed == pytest.approx((0.25 + 1.0) / 2)
    assert (book.of("slow").value or 1) < (book.of("fast").value or 0)


def test_a_few_rows_say_nothing_of_speed() -> None:
    book = FitnessBook()
    book.hear("one", answers([0] * 5, seconds=100.0))
    assert book.of("one").speed is None
    assert book.of("one").value == pytest.approx(0.95)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, -math.inf, 1e300])
def test_whatever_time_a_machine_claims_fitness_is_a_number(seconds: float) -> None:
    book = FitnessBook()
    book.hear("one", answers([0] * 30, seconds=seconds))
    book.hear("two", answers([0] * 30, seconds=2.0))
    for machine in ("one", "two"):
        assert 0 <= (book.of(machine).value or -1) <= 1


def test_models_are_told_apart() -> None:
    book = FitnessBook()
    book.hear("one", answers([0] * 30, model="small"))
    book.hear("two", answers([0] * 30, model="small"))
    book.hear("one", answers([0] * 30, model="large", run="r2"))
    book.hear("two", answers([1] * 30, model="large", run="r2"))
    assert (book.of("one", "small").agreement, book.of("one", "large").agreement) == (1.0, 0.0)
    assert (book.of("one").agreement, book.of("one").compared) == (0.5, 60)
    assert book.of("one", "unknown").value is None


def test_what_is_read_back_from_disk_teaches_the_same() -> None:
    book, entry = FitnessBook(), answers([0] * 30, seconds=2.0)
    read = outline(encode(entry))
    assert isinstance(read, Outline)
    book.hear("one", read)
    book.hear("two", entry)
    assert book.of("one").speed == 1.0
    assert book.of("one").compared == book.of("two").compared == 30


def test_an_old_record_is_forgotten_step_by_step() -> None:
    book = FitnessBook()
    for block in range(20):
        book.hear("one", answers([0] * 500, block=block))
        book.hear("two", answers([0] * 500, block=block))
    assert book.of("two").agreement == 1.0
    assert book.of("two").compared <= rules.RECENT + 500
    for block in range(20, 40):
        book.hear("one", answers([0] * 500, block=block))
        book.hear("two", answers([1] * 500, block=block))
    assert (book.of("two").agreement or 0) < 0.3


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_BLOCKS", 10)
    monkeypatch.setattr(rules, "MAX_RUNS", 5)
    monkeypatch.setattr(rules, "MAX_RECORDS", 7)
    book = FitnessBook()
    for number in range(100):
        book.hear("one", answers([0], block=number, run=f"run {number}", model=f"model {number}"))
    sizes = len(book._blocks), len(book._speeds), len(book._records)
    assert sizes == (10, 5, 7)
    assert book.of("one").value is not None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 2)), max_size=30), st.randoms()
)
def test_of_two_machines_the_order_of_what_is_heard_does_not_matter(
    heard: list[tuple[str, int, int]], chance: random.Random
) -> None:
    """Each gives each row one answer: then who came first changes nothing."""
    given_ = {(machine, row): label for machine, row, label in heard if machine != "c"}
    entries = [(machine, answers([label], first=row)) for (machine, row), label in given_.items()]
    expected, book = FitnessBook(), FitnessBook()
    for machine, entry in entries:
        expected.hear(machine, entry)
    chance.shuffle(entries)
    for machine, entry in entries:
        book.hear(machine, entry)
    for machine in "ab":
        assert book.of(machine) == expected.of(machine)


def test_what_a_core_applies_is_heard() -> None:
    core = Core(f"{'c' * 32}.{'d' * 16}", "boot", "cluster", 0.0)
    for machine in "ab":
        author = f"{machine * 32}.{'e' * 16}"
        body = encode(answers([0] * 20, seconds=1.0 if machine == "a" else 2.0))
        core.load([Entry(author, 0, 20, body)], 0)
    assert (core.fitness.of("a" * 32).speed, core.fitness.of("b" * 32).speed) == (1.0, 0.5)
