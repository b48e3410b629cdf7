"""Logs of several machines come into workspaces: in whatever order and pieces, all say the same in the end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.cluster.entries import Decided, Entry, RunOpened, StateSet, encode
from engine.prompt import prompt_for
from studio.homecoming import Homecoming, decided, unpack
from tests.seeding import MODEL, task_of
from tests.stand_in import Log, StandIn, author_of
from workspace import (
    arrivals,
    carried,
    decisions,
    exports,
    intake,
    labels,
    rows,
    runs,
    statistics,
    tasks,
    unfinished,
)
from workspace.carried import Event
from workspace.decisions import DecisionEvent
from workspace.errors import EngineError, RunError
from workspace.facts import RunSpec
from workspace.facts import run_id as id_of_run
from workspace.ids import row_id
from workspace.store import Store, open_store
from workspace.task import Task, task_id, to_yaml

TASK = task_of(["good", "bad"])
TEXTS = [f"text number {number}" for number in range(12)]
ROWS = [(row_id(text), text, "news" if number % 2 else "") for number, text in enumerate(TEXTS)]
IDS = [row[0] for row in ROWS]
CLUSTER = "c1" * 16


def run_of(task: Task = TASK) -> RunSpec:
    prompt = prompt_for(task)
    model = msgspec.structs.replace(MODEL, path="")
    run = id_of_run(task_id(task), prompt.id, model.digest)
    return RunSpec(run, task_id(task), task.name, prompt.id, model, prompt.dimensions)


SPEC = run_of()


def event_of(seq: int, row: str, action: Any = "modify", label: str = "good", **more: Any) -> Event:
    fields: dict[str, Any] = {
        "session": "session of bob",
        "seq": seq,
        "run_id": SPEC.run_id,
        "task_name": SPEC.task_name,
        "row_id": row,
        "dimension": "sentiment",
        "action": action,
        "label": label,
        "reviewer": "bob",
        "seconds": 1.5,
        "comment": "",
        "blind": True,
        "shown": "{}",
        "undoes": None,
        "undoes_session": None,
        "decided_at": 1_700_000_000_000_000 + seq,
        "clock": 1_700_000_000_000_000 + seq,
    }
    return Event(**{**fields, **more})


def decision(event: Event, standing: bool = True) -> Decided:
    return decided(carried.Outgoing(event, standing, event.label))


def first_machine() -> Log:
    """A log with a run, its rows in two blocks, answers to some of them and decisions."""
    log = Log(author_of(1))
    log.add(RunOpened(SPEC, to_yaml(TASK)))
    log.plan(SPEC, ROWS[:7])
    log.add(StateSet(SPEC.run_id, "running", "", 1))
    log.label(SPEC, IDS[:5], size=3)
    log.add(decision(event_of(0, IDS[0], label="bad")))
    log.plan(SPEC, ROWS[5:10])
    log.add(decision(event_of(1, IDS[1], "reject", "")))
    log.add(decision(event_of(2, IDS[1], "undo", "", undoes=1), standing=False))
    return log


def second_machine() -> Log:
    """The log of one that answered some of the same rows, and others."""
    log = Log(author_of(2))
    log.label(SPEC, IDS[3:7], best=1)
    log.add(StateSet(SPEC.run_id, "paused", "Enough for today.", 2))
    log.plan(SPEC, ROWS[8:])
    log.label(SPEC, IDS[7:8], error="It was too long.")
    log.add(decision(event_of(0, IDS[0], session="session of cy", reviewer="cy", clock=1_800_000_000_000_000)))
    return log


@pytest.fixture
def new_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def make() -> Store:
        opened.append(open_store(tmp_path / f"w{len(opened)}.duckdb"))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def take(store: Store, entries: Sequence[Entry]) -> int:
    return arrivals.take(store, unpack(entries), cluster=CLUSTER) if entries else 0


def said(store: Store) -> dict[str, Any]:
    """Everything a workspace says that must not depend on the order things came in."""
    with store.read() as con:
        tables: dict[str, Any] = {
            "facts": con.execute("select * exclude (made_at) from facts order by author, seq").fetchall(),
            "rows": con.execute("select id, text, domain from rows order by id").fetchall(),
            "planned": con.execute("select run_id, row_id from run_rows order by all").fetchall(),
            "numbers": con.execute("select run_id, number from run_rows order by all").fetchall(),
            "states": con.execute("from run_states order by all").fetchall(),
            "decisions": con.execute(
                "select * exclude (decided_at, saved_at) from decisions order by session, seq"
            ).fetchall(),
            "carried": con.execute("from carried order by all").fetchall(),
            "cursors": con.execute("from cursors order by all").fetchall(),
        }
    (run,) = runs.list_runs(store)
    tables["run"] = [run.id, run.task_title, run.rows, run.labeled_rows, run.failed_rows]
    shown = labels.page(store, run.id, "sentiment")
    tables["labels"] = sorted((one.row_id, one.label, one.confidence, one.decided_by, one.error) for one in shown)
    return tables


def test_a_workspace_is_built_from_the_logs_alone(new_store: Callable[[], Store]) -> None:
    store = new_store()
    for log in (first_machine(), second_machine()):
        assert take(store, log.entries) == log.end
    (run,) = runs.list_runs(store)
    assert (run.id, run.task_title, run.rows, run.labeled_rows, run.failed_rows) == (
        SPEC.run_id,
        "Sentiment",
        12,
        7,
        1,
    )
    assert runs.spec(store, run.id) == SPEC
    assert tasks.get(store, SPEC.task_id).task == TASK
    assert [(row.text, row.domain) for row in rows.page(store)] == [row[1:] for row in ROWS]
    assert [row for row, _ in runs.planned(store, run.id)] == IDS
    shown = {one.row_id: (one.label, one.decided_by) for one in labels.page(store, run.id, "sentiment")}
    assert shown[IDS[0]] == ("good", "cy"), "the larger clock, wherever it came from"
    assert shown[IDS[1]] == ("good", "model"), "what was taken back decides nothing"
    assert shown[IDS[3]] == ("good", "model"), "answered by both: the smaller author counts"
    assert shown[IDS[6]] == ("bad", "model")
    exported = [line["id"] for line in exports.preview(store, run.id, limit=100)]
    assert exported == [*IDS[:8]], "a row answered twice is one line"
    overview = statistics.overview(store)
    assert (overview.rows, overview.labeled, overview.decided) == (12, 7, 1)
    (record,) = intake.imports(store)
    assert (record.source, record.lines, record.added, record.rejected) == (f"Cluster {CLUSTER[:8]}", 12, 12, 0)
    assert record.bytes == sum(map(len, TEXTS))
    with store.read() as con:
        assert con.execute("select document from prompts").fetchall() == [(prompt_for(TASK).document,)]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_order_and_any_pieces_end_in_the_same_workspace(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    logs = {log.author: log.entries for log in (first_machine(), second_machine())}
    folder = tmp_path_factory.mktemp("orders")
    whole, pieces = open_store(folder / "whole.duckdb"), open_store(folder / "pieces.duckdb")
    try:
        for entries in logs.values():
            take(whole, entries)
        at = dict.fromkeys(logs, 0)
        while any(at[author] < len(entries) for author, entries in logs.items()):
            author = data.draw(st.sampled_from([name for name in logs if at[name] < len(logs[name])]))
            first = data.draw(st.integers(0, at[author]))  # it may come again
            until = data.draw(st.integers(at[author] + 1, len(logs[author])))
            take(pieces, logs[author][first:until])
            at[author] = until
        assert said(pieces) == said(whole)
    finally:
        whole.close()
        pieces.close()


def test_a_gap_is_refused_and_nothing_of_it_kept(new_store: Callable[[], Store]) -> None:
    store = new_store()
    log = first_machine()
    take(store, log.entries[:2])
    before = said(store)
    with pytest.raises(RunError, match="Entries 2 to 2 of"):
        take(store, log.entries[3:])
    assert said(store) == before
    assert take(store, log.entries) == log.end - 2


def test_rows_people_loaded_here_keep_their_place_and_are_not_added_again(new_store: Callable[[], Store]) -> None:
    store = new_store()
    file = Path(store.path).with_name("own.txt")
    file.write_text(f"mine\n{TEXTS[3]}\n", encoding="utf-8")
    intake.load(store, file, intake.Mapping(text=("text",)))
    take(store, first_machine().entries)
    assert [row.text for row in rows.page(store, limit=3)] == ["mine", TEXTS[3], TEXTS[0]]
    assert [row.row_no for row in rows.page(store)] == list(range(11))
    newest, own = intake.imports(store)
    assert (newest.added, own.added) == (9, 2)
    file.write_text(f"mine\n{TEXTS[4]}\nnew\n", encoding="utf-8")
    result = intake.load(store, file, intake.Mapping(text=("text",)))
    assert (result.added, result.repeated) == (1, 2)
    assert [row.row_no for row in rows.page(store)] == list(range(12))


def test_a_task_of_another_machine_does_not_displace_the_one_worked_on_here(
    new_store: Callable[[], Store],
) -> None:
    store = new_store()
    own = task_of(["good", "bad", "mixed"])
    tasks.save(store, own)
    take(store, first_machine().entries)
    found = tasks.newest_of(store, "sentiment")
    assert found is not None
    assert (found.task, found.versions) == (own, 2)
    assert tasks.get(store, SPEC.task_id).task == TASK


@pytest.mark.parametrize("document", ["", "name: [", to_yaml(task_of(["x", "y"]))])
def test_a_run_without_its_task_is_still_a_run(new_store: Callable[[], Store], document: str) -> None:
    store = new_store()
    log = Log(author_of(1))
    log.add(RunOpened(SPEC, document))
    take(store, log.entries)
    assert runs.list_runs(store)[0].task_title == SPEC.task_name
    assert tasks.newest(store) == []


def test_where_a_model_lies_is_learned_when_it_is_used_here(new_store: Callable[[], Store]) -> None:
    store = new_store()
    take(store, first_machine().entries)
    here = msgspec.structs.replace(SPEC, model=msgspec.structs.replace(SPEC.model, path="/models/here.gguf"))
    runs.create(store, here)
    assert runs.spec(store, SPEC.run_id) == here
    runs.create(store, SPEC)
    assert runs.spec(store, SPEC.run_id) == here


@pytest.mark.parametrize(
    "event",
    [
        "",
        "{}",
        "[]",
        "\x00",
        carried.encode(event_of(0, IDS[2])),  # of another row
        carried.encode(event_of(0, IDS[0], action="delete")),
        carried.encode(event_of(0, IDS[0], shown="5")),
        carried.encode(event_of(0, IDS[0], shown="{")),
        carried.encode(event_of(-1, IDS[0])),
        carried.encode(event_of(0, IDS[0], decided_at=1 << 62)),
        carried.encode(event_of(0, IDS[0], session="")),
    ],
)
def test_a_decision_that_makes_no_sense_is_passed_over(new_store: Callable[[], Store], event: str) -> None:
    store = new_store()
    log = first_machine()
    log.add(Decided("sentiment", "sentiment", IDS[0], "", "bad", True, event, 1 << 60))
    log.add(decision(event_of(9, IDS[4], label="bad")))
    take(store, log.entries)
    with store.read() as con:
        found = con.execute("select seq from decisions order by seq").fetchall()
    assert found == [(0,), (1,), (2,), (9,)]
    assert arrivals.cursors(store) == {log.author: log.end}


def test_an_entry_of_a_newer_version_is_waited_for_not_passed_over() -> None:
    log = first_machine()
    log.entries.append(Entry(log.author, log.end, 1, msgspec.msgpack.encode(["hologram", 1])))
    with pytest.raises(EngineError, match="newer version"):
        unpack(log.entries)


def test_a_decision_may_stand_in_two_logs(new_store: Callable[[], Store]) -> None:
    """A ledger was lost after others had a copy of it, and its decisions were handed to the next one."""
    store = new_store()
    for number in (1, 2):
        log = Log(author_of(number))
        log.add(decision(event_of(0, IDS[0])))
        log.add(decision(event_of(0, IDS[0])))
        take(store, log.entries)
    with store.read() as con:
        assert con.execute("select count(*) from decisions").fetchall() == [(1,)]
        assert con.execute("select count(*) from carried").fetchall() == [(4,)]


# Decisions on their way


class Desk:
    """A person at a workspace with the run of the first machine in it."""

    def __init__(self, store: Store, session: str, reviewer: str) -> None:
        self.store = store
        self.session = session
        self.reviewer = reviewer
        self.seq = 0
        take(store, first_machine().entries[:5])

    def decide(self, row: str, action: Any, label: str = "", **more: Any) -> int:
        event = DecisionEvent(self.seq, row, action, label, **more)
        self.seq += 1
        return decisions.record(
            self.store,
            session=self.session,
            run_id=SPEC.run_id,
            dimension="sentiment",
            reviewer=self.reviewer,
            events=[event],
        )

    def hand_over(self, log: Log) -> None:
        for one in carried.outgoing(self.store, arrivals.cursors(self.store), 1000):
            log.add(decided(one))
        take(self.store, log.entries)

    def label(self, row: str) -> tuple[str | None, str]:
        found = {one.row_id: one for one in labels.page(self.store, SPEC.run_id, "sentiment")}
        return found[row].label, found[row].decided_by


def test_every_field_of_a_decision_arrives(new_store: Callable[[], Store]) -> None:
    ann, bob = Desk(new_store(), "of ann", "ann"), Desk(new_store(), "of bob", "bob")
    log = Log(author_of(3))
    shown = {"suggestion": "good", "confidence": 0.5, "probabilities": [0.5, 0.5]}
    ann.decide(IDS[0], "approve", shown=shown, seconds=2.5, comment="é\n", blind=True, decided_at=1_700_000_000.25)
    ann.decide(IDS[0], "undo", undoes=0)
    ann.decide(IDS[1], "skip")
    ann.decide(IDS[2], "reject")
    ann.decide(IDS[2], "undo", undoes=3, undoes_session="of ann")
    ann.hand_over(log)
    take(bob.store, log.entries)
    seen = [decisions.history(desk.store, SPEC.run_id, "sentiment") for desk in (ann, bob)]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 3
    with ann.store.read() as mine, bob.store.read() as theirs:
        sql = "select * exclude (saved_at, decided_at), epoch_us(decided_at) from decisions order by seq"
        assert mine.execute(sql).fetchall() == theirs.execute(sql).fetchall()


def test_how_a_row_stands_after_each_event(new_store: Callable[[], Store]) -> None:
    ann = Desk(new_store(), "of ann", "ann")
    log = Log(author_of(3))
    ann.decide(IDS[0], "modify", "good")  # 0
    ann.decide(IDS[0], "modify", "bad")  # 1
    ann.decide(IDS[0], "skip")  # 2
    ann.decide(IDS[0], "undo", undoes=1)  # 3: good stands again
    ann.decide(IDS[0], "reject")  # 4
    ann.decide(IDS[0], "undo", undoes=0)  # 5: not the newest; rejected it stays
    ann.decide(IDS[0], "undo", undoes=4)  # 6
    ann.decide(IDS[1], "skip")  # 7
    told = carried.outgoing(ann.store, {}, 1000)
    assert [(one.event.seq, one.standing, one.label) for one in told] == [
        (0, True, "good"),
        (1, True, "bad"),
        (2, True, "bad"),
        (3, True, "good"),
        (4, True, ""),
        (5, True, ""),
        (6, False, ""),
        (7, False, ""),
    ]
    assert [one.event.clock for one in told[:7]] == sorted({one.event.clock for one in told[:7]})
    ann.hand_over(log)
    assert carried.outgoing(ann.store, arrivals.cursors(ann.store), 1000) == []
    assert len(carried.outgoing(ann.store, {}, 3)) == 3, "a ledger that lacks them gets them again"


def test_who_saw_a_decision_and_takes_another_wins_whatever_the_clocks_say(new_store: Callable[[], Store]) -> None:
    ann, bob = Desk(new_store(), "of ann", "ann"), Desk(new_store(), "of bob", "bob")
    ahead = Log(author_of(3))
    ahead.add(decision(event_of(0, IDS[0], label="bad", clock=4_000_000_000_000_000)))  # a clock 60 years ahead
    for desk in (ann, bob):
        take(desk.store, ahead.entries)
        assert desk.label(IDS[0]) == ("bad", "bob")
    log = Log(author_of(4))
    ann.decide(IDS[0], "modify", "good")
    assert ann.label(IDS[0]) == ("good", "ann")
    ann.hand_over(log)
    take(bob.store, log.entries)
    assert bob.label(IDS[0]) == ("good", "ann")


def test_an_undo_takes_back_one_decision_and_no_other_machines(new_store: Callable[[], Store]) -> None:
    ann, bob = Desk(new_store(), "of ann", "ann"), Desk(new_store(), "of bob", "bob")
    logs = Log(author_of(3)), Log(author_of(4))
    ann.decide(IDS[0], "modify", "bad")
    bob.decide(IDS[0], "modify", "good")
    bob.decide(IDS[0], "undo", undoes=0)
    for desk, log in zip((ann, bob), logs, strict=True):
        desk.hand_over(log)
    take(ann.store, logs[1].entries)
    take(bob.store, logs[0].entries)
    assert ann.label(IDS[0]) == bob.label(IDS[0]) == ("bad", "ann")


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(0, 2),
            st.sampled_from(["modify", "approve", "reject", "skip", "undo", "exchange"]),
            st.sampled_from(["good", "bad"]),
            st.integers(0, 30),
        ),
        max_size=25,
    )
)
def test_two_reviewers_on_two_machines_agree_once_they_have_heard_each_other(
    steps: list[tuple[int, int, str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("reviewers")
    stores = [open_store(folder / f"{name}.duckdb") for name in ("ann", "bob")]
    logs = [Log(author_of(3)), Log(author_of(4))]
    desks = [Desk(store, f"of {name}", name) for store, name in zip(stores, ("ann", "bob"), strict=True)]
    try:
        for who, row, action, label, number in steps:
            desk = desks[who]
            if action == "exchange":
                desk.hand_over(logs[who])
                take(desks[1 - who].store, logs[who].entries)
            elif action == "undo":
                if desk.seq:
                    desk.decide(IDS[row], "undo", undoes=number % desk.seq)
            else:
                desk.decide(IDS[row], action, label if action in ("modify", "approve") else "")
        for who in (0, 1):
            desks[who].hand_over(logs[who])
            take(desks[1 - who].store, logs[who].entries)
        first, second = (said(desk.store) for desk in desks)
        assert first == second
        assert len(first["decisions"]) == sum(desk.seq for desk in desks)
    finally:
        for store in stores:
            store.close()


def test_an_event_too_long_for_an_entry_leaves_out_what_was_on_screen() -> None:
    long = event_of(0, IDS[0], shown=msgspec.json.encode({"text": "x" * 300_000}).decode(), comment="c" * 300_000)
    body = decision(long)
    assert len(encode(body)) < 1 << 18
    assert carried.decode(body.event) == msgspec.structs.replace(long, shown="{}", comment="c" * 10_000)


def test_what_is_odd_about_an_event_does_not_keep_it_from_travelling() -> None:
    odd = event_of(0, IDS[0], reviewer="b" * 500, seconds=float("nan"))
    assert carried.decode(decision(odd).event) == msgspec.structs.replace(odd, reviewer="b" * 200, seconds=0.0)


def test_events_of_a_session_keep_their_order_when_they_arrive_out_of_it(new_store: Callable[[], Store]) -> None:
    ann = Desk(new_store(), "of ann", "ann")
    events = [DecisionEvent(seq, IDS[0], "modify", label) for seq, label in enumerate(["good", "bad", "good"])]
    random.Random(3).shuffle(events)
    for event in events:
        decisions.record(
            ann.store,
            session="of ann",
            run_id=SPEC.run_id,
            dimension="sentiment",
            reviewer="ann",
            events=[event],
        )
    assert ann.label(IDS[0]) == ("good", "ann")
    with ann.store.read() as con:
        clocks = con.execute("select clock from decisions where session = 'of ann' order by seq").fetchall()
    assert clocks == sorted(clocks)


# Wishes


def test_a_wish_is_pending_until_the_engine_has_heard_it(new_store: Callable[[], Store]) -> None:
    store = new_store()
    run = SPEC.run_id
    assert unfinished.states(store) == {}
    unfinished.wish(store, run, "running")
    assert unfinished.known(store)[run].wish
    unfinished.settle(store, run, "paused")  # heard from the engine before it heard the wish
    assert unfinished.states(store) == {run: "running"}
    unfinished.settle(store, run, "running")
    unfinished.settle(store, run, "done")
    assert unfinished.known(store) == {run: unfinished.Known("done")}


def test_only_others_can_overrule_a_wish_and_only_later(new_store: Callable[[], Store]) -> None:
    store = new_store()
    run, mine, theirs = SPEC.run_id, author_of(1), author_of(2)
    take(store, [*first_machine().entries])
    unfinished.wish(store, run, "paused")
    clock = unfinished.known(store)[run].clock
    assert clock == 1
    assert not unfinished.overruled(store, run, clock, mine)
    assert not unfinished.overruled(store, run, 0, mine), "what this machine set itself is no other's"
    take(store, second_machine().entries)
    assert unfinished.overruled(store, run, clock, mine)
    assert not unfinished.overruled(store, run, clock, theirs)
    assert not unfinished.overruled(store, run, 2, mine)


# From an engine


def test_a_log_is_read_on_where_the_workspace_has_it(new_store: Callable[[], Store]) -> None:
    store = new_store()
    engine: Any = StandIn(1)
    engine.logs = {log.author: log for log in (first_machine(), second_machine())}
    assert Homecoming(store).bring(engine, engine.status(), 60, lambda: False) == (True, {SPEC.run_id})
    before = said(store)
    home = Homecoming(store)
    engine.log.label(SPEC, IDS[10:])
    asked = engine.calls.count("entries")
    assert home.bring(engine, engine.status(), 60, lambda: False) == (True, set())
    assert engine.calls.count("entries") == asked + 1
    assert len(said(store)["facts"]) == len(before["facts"]) + 2
    engine.log.label(SPEC, IDS[:1])
    assert home.bring(engine, engine.status(), 60, lambda: True) == (False, set())
