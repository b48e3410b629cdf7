"""From what people know of a run to a calibrator, a promise and totals, as the pages ask for them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from calibration.calibrators import METHODS, from_json
from calibration.calibrators import fit as fit_calibrator
from calibration.head import Head, fit_head
from calibration.logprobs import log_softmax
from calibration.shrinkage import DomainCalibrator, fit_by_domain
from engine.client import Engine
from studio import calibrating, fitting, promising, suspects, totals
from studio.calibrating import Fitted
from studio.fitting import BY_DOMAIN, BY_LABEL, HEAD, TITLES_HERE, Apply, Fit, best_fit
from studio.promising import Asked
from studio.runtime import Studio
from tests.seeding import add_rows, fact_of, ingest, spec_of
from tests.stand_in import StandIn
from tests.waiting import wait_for
from workspace import adjusted, calibrators, decisions, draws, findings, labels, promises, runs
from workspace.decisions import DecisionEvent
from workspace.errors import RunError
from workspace.findings import Finding
from workspace.scores import yes_or_no
from workspace.store import open_store
from workspace.task import Dimension, Label, Task, join_labels

ROWS = 240
TAGS = ("u", "v", "w")
MOODS = ("good", "bad", "neither")
TASK = Task(
    name="kinds",
    dimensions=(
        Dimension(name="mood", question="Mood?", labels=tuple(Label(name=name) for name in MOODS)),
        Dimension(name="tags", question="Which?", kind="multi", labels=tuple(Label(name=name) for name in TAGS)),
        Dimension(name="mark", question="How good?", kind="score", minimum=0, maximum=10),
    ),
)


class Place:
    """A run over rows whose truth the test knows; the model is far too sure of itself."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "w.duckdb")
        self.engine = StandIn()
        self.studio = Studio(self.store, ensure=lambda folder, start: cast("Engine", self.engine))
        rng = np.random.default_rng(3)
        self.ids = add_rows(
            self.store, [f"text {i}" for i in range(ROWS)], [("news", "mail")[i % 2] for i in range(ROWS)]
        )
        self.mood = rng.integers(0, 3, ROWS)
        self.tags = rng.random((ROWS, 3)) < (0.3, 0.5, 0.7)
        self.mark = rng.integers(0, 11, ROWS)
        noise = rng.normal(size=(ROWS, 3))
        self.mood_said = log_softmax(4 * (noise + 1.8 * np.eye(3)[self.mood]))
        self.tags_said = yes_or_no(4 * (rng.normal(size=(ROWS, 3)) + 2.0 * (2.0 * self.tags - 1)))[..., 0]
        away = np.arange(11)[None, :] - (self.mark + rng.normal(0, 1.0, ROWS))[:, None]
        self.mark_said = log_softmax(-(away**2))
        self.spec = spec_of(self.store, TASK)
        runs.plan(self.store, self.spec.run_id, limit=None)
        self.number = 0

    def answer(self, rows: Sequence[int]) -> None:
        facts = []
        for row in rows:
            said = (self.mood_said[row], self.tags_said[row], self.mark_said[row])
            for asked, logprobs in zip(self.spec.dimensions, said, strict=True):
                shares = np.maximum(np.exp(logprobs), 1e-12).tolist()
                facts.append(
                    fact_of(
                        self.spec.run_id,
                        self.ids[row],
                        asked.name,
                        asked.labels,
                        shares,
                        author="m",
                        seq=self.number,
                    )
                )
                self.number += 1
        ingest(self.store, facts)

    def true(self, dimension: str, id: str) -> str:
        row = self.ids.index(id)
        if dimension == "mood":
            return MOODS[self.mood[row]]
        if dimension == "tags":
            return join_labels([name for name, on in zip(TAGS, self.tags[row], strict=True) if on], TAGS)
        return str(self.mark[row])

    def check(self, dimension: str, rows: int) -> None:
        """Draw a sample and decide it."""
        drawn = draws.draw(self.studio.store, self.run, dimension, rows)
        events = [
            DecisionEvent(seq, id, "modify", self.true(dimension, id), blind=True)
            for seq, id in enumerate(drawn.row_ids)
        ]
        decisions.record(
            self.store,
            session=f"{dimension} {drawn.number}",
            run_id=self.run,
            dimension=dimension,
            reviewer="ann",
            events=events,
        )

    def put(self, dimension: str) -> Fitted:
        fitted = calibrating.fit(self.studio, self.run, dimension)
        job = calibrating.put_in_force(self.studio, fitted)
        assert job.wait(60)
        assert job.error is None
        return fitted

    @property
    def run(self) -> str:
        return self.spec.run_id


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All rows answered and 120 of each dimension checked; tests may not decide anything more."""
    place = Place(tmp_path_factory.mktemp("answered"))
    place.answer(range(ROWS))
    for dimension in ("mood", "tags", "mark"):
        place.check(dimension, 120)
    yield place
    place.studio.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.studio.close()


@pytest.mark.parametrize("dimension", ["mood", "tags", "mark"])
def test_a_fit_makes_probabilities_truer_on_rows_it_has_not_seen(answered: Place, dimension: str) -> None:
    fitted = calibrating.fit(answered.studio, answered.run, dimension)
    assert fitted.evidence.rows == 120
    assert fitted.after.log_loss <= fitted.before.log_loss
    chosen = [one for one in fitted.tried if one.chosen]
    assert [one.method for one in chosen] == [fitted.method]
    assert chosen[0].log_loss.value == pytest.approx(fitted.after.log_loss, abs=1e-9)
    assert {one.title for one in fitted.tried} <= set(TITLES_HERE.values())
    assert {"mood": BY_DOMAIN, "mark": HEAD, "tags": BY_LABEL}[dimension] in {one.method for one in fitted.tried}
    assert fitted.why.endswith(".")
    assert calibrating.fit(answered.studio, answered.run, dimension).fit is fitted.fit


def test_one_label_of_several_is_the_same_fit_seen_alone(answered: Place) -> None:
    whole = calibrating.fit(answered.studio, answered.run, "tags")
    parts = [calibrating.fit(answered.studio, answered.run, "tags", name) for name in TAGS]
    assert [part.evidence.rows for part in parts] == [120] * 3
    assert all(part.fit is whole.fit for part in parts)
    merged = np.stack([part.out_of_fold for part in parts], axis=1).reshape(-1, 2)
    np.testing.assert_array_equal(merged, whole.out_of_fold)
    with pytest.raises(RunError, match="not asked about alone"):
        calibrating.fit(answered.studio, answered.run, "mood", "good")


@pytest.mark.parametrize("method", [*METHODS[1:], BY_DOMAIN, HEAD])
def test_labels_are_read_with_what_was_fitted_whatever_it_is(answered: Place, method: str) -> None:
    fitted = calibrating.fit(answered.studio, answered.run, "mood")
    chosen = forced(fitted, method)
    job = calibrating.put_in_force(answered.studio, chosen)
    assert job.wait(60)
    assert job.error is None
    assert adjusted.waiting(answered.store, answered.run, "mood") == 0
    shown = {row.row_id: row for row in labels.page(answered.store, answered.run, "mood", limit=ROWS)}
    reading = fitted.evidence.reading
    base = log_softmax(np.maximum(answered.mood_said, np.log(1e-12)) - np.array(reading.biases[0]))
    expected = np.exp(applied(chosen.fit, base, answered))
    found = np.array([shown[id].probabilities for id in answered.ids])
    np.testing.assert_allclose(found, expected, atol=1e-6 if method == HEAD else 1e-9)
    # Rows it was fitted on count as a fit without them has them, and only in what is promised.
    sample = promising.sample(answered.studio, answered.run, "mood")
    held_out = dict(zip(fitted.evidence.row_ids, np.exp(chosen.out_of_fold), strict=True))
    for at, id in enumerate(sample.row_ids):
        np.testing.assert_allclose(sample.probabilities[at], held_out.get(id, shown[id].probabilities), atol=1e-9)
    calibrating.take_out(answered.studio, answered.run, "mood")
    assert calibrators.active(answered.store, answered.run, "mood") is None


def test_a_head_for_several_labels_is_at_work_in_what_is_read(answered: Place) -> None:
    fitted = calibrating.fit(answered.studio, answered.run, "tags")
    assert HEAD in {one.method for one in fitted.tried}
    evidence = fitted.evidence
    odds = (evidence.logprobs[:, 0] - evidence.logprobs[:, 1]).reshape(-1, 3)
    made = fit_head(odds, 1 - evidence.truth.reshape(-1, 3), voices=odds[:, None, :])
    chosen = replace(fitted, fit=replace(fitted.fit, method=HEAD, fitted=made, temperature=1.5))
    job = calibrating.put_in_force(answered.studio, chosen)
    assert job.wait(60)
    assert job.error is None
    assert adjusted.waiting(answered.store, answered.run, "tags") == 0
    shown = {row.row_id: row for row in labels.page(answered.store, answered.run, "tags", limit=ROWS)}
    expected = 1 / (1 + np.exp(-made.apply(odds, odds[:, None, :])))
    found = np.array([shown[id].probabilities for id in evidence.row_ids[::3]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    in_force = calibrators.active(answered.store, answered.run, "tags")
    assert in_force is not None
    again = np.exp(fitting.applied(in_force, evidence, [""] * len(evidence.row_ids))[:, 0]).reshape(-1, 3)
    np.testing.assert_allclose(again, expected, atol=1e-6)
    calibrating.take_out(answered.studio, answered.run, "tags")


def forced(fitted: Fitted, method: str) -> Fitted:
    """The same, had this method been chosen."""
    evidence = fitted.evidence
    if method == BY_DOMAIN:
        made: Apply = fit_by_domain(evidence.logprobs, evidence.truth, evidence.domains)
    elif method == HEAD:
        made = fit_head(evidence.logprobs, evidence.truth, voices=evidence.voices)
    else:
        made = fit_calibrator(method, evidence.logprobs, evidence.truth)
    fit = replace(fitted.fit, method=method, fitted=made, temperature=float(getattr(made, "value", 1.5)))
    return replace(fitted, fit=fit)


def applied(fit: Fit, base: np.ndarray, place: Place) -> np.ndarray:
    """What the library itself makes of every row."""
    if fit.method == BY_DOMAIN:
        by_domain = DomainCalibrator.from_json(fit.fitted.to_json())
        return by_domain.apply(base, [("news", "mail")[row % 2] for row in range(ROWS)])
    if fit.method == HEAD:
        return Head.from_json(fit.fitted.to_json()).apply(base, base[:, None, :], None)
    return from_json(fit.fitted.to_json()).apply(base)


@pytest.mark.parametrize("dimension", ["tags", "mark"])
def test_other_kinds_are_put_in_force_as_well(answered: Place, dimension: str) -> None:
    fitted = answered.put(dimension)
    now = calibrating.fit(answered.studio, answered.run, dimension)
    assert now.current
    assert (now.in_force is None) == (fitted.method == "none")
    sample = promising.sample(answered.studio, answered.run, dimension)
    assert len(sample.checked) == 120
    held_out = fitted.out_of_fold
    if fitted.method != "none":
        ids = fitted.evidence.row_ids
        chances = np.exp(held_out[:, 0]).reshape(-1, 3) if dimension == "tags" else np.exp(held_out)
        by_id = dict(zip(ids[:: 3 if dimension == "tags" else 1], chances, strict=True))
        for at in sample.checked:
            np.testing.assert_allclose(sample.probabilities[at], by_id[sample.row_ids[at]], atol=1e-9)
    calibrating.take_out(answered.studio, answered.run, dimension)


def test_a_promise_is_counted_on_the_drawn_rows(answered: Place) -> None:
    offered = promising.promise(answered.studio, Asked(answered.run, "mood", epsilon=0.2))
    assert (offered.checked, offered.waiting, offered.population, offered.uncovered) == (120, 0, ROWS, 0)
    threshold = offered.acceptance.threshold
    assert threshold is not None
    shown = {row.row_id: row for row in answered_rows(answered)}
    above = [row for row in shown.values() if (row.probabilities and max(row.probabilities) >= threshold)]
    assert offered.acceptance.rows == len(above)
    kept = promising.accept_promise(answered.studio, offered)
    assert promising.promise(answered.studio, Asked(answered.run, "mood")).kept == kept
    promising.withdraw_promise(answered.studio, answered.run, "mood")
    assert promising.promise(answered.studio, Asked(answered.run, "mood")).kept is None
    hopeless = promising.promise(answered.studio, Asked(answered.run, "mood", epsilon=0.001))
    assert hopeless.acceptance.threshold is None
    with pytest.raises(RunError, match="Nothing can be promised"):
        promising.accept_promise(answered.studio, hopeless)


def test_what_is_exported_as_accepted_is_what_was_offered(place: Place, tmp_path: Path) -> None:
    place.answer(range(180))
    place.check("mood", 150)
    offered = promising.promise(place.studio, Asked(place.run, "mood", epsilon=0.13))
    chosen = {offered.sample.row_ids[at] for at in offered.places}
    assert 0 < len(chosen) < 180
    promising.accept_promise(place.studio, offered)
    assert promising.sample(place.studio, place.run, "mood") is offered.sample
    sure = {row.row_id: row.confidence for row in answered_rows(place)}
    place.mood_said[180:] = np.log([0.98, 0.01, 0.01])  # quite another mixture
    place.answer(range(180, ROWS))
    path = tmp_path / "out.jsonl"
    place.studio.export(place.run, path, "jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == ROWS
    assert {row["id"] for row in rows if row["mood_accepted"] and row["mood_decided_by"] == "model"} == {
        id for id in chosen if sure[id] != 1
    }
    assert {row["id"]: row["mood_confidence"] for row in rows if row["id"] in sure} == pytest.approx(sure)
    again = promising.promise(place.studio, Asked(place.run, "mood", epsilon=0.13))
    assert again.kept is not None
    promising.withdraw_promise(place.studio, place.run, "mood")
    moved = {row.row_id: row.confidence for row in answered_rows(place) if row.row_id in sure}
    assert moved != pytest.approx(sure)


def answered_rows(place: Place) -> Sequence[labels.CurrentLabel]:
    return labels.page(place.store, place.run, "mood", limit=ROWS)


def test_scores_are_promised_with_a_tolerance_and_labels_of_several_one_by_one(answered: Place) -> None:
    exact = promising.promise(answered.studio, Asked(answered.run, "mark", epsilon=0.2, tolerance=0.0))
    near = promising.promise(answered.studio, Asked(answered.run, "mark", epsilon=0.2, tolerance=2.0))
    assert exact.acceptance.rows < near.acceptance.rows
    one = promising.promise(answered.studio, Asked(answered.run, "tags", epsilon=0.2, label="u"))
    every = promising.promise(answered.studio, Asked(answered.run, "tags", epsilon=0.2))
    assert one.acceptance.rows >= every.acceptance.rows
    # Both are kept beside each other, and each is withdrawn alone.
    kept = []
    for label in (None, "u"):
        offer = promising.promise(answered.studio, Asked(answered.run, "tags", epsilon=0.2, label=label))
        kept.append(promising.accept_promise(answered.studio, offer))
    assert [(mine.label, mine.rows) for mine in kept] == [("", every.acceptance.rows), ("u", one.acceptance.rows)]
    assert promises.all_in_force(answered.store, answered.run, "tags") == kept
    promising.withdraw_promise(answered.studio, answered.run, "tags", "u")
    assert promises.all_in_force(answered.store, answered.run, "tags") == kept[:1]
    promising.withdraw_promise(answered.studio, answered.run, "tags")


def test_totals_come_nearer_to_the_truth_than_the_model(answered: Place) -> None:
    found = totals.totals(answered.studio, answered.run, "tags")
    assert found.names == TAGS
    for share, true in zip(found.shares, answered.tags.mean(axis=0), strict=True):
        assert share.corrected.low - 0.02 <= true <= share.corrected.high + 0.02
    mark = totals.totals(answered.studio, answered.run, "mark").mean
    assert mark is not None
    assert mark.corrected.low <= answered.mark.mean() <= mark.corrected.high
    assert totals.totals(answered.studio, answered.run, "mood").mean is None


@pytest.mark.parametrize("dimension", ["mood", "tags", "mark"])
def test_suspects_are_known_labels_the_model_doubts(answered: Place, dimension: str) -> None:
    fitted = calibrating.fit(answered.studio, answered.run, dimension)
    told, found = suspects.suspects(answered.studio, fitted)
    assert len(found) == min(100, len(told.places))
    assert all(one.given != one.suggested and one.margin <= 0 and one.text for one in found)
    assert (dimension == "tags") == any(one.name for one in found)


def test_rows_that_come_later_are_adjusted_by_themselves_and_before_an_export(
    place: Place, tmp_path: Path
) -> None:
    place.answer(range(150))
    place.check("mood", 120)
    fitted = calibrating.fit(place.studio, place.run, "mood")
    calibrating.put_in_force(place.studio, forced(fitted, "isotonic")).wait(60)
    assert adjusted.waiting(place.store, place.run, "mood") == 0
    place.answer(range(150, 200))
    wait_for(lambda: _looked(place), "the new rows to be adjusted")
    place.answer(range(200, ROWS))
    path = tmp_path / "out.csv"
    place.studio.export(place.run, path, "csv")
    assert adjusted.waiting(place.store, place.run, "mood") == 0
    shown = {row.row_id: row for row in answered_rows(place)}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            assert float(row["mood_confidence"]) == pytest.approx(shown[row["id"]].confidence)
    said = json.loads((tmp_path / "out.stats.json").read_text())["calibration"]["mood"]
    assert (said["calibrator"]["method"], said["promise"]) == ("isotonic", None)


def _looked(place: Place) -> bool:
    place.studio.adjusting.look()
    return adjusted.waiting(place.store, place.run, "mood") == 0


def test_a_new_decision_is_fitted_on_at_once(place: Place) -> None:
    place.answer(range(ROWS))
    with pytest.raises(RunError, match="known label"):
        calibrating.fit(place.studio, place.run, "mood")
    place.check("mood", 30)
    assert calibrating.fit(place.studio, place.run, "mood").evidence.rows == 30
    before = place.put("mood")
    place.check("mood", 5)
    again = calibrating.fit(place.studio, place.run, "mood")
    assert again.evidence.rows == 35
    assert again.current == (before.method == again.method == "none")
    offered = promising.promise(place.studio, Asked(place.run, "mood"))
    drawn = draws.draw(place.studio.store, place.run, "mood", 3)
    assert promising.standing(place.studio, place.run, "mood").waiting == 3 == len(drawn.row_ids)
    if offered.acceptance.threshold is not None:
        with pytest.raises(RunError, match="wait to be checked"):
            promising.accept_promise(place.studio, offered)


def test_few_rows_change_nothing(place: Place) -> None:
    place.answer(range(20))
    place.check("mood", 4)
    fitted = calibrating.fit(place.studio, place.run, "mood")
    assert (fitted.method, fitted.current) == ("none", True)
    assert findings.newest(place.store, place.run, "mood") == Finding("none", fitted.evidence.rows)
    assert best_fit(fitted.evidence).tried == fitted.tried
