"""The Calibration page where several people decided the same rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from streamlit.testing.v1 import AppTest

from studio.runtime import Studio
from tests.pages import checked_workspace as checked
from tests.pages.conftest import OpenPage, said
from tests.unit.calibration.examples import overconfident
from workspace import decisions
from workspace.ids import row_id


def test_people_are_compared_once_there_are_two_and_where_they_differ_is_one_click_away(
    open_page: OpenPage, studio: Studio, tmp_path: Path
) -> None:
    run = checked.fill(studio.store, tmp_path, 60, gold=False)
    checked.decide(studio.store, run, range(40), blind=True)
    app = open_page("calibration")
    assert "Do people agree?" not in said(app)
    ben_decides(studio, run, range(8), every=8)
    app.run()
    assert "The interval of alpha reaches down to" in said(app)
    assert "8 rows can mislead" in said(app)
    ben_decides(studio, run, range(8, 40), every=4)
    app.run()
    assert not app.exception
    assert "Do people agree?" in said(app)
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Decided by several"], shown["Same answer"]) == ("40", "78%")
    assert float(shown["Krippendorff's alpha"]) < 0.667
    assert float(shown["Cohen's kappa"]) < 0.667
    (warning,) = app.warning
    assert "People agree poorly." in warning.value
    assert "each errs on about 11% of the rows" in warning.value
    assert "nobody can tell who is right" in warning.value
    assert "**9 rows to settle.**" in said(app)
    table = differing(app)
    assert (len(table), list(table["Counts"]) == list(table["Ben"])) == (9, True)
    app.button(key="differing_review").click().run()
    assert not app.exception
    assert app.selectbox(key="order").value == "Chosen rows"


def differing(app: AppTest) -> pd.DataFrame:
    """What is shown of the rows people differ on."""
    return next(frame.value for frame in app.dataframe if "Counts" in frame.value)


def ben_decides(studio: Studio, run: str, numbers: range, *, every: int) -> None:
    """A second person's blind decisions, of which every so many is another mood than it truly is."""
    _, answers = overconfident(max(numbers) + 1)
    events = [
        decisions.DecisionEvent(
            seq, row_id(checked.text(i)), "modify", checked.MOODS[(answers[i] + (i % every == 0)) % 3], blind=True
        )
        for seq, i in enumerate(numbers)
    ]
    session = f"of Ben, from {numbers[0]}"
    decisions.record(studio.store, session=session, run_id=run, dimension="mood", reviewer="Ben", events=events)
