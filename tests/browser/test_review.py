"""The review component in a real browser, checked against the database: no press lost, doubled or misfiled."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Serve, Server, settled
from tests.seeded_kinds import kinds_run
from tests.seeding import SENTIMENT, seed, seeded_file
from workspace import decisions, labels
from workspace.facts import RunSpec
from workspace.ids import row_id
from workspace.store import open_store
from workspace.task import Dimension, Label, Rule, Task, join_labels

TEXTS = [f"Message {number}: the parcel came {number} days late." for number in range(200)]
RUNS = 13  # at least one for every test that shares the studio: decisions belong to a task
# Pressed from within the page, one key every 100 ms, so that the test's own round trips do not slow it down.
PRESS_SIXTY = """async (deck) => {
    const pressed = []
    for (let i = 0; i < 60; i++) {
        const key = String(1 + ((i * 7) % 3))
        const row = deck.dataset.row
        const options = { key, code: "Digit" + key, bubbles: true, composed: true, cancelable: true }
        document.body.dispatchEvent(new KeyboardEvent("keydown", options))
        pressed.push([row, key, deck.dataset.row])
        await new Promise((resolve) => setTimeout(resolve, 100))
    }
    return pressed
}"""


class Desk:
    """One run in a studio, and what the database says of it."""

    def __init__(self, server: Server, spec: RunSpec) -> None:
        self.server = server
        self.spec = spec

    def open(self, page: Page, **query: str) -> None:
        extra = "".join(f"&{name}={value}" for name, value in query.items())
        page.goto(f"{self.server.url}/review?run={self.spec.run_id}{extra}")
        expect(page.locator("#deck")).to_have_attribute("data-state", "row")

    def database(self, folder: Path) -> Database:
        """Call it when everything is saved: it reads a copy of the file and its log."""
        copy = folder / "copy.duckdb"
        for suffix in ("", ".wal"):
            source = Path(f"{self.server.workspace}{suffix}")
            if source.exists():
                shutil.copy(source, f"{copy}{suffix}")
        return Database(copy, self.spec)


class Database:
    """What was really kept of a run's decisions."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        dimension = spec.dimensions[0].name
        store = open_store(path)
        try:
            with store.read() as con:
                columns = "session, seq, row_id, action, label, reviewer, seconds, comment, blind, shown, undoes"
                found = con.execute(
                    f"select {columns} from decisions where run_id = ? order by rowid", [spec.run_id]
                ).fetchall()
            self.events: list[dict[str, Any]] = [dict(zip(columns.split(", "), row, strict=True)) for row in found]
            self.current = {
                label.row_id: label.label for label in labels.page(store, spec.run_id, dimension, limit=1000)
            }
            self.counts = decisions.counts(store, spec.run_id, dimension)
        finally:
            store.close()

    @property
    def decided(self) -> dict[str, str]:
        return {event["row_id"]: event["label"] for event in self.events if event["action"] != "undo"}


TAGS = ("money", "delivery", "account", "fault", "tone")
HUNDRED = [f"topic:number {number}" for number in range(98)] + ["Sport", "way:Transport"]
URGENCY = Dimension(name="urgency", kind="score", question="How urgent is it?")


def named(*names: str) -> tuple[Label, ...]:
    return tuple(Label(name=name) for name in names)


KINDS = (
    Task(name="topics", dimensions=(Dimension(name="topic", question="About what?", labels=named(*HUNDRED)),)),
    Task(name="tags", dimensions=(Dimension(name="tags", kind="multi", question="Which?", labels=named(*TAGS)),)),
    Task(name="scored", dimensions=(URGENCY,)),
    Task(
        name="ruled",
        dimensions=(
            Dimension(name="mood", kind="boolean", question="Which?", labels=named("calm", "angry")),
            URGENCY,
        ),
        rules=(Rule(expression="mood = 'calm'", message="People here are calm."),),
    ),
)


@pytest.fixture(scope="module")
def shared(serve_module: Serve, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Desk], dict[str, Desk]]:
    """A studio with runs nobody has reviewed yet: those that are all alike, and one of each kind by task."""
    path = tmp_path_factory.mktemp("review") / "test.duckdb"
    store = open_store(path)
    alike = seed(store, TEXTS, names=[f"sentiment_{number}" for number in range(RUNS)])
    first = [row_id(text) for text in TEXTS[:12]]
    kinds = [kinds_run(store, task, first) for task in KINDS]
    store.close()
    server = serve_module(path)
    return [Desk(server, spec) for spec in alike], {spec.task_name: Desk(server, spec) for spec in kinds}


@pytest.fixture(scope="module")
def desks(shared: tuple[list[Desk], dict[str, Desk]]) -> Iterator[Desk]:
    return iter(shared[0])


@pytest.fixture
def kinds(shared: tuple[list[Desk], dict[str, Desk]]) -> dict[str, Desk]:
    """Runs of `KINDS` by name, in the studio all tests here share."""
    return shared[1]


@pytest.fixture
def desk(desks: Iterator[Desk]) -> Desk:
    """A run nobody has reviewed yet, in the studio all tests here share."""
    return next(desks)


def row(page: Page) -> str:
    return page.locator("#deck").get_attribute("data-row") or ""


def saved(page: Page) -> None:
    """Wait until the server has confirmed everything."""
    expect(page.locator("#deck")).to_have_attribute("data-unsaved", "0")


def press(page: Page, key: str) -> str:
    """Press a key and wait until another row is on screen; returns the row it was pressed on."""
    before = row(page)
    page.keyboard.press(key)
    expect(page.locator("#deck")).not_to_have_attribute("data-row", before)
    return before


def test_ten_presses_a_second_are_sixty_decisions(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page)
    pressed = page.locator("#deck").evaluate(PRESS_SIXTY)
    saved(page)
    expected = {row_id: SENTIMENT[int(key) - 1] for row_id, key, _ in pressed}
    assert len(expected) == 60
    assert all(before != after for before, _, after in pressed), "the next row is on screen when the press returns"
    database = desk.database(tmp_path)
    assert len(database.events) == 60
    assert database.decided == expected
    assert sorted(event["seq"] for event in database.events) == list(range(60))


def test_keys_mean_what_the_page_says(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page)
    suggestion = page.locator(".labels button.suggested").get_attribute("data-label")
    accepted = press(page, "Enter")
    chosen = press(page, "2")
    rejected = press(page, "x")
    skipped = press(page, "s")
    commented = row(page)
    page.keyboard.press("m")
    page.keyboard.type("r1 c2 sarcasm")  # digits, R and C are letters like others while one types
    page.keyboard.press("Enter")
    assert row(page) == commented
    press(page, "3")
    page.keyboard.press("r")
    page.keyboard.press("c")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("1")  # the sheet is in front: nothing is decided behind it
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    saved(page)
    events = desk.database(tmp_path).events
    assert [(event["row_id"], event["action"], event["label"]) for event in events] == [
        (accepted, "approve", suggestion),
        (chosen, events[1]["action"], "negative"),
        (rejected, "reject", ""),
        (skipped, "skip", ""),
        (commented, events[4]["action"], "neutral"),
    ]
    assert events[4]["comment"] == "r1 c2 sarcasm"
    assert '"suggestion": "' in events[0]["shown"]
    assert all(event["seconds"] > 0 for event in events)


def test_undo_takes_back_one_decision_after_the_other(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page)
    rows = [press(page, key) for key in ("1", "2", "3")]
    saved(page)
    for expected in reversed(rows[1:]):
        press(page, "z")
        assert row(page) == expected
    press(page, "3")  # decided anew
    saved(page)

    # A new visit: what was decided before can still be taken back, by the server's history.
    desk.open(page)
    here = row(page)
    press(page, "Backspace")
    assert row(page) == rows[1] != here
    press(page, "Backspace")
    assert row(page) == rows[0]
    saved(page)
    assert desk.database(tmp_path).counts.decided == 0


def test_arrows_show_what_was_decided_and_let_it_be_changed(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page)
    first = press(page, "1")
    second = press(page, "1")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#deck")).to_have_attribute("data-row", first)
    expect(page.locator(".said")).to_have_text("you said positive")
    press(page, "2")
    assert row(page) not in (first, second)
    saved(page)
    database = desk.database(tmp_path)
    assert database.current[first] == "negative"
    assert database.current[second] == "positive"


def test_what_others_said_is_shown_for_the_row_at_hand(desk: Desk, page: Page) -> None:
    desk.open(page, reviewer="ana")
    suggestion = page.locator(".labels button.suggested").get_attribute("data-label")
    decided = press(page, "2")
    saved(page)
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#deck")).to_have_attribute("data-row", decided)
    page.keyboard.press("e")
    said = page.locator(".others p")
    expect(said).to_have_count(2)
    lines = sorted(said.all_inner_texts())
    assert any(line.startswith("SmolLM2-135M-Instruct") and str(suggestion) in line for line in lines)
    assert any(line.startswith("ana") and "negative" in line for line in lines)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".others")).to_be_hidden()
    page.keyboard.press("b")
    page.keyboard.press("e")  # it would tell what the model says
    expect(page.locator(".others")).to_be_hidden()


def test_closing_the_tab_right_after_a_press_loses_nothing(
    desk: Desk, new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    context = new_context()
    pressed: list[str] = []
    for _ in range(5):
        page = context.new_page()
        desk.open(page)
        for _ in range(3):
            pressed.append(row(page))
            page.keyboard.press("2")
        with page.expect_event("close"):
            page.close(run_before_unload=True)
    # A last visit, elsewhere in the studio, gives the browser time to deliver what it accepted.
    page = context.new_page()
    page.goto(desk.server.url)
    settled(page)
    assert len(set(pressed)) == 15
    assert set(desk.database(tmp_path).decided) == set(pressed)


def test_leaving_for_another_page_loses_nothing_and_frees_the_keys(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page)
    pressed = row(page)
    page.keyboard.press("1")
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Home").click()
    expect(page.locator("#deck")).to_have_count(0)
    settled(page)
    page.keyboard.press("1")  # nobody listens any more
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Review").click()
    expect(page.locator("#deck")).to_have_attribute("data-state", "row")
    saved(page)
    assert set(desk.database(tmp_path).decided) == {pressed}


def test_a_killed_server_loses_nothing(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page)
    pressed = [press(page, "1") for _ in range(5)]
    desk.server.kill()
    pressed += [press(page, "2") for _ in range(7)]
    expect(page.locator("#deck")).not_to_have_attribute("data-unsaved", "0")
    desk.server.start()
    saved(page)
    pressed += [press(page, "3") for _ in range(3)]
    saved(page)
    database = desk.database(tmp_path)
    assert database.decided == dict(
        zip(pressed, ["positive"] * 5 + ["negative"] * 7 + ["neutral"] * 3, strict=True)
    )
    assert len(database.events) == 15


def test_a_browser_that_dies_offline_catches_up_at_the_next_visit(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page)
    page.context.set_offline(True)
    pressed = [press(page, "2") for _ in range(4)]
    expect(page.locator("#deck")).to_have_attribute("data-unsaved", "4")
    expect(page.locator(".saved")).to_contain_text("unsaved")
    page.close()  # without a beacon: there is no network
    page.context.set_offline(False)
    again = page.context.new_page()
    desk.open(again)
    saved(again)
    assert set(desk.database(tmp_path).decided) == set(pressed)


def test_blind_hides_the_suggestion_and_says_so(desk: Desk, page: Page, tmp_path: Path) -> None:
    desk.open(page, order="Random+sample")
    deck = page.locator("#deck")
    expect(deck).to_have_attribute("data-blind", "true")
    expect(page.locator(".labels button.suggested")).to_have_count(0)
    page.keyboard.press("Enter")  # there is nothing to accept
    blind = press(page, "1")
    page.keyboard.press("b")
    expect(page.locator(".labels button.suggested")).to_have_count(1)
    seen = press(page, "1")
    peeked = row(page)
    page.keyboard.press("b")  # hidden again, but this row was seen already
    press(page, "2")
    hidden = press(page, "2")
    saved(page)
    kept = {event["row_id"]: event for event in desk.database(tmp_path).events}
    assert [kept[id]["blind"] for id in (blind, seen, peeked, hidden)] == [True, False, False, True]
    assert '"suggestion": null' in kept[blind]["shown"]


def test_hostile_texts_are_shown_as_they_are(tmp_path: Path, serve: Serve, page: Page) -> None:
    texts = [
        '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>',
        "</article><style>*{display:none}</style> & &amp; <b>bold</b>",
        "first line\n\nthird line\twith a tab",
        "שלום עולם",
        "word " * 4000,
    ]
    path = tmp_path / "hostile.duckdb"
    spec = seeded_file(path, texts, ["<b>yes</b>", "no\"'&"])[0]
    Desk(serve(path), spec).open(page, order="In+file+order")
    card = page.locator(".card")
    for text in texts:
        assert card.text_content() == text
        if text.startswith("first line"):
            assert card.inner_text() == text
        if text.startswith("word"):
            assert card.evaluate("card => card.scrollHeight > card.clientHeight + 100")
            assert card.evaluate("card => card.clientHeight < innerHeight / 2")
        if text.startswith("שלום"):
            assert card.evaluate("card => getComputedStyle(card).direction") == "rtl"
        page.keyboard.press("1")
    expect(page.locator("#deck")).to_have_attribute("data-state", "finished")
    saved(page)
    assert page.evaluate("window.hacked") is None
    assert page.locator(".labels button").first.text_content() == "1<b>yes</b>"
    expect(page.get_by_text("Nothing is waiting in this run.")).to_be_visible()


def test_of_a_hundred_labels_digits_are_the_likeliest_and_the_rest_is_found(
    kinds: dict[str, Desk], page: Page, tmp_path: Path
) -> None:
    desk = kinds["topics"]
    desk.open(page, order="In+file+order")
    suggestion = page.locator(".likely button.suggested").get_attribute("data-label")
    assert suggestion == page.locator(".likely button").first.get_attribute("data-label")
    second = page.locator(".likely button").nth(1).get_attribute("data-label")
    first = press(page, "2")
    page.keyboard.press("/")
    page.keyboard.type("spo")
    expect(page.locator(".labels button:visible")).to_have_count(2)
    assert page.locator(".found button.first").get_attribute("data-label") == "Sport"
    page.keyboard.press("ArrowDown")
    typed = row(page)
    page.keyboard.press("Enter")
    expect(page.locator("#deck")).not_to_have_attribute("data-row", typed)
    expect(page.locator(".find")).to_have_value("")
    page.keyboard.press("Escape")
    assert page.locator(".all h4").all_inner_texts() == ["topic", "way", "more"]
    page.keyboard.press("b")  # nothing of what the model thinks is left: not even in the order of the labels
    expect(page.locator(".likely button")).to_have_count(0)
    assert press(page, "x")
    saved(page)
    database = desk.database(tmp_path)
    assert database.decided[first] == second
    assert database.decided[typed] == "way:Transport"


def test_several_labels_are_switched_and_saved_together(
    kinds: dict[str, Desk], page: Page, tmp_path: Path
) -> None:
    desk = kinds["tags"]
    desk.open(page, order="In+file+order")
    assert desk.spec.dimensions[0].kind == "multi"
    on = page.locator(".labels button.chosen")
    suggested = on.evaluate_all("buttons => buttons.map(button => button.dataset.label)")
    accepted = press(page, "Enter")  # as it stands
    changed = row(page)
    before = set(on.evaluate_all("buttons => buttons.map(button => button.dataset.label)"))
    page.keyboard.press("1")
    page.keyboard.press("3")
    assert row(page) == changed, "nothing is saved before Enter"
    press(page, "Enter")
    none = press(page, "n")
    page.keyboard.press("b")
    blind = row(page)
    page.keyboard.press("Enter")  # nothing is chosen and nothing suggested
    assert row(page) == blind
    page.keyboard.press("5")
    page.keyboard.press("2")
    page.keyboard.press("4")
    page.keyboard.press("4")
    press(page, "Enter")
    press(page, "z")  # what was chosen is there to be mended
    assert on.evaluate_all("buttons => buttons.map(button => button.dataset.label)") == ["delivery", "tone"]
    press(page, "Enter")
    saved(page)
    database = desk.database(tmp_path)
    assert database.decided[accepted] == join_labels(suggested, TAGS)
    assert database.decided[changed] == join_labels(before ^ {"money", "account"}, TAGS)
    assert database.decided[none] == "(none)"
    assert database.decided[blind] == "delivery|tone"
    actions = {event["row_id"]: event["action"] for event in database.events}
    assert actions[accepted] == "approve"


def test_a_figure_is_saved_as_soon_as_no_longer_one_begins_like_it(
    kinds: dict[str, Desk], page: Page, tmp_path: Path
) -> None:
    desk = kinds["scored"]
    desk.open(page, order="In+file+order")
    expect(page.locator(".said")).to_contain_text("give or take")
    suggestion = page.locator(".scale button.suggested").get_attribute("data-label")
    accepted = press(page, "Enter")
    seven = press(page, "7")
    one = row(page)
    page.keyboard.press("1")
    assert row(page) == one, "ten begins like one"
    press(page, "Enter")
    ten = row(page)
    page.keyboard.press("1")
    press(page, "0")
    stepped = row(page)
    start = int(page.locator(".scale button.suggested").get_attribute("data-label") or "")
    for _ in range(3):
        page.keyboard.press("ArrowUp" if start <= 7 else "ArrowDown")
    press(page, "Enter")
    taken_back = row(page)
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.press("Enter")  # hidden, and nothing is chosen
    assert row(page) == taken_back
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("choose a figure from 0 to 10")
    page.keyboard.press("?")
    saved(page)
    assert desk.database(tmp_path).decided == {
        accepted: suggestion,
        seven: "7",
        one: "1",
        ten: "10",
        stepped: str(start + 3 if start <= 7 else start - 3),
    }


def test_rows_that_break_a_rule_say_which_and_why_the_model_thinks_so(
    kinds: dict[str, Desk], page: Page, tmp_path: Path
) -> None:
    desk = kinds["ruled"]
    desk.open(page, order="Rows+that+break+a+rule")
    broken, why = page.locator(".broken"), page.locator(".why")
    for _ in range(3):
        turn = int(page.locator(".card").inner_text().split(":")[0].split()[1])
        expect(broken).to_have_text("People here are calm.")
        expect(page.locator(".labels button.suggested")).to_have_text(re.compile("angry"))
        if turn % 3:
            expect(why).to_have_text(f"why Reason number {turn}.")
        else:
            expect(why).to_be_hidden()
        page.keyboard.press("b")
        expect(broken).to_be_hidden()  # it would tell what the model says
        expect(why).to_be_hidden()
        page.keyboard.press("b")
        press(page, "y")  # the first of the two
    saved(page)
    assert set(desk.database(tmp_path).decided.values()) == {"calm"}
    while page.locator("#deck").get_attribute("data-state") == "row":
        page.keyboard.press("1")
    expect(page.locator(".card")).to_have_text("No row that breaks a rule is waiting.")


def test_mouse_and_touch_alone_are_enough(
    desk: Desk, new_context: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    page = new_context(has_touch=True, viewport={"width": 420, "height": 860}).new_page()
    desk.open(page)
    first = row(page)
    page.locator(".labels button").nth(1).tap()
    expect(page.locator("#deck")).not_to_have_attribute("data-row", first)
    second = row(page)
    page.get_by_role("button", name="reject").tap()
    expect(page.locator("#deck")).not_to_have_attribute("data-row", second)
    page.get_by_role("button", name="undo").tap()
    expect(page.locator("#deck")).to_have_attribute("data-row", second)
    page.locator(".labels button").nth(0).click()
    page.keyboard.press("Enter")  # after a click the key belongs to the row, not to the button clicked
    saved(page)
    database = desk.database(tmp_path)
    assert database.current[first] == "negative"
    assert database.current[second] == "positive"
    assert database.counts.approved + database.counts.modified == 3


def test_no_page_asks_anything_of_another_machine(desk: Desk, page: Page, tmp_path: Path) -> None:
    """The fixture fails on any such request; here every page of the navigation is visited."""
    page.goto(desk.server.url)
    settled(page)
    links = page.get_by_test_id("stSidebarNav").get_by_role("link")
    for name in links.all_inner_texts():
        links.filter(has_text=name.split("\n")[-1]).first.click()
        settled(page)
        assert not page.get_by_test_id("stException").count(), f"{name}: {page.inner_text('body')}"
    assert len(links.all()) == 9
