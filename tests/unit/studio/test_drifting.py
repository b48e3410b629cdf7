"""A calibrator in force against labels that come after it was fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from calibration.calibrators import fit as fit_calibrator
from calibration.head import fit_head
from calibration.logprobs import FloatArray, log_softmax
from engine.client import Engine
from studio import calibrating, drifting
from studio.calibrating import Fitted
from studio.fitting import HEAD, Apply
from studio.runtime import Studio
from tests.seeding import add_rows, fact_of, ingest, spec_of
from tests.stand_in import StandIn
from workspace import calibrators, decisions, labels, runs, truth
from workspace.decisions import DecisionEvent
from workspace.scores import yes_or_no
from workspace.store import open_store
from workspace.task import Dimension, Label, Task, join_labels

ROWS, FITTED, LATER = 300, 120, 240
MOODS, TAGS = ("good", "bad", "neither"), ("u", "v")
NODES = ("attic", "cellar")
TASK = Task(
    name="kinds",
    dimensions=(
        Dimension(name="mood", question="Mood?", labels=tuple(Label(name=name) for name in MOODS)),
        Dimension(name="tags", question="Which?", kind="multi", labels=tuple(Label(name=name) for name in TAGS)),
    ),
)


class Place:
    """A model that is too sure of itself, on two machines by turns; every row is answered, none is checked yet."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "w.duckdb")
        self.studio = Studio(self.store, ensure=lambda folder, start: cast("Engine", StandIn()))
        self.ids = add_rows(self.store, [f"text {i}" for i in range(ROWS)])
        rng = np.random.default_rng(5)
        honest = 1.5 * rng.normal(size=(ROWS, 3))
        odds = 2.0 * rng.normal(size=(ROWS, 2))
        self.mood = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
        self.tags = rng.random(odds.shape) < 1 / (1 + np.exp(-odds))
        self.spec = spec_of(self.store, TASK)
        runs.plan(self.store, self.run, limit=None)
        said: tuple[FloatArray, ...] = (log_softmax(2.5 * honest), yes_or_no(2.5 * odds)[..., 0])
        ingest(
            self.store,
            [
                fact_of(
                    self.run, id, asked.name, asked.labels, np.exp(shares[row]).tolist(),
                    seq=2 * row + place, node=NODES[row % 2],
                )
                for row, id in enumerate(self.ids)
                for place, (asked, shares) in enumerate(zip(self.spec.dimensions, said, strict=True))
            ],
        )  # fmt: skip

    @property
    def run(self) -> str:
        return self.spec.run_id

    def answer_more(self, rows: int) -> None:
        """As many new rows, all of which the model finds good: what it leans to is another thing then."""
        ids = add_rows(self.store, [f"more {i}" for i in range(rows)], first=ROWS)
        runs.plan(self.store, self.run, limit=None)
        ingest(
            self.store,
            [
                fact_of(self.run, id, "mood", MOODS, (0.98, 0.01, 0.01), seq=2 * ROWS + place)
                for place, id in enumerate(ids)
            ],
        )

    def check(self, dimension: str, numbers: Sequence[int], wrong: Sequence[int] = (), blind: bool = True) -> None:
        """Decide these rows as they truly are, and those of `wrong` otherwise."""
        events = [
            DecisionEvent(seq, self.ids[row], "modify", self._true(dimension, row, row in set(wrong)), blind=blind)
            for seq, row in enumerate(numbers)
        ]
        session = f"{dimension} {blind} {numbers[0]}"
        decisions.record(
            self.store, session=session, run_id=self.run, dimension=dimension, reviewer="ann", events=events
        )

    def _true(self, dimension: str, row: int, wrong: bool) -> str:
        if dimension == "mood":
            return MOODS[(self.mood[row] + wrong) % 3]
        true = self.tags[row].copy()
        true[0] ^= wrong
        return join_labels([name for name, on in zip(TAGS, true, strict=True) if on], TAGS)

    def put(self, dimension: str, method: str = "") -> Fitted:
        """Put what suits into force, or this method."""
        fitted = calibrating.fit(self.studio, self.run, dimension)
        if method:
            known = fitted.evidence
            made: Apply = (
                fit_head(known.logprobs, known.truth, voices=known.voices)
                if method == HEAD
                else fit_calibrator(method, known.logprobs, known.truth)
            )
            value = float(getattr(made, "value", 1.5))
            fitted = replace(fitted, fit=replace(fitted.fit, method=method, fitted=made, temperature=value))
        job = calibrating.put_in_force(self.studio, fitted)
        assert job.wait(60)
        assert job.error is None
        return fitted


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.studio.close()


@pytest.mark.parametrize("dimension", ["mood", "tags"])
def test_later_labels_that_agree_say_so_and_rows_of_the_fit_never_count(place: Place, dimension: str) -> None:
    place.check(dimension, range(FITTED))
    assert drifting.drift(place.studio, place.run, dimension) == drifting.NOTHING_NEW  # nothing is in force
    assert place.put(dimension).method != "none"
    assert drifting.drift(place.studio, place.run, dimension) == drifting.NOTHING_NEW
    place.check(dimension, range(FITTED, LATER))
    found = drifting.drift(place.studio, place.run, dimension)
    assert (found.rows, found.broken) == (120, ())
    assert {group.node for group in found.groups} == set(NODES)
    assert {group.label for group in found.groups} == (set(TAGS) if dimension == "tags" else {""})
    assert {group.check.rows for group in found.groups} == {60}
    assert drifting.drift(place.studio, place.run, dimension) is found
    # Neither what is said of the rows of the fit afterwards counts, nor what is said with the suggestion in sight.
    place.check(dimension, range(1, 100), wrong=range(100))
    place.check(dimension, range(LATER, ROWS), wrong=range(LATER, ROWS), blind=False)
    again = drifting.drift(place.studio, place.run, dimension)
    assert (again.rows, again.broken) == (120, ())


def test_labels_that_contradict_name_the_machine_and_a_fit_with_them_settles_it(place: Place) -> None:
    place.check("mood", range(FITTED))
    place.put("mood")
    later = range(FITTED, ROWS)
    place.check("mood", later, wrong=[row for row in later if NODES[row % 2] == "cellar"])
    found = drifting.drift(place.studio, place.run, "mood")
    assert found.rows == ROWS - FITTED
    (broken,) = found.broken
    assert broken.words == f"{place.spec.model.name} on cellar"
    assert broken.check.why.startswith("The calibration no longer fits")
    place.put("mood")
    assert drifting.drift(place.studio, place.run, "mood") == drifting.NOTHING_NEW


def test_a_label_of_several_is_named_where_only_it_goes_wrong(place: Place) -> None:
    place.check("tags", range(FITTED))
    place.put("tags")
    later = range(FITTED, ROWS)
    place.check("tags", later, wrong=[row for row in later if NODES[row % 2] == "attic"])
    (broken,) = drifting.drift(place.studio, place.run, "tags").broken
    assert broken.words == f"{place.spec.model.name} on attic, “u”"


def test_what_is_checked_are_the_probabilities_people_see(place: Place) -> None:
    for dimension in ("mood", "tags"):
        place.check(dimension, range(FITTED))
    for dimension, method in (("mood", "temperature"), ("mood", HEAD), ("tags", "platt")):
        place.put(dimension, method)
        later = range(FITTED, FITTED + 40) if method == "temperature" else range(FITTED, ROWS)
        seen_by_fit = calibrators.fitted_on(place.store, in_force(place, dimension))
        place.check(dimension, later)
        if method == HEAD:
            place.answer_more(100)
        found = drifting.drift(place.studio, place.run, dimension)
        shown = {
            row.row_id: row.probabilities for row in labels.page(place.store, place.run, dimension, limit=ROWS)
        }
        for group in found.groups:
            rows = [row for row in later if NODES[row % 2] == group.node and place.ids[row] not in seen_by_fit]
            assert group.check.rows == len(rows) > 0
            seen = np.array([shown[place.ids[row]] for row in rows])
            applies = seen[:, TAGS.index(group.label)] if group.label else np.zeros(0)
            top = np.maximum(applies, 1 - applies) if group.label else seen.max(axis=1)
            # What texts are about is found out in blocks, where the last digits depend on the block.
            assert group.check.said == pytest.approx(top.mean(), abs=1e-6 if method == HEAD else 1e-9)


def in_force(place: Place, dimension: str) -> str:
    found = calibrators.active(place.store, place.run, dimension)
    assert found is not None
    return found.id


def test_a_calibrator_that_kept_no_rows_of_its_fit_is_not_judged(place: Place) -> None:
    place.check("mood", range(FITTED))
    assert truth.known_rows(place.store, place.run, "mood") == FITTED
    calibrators.save(place.store, place.run, "mood", "temperature", {"temperature": 0.01}, {"rows": 3})
    assert drifting.drift(place.studio, place.run, "mood") == drifting.NOTHING_NEW
