"""Shards: every fact a line that stands for itself, appended once, repaired after a crash."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock

from engine.cluster.entries import Decided, Entry, RowsPlanned
from engine.cluster.ledger import Ledger
from engine.shards.export import LOCK, export
from engine.shards.lines import decode_line
from tests.unit.cluster.examples import spec
from tests.unit.cluster.logs import ME, PEER, RUN, THIRD, Log, author, some_rows
from tests.waiting import wait_for
from workspace.errors import EngineError, ExportError

ROWS = some_rows(6)
OTHER = spec("mood", "rain", prompt="q")


def ledger_at(folder: Path, *logs: Log) -> Path:
    ledger = Ledger(folder / "ledger.sqlite", ME)
    for log in logs:
        ledger.write(log.entries)
    ledger.close()
    return ledger.path


def two_logs() -> tuple[Log, Log]:
    """A machine that opened two runs and labels, and one that helps."""
    mine, theirs = Log(author()), Log(author(PEER))
    mine.open()
    mine.open(OTHER)
    first = mine.plan(ROWS[:2])
    mine.plan(ROWS[:1], OTHER.run_id)
    second = mine.plan(ROWS[2:])
    mine.label((mine.author, first.seq), ROWS[:2], [0, 1], [0.75, None])
    theirs.label((mine.author, second.seq), ROWS[2:], [3, 1], [0.25, 0.75])
    theirs.label((mine.author, 3), ROWS[:1], [0], run=OTHER, dimension=1)
    theirs.decide(ROWS[1][0], "modify", "bad", event=("tab", 4), clock=9)
    return mine, theirs


def told(folder: Path) -> dict[str, list[dict[str, object]]]:
    return {
        path.name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


def test_a_line_says_everything_about_its_fact(tmp_path: Path) -> None:
    mine, theirs = two_logs()
    shards = export(ledger_at(tmp_path, mine, theirs), tmp_path / "shards")
    assert [(shard.path.name, shard.added, shard.waiting) for shard in shards] == [
        (f"{mine.author}.jsonl", 2, ""),
        (f"{theirs.author}.jsonl", 4, ""),
    ]
    label, error = told(tmp_path / "shards")[f"{mine.author}.jsonl"]
    assert list(label)[:9] == ["id", "idx", "text", "domain", "label", "label_id", "confidence", "worker", "ts"]
    logprobs = label.pop("logprobs")
    assert logprobs == [math.log(0.75), math.log(0.25)]
    assert label == {
        "id": ROWS[0][0],
        "idx": 0,
        "text": "text number 0",
        "domain": "",
        "label": "good",
        "label_id": 0,
        "confidence": pytest.approx(0.75),
        "worker": "desk",
        "ts": 1000.0,
        "kind": "label",
        "run_id": RUN.run_id,
        "task": "moods",
        "dimension": "mood",
        "author": mine.author,
        "seq": 5,
        "slot": 0,
        "labels": ["good", "bad"],
        "model": "Rule",
        "model_digest": "d" * 32,
        "prompt_id": "p",
        "claim": "1.a.1",
        "epoch": 1,
        "seconds": 0.5,
        "prompt_tokens": 10,
        "completion_tokens": 0,
        "warnings": [],
        "error": "",
        "human": None,
        "dimension_kind": "single",
        "phrasings": [],
        "reply": "",
        "explanation": "",
    }
    assert (error["kind"], error["label"], error["label_id"], error["confidence"]) == ("error", None, None, None)
    assert (error["error"], error["logprobs"], error["seq"]) == ("It was too long.", [], 6)
    assert (error["text"], error["domain"], error["idx"]) == ("text number 1", "news", 1)
    far, near, other, human = told(tmp_path / "shards")[f"{theirs.author}.jsonl"]
    assert [(line["idx"], line["text"]) for line in (far, near)] == [(5, "text number 5"), (3, "text number 3")]
    assert (other["run_id"], other["dimension"], other["idx"]) == (OTHER.run_id, "rain", 0)
    assert (human["kind"], human["label"], human["confidence"]) == ("human", "bad", 1.0)
    assert (human["text"], human["worker"], human["ts"], human["task"]) == (
        "text number 1",
        "ann",
        1000.0,
        "moods",
    )
    assert human["human"] == {
        "action": "modify",
        "session": "tab",
        "event": 4,
        "clock": 9,
        "undoes": None,
        "undoes_session": None,
        "comment": "",
        "blind": False,
    }


def test_an_impossible_label_is_null_and_read_again(tmp_path: Path) -> None:
    log = Log(author())
    log.open()
    block = log.plan(ROWS[:1])
    log.label((log.author, block.seq), ROWS, [0], [0.5])
    half = msgspec.msgpack.encode(math.log(0.5))
    body = log.entries[-1].body.replace(half, msgspec.msgpack.encode(-math.inf), 1)
    body = body.replace(half, msgspec.msgpack.encode(0.0))
    log.entries[-1] = msgspec.structs.replace(log.entries[-1], body=body)
    export(ledger_at(tmp_path, log), tmp_path)
    (line,) = (tmp_path / f"{log.author}.jsonl").read_bytes().splitlines()
    assert json.loads(line)["logprobs"] == [None, 0.0]
    assert decode_line(line).label == "bad"


def test_only_what_is_new_is_appended(tmp_path: Path) -> None:
    mine, theirs = two_logs()
    ledger = Ledger(tmp_path / "l.sqlite", ME)  # stays open, as a running engine's does
    before: dict[str, bytes] = {}
    everything = [*mine.entries, *theirs.entries]
    for i in range(len(everything)):
        ledger.write(everything[i : i + 1])
        export(ledger.path, tmp_path / "shards")
        after = {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.jsonl")}
        assert all(after[name].startswith(raw) for name, raw in before.items())
        before = after
    assert [shard.added for shard in export(ledger.path, tmp_path / "shards")] == [0, 0]
    export(ledger.path, tmp_path / "at once")
    assert told(tmp_path / "at once") == told(tmp_path / "shards")
    ledger.close()


def test_what_a_crash_left_half_written_is_written_again(tmp_path: Path) -> None:
    _, theirs = logs = two_logs()
    ledger = ledger_at(tmp_path, *logs)
    export(ledger, tmp_path / "shards")
    path = tmp_path / "shards" / f"{theirs.author}.jsonl"
    whole = path.read_bytes()
    for cut in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        export(ledger, tmp_path / "shards")
        assert path.read_bytes() == whole, cut


def test_files_that_are_no_shards_are_left_alone(tmp_path: Path) -> None:
    mine, theirs = two_logs()
    ledger = ledger_at(tmp_path, mine, theirs)
    export(ledger, tmp_path)
    path, other = tmp_path / f"{mine.author}.jsonl", (tmp_path / f"{theirs.author}.jsonl").read_bytes()
    for foreign in (b"my notes\n", b"my notes", other):
        path.write_bytes(foreign)
        with pytest.raises(ExportError, match="no shard"):
            export(ledger, tmp_path)
        assert path.read_bytes() == foreign


def test_a_damaged_last_line_is_not_built_upon(tmp_path: Path) -> None:
    mine, theirs = two_logs()
    ledger = ledger_at(tmp_path, mine, theirs)
    export(ledger, tmp_path)
    path = tmp_path / f"{mine.author}.jsonl"
    damaged = path.read_bytes()[:-40] + b"\0" * 39 + b"\n"
    path.write_bytes(damaged)
    with pytest.raises(ExportError, match="last line"):
        export(ledger, tmp_path)
    assert path.read_bytes() == damaged


def test_a_chosen_run_has_files_of_its_own(tmp_path: Path) -> None:
    mine, theirs = two_logs()
    ledger = ledger_at(tmp_path, mine, theirs)
    for _ in range(2):
        export(ledger, tmp_path / "s", OTHER.run_id)
    assert list(told(tmp_path / "s")) == [f"{theirs.author}.{OTHER.run_id}.jsonl"]
    export(ledger, tmp_path / "s")
    assert len(told(tmp_path / "s")) == 3


def test_a_run_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path, *two_logs())
    with pytest.raises(ExportError):
        export(ledger, tmp_path / "s", "../elsewhere")


@pytest.mark.parametrize("missing", ["rows", "run"])
def test_labels_wait_for_their_rows_and_their_run(tmp_path: Path, missing: str) -> None:
    """The logs of two machines come one after the other; a line written too early would lack its text for ever."""
    mine, theirs = two_logs()
    ledger = Ledger(tmp_path / "l.sqlite", ME)
    ledger.write([*(mine.entries[:2] if missing == "rows" else []), *theirs.entries])
    shards = export(ledger.path, tmp_path)
    assert [(shard.added, missing in shard.waiting) for shard in shards][-1] == (0, True)
    assert not list(tmp_path.glob("*.jsonl"))
    ledger.write(mine.entries)
    assert [(shard.added, shard.waiting) for shard in export(ledger.path, tmp_path)] == [(2, ""), (4, "")]
    ledger.close()


def test_what_a_newer_version_wrote_waits_too(tmp_path: Path) -> None:
    mine, _ = two_logs()
    mine.entries.append(Entry(mine.author, mine.end, 1, msgspec.msgpack.encode(["later", 1])))
    (shard,) = export(ledger_at(tmp_path, mine), tmp_path)
    assert shard.added == 2
    assert "newer version" in shard.waiting


@pytest.mark.parametrize("event", ["", "[]", '{"action":"approve"}', '{"session":' + "[" * 100_000])
def test_a_decision_without_an_event_is_no_fact(tmp_path: Path, event: str) -> None:
    log = Log(author())
    log.add(Decided("moods", "mood", ROWS[0][0], RUN.run_id, "good", True, event, 1))
    log.decide(ROWS[0][0], "approve", "good")
    (shard,) = export(ledger_at(tmp_path, log), tmp_path)
    assert (shard.added, shard.waiting) == (1, "")


def test_all_machines_write_the_same_shards(tmp_path: Path) -> None:
    """Also of rows that two of them planned, each of which saw its own block first."""
    mine, theirs, third = Log(author()), Log(author(PEER)), Log(author(THIRD))
    mine.open()
    for log in (mine, theirs):
        log.plan(some_rows(3, 100))
        block = log.plan(ROWS)
        log.label((log.author, block.seq), ROWS, range(6))
        third.label((log.author, block.seq), ROWS, [2, 1])
        third.decide(ROWS[3][0], "approve", "good", event=("s", third.end))
    for name, logs in {"one": (mine, theirs, third), "other": (third, theirs, mine)}.items():
        export(ledger_at(tmp_path / name, *logs), tmp_path / name)
    assert len(told(tmp_path / "one")) == 3
    assert told(tmp_path / "one") == told(tmp_path / "other")


def test_only_one_writes_at_a_time(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path, *two_logs())
    with FileLock(tmp_path / LOCK), pytest.raises(ExportError, match="already"):
        export(ledger, tmp_path)


def test_what_is_no_ledger_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engine's ledger"):
        export(tmp_path / "ledger.sqlite", tmp_path)
    (tmp_path / "ledger.sqlite").write_bytes(b"this is no ledger, it is a letter. " * 400)
    with pytest.raises(EngineError, match="cannot be read"):
        export(tmp_path / "ledger.sqlite", tmp_path)


KILLED = """
import sys
from pathlib import Path
from engine.shards.export import export
export(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_an_export_that_is_killed_is_taken_up(tmp_path: Path) -> None:
    log = Log(author())
    log.open()
    for i in range(20):
        rows = [(row, "word " * 400, "") for row, _, _ in some_rows(500, 500 * i)]
        block = log.add(RowsPlanned(RUN.run_id, tuple(rows)))
        log.label((log.author, block.seq), rows, range(500))
    ledger = ledger_at(tmp_path, log)
    path = tmp_path / "killed" / f"{log.author}.jsonl"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(ledger), str(path.parent)]) as process:
        wait_for(lambda: path.exists() and path.stat().st_size > 1_000_000, "a part of the shard", 60)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    export(ledger, path.parent)
    export(ledger, tmp_path / "whole")
    assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()
