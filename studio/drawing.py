"""Which rows to draw and check next, so that most can be promised."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from calibration.sampling import FIRST, recommend
from studio import promising
from studio.promising import Asked
from studio.runtime import Studio
from workspace import draws
from workspace.draws import Drawn, Sample

__all__ = ["FIRST", "Advice", "advice", "draw"]


@dataclass(frozen=True)
class Advice:
    """The draw that would help a promise most.

    `count` more rows; of the `surest` that many rows, or of all where it is None; `new` of the rows nobody could
    draw so far and that are less sure are drawn from as well. `needed`: about how many labels are missing for the
    promise in all, 0 where one can be given, None where no number would do; `minutes`: what deciding them takes.
    """

    count: int
    surest: int | None
    new: int
    needed: int | None
    minutes: float
    sample: Sample = field(repr=False)
    inside: npt.NDArray[np.bool_] = field(repr=False)  # [N] of the sample

    @property
    def among(self) -> list[str] | None:
        """Ids of the rows it is limited to."""
        if self.surest is None:
            return None
        return [self.sample.row_ids[place] for place in np.flatnonzero(self.inside)]


def advice(studio: Studio, asked: Asked) -> Advice:
    """What to draw next for the promise that is asked for.

    Raises RunError for an unknown run, dimension or label.
    """
    found = promising.sample(studio, asked.run_id, asked.dimension)
    said, wrong = promising.judged(studio, asked, found)
    if not found.row_ids:
        return Advice(0, None, 0, None, 0.0, found, np.zeros(0, dtype=np.bool_))
    next_one = recommend(
        said,
        found.checked,
        wrong,
        epsilon=asked.epsilon,
        delta=asked.delta,
        inclusion=found.inclusion,
        look=found.standing.draws + 1,
    )
    inside = next_one.rates == 1
    return Advice(
        count=next_one.count,
        surest=None if inside.all() else int(inside.sum()),
        new=int(((next_one.rates > 0) & ~inside).sum()),
        needed=next_one.needed,
        minutes=(next_one.needed or 0) * promising.pace(studio, asked.run_id, asked.dimension),
        sample=found,
        inside=inside,
    )


def draw(studio: Studio, run_id: str, dimension: str, advised: Advice) -> Drawn:
    """Draw the rows, to be decided blind: Review shows them in the order "sample".

    Raises RunError when nothing is left to draw.
    """
    return draws.draw(studio.store, run_id, dimension, advised.count, among=advised.among)
