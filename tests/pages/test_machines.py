from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from studio import runtime
from studio.runtime import Studio
from tests.pages.conftest import OpenPage, said
from tests.seeding import seed
from tests.shown_machines import (
    ALONE,
    ATTIC,
    CODE,
    LAPTOP,
    NAS,
    OLD_PC,
    PHONE,
    RIGHT_CODE,
    THREE,
    ShowingStudio,
    asked,
    cluster_of,
    show,
)
from workspace.machines import Cluster
from workspace.store import open_store

replace = msgspec.structs.replace


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """Instead of the studio of the other page tests: one whose machines a test can set."""
    made = ShowingStudio(open_store(tmp_path / "words.duckdb"))
    runtime.use(made)
    yield made
    runtime.close()


def opened(open_page: OpenPage, studio: Studio, cluster: Cluster | None) -> AppTest:
    show(studio.path, cluster)
    return open_page("machines")


def pictured(app: AppTest) -> dict[str, Any] | None:
    """What the picture was given to draw, None when there is no picture."""
    found: Any = app.get("bidi_component")
    return dict(json.loads(found[0].proto.json)) if found else None


def figures(app: AppTest) -> str:
    """The figures of all members."""
    found: Any = app.get("html")
    return "\n".join(element.proto.body for element in found)


def change(app: AppTest, machine: str, verb: str) -> AppTest:
    """Choose in the menu of a machine."""
    menu: Any = next(one for one in app.get("menu_button") if one.key == f"change_{machine}")
    menu.click(verb).run()
    assert not app.exception
    return app


def buttons(app: AppTest) -> set[str]:
    return {str(button.key) for button in app.button}


def test_before_the_engine_answers_the_page_says_so(open_page: OpenPage, studio: Studio) -> None:
    assert "Starting the engine" in said(opened(open_page, studio, None))


def test_one_machine_alone_is_told_how_to_find_another(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, ALONE)
    assert "One machine so far" in said(app)
    assert app.code[0].value == "winnow helper"
    assert pictured(app) is None
    assert "Looking for machines" in said(app)


def test_found_machines_appear_by_themselves(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, ALONE)
    assert f"add_{NAS.id}" not in buttons(app)
    show(studio.path, replace(ALONE, found=(NAS, PHONE)))
    app.run()
    assert "2 machines found on your network" in said(app)
    assert {f"add_{NAS.id}", f"add_{PHONE.id}"} <= buttons(app)
    assert "Belongs to other machines already" in said(app)
    assert "One machine so far" not in said(app)


def test_a_machine_of_others_cannot_be_added_to_ours(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, replace(THREE, found=(PHONE,)))
    assert f"add_{PHONE.id}" not in buttons(app)


def test_adding_asks_for_the_code_and_a_wrong_one_is_explained(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, replace(ALONE, found=(NAS,)))
    app.button(key=f"add_{NAS.id}").click().run()
    app.text_input(key="machine_code").set_value("482914")
    app.button(key="pair").click().run()
    assert "The code is wrong" in app.error[0].value
    app.text_input(key="machine_code").set_value(" 482 913 ")
    app.button(key="pair").click().run()
    assert not app.exception
    assert asked(studio.path) == [["pair", NAS.address, "482-914"], ["pair", NAS.address, RIGHT_CODE]]


def test_something_that_is_no_code_is_not_tried(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, replace(ALONE, found=(NAS,)))
    app.button(key=f"add_{NAS.id}").click().run()
    app.text_input(key="machine_code").set_value("48291")
    app.button(key="pair").click().run()
    assert "six digits" in app.error[0].value
    assert not asked(studio.path)


def test_a_machine_that_shows_no_code_is_told_how(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, replace(ALONE, found=(PHONE,)))
    app.button(key=f"add_{PHONE.id}").click().run()
    assert "winnow helper --code" in said(app)


def test_a_machine_that_left_meanwhile_is_not_asked_for(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, replace(ALONE, found=(NAS,)))
    show(studio.path, ALONE)
    app.button(key=f"add_{NAS.id}").click().run()
    assert not app.exception
    assert "pair" not in buttons(app)


def test_by_address_with_and_without_a_code(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, ALONE)
    app.button(key="add_by_address").click().run()
    app.button(key="pair").click().run()
    assert "Type the address" in app.error[0].value
    app.text_input(key="machine_address").set_value("attic")
    app.button(key="pair").click().run()
    assert "attic is no address" in app.error[0].value
    app.text_input(key="machine_address").set_value("192.168.1.31:40155")
    app.text_input(key="machine_code").set_value("482-913")
    app.button(key="pair").click().run()
    assert asked(studio.path) == [["add_address", "attic"], ["pair", "192.168.1.31:40155", RIGHT_CODE]]


def test_three_members_and_who_leads(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, THREE)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {
        "Machines": "3",
        "Rows per second": "41",
        "Copies of every label": "2 of 3",
        "Leader": "laptop",
    }
    words = said(app)
    assert "**laptop** :green-badge[:material/bolt: Working] :gray-badge[:material/flag: Leads]" in words
    assert "NVIDIA GeForce RTX 4070, 24 cores, 41 GB of 64 GB free" in words
    assert "2b2b\\-2b2b" in words
    assert "<b>35 rows/s</b>" in figures(app)
    drawn = pictured(app)
    assert drawn is not None
    assert drawn["hub"] == LAPTOP.id
    assert [machine["state"] for machine in drawn["machines"]] == ["working", "working", "problem"]
    assert sum(machine["share"] for machine in drawn["machines"]) == pytest.approx(1)
    assert "laptop. hands out the work. 6.2 rows/s" in drawn["machines"][0]["sentence"]


def test_why_a_machine_is_given_no_work(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, THREE)
    words = said(app).replace("\\", "")
    assert OLD_PC.problems[0] in words
    assert "Problem" in words
    assert "<b>1,480</b>" in figures(app)


def test_a_silent_machine_counts_no_longer(open_page: OpenPage, studio: Studio) -> None:
    silent = replace(ATTIC, alive=False, silent_for=75.0)
    app = opened(open_page, studio, cluster_of(LAPTOP, silent, copies=1))
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Machines"], shown["Rows per second"]) == ("1 of 2", "6.2")
    assert "Last heard of 1 minute ago" in said(app)
    drawn = pictured(app)
    assert drawn is not None
    assert not drawn["legend"]


def test_machines_without_a_leader_are_choosing_one(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, replace(THREE, leader=""))
    assert next(metric.value for metric in app.metric if metric.label == "Leader") == "None yet"
    drawn = pictured(app)
    assert drawn is not None
    assert drawn["hub"] == LAPTOP.id


def test_pause_and_resume(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, THREE)
    change(app, ATTIC.id, "Pause")
    show(studio.path, cluster_of(LAPTOP, replace(ATTIC, paused=True)))
    app.run()
    assert "it is given no rows" in said(app)
    change(app, ATTIC.id, "Resume")
    assert asked(studio.path) == [["pause", ATTIC.id, True], ["pause", ATTIC.id, False]]


def test_renaming(open_page: OpenPage, studio: Studio) -> None:
    app = change(opened(open_page, studio, THREE), ATTIC.id, "Rename")
    assert app.text_input(key="machine_name").value == "attic"
    app.text_input(key="machine_name").set_value("  ")
    app.button(key="renamed").click().run()
    assert "needs a name" in app.error[0].value
    app.text_input(key="machine_name").set_value(" under the roof ")
    app.button(key="renamed").click().run()
    assert asked(studio.path) == [["rename", ATTIC.id, "under the roof"]]


def test_removing_says_what_cannot_be_taken_back(open_page: OpenPage, studio: Studio) -> None:
    app = change(opened(open_page, studio, THREE), ATTIC.id, "Remove")
    assert "is removed for ever" in said(app)
    assert "it keeps the rows and labels it has already" in said(app)
    app.button(key="kept").click().run()
    assert not asked(studio.path)
    change(app, ATTIC.id, "Remove")
    app.button(key="removed").click().run()
    assert asked(studio.path) == [["revoke", ATTIC.id]]


def test_this_machine_cannot_be_removed_here(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, THREE)
    menu: Any = next(one for one in app.get("menu_button") if one.key == f"change_{LAPTOP.id}")
    assert "Remove" not in menu.options


def test_a_machine_that_was_removed_is_told_what_that_means(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, replace(THREE, removed=True))
    assert "This machine was removed by another one" in app.error[0].value
    assert "Every row and label that is here stays" in app.error[0].value
    app.button(key="start_over").click().run()
    assert "Nothing is deleted" in said(app)
    assert not asked(studio.path)
    app.button(key="started_over").click().run()
    assert asked(studio.path) == [["start_over"]]


def test_the_code_of_this_machine_is_shown_and_hidden(open_page: OpenPage, studio: Studio) -> None:
    app = opened(open_page, studio, ALONE)
    app.button(key="show_code").click().run()
    app.run()
    assert CODE.code in said(app)
    assert "It lasts 1:52 and 3 tries" in said(app)
    app.button(key="hide_code").click().run()
    app.run()
    assert CODE.code not in said(app)
    assert asked(studio.path) == [["open_pairing"], ["close_pairing"]]


def test_what_a_member_may_do_is_said(open_page: OpenPage, studio: Studio) -> None:
    words = said(opened(open_page, studio, THREE))
    assert "Add machines you own" in words
    assert "reads every row and every label" in words


def test_names_of_strangers_are_shown_letter_by_letter(open_page: OpenPage, studio: Studio) -> None:
    hostile = replace(NAS, name="![x](http://evil.example/x.png) :red[**y**]")
    words = said(opened(open_page, studio, replace(ALONE, found=(hostile,))))
    assert "![x](" not in words
    assert "\\!\\[x\\]\\(http\\:" in words


def test_home_and_label_say_that_work_is_shared(open_page: OpenPage, studio: Studio) -> None:
    seed(studio.store, [f"text {n}" for n in range(9)])
    show(studio.path, THREE)
    for page in ("home", "label"):
        links: Any = open_page(page).get("page_link")
        assert "3 machines, 41 rows/s" in [link.proto.label for link in links]
    show(studio.path, ALONE)
    for page in ("home", "label"):
        links = open_page(page).get("page_link")
        assert not [link for link in links if "machine" in link.proto.label]
