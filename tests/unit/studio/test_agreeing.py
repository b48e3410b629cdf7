"""What is made of several people's answers to the same rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio import agreeing
from workspace.reviewers import Opinions
from workspace.task import join_labels

MOODS = ("negative", "neutral", "positive")


def told(*rows: str | tuple[str | None, ...], people: int = 2) -> Opinions:
    """Answers of ann, bob, eve: a word of letters such as "np" or a tuple; "-" and None stand for no answer."""
    words = {"n": "negative", "u": "neutral", "p": "positive", "x": "", "-": None}
    said = tuple(tuple(words[letter] for letter in row) if isinstance(row, str) else row for row in rows)
    counts = tuple([one for one in row if one is not None][-1] for row in said)
    ids = tuple(f"row {i:03}" for i in range(len(rows)))
    return Opinions(ids, ("ann", "bob", "eve")[:people], said, counts, (False,) * len(rows))


def people_of(
    found: Opinions, kind: Literal["single", "multi", "score"] = "single", labels: tuple[str, ...] = MOODS
) -> agreeing.People:
    people = agreeing.compare(found, kind, labels)
    assert people is not None
    return people


def test_nothing_is_said_of_nothing() -> None:
    assert agreeing.compare(Opinions((), (), (), (), ()), "single", MOODS) is None


def test_two_people_have_cohens_kappa_and_the_rows_they_differ_on() -> None:
    # 20 + 15 of 50 alike: the textbook example of kappa 0.4
    rows = ["nn"] * 20 + ["np"] * 5 + ["pn"] * 10 + ["pp"] * 15
    found = people_of(told(*rows))
    assert (found.rows, found.same.value) == (50, 0.7)
    assert found.apart == pytest.approx(0.3)
    alpha, kappa = found.measures
    assert kappa.title == "Cohen's kappa"
    assert kappa.found.estimate is not None
    assert alpha.found.estimate is not None
    assert kappa.found.estimate.value == pytest.approx(0.4)
    assert alpha.found.estimate.low < alpha.found.estimate.value < alpha.found.estimate.high
    assert found.verdict == "poor"
    assert len(found.differing) == 15
    assert found.differing[0] == agreeing.Differing(
        "row 020", (("ann", "negative"), ("bob", "positive")), "positive"
    )
    assert [person.apart for person in found.persons] == [None, None]
    assert found.why_not == agreeing.ONLY_TWO


def test_settled_rows_are_counted_and_no_longer_listed() -> None:
    before = told("np", "nn", "un")
    found = people_of(replace(before, counts=("positive", "negative", "neutral"), settled=(True, True, False)))
    assert ([one.row_id for one in found.differing], found.settled) == (["row 002"], 1)
    unsettled = people_of(before)
    assert (found.same, found.measures) == (unsettled.same, unsettled.measures)


def test_agreement_about_one_label_alone_is_undefined_in_words() -> None:
    found = people_of(told(*["nn"] * 10))
    assert (found.verdict, found.same.value) == ("undefined", 1.0)
    assert "chance explains all" in found.measures[0].found.why_not
    assert not found.differing


def test_to_find_no_label_right_is_an_answer_too() -> None:
    found = people_of(told("nx", "xx", "nn", "pp"))
    assert (found.rows, found.same.value) == (4, 0.75)
    assert found.differing[0].said == (("ann", "negative"), ("bob", agreeing.NONE))


def test_of_three_people_the_one_who_guesses_is_found() -> None:
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 3, 90)
    letters = "nup"
    rows = [
        "".join((letters[true], letters[true if generator.random() > 0.05 else 0], letters[generator.integers(3)]))
        for true in truth
    ]
    rows[:10] = [row[:2] + "-" for row in rows[:10]]
    found = people_of(told(*rows, people=3))
    assert found.measures[1].title == "Fleiss' kappa"
    ann, bob, eve = found.persons
    assert (ann.rows, eve.rows, found.why_not) == (90, 80, "")
    assert ann.apart is not None
    assert bob.apart is not None
    assert eve.apart is not None
    assert ann.apart < 5
    assert bob.apart < 10
    assert eve.apart > 40


def test_scores_are_compared_by_distance() -> None:
    labels = tuple(str(value) for value in range(11))
    rows = [(str(value), str(value + 1), str(value)) for value in range(10)]
    found = people_of(told(*rows, ("3", "", None), people=3), "score", labels)
    assert (found.rows, found.left_out, found.same.value) == (10, 1, 0.0)
    assert found.apart == pytest.approx(2 / 3)
    assert [person.off for person in found.persons] == [0.5, 1.0, 0.5]
    assert found.verdict == "good"
    wider = people_of(told(("1", "2"), ("1", "4"), ("2", "2"), ("9", "7")), "score", labels)
    assert [row.row_id for row in wider.differing] == ["row 001", "row 003", "row 000"]
    assert [measure.title for measure in found.measures] == ["Krippendorff's alpha", "Alpha by order alone"]


def test_each_label_of_several_is_measured_by_itself() -> None:
    labels = ("late", "broken", "rude")
    chosen = [("late", "broken"), ("late",), ("broken",), ()]
    both, late, broken, none = (join_labels(names, labels) for names in chosen)
    rows = [(both, late), (late, late), (broken, none), (none, none), (late, late), (none, none), ("", late)]
    found = people_of(told(*rows), "multi", labels)
    each = {measure.label: measure.found for measure in found.each}
    assert each["late"].estimate is not None
    assert each["late"].estimate.value == pytest.approx(1.0)
    assert each["broken"].estimate is not None
    assert each["broken"].estimate.value < 0.2
    assert "chance explains all" in each["rude"].why_not
    assert (found.rows, found.left_out) == (6, 1)
    assert found.same.value == pytest.approx(4 / 6)
    assert [one.row_id for one in found.differing] == ["row 000", "row 002"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("nup-", min_size=3, max_size=3), min_size=1, max_size=12), st.permutations(range(3)))
def test_the_order_of_people_changes_nothing(rows: list[str], order: list[int]) -> None:
    rows = [row for row in rows if sum(letter != "-" for letter in row) > 1]
    if not rows:
        return
    one = people_of(told(*rows, people=3))
    other = people_of(told(*("".join(row[place] for place in order) for row in rows), people=3))
    assert (one.rows, one.same) == (other.rows, other.same)
    assert one.apart == pytest.approx(other.apart)
    assert one.verdict == other.verdict
    assert [row.row_id for row in one.differing] == [row.row_id for row in other.differing]
    assert sorted(person.rows for person in one.persons) == sorted(person.rows for person in other.persons)
