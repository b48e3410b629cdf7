"""Unites facts of any machines: each row of a run once for each question, with the label that counts.

The facts may come in any order and as often as they like: the outcome depends on nothing but the set of them.
They are kept in a file meanwhile, so that memory does not grow with their number.

Which label counts: a person's before any model's. Of the decisions on (task, dimension, row) that were not undone
the one with the largest (clock, session, event); of the answers to (run, dimension, row) labels come before rows
left out by a rule, and these before errors, and among equals the smallest (author, seq).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, groupby
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.shards.lines import JUDGEMENTS, Line

MAX_COMPARED = 16  # authors whose answers to one question are compared with each other
PAGE = 1_000

TABLES = """
    pragma journal_mode = off; pragma synchronous = off; pragma temp_store = file; pragma cache_size = -65536;
    pragma locking_mode = exclusive;
    create table word (number integer primary key, value text not null unique);
    create table fact (
        number integer primary key, author integer not null, seq integer not null, run integer not null,
        row text not null, dimension integer not null, task integer not null, kind text not null, label text,
        idx integer, contradicted integer not null default 0, body blob not null, unique (author, seq)
    );
    create table content (row text primary key, text text not null, domain text not null);
    create index decision on fact (task, dimension, row) where kind = 'human';
    create table judged (
        task integer not null, dimension integer not null, row text not null, fact integer not null,
        primary key (task, dimension, row)
    ) without rowid;
    create table counted (
        run text not null, idx integer, row text not null, dimension text not null, task text not null,
        answer integer, decision integer, labels integer not null, agreeing integer not null
    );
    create index counted_decision on counted (decision) where decision is not null;
"""
ADD_FACT = (
    "insert or ignore into fact (author, seq, run, row, dimension, task, kind, label, idx, body)"
    " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# A text that is missing in one shard may be in another; of two for the same row the smaller stays.
ADD_CONTENT = (
    "insert into content values (?, ?, ?) on conflict (row) do update set text = excluded.text,"
    " domain = excluded.domain where (excluded.text, excluded.domain) < (text, domain)"
)


class Counted(NamedTuple):
    """One question about one row, and what counts: a decision, an answer or both."""

    text: str
    domain: str
    answer: Line | None
    decision: Line | None
    labels: int  # answers by models that are labels
    agreeing: int  # of those with the label of `answer`


class AuthorCount(msgspec.Struct, frozen=True):
    """What came of an author: its facts, and how many of them count. `worker` is the machine's latest name."""

    author: str
    worker: str
    facts: int
    counted: int


class Pair(msgspec.Struct, frozen=True):
    """Two authors that labeled the same: how many, and to how many they gave the same label."""

    one: str
    other: str
    compared: int
    agreed: int


class Outcome(msgspec.Struct, frozen=True):
    """What was united, in numbers. A question is a dimension of a run, asked about a row."""

    lines: int
    facts: int  # different ones
    duplicates: int  # lines that told a known fact again
    contradicted: int  # facts told in different words; the smaller ones count
    rows: int  # different ones
    questions: int  # with an answer or a decision
    errors: int  # questions with errors only
    repeated: int  # questions with more than one label from models
    conflicts: int  # of those, where the labels differ
    decided: int  # questions decided by people
    disputed: int  # of those, where different people decided differently
    authors: tuple[AuthorCount, ...]
    agreement: tuple[Pair, ...]


class Union:
    """Add all lines, call `settle` once, then read `questions` and the outcome."""

    def __init__(self, file: Path) -> None:
        self._con = sqlite3.connect(file, isolation_level=None)
        self._con.executescript(TABLES)
        self._con.execute("begin")
        self._words: dict[str, int] = {}
        self._lines = 0
        self._repeated = self._conflicts = self._disputed = 0
        self._counting: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._agreed: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()

    def add(self, line: Line) -> None:
        """Add a fact."""
        self._lines += 1
        if line.text:
            self._con.execute(ADD_CONTENT, (line.id, line.text, line.domain))
        body = _encoder.encode(msgspec.structs.replace(line, text="", domain=""))
        values = (
            self._word(line.author),
            line.seq,
            self._word(line.run_id),
            line.id,
            self._word(line.dimension),
            self._word(line.task),
            line.kind,
            line.label,
            line.idx,
            body,
        )
        if not self._con.execute(ADD_FACT, values).rowcount:
            self._again(values, body)

    def settle(self) -> None:
        """Decide what counts, after all lines were added."""
        self._settle_decisions()
        self._settle_answers()
        self._con.execute(
            "insert into counted select w.value, null, f.row, d.value, t.value, null, j.fact, 0, 0"
            " from judged j join fact f on f.number = j.fact join word w on w.number = f.run"
            " join word d on d.number = f.dimension join word t on t.number = f.task"
            " where not exists (select 1 from counted c where c.decision = j.fact)"
        )

    def questions(self) -> Iterator[Counted]:
        """In the order of runs, places in them, rows and dimensions."""
        found = self._con.execute(
            "select coalesce(t.text, ''), coalesce(t.domain, ''), a.body, d.body, c.labels, c.agreeing"
            " from counted c left join content t on t.row = c.row left join fact a on a.number = c.answer"
            " left join fact d on d.number = c.decision"
            " order by c.run, c.idx is null, c.idx, c.row, c.dimension, c.task"
        )
        for text, domain, answer, decision, labels, agreeing in _paged(found):
            yield Counted(text, domain, _line(answer), _line(decision), labels, agreeing)

    def outcome(self) -> Outcome:
        """The numbers."""
        facts, contradicted = self._one("select count(*), coalesce(sum(contradicted), 0) from fact")
        questions, rows, decided, errors = self._one(
            "select count(*), count(distinct c.row), count(decision),"
            " coalesce(sum(decision is null and a.kind = 'error'), 0)"
            " from counted c left join fact a on a.number = c.answer"
        )
        authors = self._con.execute(
            "select w.value, count(*), (select g.body from fact g where g.author = f.author and g.kind <> 'human'"
            " order by g.seq desc limit 1) from fact f join word w on w.number = f.author"
            " group by f.author order by 1"
        )
        return Outcome(
            lines=self._lines,
            facts=facts,
            duplicates=self._lines - facts,
            contradicted=contradicted,
            rows=rows,
            questions=questions,
            errors=errors,
            repeated=self._repeated,
            conflicts=self._conflicts,
            decided=decided,
            disputed=self._disputed,
            authors=tuple(
                AuthorCount(name, last.worker if (last := _line(body)) else "", count, self._counting[name])
                for name, count, body in authors
            ),
            agreement=tuple(
                Pair(one, other, compared, self._agreed[one, other])
                for (one, other), compared in sorted(self._pairs.items())
            ),
        )

    # inside

    def _word(self, value: str) -> int:
        number = self._words.get(value)
        if number is None:
            number = self._words[value] = len(self._words)
            self._con.execute("insert into word values (?, ?)", (number, value))
        return number

    def _again(self, values: tuple[object, ...], body: bytes) -> None:
        """A fact of that name is there already."""
        number, there = self._one("select number, body from fact where author = ? and seq = ?", *values[:2])
        if body == there:
            return
        self._con.execute("update fact set contradicted = 1 where number = ?", (number,))
        if body < there:
            self._con.execute(
                "update fact set run = ?, row = ?, dimension = ?, task = ?, kind = ?, label = ?, idx = ?, body = ?"
                " where number = ?",
                (*values[2:], number),
            )

    def _settle_decisions(self) -> None:
        undone = {
            (line.human.undoes_session or line.human.session, line.human.undoes)
            for line, _ in self._decisions()
            if line.human is not None and line.human.action == "undo"
        }
        judged = (one for one in self._decisions() if _judges(one[0]) and _event(one[0])[1:] not in undone)
        for (task, dimension, row), group in groupby(
            judged, key=lambda one: (one[0].task, one[0].dimension, one[0].id)
        ):
            # The author and number decide between two accounts of the same event.
            decisions = sorted(group, key=lambda one: (one[0].author, one[0].seq), reverse=True)
            decisions.sort(key=lambda one: _event(one[0]))
            line, number = decisions[-1]
            latest = {one.worker: one.label for one, _ in decisions}
            self._disputed += len(set(latest.values())) > 1
            self._counting[line.author] += 1
            self._con.execute(
                "insert into judged values (?, ?, ?, ?)", (self._word(task), self._word(dimension), row, number)
            )

    def _decisions(self) -> Iterator[tuple[Line, int]]:
        found = self._con.execute(
            "select body, number from fact where kind = 'human' order by task, dimension, row, number"
        )
        for body, number in _paged(found):
            yield _decoder.decode(body), number

    def _settle_answers(self) -> None:
        found = self._con.execute(
            "select f.run, f.row, f.dimension, w.value,"
            " case f.kind when 'label' then 0 when 'drop' then 1 else 2 end,"
            " f.seq, f.label, f.idx, f.number, f.task, j.fact"
            " from fact f join word w on w.number = f.author left join judged j"
            " on j.task = f.task and j.dimension = f.dimension and j.row = f.row"
            " where f.kind <> 'human' order by f.run, f.row, f.dimension, w.value, f.seq"
        )
        names = list(self._words)
        for (run, row, dimension), group in groupby(_paged(found), key=lambda fact: fact[:3]):
            best: Any = None
            given: Counter[str] = Counter()
            first: dict[str, str] = {}  # label of each author, the first it gave
            for _, _, _, author, rank, *rest in group:
                if best is None or rank < best[1]:  # in order, so the first of a kind is the smallest
                    best = (author, rank, *rest)
                if not rank:
                    given[rest[1]] += 1
                    if len(first) < MAX_COMPARED:
                        first.setdefault(author, rest[1])
            author, _, _, label, idx, number, task, decision = best
            self._compare(first)
            self._repeated += given.total() > 1
            self._conflicts += len(given) > 1
            self._counting[author] += decision is None
            self._con.execute(
                "insert into counted values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    names[run],
                    idx,
                    row,
                    names[dimension],
                    names[task],
                    number,
                    decision,
                    given.total(),
                    given[label],
                ),
            )

    def _compare(self, labels: dict[str, str]) -> None:
        for one, other in combinations(labels, 2):
            self._pairs[one, other] += 1
            self._agreed[one, other] += labels[one] == labels[other]

    def _one(self, sql: str, *values: object) -> Any:
        return self._con.execute(sql, values).fetchone()


def _judges(line: Line) -> bool:
    return line.human is not None and line.human.action in JUDGEMENTS


def _event(line: Line) -> tuple[int, str, int]:
    """What orders decisions; without the clock, which event it is."""
    assert line.human is not None
    return line.human.clock, line.human.session, line.human.event


def _paged(found: sqlite3.Cursor) -> Iterator[Any]:
    while page := found.fetchmany(PAGE):
        yield from page


def _line(body: bytes | None) -> Line | None:
    return None if body is None else _decoder.decode(body)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Line)
