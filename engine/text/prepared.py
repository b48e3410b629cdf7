"""A labeler whose model reads prepared texts instead of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.labeler import Answer, Labeler, LoadedModel, Progress
from engine.text.preparing import PreparedText, prepare
from workspace.facts import Preparation

AT_ONCE = 128  # rows


class Prepared:
    """Asks `inner` about each row after `preparation`; its answers are passed on as they are, with warnings.

    "compressed": sentences were left out. "entities_off": no model that finds names is installed.
    """

    def __init__(self, inner: Labeler, preparation: Preparation) -> None:
        self._inner = inner
        self._preparation = preparation

    @property
    def loaded(self) -> LoadedModel:
        return self._inner.loaded

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """As `Labeler.ask`."""
        texts: list[PreparedText] = []
        for start in range(0, len(rows), AT_ONCE):
            texts += prepare(rows[start : start + AT_ONCE], self._preparation)
            if progress:
                progress(0)  # a sign of life: finding names in many long texts takes seconds
        answers = self._inner.ask([text.text for text in texts], progress)
        return [
            tuple(msgspec.structs.replace(answer, warnings=(*text.warnings, *answer.warnings)) for answer in row)
            if text.warnings
            else row
            for text, row in zip(texts, answers, strict=True)
        ]

    def close(self) -> None:
        """As `Labeler.close`."""
        self._inner.close()
