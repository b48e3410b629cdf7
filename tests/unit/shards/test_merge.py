"""Merging: the same table from the same facts, however they come; the right label; nobody's bad line believed."""

from __future__ import annotations

import csv
import json
import random
import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.cluster.entries import Decided, decode
from engine.cluster.ledger import Ledger
from engine.cluster.testing.winners import winners
from engine.shards.export import export
from engine.shards.lines import Line, decode_line
from engine.shards.lines import encode as encode_line
from engine.shards.merge import Report, merge
from engine.shards.table import COLUMNS
from engine.shards.union import Union
from tests.unit.cluster.examples import spec
from tests.unit.cluster.logs import ME, PEER, RUN, THIRD, Log, author, some_rows
from workspace.decisions import Action
from workspace.errors import ExportError, IntakeError

ROWS = some_rows(6)
AGAIN = spec("mood", prompt="q")  # the same task, asked otherwise
MEMBERS = (ME, PEER, THIRD)


class Cluster:
    """Logs of three machines; the first planned the rows into two runs."""

    def __init__(self) -> None:
        self.logs = {member: Log(author(member)) for member in MEMBERS}
        first = self.logs[ME]
        self.blocks = {}
        for run in (RUN, AGAIN):
            first.open(run)
            self.blocks[run.run_id] = (first.author, first.plan(ROWS, run.run_id).seq)

    def label(self, member: str, at: Sequence[int], shares: Any, run: Any = RUN) -> None:
        self.logs[member].label(self.blocks[run.run_id], ROWS, at, shares, run)

    def decide(self, member: str, at: int, action: Action, label: str = "", **more: Any) -> None:
        self.logs[member].decide(ROWS[at][0], action, label, **more)

    def lines(self, folder: Path) -> dict[str, list[bytes]]:
        """The lines of each machine's shard."""
        ledger = Ledger(folder / "ledger.sqlite", ME)
        for log in self.logs.values():
            ledger.write(log.entries)
        ledger.close()
        export(folder / "ledger.sqlite", folder / "shards")
        return {
            path.name: path.read_bytes().splitlines(keepends=True) for path in (folder / "shards").glob("*.jsonl")
        }


def merged(folder: Path, sources: Sequence[Path], name: str = "out.jsonl") -> tuple[list[dict[str, Any]], Report]:
    report = merge(sources, folder / name, "jsonl")
    return [json.loads(line) for line in (folder / name).read_bytes().splitlines()], report


def table_of(cluster: Cluster, folder: Path) -> tuple[dict[tuple[str, int], dict[str, Any]], Report]:
    """The lines of the table by run and place of the row."""
    cluster.lines(folder)
    rows, report = merged(folder, [folder / "shards"])
    places = {row[0]: i for i, row in enumerate(ROWS)}
    table = {(row["run_id"], places[row["id"]]): row for row in rows}
    assert len(table) == len(rows)
    return table, report


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    cluster = Cluster()
    share = st.sampled_from([0.9, 0.7, 0.2, None])
    for number in range(draw(st.integers(1, 12))):
        member = draw(st.sampled_from(MEMBERS))
        if draw(st.integers(0, 3)):
            at = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True))
            cluster.label(member, at, [draw(share) for _ in at], draw(st.sampled_from([RUN, AGAIN])))
        else:
            action: Action = draw(st.sampled_from(["approve", "modify", "reject", "skip", "undo"]))
            undoes = ("s", draw(st.integers(0, 12))) if action == "undo" else None
            label = draw(st.sampled_from(["good", "bad"])) if action in ("approve", "modify") else ""
            who = draw(st.sampled_from(["ann", "bob"]))
            clock = draw(st.integers(0, 3))
            at_row = draw(st.integers(0, 5))
            cluster.decide(
                member, at_row, action, label, event=("s", number), clock=clock, reviewer=who, undoes=undoes
            )
    return cluster


@given(clusters(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_outcome_depends_on_nothing_but_the_set_of_facts(
    tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    lines = [line for part in cluster.lines(folder).values() for line in part]
    expected, report = merged(folder, [folder / "shards"])
    assert report.outcome.facts == report.outcome.lines == len(lines)
    for name in ("a", "b"):
        # Cut, doubled and shuffled over some files, of which another folder has copies.
        told = [*lines, *chance.choices(lines, k=len(lines))] if lines else []
        chance.shuffle(told)
        (folder / name).mkdir()
        count = chance.randint(1, 4)
        for i in range(count):
            (folder / name / f"{i}.jsonl").write_bytes(b"".join(told[i::count]))
        found, again = merged(folder, [folder / name, *([folder / "shards"] if chance.random() < 0.5 else [])])
        assert found == expected
        assert again.outcome.lines == again.outcome.facts + again.outcome.duplicates
        assert msgspec.structs.replace(again.outcome, lines=0, duplicates=0) == msgspec.structs.replace(
            report.outcome, lines=0, duplicates=0
        )
    from_ledger, _ = merged(folder, [folder])
    assert from_ledger == expected
    check(cluster, expected)
    shutil.rmtree(folder)


def check(cluster: Cluster, table: list[dict[str, Any]]) -> None:
    """The models' part is what the machines' own rule says; the people's part is told here in other words."""
    entries = [entry for log in cluster.logs.values() for entry in log.entries]
    answers = winners(entries).answers
    standing = judged(cluster)
    assert {(row["run_id"], row["id"], row["dimension"]) for row in table if row["model"]} == set(answers)
    decided_only = {row["id"] for row in table if not row["model"]}
    assert decided_only == {row_id for row_id in standing if row_id not in {row for _, row, _ in answers}}
    for row in table:
        if row["model"]:
            best = answers[row["run_id"], row["id"], row["dimension"]]
            assert (row["model_label"] or "") == best.label
            assert row["text"] == next(text for row_id, text, _ in ROWS if row_id == row["id"])
        if row["id"] in standing:
            label, who = standing[row["id"]]
            assert (row["label"] or "", row["decided_by"]) == (label, who)
        else:
            assert (row["label"], row["decided_by"]) == (row["model_label"], "model")
            assert (row["author"], row["seq"]) == (best.author, best.seq)


def judged(cluster: Cluster) -> dict[str, tuple[str, str]]:
    """Row: label and reviewer, by the events themselves."""
    bodies = [decode(entry.body) for log in cluster.logs.values() for entry in log.entries]
    events = [json.loads(body.event) for body in bodies if isinstance(body, Decided)]
    undone = {(e["undoes_session"] or e["session"], e["undoes"]) for e in events if e["action"] == "undo"}
    found = {}
    for event in sorted(events, key=lambda e: (e["clock"], e["session"], e["seq"])):
        if event["action"] in ("approve", "modify", "reject") and (event["session"], event["seq"]) not in undone:
            found[event["row_id"]] = (event["label"], event["reviewer"])
    return found


def test_labels_come_before_errors_and_the_first_author_wins(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.label(THIRD, [0, 1, 2], [0.9, 0.9, None])
    cluster.label(PEER, [0, 1, 2], [0.2, None, None])
    cluster.label(THIRD, [0], [0.2])
    table, report = table_of(cluster, tmp_path)
    labels = {
        at: (row["label"], row["author"][:1], row["labels"], row["agreeing"]) for (_, at), row in table.items()
    }
    assert labels == {0: ("bad", "2", 3, 2), 1: ("good", "3", 1, 1), 2: (None, "2", 0, 0)}
    assert table[RUN.run_id, 2]["error"] == "It was too long."
    outcome = report.outcome
    assert (outcome.questions, outcome.rows, outcome.errors) == (3, 3, 1)
    assert (outcome.repeated, outcome.conflicts) == (1, 1)
    assert [(count.author[:1], count.worker, count.facts, count.counted) for count in outcome.authors] == [
        ("2", "desk", 3, 2),
        ("3", "desk", 4, 1),
    ]
    (pair,) = outcome.agreement
    assert (pair.one[:1], pair.other[:1], pair.compared, pair.agreed) == ("2", "3", 1, 0)


def test_a_person_decides_for_all_runs_of_the_task(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.label(ME, [0, 1, 2], 0.9)
    cluster.label(ME, [0], 0.2, AGAIN)
    cluster.decide(PEER, 0, "modify", "bad", event=("p", 0), reviewer="bob")
    cluster.decide(PEER, 1, "reject", event=("p", 1), reviewer="bob")
    cluster.decide(PEER, 3, "approve", "good", event=("p", 2), reviewer="bob")
    table, report = table_of(cluster, tmp_path)
    told = {
        key: (row["label"], row["label_id"], row["confidence"], row["decided_by"], row["model_label"])
        for key, row in table.items()
    }
    assert told == {
        (RUN.run_id, 0): ("bad", 1, 1.0, "bob", "good"),
        (AGAIN.run_id, 0): ("bad", 1, 1.0, "bob", "bad"),
        (RUN.run_id, 1): (None, None, None, "bob", "good"),
        (RUN.run_id, 2): ("good", 0, pytest.approx(0.9), "model", "good"),
        (RUN.run_id, 3): ("good", None, 1.0, "bob", None),
    }
    assert table[RUN.run_id, 3]["text"] == "text number 3"
    assert (report.outcome.decided, report.outcome.disputed) == (4, 0)


def test_an_undo_takes_back_its_own_event_and_no_other(tmp_path: Path) -> None:
    """Two people decided without knowing of each other; one takes the decision back, the other's stands."""
    cluster = Cluster()
    cluster.label(ME, [0, 1], 0.9)
    for at in (0, 1):
        cluster.decide(ME, at, "modify", "bad", event=("a", at), clock=5, reviewer="ann")
        cluster.decide(PEER, at, "approve", "good", event=("b", at), clock=7, reviewer="bob")
    cluster.decide(PEER, 0, "undo", event=("b", 9), clock=8, reviewer="bob", undoes=("b", 0))
    table, report = table_of(cluster, tmp_path)
    assert [(table[RUN.run_id, at]["label"], table[RUN.run_id, at]["decided_by"]) for at in (0, 1)] == [
        ("bad", "ann"),
        ("good", "bob"),
    ]
    assert (report.outcome.decided, report.outcome.disputed) == (2, 1)


def good_lines(folder: Path) -> list[bytes]:
    cluster = Cluster()
    cluster.label(ME, range(6), [0.9, 0.8, 0.7, 0.6, 0.4, None])
    cluster.decide(ME, 2, "modify", "bad")
    (lines,) = cluster.lines(folder).values()
    return lines


def changed(line: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(line) | fields).encode() + b"\n"


def hostile(line: bytes) -> dict[str, bytes]:
    return {
        "no JSON": b"hello\n",
        "no object": b"[1, 2]\n",
        "half a line in the middle": line[:50] + b"\n",
        "no text at all": b"\xff\xfe\x00\n",
        "bad text": line.replace(b"text number", b"text \xff\xfe number"),
        "other author": changed(line, author="../../etc/passwd"),
        "negative": changed(line, seq=-1),
        "too large a number": changed(line, seq=1 << 64),
        "no number": line.replace(b'"ts":1000.0', b'"ts":NaN'),
        "out of bounds": changed(line, confidence=7.0),
        "other kind": changed(line, kind="rumour"),
        "no label": changed(line, label=None),
        "error with label": changed(line, kind="error"),
        "human of the model": changed(line, kind="human"),
        "deep": b'{"id":' + b"[" * 100_000 + b"\n",
        "long": b'{"id":"' + b"x" * (17 << 20) + b'"}\n',
        "long word": changed(line, worker="x" * 5000),
        "half a letter": line.replace(b'"text number', b'"\\ud800text number'),
    }


@pytest.mark.parametrize("what", list(hostile(b"{}\n")))
def test_what_is_no_fact_is_counted_named_and_left_out(tmp_path: Path, what: str) -> None:
    lines = good_lines(tmp_path)
    expected, _ = merged(tmp_path, [tmp_path / "shards"])
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"".join([*lines[:3], b"\n", hostile(lines[0])[what], *lines[3:]]))
    found, report = merged(tmp_path, [path])
    assert found == expected
    assert report.bad_lines == 1
    assert (report.bad[0].file, report.bad[0].line) == (str(path), 5)
    assert report.bad[0].why


def test_half_a_line_at_the_end_is_no_mistake(tmp_path: Path) -> None:
    lines = good_lines(tmp_path)
    path = tmp_path / "torn.jsonl"
    path.write_bytes(b"".join(lines)[:-30])
    found, report = merged(tmp_path, [path])
    assert (report.bad_lines, report.sources[0].torn, report.sources[0].facts) == (0, True, len(lines) - 1)
    assert found[2]["decided_by"] == "model"  # it was the decision that was torn
    path.write_bytes(b"".join(lines)[:-1])
    _, report = merged(tmp_path, [path])
    assert (report.sources[0].torn, report.sources[0].facts) == (False, len(lines))


def test_a_fact_told_in_two_ways_is_noticed_and_one_counts_for_ever(tmp_path: Path) -> None:
    lines = good_lines(tmp_path)
    lie = changed(lines[0], label="bad", label_id=1)
    results = []
    for order in ([lines[0], lie, lie], [lie, lines[0], lines[0]]):
        path = tmp_path / "twice.jsonl"
        path.write_bytes(b"".join([*order, *lines[1:]]))
        found, report = merged(tmp_path, [path])
        results.append((found, report.outcome))
    assert results[0] == results[1]
    assert results[0][1].contradicted == 1
    assert len(results[0][0]) == 6


def test_a_text_that_one_shard_lacks_comes_from_another(tmp_path: Path) -> None:
    lines = good_lines(tmp_path)
    path = tmp_path / "poor.jsonl"
    path.write_bytes(b"".join(changed(line, text="", domain="") for line in lines))
    expected, _ = merged(tmp_path, [tmp_path / "shards"])
    found, report = merged(tmp_path, [path, tmp_path / "shards"])
    assert found == expected
    assert report.outcome.contradicted == 0
    assert {row["text"] for row in merged(tmp_path, [path])[0]} == {""}


def test_all_formats_tell_the_same(tmp_path: Path) -> None:
    lines = good_lines(tmp_path)
    lines[1] = changed(lines[1], logprobs=[0.0, None], text='a "quoted",\ntext', seq=100, id="f" * 32)
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(lines))
    expected, _ = merged(tmp_path, [path])
    assert list(expected[0]) == list(COLUMNS)
    merge([path], tmp_path / "out.parquet", "parquet")
    parquet = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["logprobs"] for row in parquet if row["id"] == "f" * 32] == [[0.0, None]]
    assert parquet == expected
    merge([path], tmp_path / "out.csv", "csv")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for row, line in zip(table, expected, strict=True):
        assert row["text"] == line["text"]
        assert row["label"] == (line["label"] or "")
        assert json.loads(row["logprobs"]) == line["logprobs"]
        assert float(row["ts"]) == line["ts"]


def test_an_event_that_two_machines_wrote_down_is_one(tmp_path: Path) -> None:
    for first, second in [(PEER, THIRD), (THIRD, PEER)]:
        cluster = Cluster()
        for member in (first, second):
            cluster.label(member, [0], 0.9)
            cluster.decide(member, 0, "modify", "bad", event=("a", 0), clock=5)
        table, report = table_of(cluster, tmp_path / first)
        assert table[RUN.run_id, 0]["author"] == author(PEER)
        assert report.outcome.disputed == 0


def test_the_place_in_the_run_orders_the_table(tmp_path: Path) -> None:
    log, rows = Log(author()), some_rows(6)[::-1]
    log.open()
    blocks = [log.plan(part).seq for part in (rows[:3], rows[3:])]
    for at, block in [(2, 1), (0, 0), (1, 1), (2, 0)]:
        log.label((log.author, blocks[block]), rows[3 * block :], [at])
    log.decide("f" * 32, "modify", "bad")  # a row that is not in the run
    ledger = Ledger(tmp_path / "ledger.sqlite", ME)
    ledger.write(log.entries)
    ledger.close()
    table, _ = merged(tmp_path, [tmp_path])
    assert [(row["idx"], row["text"]) for row in table] == [
        (0, "text number 5"),
        (2, "text number 3"),
        (4, "text number 1"),
        (5, "text number 0"),
        (None, ""),
    ]


def test_the_table_never_replaces_a_shard_or_half_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good_lines(tmp_path)
    (shard,) = (tmp_path / "shards").glob("*.jsonl")
    before = shard.read_bytes()
    with pytest.raises(ExportError, match="is a shard"):
        merge([tmp_path / "shards"], shard, "jsonl")
    assert shard.read_bytes() == before
    with pytest.raises(ExportError, match="cannot be written"):
        merge([tmp_path / "shards"], tmp_path / "nowhere" / "out.csv", "csv")
    # Beside the shards it is fine, and the second time it is not taken for one of them.
    for _ in range(2):
        report = merge([tmp_path / "shards"], tmp_path / "shards" / "labels.jsonl", "jsonl")
        assert (report.bad_lines, report.written) == (0, 6)
    kept = (tmp_path / "shards" / "labels.jsonl").read_bytes()

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ExportError, match="could not be written"):
        merge([tmp_path / "shards"], tmp_path / "shards" / "labels.jsonl", "jsonl")
    assert (tmp_path / "shards" / "labels.jsonl").read_bytes() == kept
    assert {path.name[:1] for path in (tmp_path / "shards").iterdir() if path.is_dir()} == set()


def test_nothing_to_merge_is_said_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(IntakeError, match="no shards"):
            merge([path], tmp_path / "out.csv", "csv")
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_facts(tmp_path: Path) -> None:
    sample = decode_line(good_lines(tmp_path)[0])

    def peak(facts: int) -> int:
        tracemalloc.start()
        union = Union(tmp_path / f"{facts}.sqlite")
        for i in range(facts):
            union.add(many(sample, i))
        union.settle()
        assert sum(1 for _ in union.questions()) == facts
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        union.close()
        return most

    small = peak(2_000)
    assert peak(12_000) < small + 300_000


def many(sample: Line, i: int) -> Line:
    return msgspec.structs.replace(sample, id=f"{i:032x}", seq=i, text=f"{i} " + "text " * 100)


def test_a_line_that_is_written_is_the_line_that_is_read(tmp_path: Path) -> None:
    for raw in good_lines(tmp_path):
        assert encode_line(decode_line(raw)) == raw
