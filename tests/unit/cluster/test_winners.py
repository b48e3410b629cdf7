"""Which answer and which decision count, whatever order the entries come in."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from engine.cluster.entries import About, AnyBody, Decided, Entry, Labeled, RunOpened, count_of, encode
from engine.cluster.testing.winners import Winner, winners
from engine.labeler import Answer
from workspace.facts import DimensionSpec, ModelSpec, RunSpec

ANNA, BERT = ("a" * 32 + "." + "1" * 16), ("b" * 32 + "." + "2" * 16)
BLOCK = (ANNA, 0)
RUN = RunSpec(
    "run",
    "task-1",
    "mood",
    "prompt",
    ModelSpec("llama_cpp", "M", "", "digest"),
    (DimensionSpec("tone", "single", ("good", "bad"), ("good", "bad"), "", "{text}"),),
)
ABOUT = About((("tone", "single", ("good", "bad")),), "M", "digest", "prompt", "anna", "1.a.1", 1, 0.0)
GOOD, BAD = Answer((-0.1, -2.0), 1, 1, 0.1), Answer((-2.0, -0.1), 1, 1, 0.1)
BROKEN = Answer((), 0, 0, 0.0, (), "too long")
KEY = ("run", "r0", "tone")


def entry(author: str, seq: int, body: AnyBody) -> Entry:
    return Entry(author, seq, count_of(body), encode(body))


def labeled(*answers: Answer) -> Labeled:
    places = tuple(range(len(answers)))
    failed = tuple(place for place in places if answers[place].error)
    return Labeled(
        "run", BLOCK, places, failed, 0.1, tuple(f"r{p}" for p in places), tuple((a,) for a in answers), ABOUT
    )


def decided(label: str, clock: int, standing: bool = True, row: str = "r0") -> Decided:
    return Decided("mood", "tone", row, "run", label, standing, "{}", clock)


def test_the_smallest_author_and_seq_counts() -> None:
    entries = [entry(BERT, 0, labeled(BAD)), entry(ANNA, 7, labeled(GOOD)), entry(ANNA, 8, labeled(BAD))]
    assert winners(entries).table() == {KEY: Winner("label", "good", ANNA, 7)}


def test_a_label_comes_before_an_error_and_each_fact_of_a_batch_has_its_own_seq() -> None:
    entries = [entry(ANNA, 0, labeled(BROKEN, GOOD)), entry(BERT, 3, labeled(BAD))]
    assert winners(entries).table() == {
        KEY: Winner("label", "bad", BERT, 3),
        ("run", "r1", "tone"): Winner("label", "good", ANNA, 1),
    }


def test_an_error_counts_as_long_as_there_is_nothing_better() -> None:
    assert winners([entry(ANNA, 0, labeled(BROKEN))]).table() == {KEY: Winner("error", "", ANNA, 0)}


def test_people_come_before_models_and_the_largest_clock_before_the_rest() -> None:
    entries = [
        entry(ANNA, 0, RunOpened(RUN)),
        entry(ANNA, 1, labeled(GOOD)),
        entry(BERT, 0, decided("bad", 1)),
        entry(ANNA, 2, decided("good", 2)),
    ]
    found = winners(entries)
    assert found.table() == {KEY: Winner("human", "good", ANNA, 2)}
    assert found.conflicts == {}


def test_a_rejected_label_is_decided_and_one_taken_back_is_not() -> None:
    entries = [
        entry(ANNA, 0, RunOpened(RUN)),
        entry(ANNA, 1, labeled(GOOD, GOOD)),
        entry(BERT, 0, decided("", 1)),
        entry(BERT, 1, decided("bad", 1, row="r1")),
        entry(BERT, 2, decided("", 2, standing=False, row="r1")),
    ]
    assert winners(entries).table() == {
        KEY: Winner("human", "", BERT, 0),
        ("run", "r1", "tone"): Winner("label", "good", ANNA, 2),
    }


def test_decisions_that_did_not_know_each_other_are_reported_if_they_differ() -> None:
    entries = [
        entry(ANNA, 0, decided("good", 3)),
        entry(BERT, 0, decided("bad", 3)),
        entry(BERT, 1, decided("bad", 1)),
        entry(ANNA, 1, decided("good", 4, row="r1")),
        entry(BERT, 2, decided("good", 4, row="r1")),
    ]
    found = winners(entries)
    key = ("mood", "r0", "tone")
    assert [(judged.author, judged.label) for judged in found.conflicts[key]] == [(ANNA, "good"), (BERT, "bad")]
    assert found.decisions[key].label == "bad"
    assert list(found.conflicts) == [key]


bodies = st.one_of(
    st.lists(st.sampled_from([GOOD, BAD, BROKEN]), min_size=1, max_size=3).map(lambda a: labeled(*a)),
    st.builds(
        decided,
        st.sampled_from(["good", "bad", ""]),
        st.integers(0, 2),
        st.booleans(),
        st.sampled_from(["r0", "r1"]),
    ),
    st.just(RunOpened(RUN)),
)


@given(st.lists(st.tuples(st.sampled_from([ANNA, BERT]), bodies), max_size=12), st.randoms(use_true_random=False))
def test_order_and_repetition_play_no_part(said: list[tuple[str, AnyBody]], shuffle: random.Random) -> None:
    entries, ends = [], {ANNA: 0, BERT: 0}
    for author, body in said:
        entries.append(entry(author, ends[author], body))
        ends[author] = entries[-1].end
    again = entries + [e for e in entries if shuffle.random() < 0.3]
    shuffle.shuffle(again)
    one, other = winners(entries), winners(again)
    assert (one.table(), one.decisions, one.conflicts) == (other.table(), other.decisions, other.conflicts)
