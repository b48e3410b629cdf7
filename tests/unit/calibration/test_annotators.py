"""Several people's labels: the published example, a closed case, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration import dawid_skene
from calibration.logprobs import IntArray

# Dawid, Skene 1979, table 1: 45 patients; the first anaesthetist judged each three times, four others once.
ANAESTHETISTS = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343 1111111 2223212
1211111 1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111 2322222 1111111
1111111 1121121 1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111 1111111 1212111
2322222 1211111 2222222
"""
RATINGS = np.array([[int(digit) - 1 for digit in word] for word in ANAESTHETISTS.split()])
WHO = [0, 0, 0, 1, 2, 3, 4]
TABLES = arrays(np.int64, (12, 3), elements=st.integers(-1, 2)).filter(lambda table: bool((table >= 0).any()))


def test_the_published_example() -> None:
    found = dawid_skene(RATINGS, 4, people=WHO)
    assert found.shares == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.005)
    first = [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]]
    assert found.confusion[0] == pytest.approx(np.array(first), abs=0.006)
    # Patients 3 and 36 of the paper's table 4: surely class 2, surely class 4.
    assert found.posterior[[2, 35], [1, 3]] == pytest.approx([1, 1], abs=5e-3)
    assert found.why_not == ""


def test_people_who_always_agree_are_always_right() -> None:
    truth = np.array([0, 1, 2, 1, 0, 0])
    found = dawid_skene(np.repeat(truth[:, None], 3, axis=1), 3)
    assert found.label.tolist() == truth.tolist()
    assert found.posterior == pytest.approx(np.eye(3)[truth])
    assert found.confusion == pytest.approx(np.tile(np.eye(3), (3, 1, 1)))
    assert found.shares == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert found.log_likelihood == pytest.approx(sum(np.log([3 / 6] * 3 + [2 / 6] * 2 + [1 / 6])))
    assert found.skill == pytest.approx([1, 1, 1])


def simulated(rows: int) -> tuple[IntArray, IntArray]:
    """A good, two middling and one perverse person (who calls 0 what is 1), and the truth."""
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 2, rows)
    right = generator.random((rows, 4)) < np.array([0.95, 0.75, 0.75, 0.1])
    return np.where(right, truth[:, None], 1 - truth[:, None]), truth


def test_it_finds_out_who_is_good_and_beats_the_vote() -> None:
    ratings, truth = simulated(3000)
    found = dawid_skene(ratings, 2)
    assert found.skill == pytest.approx([0.95, 0.75, 0.75, 0.1], abs=0.03)
    vote = ratings.mean(axis=1) > 0.5
    assert (found.label == truth).mean() > (vote == truth).mean() + 0.05
    # What it says of its own certainty is true as well.
    sure = found.posterior.max(axis=1)
    assert sure.mean() == pytest.approx((found.label == truth).mean(), abs=0.01)


@settings(max_examples=40)
@given(TABLES, st.sampled_from([0.0, 0.1]))
def test_everything_stays_a_distribution(ratings: IntArray, prior: float) -> None:
    found = dawid_skene(ratings, 3, prior=prior)
    for chances in (found.posterior, found.confusion, found.shares):
        assert chances.sum(axis=-1) == pytest.approx(np.ones(chances.shape[:-1]))
        assert (chances >= 0).all()
    assert np.isfinite(found.log_likelihood)


@settings(max_examples=40)
@given(TABLES)
def test_more_rounds_never_explain_less(ratings: IntArray) -> None:
    likelihoods = [dawid_skene(ratings, 3, rounds=rounds).log_likelihood for rounds in (1, 2, 4, 50)]
    assert (np.diff(likelihoods) >= -1e-9).all()


@settings(max_examples=40)
@given(TABLES)
def test_the_order_of_units_and_people_changes_nothing(ratings: IntArray) -> None:
    order, people = np.random.default_rng(2).permutation(12), [2, 0, 1]
    one, other = dawid_skene(ratings, 3), dawid_skene(ratings[order][:, people], 3)
    assert other.posterior == pytest.approx(one.posterior[order], abs=1e-6)
    assert other.confusion == pytest.approx(one.confusion[people], abs=1e-6)
    assert other.why_not == one.why_not


def test_people_who_never_met_cannot_be_compared_and_that_is_said() -> None:
    apart = dawid_skene([[0, -1], [-1, 1], [-1, -1]], 2)
    assert "labeled twice" in apart.why_not
    assert apart.posterior.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    alone = dawid_skene([[0, 1], [1, 1]], 2, people=[0, 0])
    assert "Only one person" in alone.why_not


def test_a_prior_keeps_what_was_never_given_possible() -> None:
    ratings = np.array([[0, 0], [1, 1], [0, 0]])
    assert dawid_skene(ratings, 2).confusion[0, 0, 1] == 0
    assert dawid_skene(ratings, 2, prior=0.1).confusion[0, 0, 1] > 0.01


@pytest.mark.parametrize(
    ("ratings", "labels", "options"),
    [
        ([0, 1], 2, {}),
        ([[0.5, 1.0]], 2, {}),
        ([[0, 2]], 2, {}),
        ([[-1, -1]], 2, {}),
        ([[0, 1]], 2, {"prior": -1.0}),
        ([[0, 1]], 2, {"people": [0]}),
    ],
)
def test_what_makes_no_sense_is_refused(ratings: object, labels: int, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"label|prior|people"):
        dawid_skene(ratings, labels, **options)  # type: ignore[arg-type]
