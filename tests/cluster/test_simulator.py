"""Thousands of simulated histories around the core of production, and the known mistakes they have to find."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.cluster.testing.mutants import MUTANTS
from engine.cluster.testing.profiles import KINDS, kind_of, profile_of
from engine.cluster.testing.seeds import Summary, one, run, told

SEEDS = 2000
MORE_SEEDS = 100_000
PRINT_DIGESTS = (
    "from engine.cluster.testing.seeds import one\n"
    "print(*[one(seed, kind).digest for seed, kind in [(1, 'swarm'), (2, 'people'), (3, 'islands')]])"
)


def check(start: int, count: int) -> Summary:
    summary, failed = run(start, count)
    story = told(failed[0]) if failed else ""
    seeds = ", ".join(str(outcome.seed) for outcome in failed)
    assert not failed, f"{story}\n{summary.line()}\nfailed: {seeds}"
    return summary


def test_nothing_that_must_hold_is_broken_in_thousands_of_histories() -> None:
    summary = check(0, SEEDS)
    assert summary.seeds == SEEDS
    assert summary.rows > 50 * SEEDS  # they did something
    assert summary.two_leaders > SEEDS / 10  # and it was hard
    assert summary.recomputed < summary.rows / 5


@pytest.mark.soak
def test_nothing_that_must_hold_is_broken_in_very_many_histories() -> None:
    check(SEEDS, MORE_SEEDS)


@pytest.mark.parametrize("name", MUTANTS)
def test_every_known_mistake_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    for seed in range(mutant.seeds):
        found = {violation.split()[0] for violation in one(seed, mutant.kind, mutant.laws).violations}
        if found & set(mutant.found_by):
            return
    pytest.fail(f"{mutant.what} Nobody noticed in {mutant.seeds} histories.")


def test_a_seed_is_one_history() -> None:
    for seed in range(20):
        assert one(seed) == one(seed)


def test_a_seed_is_the_same_history_in_every_process() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", PRINT_DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(said[0].split()) == 3


def test_every_kind_of_history_has_its_share() -> None:
    kinds = [kind_of(seed) for seed in range(SEEDS)]
    assert all(kinds.count(kind) > SEEDS / 20 for kind in KINDS)
    assert any(profile_of(seed).encoded for seed in range(SEEDS))  # some go through the wire's own bytes


def test_a_failed_history_is_told_with_its_seed() -> None:
    mutant = MUTANTS["acknowledged-before-sync"]
    failed = next(outcome for seed in range(100) if (outcome := one(seed, mutant.kind, mutant.laws)).violations)
    story = told(failed, mutant.kind, "acknowledged-before-sync", events=30)
    assert f"seed {failed.seed}, {failed.machines} machines" in story
    assert "I1 " in story
    assert len(story.splitlines()) >= 30


def test_the_command_line_ends_with_one_line_that_says_it_all() -> None:
    command = [sys.executable, "-m", "engine.cluster.testing", "--processes", "1"]
    ended = subprocess.run([*command, "--seeds", "20"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("seeds=20 failures=0 two_leaders=")
    wrong = ["--seeds", "10", "--kind", "people", "--mutant", "clock-of-its-own", "--told", "1"]
    broken = subprocess.run([*command, *wrong], capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert "failed: I10" in broken.stdout
    assert broken.stdout.splitlines()[-1].startswith("seeds=10 failures=")
