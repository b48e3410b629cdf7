"""What a workspace holds, and the next best thing to do with it."""

from __future__ import annotations

from typing import Literal

import msgspec

from workspace import calibrators, decisions, draws, findings, promises, runs, unfinished
from workspace.store import Store
from workspace.truth import known_rows

StepKind = Literal["load", "label", "continue", "review", "truth", "calibrate", "export"]

SECONDS_PER_DECISION = 4.0  # until this workspace has its own pace
REVIEW_BATCH = 40  # a few minutes of work, large enough to change the picture
TRUTH_ROWS = 50  # below this a calibration curve says next to nothing


class Overview(msgspec.Struct, frozen=True):
    """Numbers of the whole workspace.

    `labeled` counts rows with a label from a model in any run, `decided` rows a person decided on, `gold` rows
    that came with a label of their own, `rejected` lines that could not be loaded.
    """

    rows: int
    domains: int
    imports: int
    rejected: int
    gold: int
    tasks: int
    runs: int
    labeled: int
    decided: int


class NextStep(msgspec.Struct, frozen=True):
    """The next best step: a sentence for people, minutes it may take (None when unknown), the page to do it on."""

    kind: StepKind
    sentence: str
    minutes: float | None
    page: str
    run_id: str | None = None
    dimension: str | None = None


def overview(store: Store) -> Overview:
    """Count what there is."""
    with store.read() as con:
        row = con.execute(
            """select (select count(*) from rows),
                      (select count(distinct domain) from rows where domain <> ''),
                      (select count(*) from imports),
                      (select coalesce(sum(rejected), 0)::bigint from imports),
                      (select count(distinct row_id) from gold),
                      (select count(distinct name) from tasks),
                      (select count(*) from runs),
                      (select count(distinct row_id) from facts where kind = 'label')"""
        ).fetchall()[0]
    rows, domains, imports, rejected, gold, tasks, started, labeled = row
    decided = decisions.decided_rows(store)
    return Overview(rows, domains, imports, rejected, gold, tasks, started, labeled, decided)


def next_step(store: Store) -> NextStep:
    """What brings this workspace on most, looking at its newest run."""
    total = overview(store).rows
    if total == 0:
        return NextStep("load", "Load the texts you want to label.", None, "data")
    recent = runs.list_runs(store)
    if not recent:
        return NextStep("label", f"Say what the labels mean and label {_rows(total)}.", None, "label")
    run = recent[0]
    unanswered = run.rows_left
    if unanswered > 0 and unfinished.states(store).get(run.id) != "cancelled":
        return NextStep("continue", f"Label the remaining {_rows(unanswered)}.", None, "label", run.id)
    for dimension in runs.spec(store, run.id).dimensions:
        step = _after_labeling(store, run.id, dimension.name)
        if step:
            return step
    return NextStep("export", f"Export {_rows(run.labeled_rows)} with their labels.", 1.0, "export", run.id)


def _after_labeling(store: Store, run_id: str, dimension: str) -> NextStep | None:
    """What one dimension of a finished run still lacks, or None."""
    counts = decisions.counts(store, run_id, dimension)
    pace = counts.median_seconds or SECONDS_PER_DECISION
    if counts.waiting and counts.decided < REVIEW_BATCH:
        number = min(REVIEW_BATCH - counts.decided, counts.waiting)
        minutes = number * pace / 60
        sentence = f"Review {number} uncertain row{'s' if number > 1 else ''}, {_about(minutes)}."
        return NextStep("review", sentence, minutes, "review", run_id, dimension)
    truth = known_rows(store, run_id, dimension)
    left = draws.standing(store, run_id, dimension).waiting
    if left or (truth < TRUTH_ROWS and counts.waiting):
        number = left or min(TRUTH_ROWS - truth, counts.waiting)
        minutes = number * pace / 60
        what = (
            f"Check {_rows(number)} of the blind sample" if left else f"Draw {_rows(number)} and decide them blind"
        )
        sentence = f"{what}, {_about(minutes)}: they tell how many labels can be relied on."
        return NextStep("truth", sentence, minutes, "calibration", run_id, dimension)
    if truth >= TRUTH_ROWS and not _settled(store, run_id, dimension, truth):
        sentence = f"See how many labels of {dimension} can be relied on, by {_rows(truth)} whose label is known."
        return NextStep("calibrate", sentence, 1.0, "calibration", run_id, dimension)
    return None


def _settled(store: Store, run_id: str, dimension: str, truth: int) -> bool:
    """Whether something was made of what is known: labels are corrected or accepted, or no correction helps."""
    found = findings.newest(store, run_id, dimension)
    return bool(
        calibrators.active(store, run_id, dimension)
        or promises.all_in_force(store, run_id, dimension)
        or (found is not None and found.none_helps(truth))
    )


def _about(minutes: float) -> str:
    about = max(1, round(minutes))
    return f"about {about} minute{'s' if about > 1 else ''}"


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
