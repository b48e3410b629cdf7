"""The command line as a person uses it: real processes, real files, the real embedded model."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from workspace import labels, runs, unfinished
from workspace.store import open_store

TASK = """\
name: mood
dimensions:
  - name: mood
    question: What feeling does the message express?
    labels: {happy: joy or thanks, sad: complaint or grief}
"""
TEXTS = [
    "I love this so much, thank you!",
    "worst day ever, I am so upset",
    'he said "fine", twice',
    "lovely ☀️ day",
]


def winnow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "studio.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=180, env=environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "tweets.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "text"])
        writer.writerows(enumerate(TEXTS))
    (tmp_path / "mood.yaml").write_text(TASK)
    return tmp_path


def test_label_writes_every_row_with_its_label(folder: Path) -> None:
    done = winnow("label", "tweets.csv", "--task", "mood.yaml", "--out", "out.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "4 rows added, 0 repeated, 0 rejected, of 4 lines" in done.stdout
    assert "4 rows written to out.jsonl" in done.stdout
    written = [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(row["text"] for row in written) == sorted(TEXTS)
    assert {row["mood"] for row in written} <= {"happy", "sad"}
    store = open_store(folder / "winnow.duckdb", create=False)
    try:
        run = runs.list_runs(store)[0]
        shown = labels.page(store, run.id, "mood")
        assert {row.text: row.label for row in shown} == {row["text"]: row["mood"] for row in written}
    finally:
        store.close()


def test_the_same_command_again_labels_nothing_twice(folder: Path) -> None:
    first = winnow("label", "tweets.csv", "--task", "mood.yaml", "--limit", "2", "--out", "a.csv", cwd=folder)
    again = winnow("label", "tweets.csv", "--task", "mood.yaml", "--out", "b.parquet", cwd=folder)
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "already loaded" in again.stdout
    assert pq.read_table(folder / "b.parquet").num_rows == len(TEXTS)
    store = open_store(folder / "winnow.duckdb", create=False)
    try:
        (run,) = runs.list_runs(store)
        assert (run.rows, run.labeled_rows) == (len(TEXTS), len(TEXTS))
        with store.read() as con:
            assert con.execute("select count(*) from facts").fetchone() == (len(TEXTS),)
    finally:
        store.close()


def test_rows_of_other_files_are_left_alone(folder: Path) -> None:
    (folder / "other.txt").write_text("one line\nanother line\n")
    assert winnow("load", "other.txt", cwd=folder).returncode == 0
    done = winnow("label", "tweets.csv", "--task", "mood.yaml", "--limit", "3", "--out", "out.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    written = [
        json.loads(line)["text"] for line in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert sorted(written) == sorted(TEXTS[:3])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["label", "missing.csv", "--task", "sentiment", "--out", "o.csv"], "missing.csv"),
        (["label", "tweets.csv", "--task", "nonsense", "--out", "o.csv"], "There is no task nonsense"),
        (["label", "tweets.csv", "--task", "bad.yaml", "--out", "o.csv"], "Line 3"),
        (["label", "tweets.csv", "--task", "sentiment", "--out", "o.xls"], ".csv, .jsonl or .parquet"),
        (["label", "numbers.csv", "--task", "sentiment", "--out", "o.csv"], "no column that looks like text"),
        (["label", "tweets.csv", "--text", "body", "--task", "sentiment", "--out", "o.csv"], "no column body"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(folder: Path, arguments: list[str], says: str) -> None:
    (folder / "bad.yaml").write_text("name: x\ndimensions:\n  - name: x\n    question: Why?\n")
    (folder / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    done = winnow(*arguments, cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "winnow.duckdb").exists()


def test_a_model_that_is_no_model_is_named(folder: Path) -> None:
    (folder / "fake.gguf").write_bytes(b"GGUF but not really")
    done = winnow(
        "label", "tweets.csv", "--task", "mood.yaml", "--model", "fake.gguf", "--out", "o.csv", cwd=folder
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fake" in done.stderr
    assert "Traceback" not in done.stderr
    store = open_store(folder / "winnow.duckdb", create=False)
    try:
        # It waits for a person rather than being tried again for ever.
        assert list(unfinished.states(store).values()) == ["paused"]
    finally:
        store.close()


def test_export_and_status_without_a_workspace_say_so(folder: Path) -> None:
    for arguments in (["export", "o.csv"], ["status"]):
        done = winnow(*arguments, cwd=folder)
        assert done.returncode == 1
        assert "There is no workspace" in done.stderr


def test_known_labels_in_the_file_are_compared(folder: Path) -> None:
    (folder / "known.csv").write_text("text,label\nI love this day,happy\nI hate this awful day,sad\n")
    done = winnow("label", "known.csv", "--task", "mood.yaml", "--out", "o.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "of 2 rows agree with the labels that came with the file" in done.stdout
    with (folder / "o.csv").open(encoding="utf-8", newline="") as file:
        assert [line["mood_gold"] for line in csv.DictReader(file)] == ["happy", "sad"]


def test_labels_of_another_question_are_not_compared(folder: Path) -> None:
    (folder / "other.csv").write_text("text,label\nI love this day,weekday\nI hate this awful day,weekday\n")
    done = winnow("label", "other.csv", "--task", "mood.yaml", "--out", "o.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "agree with" not in done.stdout
    with (folder / "o.csv").open(encoding="utf-8", newline="") as file:
        assert not any(name.endswith("_gold") for name in next(csv.DictReader(file)))


def test_columns_called_like_dimensions_hold_known_labels(folder: Path) -> None:
    (folder / "two.csv").write_text("text,search_needed,domain\nWho is mayor of Lyon now?,yes,people\n")
    done = winnow("label", "two.csv", "--task", "search_needed", "--out", "o.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    with (folder / "o.csv").open(encoding="utf-8", newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["search_needed_gold"], line["domain_gold"], line["row_domain"]) == ("yes", "people", "")
