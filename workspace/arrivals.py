"""What machines wrote into their logs comes into the workspace: each part of a log once, all of it or nothing.

Every log is read from its beginning on without a gap, and how far is kept in the same transaction as what was
read. So whatever is killed in between, nothing is lost and nothing is there twice. The order in which logs are
read makes no difference to what the workspace says. Answers of two machines to the same row are both kept: which
one counts is decided where labels are read (see `workspace.current`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from itertools import chain
from typing import Any

import msgspec
import pyarrow as pa

from workspace.carried import Carried, keep_decisions
from workspace.columns import Mapping
from workspace.errors import RunError, TaskError
from workspace.facts import Fact, RunSpec, RunState
from workspace.ids import content_id
from workspace.rows import scalar
from workspace.runs import add_prompt, add_run
from workspace.store import Connection, Store
from workspace.task import parse_task
from workspace.tasks import add_version

# A load of rows is described by the columns it came from; rows of other machines come as they are.
AS_THEY_ARE = msgspec.json.encode(Mapping(text=("text",)), order="sorted").decode()


class RunCame(msgspec.Struct, frozen=True):
    """A run was opened; `task` and `prompt` are the documents of its task and its prompt, "" if not known."""

    seq: int
    spec: RunSpec
    task: str = ""
    prompt: str = ""


class RowsCame(msgspec.Struct, frozen=True):
    """(row id, text, domain) of rows that belong to a run."""

    seq: int
    run_id: str
    rows: Sequence[tuple[str, str, str]]


class StateCame(msgspec.Struct, frozen=True):
    """Somebody set what a run should do."""

    seq: int
    run_id: str
    state: RunState
    note: str
    clock: int


class Arrival(msgspec.Struct):
    """One author's log from `first` up to, not including, `end`. Its parts are in the order of the log."""

    author: str
    first: int
    end: int
    runs: list[RunCame] = []
    rows: list[RowsCame] = []
    states: list[StateCame] = []
    decisions: list[Carried] = []
    facts: list[Fact] = []


def cursors(store: Store) -> dict[str, int]:
    """How far each log is in this workspace: the number at which it has to be read on. Unknown ones at 0."""
    with store.read() as con:
        return dict(con.execute("select author, next_seq from cursors").fetchall())


def take(store: Store, arrival: Arrival, *, cluster: str = "") -> int:
    """Add what is new in a part of a log; returns how many of its numbers that was.

    It may overlap what is here. Raises RunError, keeping none of it, when something before it is missing.
    `cluster` names the machines rows come from.
    """
    return begin(store, arrival, cluster=cluster).result()


def begin(store: Store, arrival: Arrival, *, cluster: str = "") -> Future[int]:
    """As `take`, without waiting."""

    def work(con: Connection) -> int:
        author = arrival.author
        here = scalar(con, "select next_seq from cursors where author = ?", [author])
        if arrival.first > here:
            raise RunError(
                f"Entries {here} to {arrival.first - 1} of {author} are missing.",
                "Nothing was added; fetch them again from the first missing one.",
            )
        if arrival.end <= here:
            return 0
        _add_runs(con, [came for came in arrival.runs if came.seq >= here])
        _add_rows(con, [came for came in arrival.rows if came.seq >= here], cluster)
        _add_states(con, author, [came for came in arrival.states if came.seq >= here])
        keep_decisions(con, author, [came for came in arrival.decisions if came.entry >= here])
        _add_facts(con, arrival.facts if here == arrival.first else [f for f in arrival.facts if f.seq >= here])
        if not scalar(con, "update cursors set next_seq = ? where author = ?", [arrival.end, author]):
            con.execute("insert into cursors values (?, ?)", [author, arrival.end]).fetchall()
        return arrival.end - here

    return store.submit(work)


def _add_runs(con: Connection, came: Sequence[RunCame]) -> None:
    for run in came:
        add_run(con, run.spec)
        if run.prompt:
            add_prompt(con, run.spec.prompt_id, run.spec.task_id, run.prompt)
        try:
            task = parse_task(run.task)
        except TaskError:
            continue  # the run says what it asks; only the page of its task has nothing to show
        add_version(con, task, run.spec.task_id)


def _add_rows(con: Connection, came: Sequence[RowsCame], cluster: str) -> None:
    if not came:
        return
    listed = [(block.run_id, *row) for block in came for row in block.rows]
    names = ("run_id", "id", "text", "domain")
    columns = dict(zip(names, zip(*listed, strict=True), strict=True))
    con.register(
        "incoming", pa.table({"place": range(len(listed)), **{name: pa.array(columns[name]) for name in names}})
    )
    try:
        import_id = content_id(["import", "cluster", cluster])
        before = scalar(con, "select coalesce(max(row_no) + 1, 0) from rows")
        added = scalar(
            con,
            """insert into rows by name
               select $before + row_number() over (order by i.place) - 1 as row_no, i.id, i.text, i.domain,
                      '' as external_id, $import as import_id
               from (from incoming qualify row_number() over (partition by id order by place) = 1) i
               anti join rows on rows.id = i.id order by i.place""",
            {"before": before, "import": import_id},
        )
        if added:
            _count_import(con, import_id, cluster, before, added)
        con.execute(
            """insert into run_rows
               with mine as (from run_rows where run_id in (select run_id from incoming))
               select i.run_id, coalesce(p.planned, 0)
                      + row_number() over (partition by i.run_id order by i.place) - 1, i.id
               from (from incoming qualify row_number() over (partition by run_id, id order by place) = 1) i
               anti join mine on mine.run_id = i.run_id and mine.row_id = i.id
               left join (select run_id, count(*) as planned from mine group by run_id) p on p.run_id = i.run_id
               order by i.place"""
        ).fetchall()
    finally:
        con.unregister("incoming")


def _count_import(con: Connection, import_id: str, cluster: str, first_row: int, added: int) -> None:
    """Rows of other machines are one load that grows."""
    if not scalar(con, "select count(*) from imports where id = ?", [import_id]):
        con.execute(
            "insert into imports values (?, ?, 'machines', 'utf-8', ?, 0, 0, 0, 0, 0, now(), now())",
            [import_id, f"Cluster {cluster[:8]}".strip(), AS_THEY_ARE],
        ).fetchall()
    con.execute(
        """update imports set lines = lines + $added, added = added + $added, finished_at = now(),
               bytes = bytes + (select sum(strlen(text)) from rows where row_no >= $first) where id = $import""",
        {"added": added, "first": first_row, "import": import_id},
    ).fetchall()


def _add_states(con: Connection, author: str, came: Sequence[StateCame]) -> None:
    for state in came:
        con.execute(
            "insert into run_states values (?, ?, ?, ?, ?, ?)",
            [state.run_id, state.state, state.note, state.clock, author, state.seq],
        ).fetchall()


def _add_facts(con: Connection, facts: Sequence[Fact]) -> None:
    if not facts:
        return
    con.register("incoming_facts", _columns(facts))
    try:
        con.execute("insert into facts by name select * from incoming_facts").fetchall()
    finally:
        con.unregister("incoming_facts")


_TYPES: dict[str, pa.DataType] = {
    "seq": pa.int64(),
    "slot": pa.int32(),
    "confidence": pa.float64(),
    "epoch": pa.int64(),
    "seconds": pa.float64(),
    "prompt_tokens": pa.int32(),
    "completion_tokens": pa.int32(),
    "made_at": pa.timestamp("us", tz="UTC"),
}
_LISTS = {"logprobs": pa.float64(), "warnings": pa.string(), "phrasings": pa.list_(pa.float64())}


def _columns(facts: Sequence[Fact]) -> pa.Table:
    names = Fact.__struct_fields__
    columns = dict(zip(names, zip(*map(msgspec.structs.astuple, facts), strict=True), strict=True))
    columns["made_at"] = tuple(round(made * 1_000_000) for made in columns["made_at"])
    return pa.table(
        {
            name: _lists(columns[name], _LISTS[name])
            if name in _LISTS
            else pa.array(columns[name], type=_TYPES.get(name, pa.string()))
            for name in names
        }
    )


def _lists(values: Sequence[Sequence[object]], kind: pa.DataType) -> pa.Array:
    # Three times as fast as letting pyarrow walk the lists of lists itself.
    ends = [0]
    for value in values:
        ends.append(ends[-1] + len(value))
    inner: list[Any] = list(chain.from_iterable(values))
    flat = _lists(inner, kind.value_type) if isinstance(kind, pa.ListType) else pa.array(inner, type=kind)
    return pa.ListArray.from_arrays(pa.array(ends, type=pa.int32()), flat)
