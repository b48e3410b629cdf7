"""Random but valid inputs for the laws of this package, and a model whose true temperature is known."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.logprobs import BoolArray, FloatArray, IntArray


@st.composite
def scores_and_truth(
    draw: st.DrawFn, min_rows: int = 1, max_rows: int = 30, impossible: bool = True
) -> tuple[FloatArray, IntArray]:
    """Unnormalised scores [n, k] with k in 1..5, some of them -inf if `impossible`, and label indices [n]."""
    n, k = draw(st.integers(min_rows, max_rows)), draw(st.integers(1, 5))
    finite = st.floats(-40, 40, allow_nan=False)
    values = st.one_of(finite, st.just(-np.inf)) if impossible else finite
    scores = draw(hnp.arrays(np.float64, (n, k), elements=values))
    truth = draw(hnp.arrays(np.int64, (n,), elements=st.integers(0, k - 1)))
    return scores, truth


@st.composite
def said_and_right(draw: st.DrawFn, min_rows: int = 0, max_rows: int = 60) -> tuple[FloatArray, BoolArray]:
    """Confidences [n], bin edges and repeated values among them, and outcomes [n]."""
    n = draw(st.integers(min_rows, max_rows))
    values = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]))
    confidence = draw(hnp.arrays(np.float64, (n,), elements=values))
    correct = draw(hnp.arrays(np.bool_, (n,)))
    return confidence, correct


def overconfident(rows: int, labels: int = 3, temperature: float = 2.5) -> tuple[FloatArray, IntArray]:
    """Scores of a model that is right as often as softmax(scores / temperature) says, and the truth."""
    # Two generators, so that the first rows are the same however many are asked for.
    honest = 1.5 * np.random.default_rng(7).normal(size=(rows, labels))
    truth = (honest + np.random.default_rng(8).gumbel(size=honest.shape)).argmax(axis=1)
    return honest * temperature, truth.astype(np.int64)
