from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from calibration.bounds import betting_upper
from calibration.risk import accept, accept_by_domain
from calibration.sampling import draw, even_rates, partly, recommend
from tests.unit.calibration.test_risk import workspace


@given(
    st.lists(st.just(0.0) | st.floats(0.01, 100), min_size=1, max_size=40), st.integers(0, 50), st.integers(0, 9)
)
def test_a_draw_takes_rows_with_a_rate_once_and_the_same_ones_every_time(
    rates: list[float], count: int, seed: int
) -> None:
    drawn = draw(rates, count, seed=seed)
    possible = np.flatnonzero(np.array(rates) > 0)
    assert len(drawn.places) == len(set(drawn.places)) == min(count, possible.size)
    assert set(drawn.places) <= set(possible)
    assert ((drawn.inclusion > 0) >= np.isin(np.arange(len(rates)), drawn.places)).all()
    assert drawn.inclusion.max() <= 1
    again = draw(rates, count, seed=seed)
    assert drawn.places.tolist() == again.places.tolist()
    if count:
        assert drawn.inclusion.sum() == pytest.approx(min(count, possible.size))
        assert (drawn.inclusion[possible] > 0).all()
    if count >= possible.size:
        assert (drawn.inclusion[possible] == 1).all()


def test_a_uniform_draw_gives_every_pair_of_rows_the_same_chance() -> None:
    pairs: dict[tuple[int, ...], int] = {}
    for seed in range(3000):
        pair = tuple(sorted(draw(np.ones(5), 2, seed=seed).places.tolist()))
        pairs[pair] = pairs.get(pair, 0) + 1
    assert len(pairs) == 10
    assert chisquare(list(pairs.values())).pvalue > 0.001


def test_draws_add_up_and_never_take_a_row_again() -> None:
    rates = np.ones(1000)
    first = draw(rates, 100, seed=7)
    second = draw(rates, 50, seed=7, drawn=first.places, inclusion=first.inclusion)
    assert not set(first.places) & set(second.places)
    assert second.inclusion == pytest.approx(np.full(1000, second.inclusion[0]))  # still a uniform sample
    assert first.inclusion[0] < second.inclusion[0] == pytest.approx(0.15)
    # Not the rows that just missed the first draw.
    longer = set(draw(rates, 150, seed=7).places) - set(first.places)
    assert len(longer) == 50
    assert len(longer & set(second.places)) < 20


def test_the_chances_are_how_often_rows_are_drawn_also_after_a_second_draw_at_other_rates() -> None:
    rates, later = np.repeat([1.0, 3.0, 9.0], 40), np.repeat([0.0, 5.0, 1.0], 40)
    often, said = np.zeros(120), np.zeros(120)
    for seed in range(1500):
        first = draw(rates, 15, seed=seed)
        both = draw(later, 10, seed=seed, drawn=first.places, inclusion=first.inclusion)
        often[np.concatenate([first.places, both.places])] += 1 / 1500
        said += both.inclusion / 1500
    assert often.reshape(3, 40).mean(axis=1) == pytest.approx(said.reshape(3, 40).mean(axis=1), rel=0.02)


def test_bets_on_such_draws_break_no_more_than_promised() -> None:
    """Where it is tightest: the error is just what is bet against; wrong are the likely or the unlikely rows."""
    rates = np.repeat([1.0, 4.0], [40, 20])
    for wrong in (np.arange(60) < 12, np.arange(60) >= 48, np.arange(60) % 5 == 0):
        broken = 0
        for seed in range(600):
            first = draw(rates, 15, seed=seed)
            both = draw(rates[::-1], 15, seed=seed, drawn=first.places, inclusion=first.inclusion)
            at = np.concatenate([first.places, both.places])
            weights = 1 / both.inclusion
            broken += betting_upper(weights[at], wrong[at], weights.max(), 0.2) < wrong.mean() - 1e-5
        assert broken / 600 <= 0.2


def test_a_part_of_a_draw_has_a_part_of_its_chance() -> None:
    first = draw(np.ones(100), 20, seed=1)
    second = draw(np.ones(100), 20, seed=1, drawn=first.places, inclusion=first.inclusion)
    assert partly(first.inclusion, second.inclusion, 0.0) == pytest.approx(first.inclusion)
    assert partly(first.inclusion, second.inclusion, 1.0) == pytest.approx(second.inclusion)
    half = partly(np.zeros(100), first.inclusion, 0.5)
    assert half == pytest.approx(first.inclusion / 2)
    assert partly(np.ones(3), np.ones(3), 0.5).tolist() == [1, 1, 1]


def test_even_rates_give_a_small_domain_as_many_rows_and_the_exact_test() -> None:
    domain = np.repeat(["large", "small"], [9000, 1000])
    drawn = draw(even_rates(domain), 400, seed=3)
    counts = np.unique(domain[drawn.places], return_counts=True)[1]
    assert counts == pytest.approx([200, 200], abs=40)
    said, wrong = np.full(10_000, 0.9), np.zeros(10_000, dtype=bool)
    found = accept_by_domain(said, drawn.places, wrong[drawn.places], domain, inclusion=drawn.inclusion)
    uniform = draw(np.ones(10_000), 400, seed=3)
    plain = accept_by_domain(said, uniform.places, wrong[uniform.places], domain)
    assert (found["large"].rows, found["small"].rows) == (9000, 1000)
    assert plain["small"].rows == 0


def test_a_recommended_draw_helps_more_than_a_uniform_one() -> None:
    accepted = {"recommended": 0, "uniform": 0}
    for seed in range(6):
        said, wrong = workspace(20_000, seed)
        first = draw(np.ones(20_000), 100, seed=seed)
        advice = recommend(
            said, first.places, wrong[first.places], epsilon=0.02, inclusion=first.inclusion, look=2
        )
        for name, rates in (("recommended", advice.rates), ("uniform", np.ones(20_000))):
            more = draw(rates, advice.count, seed=seed, drawn=first.places, inclusion=first.inclusion)
            at = np.concatenate([first.places, more.places])
            accepted[name] += accept(said, at, wrong[at], epsilon=0.02, inclusion=more.inclusion, look=2).rows
    assert accepted["recommended"] > 10_000 + 2 * accepted["uniform"]


def test_what_can_be_accepted_is_not_put_at_risk_for_less_than_the_labels_cost() -> None:
    said, wrong = workspace(1000)
    for count in (100, 200, 300):
        kept = accept(said, np.arange(count), wrong[:count], epsilon=0.1, look=1)
        advice = recommend(said, np.arange(count), wrong[:count], epsilon=0.1, look=2)
        assert (advice.needed == 0) == (kept.threshold is not None)
    assert kept.rows > 600
    assert advice.count == 0
    assert advice.why == "More labels would not save more work than they are."


def test_what_is_recommended_first_is_a_sample_of_everything() -> None:
    said, wrong = workspace(1000)
    nothing = recommend(said, [], [])
    assert (nothing.rates == 1).all()
    assert nothing.count == 100
    assert nothing.why == "100 more rows, drawn from all of them, to begin with."
    assert recommend(said[:60], np.arange(50), wrong[:50]).count == 10
    assert recommend(said[:60], np.arange(60), wrong[:60]).count == 0
    later = recommend(said, np.arange(200), wrong[:200])
    assert set(later.rates) == {0.0, 1.0}
    assert (later.rates == (said >= said[later.rates == 1].min())).all()
    assert later.why.endswith("only these can be promised.")


def test_a_recommendation_says_what_is_missing_and_stops_where_no_number_would_do() -> None:
    said, wrong = workspace(3000)
    checked = np.arange(150)
    some = recommend(said, checked, wrong[:150], epsilon=0.05, look=2)
    assert some.needed is not None
    assert some.count >= 20
    fixed = recommend(said, checked, wrong[:150], epsilon=0.05, look=2, count=33)
    assert fixed.count == 33
    hopeless = recommend(said, checked, np.ones(150, dtype=bool), epsilon=0.05)
    assert (hopeless.count, hopeless.needed) == (0, None)
    every = recommend(np.full(3000, 0.9), checked, np.zeros(150, dtype=bool), epsilon=0.05)
    assert (every.count, every.needed) == (0, 0)  # all rows are accepted already


def test_rows_without_a_chance_so_far_are_recommended_where_they_are_sure_and_a_few_of_the_others() -> None:
    said, wrong = workspace(4000)
    chance = np.where(np.arange(4000) < 3000, 0.05, 0.0)
    checked = np.arange(150)
    found = recommend(said, checked, wrong[:150], epsilon=0.1, inclusion=chance, look=2)
    inside = found.rates == 1
    assert (inside == (said >= said[inside].min())).all()
    assert (found.rates[(chance == 0) & ~inside] == 0.05).all()
    assert (found.rates[(chance > 0) & ~inside] == 0).all()
    plain = recommend(said[:3000], checked, wrong[:150], epsilon=0.1, look=2)
    assert found.needed == plain.needed
    assert 40 <= found.count - plain.count <= 60  # a twentieth of the thousand


@pytest.mark.parametrize(
    ("rates", "count", "drawn", "inclusion"),
    [
        ([], 1, [], None),
        ([1.0, -1.0], 1, [], None),
        ([1.0, float("inf")], 1, [], None),
        ([1.0, 1.0], -1, [], None),
        ([1.0, 1.0], 1, [2], [0.5, 0.5]),
        ([1.0, 1.0], 1, [0.0], [0.5, 0.5]),
        ([1.0, 1.0], 1, [0], None),
        ([1.0, 1.0], 1, [0], [0.5]),
        ([1.0, 1.0], 1, [0], [0.5, 2.0]),
    ],
)
def test_what_makes_no_sense_is_refused(
    rates: list[float], count: int, drawn: list[int], inclusion: list[float] | None
) -> None:
    with pytest.raises(ValueError, match=r"rates|draw|chance"):
        draw(rates, count, seed=0, drawn=drawn, inclusion=inclusion)


def test_parts_and_groups_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        partly([0.1], [0.2], 1.5)
    with pytest.raises(ValueError, match="chance"):
        partly([0.1], [0.2, 0.3], 0.5)
    with pytest.raises(ValueError, match="groups"):
        even_rates([])
