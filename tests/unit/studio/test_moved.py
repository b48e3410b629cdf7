"""Rows that were labeled after a calibrator was fitted, and look different from those before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from calibration.logprobs import FloatArray, log_softmax
from studio import drifting
from studio.fitting import HEAD
from tests.seeding import add_rows, fact_of, ingest
from tests.unit.studio.test_drifting import FITTED, MOODS, ROWS, TAGS, Place
from workspace import decisions, runs, since


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.studio.close()


def usual(rows: int, seed: int) -> FloatArray:
    """What the model says of rows of the kind it was asked about before [rows, 3]."""
    return np.exp(log_softmax(2.5 * 1.5 * np.random.default_rng(seed).normal(size=(rows, 3))))


def answer(place: Place, shares: FloatArray, first: int) -> list[str]:
    """New rows, numbered from `first` on, labeled from now on; their ids."""
    ids = add_rows(place.store, [f"new {first + row}" for row in range(len(shares))], first=ROWS + first)
    runs.plan(place.store, place.run, limit=None)
    now, seq = time.time(), 2 * (ROWS + first)
    # Moments are kept in microseconds: ten apart, no two rows fall on the same one.
    facts = [
        fact_of(place.run, id, name, labels, said, seq=seq + 2 * row + at, made_at=now + row / 1e5)
        for row, (id, share) in enumerate(zip(ids, shares.tolist(), strict=True))
        for at, (name, labels, said) in enumerate((("mood", MOODS, share), ("tags", TAGS, share[:2])))
    ]
    ingest(place.store, facts)
    return ids


def test_new_rows_of_another_kind_are_noticed_and_those_of_the_same_kind_are_not(place: Place) -> None:
    # Whoever decides the unsure rows first leaves the sure ones unchecked: that alone is no shift.
    unsure = decisions.queue(place.store, place.run, "mood", session="s", limit=FITTED)
    numbers = {id: number for number, id in enumerate(place.ids)}
    place.check("mood", [numbers[item.row_id] for item in unsure])
    assert drifting.moved(place.studio, place.run, "mood") is None  # nothing is in force
    place.put("mood", HEAD)
    assert drifting.moved(place.studio, place.run, "mood") is None
    answer(place, usual(250, seed=8), first=0)
    assert drifting.moved(place.studio, place.run, "mood") is None
    strange = answer(place, np.tile([0.4, 0.32, 0.28], (160, 1)), first=250)
    found = drifting.moved(place.studio, place.run, "mood")
    assert found is not None
    assert (found.rows, len(found.row_ids)) == (400, 400)  # the first 400 of 410
    assert len(found.row_ids & set(strange)) == 150
    assert found.shift.now < found.shift.before - 0.2
    assert found.checked(drifting.NOTHING_NEW) == 0
    place.ids += strange
    place.mood = np.concatenate([place.mood, np.zeros(160, dtype=np.int64)])
    place.check("mood", range(ROWS, ROWS + 40))
    assert found.checked(drifting.drift(place.studio, place.run, "mood")) == 40
    place.put("mood", "temperature")  # a fit made since then has seen them, as rows labeled before it
    assert drifting.moved(place.studio, place.run, "mood") is None


def test_too_few_new_rows_say_nothing(place: Place) -> None:
    place.check("mood", range(FITTED))
    place.put("mood")
    answer(place, np.tile([0.4, 0.32, 0.28], (99, 1)), first=0)
    assert drifting.moved(place.studio, place.run, "mood") is None


def test_how_sure_the_model_was_does_not_depend_on_what_people_or_calibrators_say(place: Place) -> None:
    moment = datetime.now(UTC)  # the answers of `Place` are old

    new = answer(place, usual(50, seed=1), first=0)

    def asked(dimension: str) -> since.Sureness:
        return since.sureness(place.store, place.run, dimension, moment, first=40, most=30)

    for dimension in ("mood", "tags"):
        before = asked(dimension)
        assert since.rows_since(place.store, place.run, dimension, moment) == 50
        assert (len(before.before), len(before.now)) == (30, 30)
        assert before.row_ids == sorted(new[:40])[:30]
        assert all(((sure > 0) & (sure <= 1)).all() for sure in (before.before, before.now))
        place.check(dimension, range(FITTED))
        place.put(dimension, "temperature" if dimension == "mood" else "platt")
        after = asked(dimension)
        assert np.array_equal(after.before, before.before)
        assert np.array_equal(after.now, before.now)
