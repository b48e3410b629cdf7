"""The next best step, from an empty workspace to the export."""

from __future__ import annotations

from tests.seeding import SENTIMENT, add_rows, facts_for, ingest, spec_of, task_of
from tests.unit.workspace.examples import texts
from workspace import calibrators, decisions, draws, findings, runs, statistics, unfinished
from workspace.decisions import DecisionEvent, Order
from workspace.findings import Finding
from workspace.store import Store


def step(store: Store) -> tuple[str, str, str]:
    found = statistics.next_step(store)
    return found.kind, found.page, found.sentence


def test_the_next_step_leads_from_nothing_to_an_export(store: Store) -> None:
    assert step(store)[:2] == ("load", "data")
    ids = add_rows(store, texts(130))
    assert step(store) == ("label", "label", "Say what the labels mean and label 130 rows.")
    spec = spec_of(store, task_of(SENTIMENT))
    runs.plan(store, spec.run_id, limit=120)
    assert step(store) == ("continue", "label", "Label the remaining 120 rows.")
    ingest(store, facts_for(spec, ids[:120]))
    found = statistics.next_step(store)
    assert (found.kind, found.page) == ("review", "review")
    assert found.sentence == "Review 40 uncertain rows, about 3 minutes."
    assert found.minutes == 40 * 4 / 60
    assert (found.run_id, found.dimension) == (spec.run_id, "sentiment")

    def approve(first: int, number: int, *, blind: bool) -> None:
        order: Order = "sample" if blind else "uncertain"
        waiting = decisions.queue(store, spec.run_id, "sentiment", session="s", limit=number, order=order)
        events = [
            DecisionEvent(first + place, item.row_id, "approve", label, seconds=12, blind=blind)
            for place, item in enumerate(waiting)
            for label in [item.suggestion or "neutral"]
        ]
        decisions.record(
            store, session="s", run_id=spec.run_id, dimension="sentiment", reviewer="ann", events=events
        )

    approve(0, 10, blind=False)
    assert step(store)[2] == "Review 30 uncertain rows, about 6 minutes."  # at this reviewer's own pace
    approve(10, 30, blind=False)
    kind, page, sentence = step(store)
    assert (kind, page) == ("truth", "calibration")
    told = "they tell how many labels can be relied on."
    assert sentence == f"Draw 50 rows and decide them blind, about 10 minutes: {told}"
    draws.draw(store, spec.run_id, "sentiment", 50)
    assert step(store)[2] == f"Check 50 rows of the blind sample, about 10 minutes: {told}"
    approve(40, 50, blind=True)
    assert step(store)[:2] == ("calibrate", "calibration")
    findings.note(store, spec.run_id, "sentiment", Finding("none", 30))
    assert step(store)[0] == "export"  # no correction helps, so there is nothing to do about it
    findings.note(store, spec.run_id, "sentiment", Finding("none", 25))
    assert step(store)[0] == "calibrate"  # 50 rows may say something else than 25 did
    findings.note(store, spec.run_id, "sentiment", Finding("temperature", 50))
    assert step(store)[0] == "calibrate"
    calibrators.save(store, spec.run_id, "sentiment", "temperature", {"temperature": 1.2}, {})
    assert step(store) == ("export", "export", "Export 120 rows with their labels.")

    overview = statistics.overview(store)  # of the sample 17 had been decided in sight of the suggestion
    assert (overview.rows, overview.labeled, overview.decided, overview.runs) == (130, 120, 73, 1)
    assert (overview.tasks, overview.imports, overview.gold, overview.rejected) == (1, 0, 0, 0)


def test_a_cancelled_run_is_not_to_be_continued(store: Store) -> None:
    ids = add_rows(store, texts(9))
    spec = spec_of(store, task_of(SENTIMENT))
    runs.plan(store, spec.run_id, limit=None)
    ingest(store, facts_for(spec, ids[:1]))
    unfinished.wish(store, spec.run_id, "cancelled")
    assert step(store) == ("review", "review", "Review 1 uncertain row, about 1 minute.")


def test_an_empty_workspace_has_nothing_to_count(store: Store) -> None:
    assert set(vars_of(statistics.overview(store))) == {0}


def vars_of(overview: statistics.Overview) -> list[int]:
    return [getattr(overview, name) for name in overview.__struct_fields__]
