"""The Calibration page once a correction does not fit any more."""

from __future__ import annotations

import time
from pathlib import Path

from studio import calibrating
from studio.runtime import Studio
from tests.pages import checked_workspace as checked
from tests.pages.conftest import OpenPage, said
from tests.seeding import add_rows, fact_of, ingest
from tests.unit.calibration.examples import overconfident
from workspace import decisions, runs
from workspace.ids import row_id
from workspace.store import Store


def test_a_correction_that_fits_no_longer_says_where_and_is_fitted_anew(
    open_page: OpenPage, studio: Studio, tmp_path: Path
) -> None:
    store = studio.store
    run = checked.fill(store, tmp_path, 200, gold=False)
    checked.decide(store, run, range(100), blind=True)
    job = calibrating.put_in_force(studio, calibrating.fit(studio, run, "mood"))
    assert job.wait(30)
    app = open_page("calibration")
    assert "New to it" not in said(app)
    decide_wrongly(store, run, range(100, 112), every=4)
    app.run()
    assert "New to it: 12 checked rows; nothing speaks against it." in said(app)
    assert not app.warning
    decide_wrongly(store, run, range(112, 170), every=1)
    app.run()
    assert not app.exception
    (warning,) = app.warning
    assert "**Cocksure-1B on seed.** The calibration no longer fits" in warning.value
    assert app.button(key="use").label == "Fit anew"
    app.button(key="use").click().run()
    assert not app.exception
    assert not app.warning
    assert "New to it" not in said(app)
    answer_unsurely(store, run, range(200, 300))
    app.run()
    (warning,) = app.warning
    assert "Rows labeled since look different: of the first 100 the model is more than" in warning.value
    assert "only checked rows can say" in warning.value


def answer_unsurely(store: Store, run: str, numbers: range) -> None:
    """New rows of which the model does not know what to think."""
    ids = add_rows(store, [checked.text(i) for i in numbers], first=numbers[0])
    runs.plan(store, run, limit=None)
    unsure, now = (0.4, 0.32, 0.28), time.time()
    ingest(
        store,
        [
            fact_of(run, id, "mood", checked.MOODS, unsure, author="later", seq=seq, made_at=now)
            for seq, id in enumerate(ids)
        ],
    )


def decide_wrongly(store: Store, run: str, numbers: range, *, every: int) -> None:
    """Blind decisions in which every so many is another mood than it truly is."""
    _, answers = overconfident(max(numbers) + 1)
    events = [
        decisions.DecisionEvent(
            seq, row_id(checked.text(i)), "modify", checked.MOODS[(answers[i] + (i % every == 0)) % 3], blind=True
        )
        for seq, i in enumerate(numbers)
    ]
    session = f"wrong {numbers[0]}"
    decisions.record(store, session=session, run_id=run, dimension="mood", reviewer="Ada", events=events)
