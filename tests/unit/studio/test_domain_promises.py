"""A promise in every domain by itself: what it accepts, what it lacks, and what exports make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from engine.client import Engine
from studio import domain_promises, promising
from studio.promising import Asked
from studio.runtime import Studio
from tests.seeding import SENTIMENT, add_rows, fact_of, ingest, spec_of, task_of
from tests.stand_in import StandIn
from workspace import accepted, decisions, draws, exports, promises, runs
from workspace.decisions import DecisionEvent
from workspace.errors import RunError
from workspace.store import open_store

MOOD = "sentiment"


class Place:
    """A run over rows of some domains; in those that begin with "bad" every third label is wrong."""

    def __init__(self, folder: Path, domains: Sequence[str]) -> None:
        self.store = open_store(folder / "w.duckdb")
        engine = StandIn()
        self.studio = Studio(self.store, ensure=lambda folder, start: cast("Engine", engine))
        self.ids = add_rows(self.store, [f"text {place}" for place in range(len(domains))], domains)
        self.domain = dict(zip(self.ids, domains, strict=True))
        spec = spec_of(self.store, task_of(SENTIMENT))
        self.run = spec.run_id
        runs.plan(self.store, self.run, limit=None)
        facts = []
        self.truth = {}
        for place, id in enumerate(self.ids):
            said = place // 3 % 3
            sure = 0.9 + 0.09 * (place * 31 % 97) / 97
            shares = [sure if label == said else (1 - sure) / 2 for label in range(3)]
            facts.append(fact_of(self.run, id, MOOD, SENTIMENT, shares, seq=place))
            wrong = domains[place].startswith("bad") and place // 9 % 3 == 0
            self.truth[id] = SENTIMENT[(said + wrong) % 3]
        ingest(self.store, facts)

    def decide(self, row_ids: Sequence[str], session: str = "s") -> None:
        events = [
            DecisionEvent(seq, id, "modify", self.truth[id], seconds=3, blind=True)
            for seq, id in enumerate(row_ids)
        ]
        decisions.record(
            self.store, session=session, run_id=self.run, dimension=MOOD, reviewer="ann", events=events
        )

    def promise(self) -> domain_promises.DomainPromise:
        return domain_promises.promise(self.studio, Asked(self.run, MOOD, epsilon=0.1))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, [("mail", "bad", "")[n % 3] for n in range(300)])
    yield made
    made.studio.close()


def test_it_is_accepted_and_withdrawn_as_one_and_each_row_follows_its_domain(place: Place, tmp_path: Path) -> None:
    place.decide(draws.draw(place.studio.store, place.run, MOOD, 200).row_ids)
    offered = place.promise()
    assert list(offered.domains) == ["", "bad", "mail"]
    assert [one.rows for one in offered.domains.values()] == [100, 100, 100]
    assert sum(one.checked for one in offered.domains.values()) == 200
    assert offered.domains["bad"].acceptance.threshold is None
    assert offered.each == pytest.approx(0.05 / 3)
    thresholds = {name: one.acceptance.threshold for name, one in offered.domains.items()}
    assert thresholds[""] is not None
    assert thresholds["mail"] is not None
    chosen = {offered.sample.row_ids[at] for at in offered.places}
    said = dict(zip(offered.sample.row_ids, offered.sample.confidence, strict=True))
    for id, domain in place.domain.items():
        limit = thresholds[domain]
        assert (id in chosen) == (limit is not None and said[id] >= limit)
    assert offered.sentence.startswith(f"{len(chosen)} of 300 rows can be accepted (")
    assert "none of 100 of bad" in offered.sentence

    kept = promising.accept_promise(place.studio, offered)
    assert (kept.by_domain, kept.rows, kept.parts) == (True, len(chosen), offered.parts)
    (told,) = accepted.told(place.store, place.run)
    out = exports.export(place.store, place.run, tmp_path / "out.jsonl", "jsonl").path
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["id"] for row in rows if row[told.column]} == chosen | set(decided(place))
    # The one about all rows takes its place, and is not the same.
    together = promising.promise(place.studio, Asked(place.run, MOOD, epsilon=0.4))
    assert together.kept == kept
    assert not promising.accept_promise(place.studio, together).by_domain
    promising.accept_promise(place.studio, place.promise())
    promising.withdraw_promise(place.studio, place.run, MOOD)
    assert promises.all_in_force(place.store, place.run, MOOD) == []


def decided(place: Place) -> list[str]:
    with place.store.read() as con:
        return [id for (id,) in con.execute("select distinct row_id from decisions").fetchall()]


def test_what_is_missing_is_drawn_where_it_is_missing(place: Place) -> None:
    place.decide(draws.draw(place.studio.store, place.run, MOOD, 10).row_ids, "first")
    mail = [id for id in place.ids if place.domain[id] == "mail"]
    place.decide(draws.draw(place.store, place.run, MOOD, 90, among=mail).row_ids, "second")
    offered = place.promise()
    lacking = {name for name, one in offered.domains.items() if one.acceptance.more}
    assert lacking == {"", "bad"}
    assert offered.missing == sum(offered.domains[name].acceptance.more or 0 for name in lacking)
    assert offered.more_minutes == pytest.approx(offered.missing * 3 / 60)
    drawn = domain_promises.draw_missing(place.studio, offered)
    assert {place.domain[id] for id in drawn.row_ids} == lacking
    assert len(drawn.row_ids) == offered.missing
    with pytest.raises(RunError, match="wait to be checked"):
        promising.accept_promise(place.studio, place.promise())


@pytest.mark.parametrize("number", [1, domain_promises.MOST_DOMAINS + 1])
def test_one_domain_or_very_many_are_looked_at_together(tmp_path: Path, number: int) -> None:
    made = Place(tmp_path, [f"domain {n % number}" for n in range(30)])
    try:
        assert domain_promises.domains(made.studio, made.run, MOOD) == ()
        with pytest.raises(RunError, match="domains"):
            made.promise()
    finally:
        made.studio.close()
