"""Labels people gave, or that came with the data, which are probably wrong."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.label_errors import LabelErrors, find_label_errors, find_score_errors
from studio.calibrating import Fitted
from studio.runtime import Studio
from workspace import rows
from workspace.truth import Source


@dataclass(frozen=True)
class Suspect:
    """A row whose known label is probably wrong.

    `margin`, -1 to 0: probability of the given label minus that of the suggested one. `name` is the label in
    question of a multi dimension, "" for other kinds.
    """

    row_id: str
    text: str
    given: str
    suggested: str
    margin: float
    source: Source
    name: str


def suspects(studio: Studio, fitted: Fitted, *, limit: int = 100) -> tuple[LabelErrors, list[Suspect]]:
    """The most suspicious known labels first, judged by fits that have not seen them, and what they are in sum."""
    evidence = fitted.evidence
    find = find_score_errors if fitted.kind == "score" else find_label_errors
    found = find(fitted.out_of_fold, evidence.truth)
    places = found.places[:limit].tolist()
    texts = rows.get(studio.store, [evidence.row_ids[place] for place in places])
    return found, [
        Suspect(
            evidence.row_ids[place],
            texts[evidence.row_ids[place]].text,
            evidence.labels[evidence.truth[place]],
            evidence.labels[suggested],
            float(margin),
            evidence.source[place],
            evidence.names[place],
        )
        for place, suggested, margin in zip(places, found.suggested.tolist(), found.margin.tolist(), strict=False)
    ]
