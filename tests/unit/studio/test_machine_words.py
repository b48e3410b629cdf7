from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import helper_view
from studio import machine_words as words
from studio.components.cluster import DOTS_PER_SECOND, picture, rows_per_dot
from tests.shown_machines import ALONE, ATTIC, CODE, LAPTOP, OLD_PC, THREE, cluster_of

replace = msgspec.structs.replace
SILENT = replace(ATTIC, alive=False, silent_for=75.0)


def test_one_word_for_the_state_of_a_machine() -> None:
    assert words.state_of(LAPTOP) == "working"
    assert words.state_of(OLD_PC) == "problem"
    assert words.state_of(SILENT) == "silent"
    assert words.state_of(replace(ATTIC, paused=True)) == "paused"
    assert words.state_of(replace(LAPTOP, alive=False, doing="", claims=0)) == "ready"


def test_the_last_speed_of_a_silent_machine_does_not_count() -> None:
    assert words.total_speed(cluster_of(LAPTOP, SILENT)) == LAPTOP.rows_per_s
    assert words.summary(cluster_of(LAPTOP, SILENT)) == "2 machines, 1 silent, 6.2 rows/s"


def test_the_last_speed_of_a_machine_at_rest_does_not_count() -> None:
    resting = replace(LAPTOP, doing="", claims=0)
    assert words.state_of(resting) == "ready"
    assert words.rate(resting) == 0


def test_copies_say_what_may_be_lost() -> None:
    assert words.copies(ALONE) == "Every label is on this machine only."
    assert words.copies(THREE) == "Every label is on 2 of 3 machines."
    assert words.copies(replace(THREE, copies=3)) == "Every label is on all 3 machines."
    assert "catching up" in words.copies(replace(THREE, copies=1))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "not since this engine started"), (0.4, "now"), (12.0, "12 seconds ago"), (75.0, "1 minute ago"),
     (7200.0, "2 hours ago"), (200_000.0, "2 days ago")],
)  # fmt: skip
def test_when_a_machine_was_heard_of(seconds: float | None, said: str) -> None:
    assert words.since(seconds) == said


def test_models_nobody_names_are_known_by_their_digest() -> None:
    assert words.models(replace(LAPTOP, models=("SmolLM2", "ab" * 32))) == "SmolLM2, model abababab"


def test_memory_is_said_in_the_units_it_is_sold_in() -> None:
    assert words.memory(16 << 30) == "16 GB"
    assert words.memory(700 << 20) == "700 MB"
    assert words.memory(0) == ""


@pytest.mark.parametrize("typed", ["482-913", "482913", " 482 913 ", "482 - 913"])
def test_codes_are_read_as_people_type_them(typed: str) -> None:
    assert words.code_of(typed) == "482-913"


@pytest.mark.parametrize("typed", ["", "48291", "4829134", "482-91x", "٤٨٢٩١٣", "-", "482913 a"])
def test_other_words_are_no_codes(typed: str) -> None:
    assert words.code_of(typed) == ""


@given(st.text(max_size=300))
def test_words_of_strangers_carry_no_markdown(text: str) -> None:
    shown = words.plain(text)
    assert "\n" not in shown
    bare = shown.replace("\\\\", "")
    for sign in "*_`[]()<>#!|~$:&":
        assert bare.count(sign) == bare.count("\\" + sign)


@given(st.floats(0, 1e6))
def test_dots_stay_few_enough_to_be_told_apart(fastest: float) -> None:
    assert fastest / rows_per_dot(fastest) <= DOTS_PER_SECOND


def test_work_is_drawn_between_the_leader_and_the_rest() -> None:
    drawn = picture(THREE)
    assert drawn["hub"] == LAPTOP.id
    assert [machine["leads"] for machine in drawn["machines"]] == [True, False, False]
    assert drawn["rows_per_dot"] == 10
    assert ["", "a dot is 10 rows"] in drawn["legend"]
    assert picture(cluster_of(LAPTOP, SILENT))["legend"] == []


# What the helper says


def said(lines: list[tuple[str, str]]) -> str:
    return "\n".join(f"{label}: {line}" for label, line in lines)


def test_a_helper_alone_shows_its_code_and_where_to_type_it() -> None:
    shown = said(helper_view.screen(replace(ALONE, pairing=CODE)))
    assert "Name: laptop" in shown
    assert "Key: 1a1a-1a1a" in shown
    assert "Code: 771-204   1:52 left, 3 tries" in shown
    assert "192.168.1.20:45003" in shown
    assert "Machines: None yet" in shown


def test_a_helper_after_wrong_codes_waits_for_a_person() -> None:
    assert helper_view.BURNT in said(helper_view.screen(ALONE, burnt=True))


def test_a_helper_names_the_others_the_leader_first() -> None:
    attic_leads = cluster_of(
        replace(LAPTOP, leader=False), replace(OLD_PC, rank=1), replace(ATTIC, rank=2, leader=True)
    )
    assert [machine.name for machine in helper_view.others(attic_leads)] == ["attic", "old-pc"]
    shown = said(helper_view.screen(attic_leads))
    assert "Machines: attic (leads, 2b2b-2b2b)" in shown
    assert "Doing: Sentiment with SmolLM2-135M-Instruct, 6.2 rows/s" in shown


def test_a_removed_helper_says_how_to_start_over() -> None:
    assert "--start-over" in said(helper_view.screen(replace(THREE, removed=True)))


def test_a_log_gets_news_and_nothing_twice() -> None:
    first = helper_view.news(None, ALONE)
    assert first[0] == "laptop, key 1a1a-1a1a, reached at 192.168.1.20:47311"
    assert "winnow helper --code" in first[1]
    assert helper_view.news(ALONE, ALONE) == []
    both = cluster_of(replace(ALONE.machines[0]), ATTIC)
    assert helper_view.news(ALONE, both) == ["Paired with attic (2b2b-2b2b)"]
    quiet = cluster_of(ALONE.machines[0], SILENT)
    assert helper_view.news(both, quiet) == ["attic is silent"]
    assert helper_view.news(quiet, both) == ["attic is back"]
    assert helper_view.news(both, replace(both, leader=ATTIC.id)) == ["attic leads now"]
    assert helper_view.news(both, ALONE) == ["attic was removed"]
    busy = cluster_of(LAPTOP, ATTIC)
    assert helper_view.news(both, busy) == ["Sentiment with SmolLM2-135M-Instruct"]
    assert helper_view.news(busy, cluster_of(replace(LAPTOP, rows_per_s=7.0), ATTIC)) == []
    assert helper_view.news(busy, both) == ["Waiting for work"]
    fetching = [cluster_of(replace(LAPTOP, doing=f"Fetching Qwen3-4B, {n}%")) for n in (3, 4)]
    assert helper_view.news(fetching[0], fetching[1]) == []
    problem = cluster_of(replace(LAPTOP, problems=("No room.",)), ATTIC)
    assert helper_view.news(busy, problem) == ["Problem: No room."]
    assert helper_view.news(busy, replace(busy, removed=True)) == [helper_view.REMOVED]
