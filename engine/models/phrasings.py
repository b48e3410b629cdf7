"""The ways to put a question to a model that has read the row, and what several of them say together.

All begin right after the row, so that they share what was computed of it: `words` and `letters` end the message
and open the answer, `plain` goes on as a document would. See `engine.prompt` for what stands before the row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.models.chat_template import Frame
from engine.models.label_tree import Floats, log_softmax
from engine.prompt import LISTED, MARKER, letters
from workspace.facts import DimensionSpec, Phrasing

_SURE = -1e-12  # log-probability from which on a label applies for certain; its odds would be infinite


def stem(
    dimension: DimensionSpec, text: Frame, phrasing: Phrasing, told: str, label: int, listed: Sequence[str]
) -> tuple[str, str]:
    """The text from the end of the row to the answer, and what separates the two.

    `told` are earlier answers, each with a line break after it; `label` is the one of a multi dimension that is
    asked about, or -1; `listed` are the labels to list where the message says so.
    """
    names = letters(len(dimension.labels)) if phrasing == "letters" else dimension.words
    about = f" {names[label]}?" if label >= 0 else ""
    if phrasing == "plain":
        message = dimension.user.partition(MARKER)[2]
        return f"{_list(message, listed)}\n{told}{dimension.cue or 'Label:'}{about}", " "
    cue = dimension.cue
    if phrasing == "letters" and label < 0:
        cue = f"{cue[:-1]} letter:" if cue else "Letter:"
    opened = (told + cue + about).lstrip(" ")
    lead = " " if cue or about else ("" if told else text.lead)
    return _list(text.suffix, listed) + (text.lead if opened else "") + opened, lead


def together(kind: str, phrasings: Sequence[Floats]) -> Floats:
    """The mean of the log-probabilities, normalised; for the kind `multi` the mean of the log-odds."""
    if len(phrasings) == 1:
        return phrasings[0]
    if kind != "multi":
        return log_softmax(np.mean(phrasings, axis=0))
    certain = np.minimum(phrasings, _SURE)
    odds = np.mean(certain - np.log(-np.expm1(certain)), axis=0)
    return np.asarray(-np.logaddexp(0.0, -odds))


def _list(message: str, labels: Sequence[str]) -> str:
    return message.replace(LISTED, ", ".join(labels))
