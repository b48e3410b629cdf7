"""`winnow shards export` and `winnow merge` as a person uses them: real processes, real ledgers."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.cluster.ledger import Ledger
from tests.unit.cli.test_cli import winnow
from tests.unit.cluster.logs import ME, PEER, RUN, Log, author, some_rows

ROWS = some_rows(4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace's engine and a helper's, each with its own part of the labels, one row labeled by both."""
    mine, theirs = Log(author()), Log(author(PEER))
    mine.open()
    block = (mine.author, mine.plan(ROWS).seq)
    mine.label(block, ROWS, [0, 1], 0.9)
    theirs.label(block, ROWS, [1, 2, 3], [0.2, 0.9, None])
    for name, logs in {"winnow.engine": [mine], "helper": [mine, theirs]}.items():
        ledger = Ledger(tmp_path / name / "ledger.sqlite", ME)
        for log in logs:
            ledger.write(log.entries)
        ledger.close()
    return tmp_path


def test_shards_of_two_machines_become_one_table(folder: Path) -> None:
    first = winnow("shards", "export", "desk", cwd=folder)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"2 facts added to desk/{author()}.jsonl\n"
    assert winnow("shards", "export", "desk", cwd=folder).stdout == "desk is up to date.\n"
    other = winnow("shards", "export", "loft", "--state", "helper", "--run", RUN.run_id[:6], cwd=folder)
    assert other.returncode == 0, other.stderr
    assert f"3 facts added to loft/{author(PEER)}.{RUN.run_id}.jsonl" in other.stdout
    with (folder / "loft" / "notes.jsonl").open("w") as file:
        file.write('{"hello": "\\u001b[2J"}\n')
    done = winnow("merge", "desk", "loft", "-o", "labels.parquet", "--report", "report.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "5 facts about 4 rows in 4 shards, 2 of them more than once",
        "  desk (11111111): 2 facts, 2 of them count",
        "  desk (22222222): 3 facts, 2 of them count",
        "1 labeled more than once, 1 of them differently",
        "  desk and desk agree on 0.0% of 1",
        "1 without a label; the reason is in the column error",
        "1 line is no fact and was left out:",
        f"  {folder}/loft/notes.jsonl:1: Object missing required field `id`",
        "4 lines written to labels.parquet",
    ]
    table = pq.read_table(folder / "labels.parquet").to_pylist()
    assert [(row["idx"], row["text"], row["label"]) for row in table] == [
        (0, "text number 0", "good"),
        (1, "text number 1", "good"),
        (2, "text number 2", "good"),
        (3, "text number 3", None),
    ]
    report = json.loads((folder / "report.json").read_text())
    assert (report["written"], report["bad_lines"], report["outcome"]["conflicts"]) == (4, 1, 1)
    assert report["bad"][0]["line"] == 1
    assert report["outcome"]["agreement"][0]["compared"] == 1


def test_the_folders_of_engines_are_merged_as_they_are(folder: Path) -> None:
    ledger = Ledger(folder / "helper" / "ledger.sqlite", ME)  # an engine that runs
    done = winnow("merge", "winnow.engine", "helper", "-o", "labels.csv", cwd=folder)
    ledger.close()
    assert done.returncode == 0, done.stderr
    assert len((folder / "labels.csv").read_text().splitlines()) == 5
    assert "5 facts about 4 rows in 2 shards, 2 of them more than once" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["shards", "export", "out", "-w", "other.duckdb"], "Nothing was labeled yet"),
        (["shards", "export", "out", "--run", "zzz"], "No runs begin with zzz"),
        (["merge", "nowhere", "-o", "labels.csv"], "There are no shards in nowhere"),
        (["merge", "helper", "-o", "labels.xls"], ".csv, .jsonl or .parquet"),
        (["merge", "helper", "-o", "labels.csv", "--report", "no/where.json"], "does not exist"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(folder: Path, arguments: list[str], says: str) -> None:
    before = sorted(folder.iterdir())
    done = winnow(*arguments, cwd=folder)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.iterdir()) == before
